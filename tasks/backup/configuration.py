"""The configuration of a set: keystore, shared classes and Solr backups, copied by rsync."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Run
from alfresco_backup.repository.layout import DIGESTED_PARTS, metadata_of, partial_of
from alfresco_backup.repository.records import Configuration
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.system.files import publish, sync_filesystem, write_json
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import utc_now
from tasks.backup.begin import worth_another_try

HOUR = 3600.0
VANISHED = {24: "files vanished while they were copied: Solr removes its old backups itself"}


@task(
    name="configuration",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=worth_another_try,
)
def copy_configuration(run_: Run, catalogue: Catalogue) -> Configuration:
    """Copy keystore, shared classes and Solr backups of the host into the set."""
    configuration = back_up_configuration(run_, catalogue)
    parts = ", ".join(run_.host.installation.configuration_parts) or "nothing"
    get_run_logger().info(
        "configuration %s: %s; %d files, %d bytes",
        configuration.stamp,
        parts,
        configuration.files,
        configuration.bytes,
    )
    return configuration


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
        hint = f"run the backup as root or as the owner of {source}; is there room? df -h {final.parent}"
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
    # As closed as the tree: a short password can be guessed from the digest of the file it is in.
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
