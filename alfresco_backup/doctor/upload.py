"""Doctor's check of the upload of documents: whether Alfresco's REST API answers and takes the login."""

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.documents.api import ROOT, ApiLost, ApiRefused, api_of
from alfresco_backup.findings import Finding, ok, warning
from alfresco_backup.settings.commands import edit_setting

ANSWER_SECONDS = 45.0
"""Less than doctor's own limit, so that a server that does not answer is named."""


def check_upload(context: CheckContext) -> list[Finding]:
    """Read Company Home. Nothing where no upload is set up; a warning otherwise: backups need no API."""
    settings = context.host.settings
    if not settings.alf_api_url:
        return []
    found = []
    if settings.alf_api_url.startswith("http:") and not _is_here(settings.alf_api_url):
        what = f"ALF_API_URL={settings.alf_api_url} sends the password of ALF_API_USER unencrypted"
        found.append(warning("upload", what, edit_setting("ALF_API_URL", "https://...")))
    try:
        with api_of(settings, ANSWER_SECONDS) as api:
            root = api.node(ROOT)
    except (ApiLost, ApiRefused) as failure:
        return [*found, warning("upload", failure.message, failure.hint)]
    name = root.name if root else "nothing"
    where = f"{settings.alf_api_url} answers {settings.alf_api_user} with {name}"
    return [*found, ok("upload", f"{where}; documents can be uploaded")]


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
