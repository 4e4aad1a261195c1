"""Alfresco's names: a QName by its prefix, and a local name as it was before ISO 9075. Pure."""

import re
from collections.abc import Mapping

PREFIXES: Mapping[str, str] = {
    "http://www.alfresco.org": "alf",
    "http://www.alfresco.org/model/action/1.0": "act",
    "http://www.alfresco.org/model/application/1.0": "app",
    "http://www.alfresco.org/model/audio/1.0": "audio",
    "http://www.alfresco.org/model/blogintegration/1.0": "blg",
    "http://www.alfresco.org/model/bpm/1.0": "bpm",
    "http://www.alfresco.org/model/calendar": "ia",
    "http://www.alfresco.org/model/cmis/1.0/cs01": "cmis",
    "http://www.alfresco.org/model/cmis/custom": "cmiscustom",
    "http://www.alfresco.org/model/content/1.0": "cm",
    "http://www.alfresco.org/model/content/smartfolder/1.0": "smf",
    "http://www.alfresco.org/model/custommodelmanagement/1.0": "cmm",
    "http://www.alfresco.org/model/datalist/1.0": "dl",
    "http://www.alfresco.org/model/dictionary/1.0": "d",
    "http://www.alfresco.org/model/download/1.0": "download",
    "http://www.alfresco.org/model/emailserver/1.0": "emailserver",
    "http://www.alfresco.org/model/exif/1.0": "exif",
    "http://www.alfresco.org/model/forum/1.0": "fm",
    "http://www.alfresco.org/model/imap/1.0": "imap",
    "http://www.alfresco.org/model/linksmodel/1.0": "lnk",
    "http://www.alfresco.org/model/qshare/1.0": "qshare",
    "http://www.alfresco.org/model/recordsmanagement/1.0": "rma",
    "http://www.alfresco.org/model/rendition/1.0": "rn",
    "http://www.alfresco.org/model/rule/1.0": "rule",
    "http://www.alfresco.org/model/site/1.0": "st",
    "http://www.alfresco.org/model/sitecustomproperty/1.0": "stcp",
    "http://www.alfresco.org/model/system/1.0": "sys",
    "http://www.alfresco.org/model/transfer/1.0": "trx",
    "http://www.alfresco.org/model/user/1.0": "usr",
    "http://www.alfresco.org/model/versionstore/1.0": "ver",
    "http://www.alfresco.org/model/versionstore/2.0": "ver2",
    "http://www.alfresco.org/model/webdav/1.0": "webdav",
    "http://www.alfresco.org/model/workflow/1.0": "wf",
}
"""Prefixes of the models that come with Alfresco (its NamespaceService and model files)."""

_ENCODED = re.compile("_x([0-9a-fA-F]{4})_")
_FULL_NAME = re.compile(r"\{([^}]*)\}(.*)", re.DOTALL)


def prefixed(uri: str, local_name: str) -> str:
    """`cm:name`; `{uri}local` where the model is none of Alfresco's own."""
    prefix = PREFIXES.get(uri)
    return f"{{{uri}}}{local_name}" if prefix is None else f"{prefix}:{local_name}"


def prefixed_name(full_name: str) -> str:
    """`{uri}local` with its prefix, where that is known; anything else as it is."""
    match = _FULL_NAME.fullmatch(full_name)
    return prefixed(match[1], match[2]) if match else full_name


def decoded(local_name: str) -> str:
    """A name of which characters were written as `_x0020_` (ISO 9075), as people see it.

    The numbers are UTF-16: an emoji is two of them. One that is half a character stays as it is written.
    """
    units = _ENCODED.sub(lambda match: chr(int(match[1], 16)), local_name)
    try:
        return units.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return local_name
