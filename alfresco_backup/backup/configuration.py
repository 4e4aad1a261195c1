"""Copies what belongs to a set besides database and content: keystore, shared classes and Solr backups."""

import hashlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from alfresco_backup.host.host import Run
from alfresco_backup.repository.layout import DIGESTED_PARTS, metadata_of, partial_of
from alfresco_backup.repository.records import Configuration
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.system.files import publish, sync_filesystem, write_json
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import utc_now

HOUR = 3600.0
VANISHED = {24: "files vanished while they were copied: Solr removes its old backups itself"}


def back_up_configuration(run_: Run, catalogue: Catalogue) -> Configuration:
    """Copy the parts and publish them. Unchanged files share the previous set's inodes, never the host's."""
    started_at = utc_now()
    final = run_.repository.configuration(run_.stamp)
    partial = partial_of(final)
    final.parent.mkdir(exist_ok=True)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    previous = catalogue.configurations[-1].path if catalogue.configurations else None
    for name, source in run_.host.installation.configuration_parts.items():
        link = (f"--link-dest={previous / name}",) if previous and (previous / name).is_dir() else ()
        argv = ("rsync", "-a", "--copy-unsafe-links", "--stats", *link, f"{source}/", f"{partial / name}/")
        limit = run_.settings.contentstore_limit_hours * HOUR
        hint = f"namei -l {shlex.quote(str(source))}; df -h {shlex.quote(str(final.parent))}"
        run(Command(argv, limit, tolerated=VANISHED, hint=hint), log=run_.log)
    files = [path for path in partial.rglob("*") if path.is_file() and not path.is_symlink()]
    configuration = Configuration(
        stamp=run_.stamp,
        path=final,
        started_at=started_at,
        finished_at=utc_now(),
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        digests=dict(_digests({name: partial / name for name in DIGESTED_PARTS})),
    )
    sync_filesystem(partial)
    # As private as the tree: a short password can be guessed from the digest of the file it is in.
    write_json(metadata_of(final), configuration.to_metadata(), 0o600)
    publish(partial, final)
    return configuration


def _digests(parts: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """`part/relative path` and sha256 of each file of the small parts, so that a restore can compare them."""
    for name, root in parts.items():
        for path in sorted(root.rglob("*")):
            if path.is_file():
                with path.open("rb") as stream:
                    yield (
                        f"{name}/{path.relative_to(root)}",
                        hashlib.file_digest(stream, "sha256").hexdigest(),
                    )
