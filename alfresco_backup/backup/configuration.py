"""Copies what belongs to a set besides database and content: keystore, shared classes and Solr backups.

And what PostgreSQL needs from outside its data directory: see server_files.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from alfresco_backup.backup.server_files import OF_ALFRESCO, copy_alfresco_files, copy_server_files
from alfresco_backup.backup.server_files import PART as SERVER_FILES
from alfresco_backup.backup.tree_copy import TreeCopy
from alfresco_backup.contentstore.volumes import leads_out
from alfresco_backup.host.host import Run
from alfresco_backup.repository.layout import DIGESTED_PARTS, metadata_of, partial_of
from alfresco_backup.repository.records import Configuration
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.system.files import publish, sync_filesystem, write_json
from alfresco_backup.system.folders import make_folder, reading, remove_tree
from alfresco_backup.times import utc_now

HOUR = 3600.0


def back_up_configuration(
    run_: Run,
    catalogue: Catalogue,
    warn: Callable[[str], object] = str,
    indexes: Mapping[str, Path] = MappingProxyType({}),
) -> Configuration:
    """Copy the parts and publish them. Unchanged files share the previous set's inodes, never the host's.

    `warn` is told of links of which the set contains no more than the link. `indexes`: by core, the copies
    that Solr made for this set.
    """
    started_at = utc_now()
    final = run_.repository.configuration(run_.stamp)
    partial = partial_of(final)
    make_folder(final.parent, exist_ok=True)
    if os.path.lexists(partial):
        remove_tree(partial)
    make_folder(partial, 0o700)
    previous = catalogue.configurations[-1].path if catalogue.configurations else None
    for name, source in run_.host.installation.configuration_parts.items():
        hint = f"namei -l {shlex.quote(str(source))}; df -h {shlex.quote(str(final.parent))}"
        copy = TreeCopy(run_.log, run_.settings.contentstore_limit_hours * HOUR, hint)
        copy.copy(source, partial / name, previous / name if previous else None)
        for link in copy.unread:
            warn(
                f"{link}: the account that made this link may not read what it leads to; the configuration "
                f"{run_.stamp} contains the link only"
            )
    copy_server_files(run_.host, partial / SERVER_FILES)
    copy_alfresco_files(run_.host, partial / OF_ALFRESCO)
    files = [path for path in partial.rglob("*") if path.is_file() and not path.is_symlink()]
    digested = (*DIGESTED_PARTS, SERVER_FILES, OF_ALFRESCO)
    configuration = Configuration(
        stamp=run_.stamp,
        path=final,
        started_at=started_at,
        finished_at=utc_now(),
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        digests=dict(_digests({name: partial / name for name in digested})),
        indexes=dict(_copied(run_, partial, indexes)),
    )
    sync_filesystem(partial)
    # As private as the tree: a short password can be guessed from the digest of the file it is in.
    write_json(metadata_of(final), configuration.to_metadata(), 0o600)
    publish(partial, final)
    return configuration


def _copied(run_: Run, partial: Path, indexes: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """By core, where in the set its copy of the index is; not one that Solr has removed meanwhile."""
    parts = {source: name for name, source in run_.host.installation.configuration_parts.items()}
    for core, folder in indexes.items():
        copied = partial / parts[folder.parent] / folder.name
        if copied.is_dir() and _names(copied) == _names(folder):
            yield core, str(copied.relative_to(partial))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _digests(parts: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """`part/relative path` and sha256 of each file of the small parts, so that a restore can compare them."""
    for name, root in parts.items():
        for path in sorted(root.rglob("*")):
            outside = path.is_symlink() and leads_out(str(path.readlink()), str(path.relative_to(root)))
            if path.is_file() and not outside:
                with reading(path) as stream:
                    yield (
                        f"{name}/{path.relative_to(root)}",
                        hashlib.file_digest(stream, "sha256").hexdigest(),
                    )
