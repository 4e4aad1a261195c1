"""The copying of a base backup: choosing how, and running pg_basebackup."""

from collections.abc import Callable
from pathlib import Path

from alfresco_backup.base_backup import (
    CHECKSUM_ERROR,
    MAIN_TAR,
    BaseBackupMethod,
    choose_compression,
    copied_with_wrong_checksums,
    damaged_file,
    parse_progress,
)
from alfresco_backup.errors import ToolFailed
from alfresco_backup.host import Host, Run
from alfresco_backup.installation import Programs
from alfresco_backup.layout import MANIFEST
from alfresco_backup.runner import Command, Watch, run, run_pipeline
from tasks.archive import watch_archiver

HOUR = 3600.0
ASK_SECONDS = 30.0
WATCH_SECONDS = 30.0
OnProgress = Callable[[float, float], None]


def choose_method(host: Host, tablespaces: bool) -> BaseBackupMethod:
    """Ask client and server what they can do and choose how the copy is made."""
    programs = host.backup_client()
    server = host.server
    settings = host.settings
    client_zstd = server.backup_compression and client_has_zstd(programs)
    server_zstd = server.backup_compression and not client_zstd and server_has_zstd(host)
    compression = choose_compression(
        server, client_zstd=client_zstd, server_zstd=server_zstd, tablespaces=tablespaces
    )
    return BaseBackupMethod(
        programs,
        server,
        compression,
        settings.zstd_level,
        settings.parallel_copies,
        int(settings.bandwidth_limit_mib * 1024),
    )


def client_has_zstd(programs: Programs) -> bool:
    """Whether pg_basebackup was built with zstd, by its own pg_config; without one the answer is no."""
    if not programs.has("pg_config"):
        return False
    command = Command((programs.path("pg_config"), "--configure"), ASK_SECONDS)
    return "--with-zstd" in run(command, keep_output=True).output


def server_has_zstd(host: Host) -> bool:
    """Whether the server was built with zstd, by its view pg_config; no where that may not be read."""
    if host.superuser_database.value("SELECT has_table_privilege('pg_config', 'SELECT')") != "t":
        return False
    question = "SELECT setting FROM pg_config WHERE name = 'CONFIGURE'"
    return "--with-zstd" in host.superuser_database.value(question)


def copy_database(
    run_: Run, method: BaseBackupMethod, partial: Path, on_progress: OnProgress
) -> tuple[str, ...]:
    """Run pg_basebackup. Archiving is watched meanwhile: the server waits for its archiver without end.

    Returns the data files in which the server met pages with wrong checksums. They are copied as they are: a
    backup with a known damage is better than none, and older ones without it expire.
    """
    host = run_.host
    limit = host.settings.base_backup_limit_hours * HOUR
    hint = f"look at {run_.log} and at the server's log; then run the backup again"
    copy = Command(
        method.argv(partial, f"alfresco-backup {run_.stamp}"),
        limit,
        host.database.environment,
        host.account,
        tolerated={CHECKSUM_ERROR: "pages with wrong checksums, or a failure: its last words tell"},
        hint=hint,
        chatter=parse_progress,
    )
    watch = Watch(WATCH_SECONDS, watch_archiver(host))
    named: set[str] = set()

    def on_line(line: str) -> None:
        measured = parse_progress(line)
        if measured:
            on_progress(*measured)
        elif name := damaged_file(line):
            named.add(name)

    if method.compression == "pipe":
        squeeze = Command(("zstd", "-q", f"-T{method.workers}", f"-{method.level}"), limit, hint=hint)
        target = partial / f"{MAIN_TAR}.zst"
        finished, _ = run_pipeline(copy, squeeze, target, log=run_.log, on_line=on_line, watch=watch)
    else:
        finished = run(copy, log=run_.log, on_line=on_line, watch=watch)
    if finished.returncode == 0:
        return ()
    if not copied_with_wrong_checksums(finished.tail):
        raise ToolFailed(copy.program, finished.returncode, finished.tail, hint)
    unfinished = partial / f"{MANIFEST}.tmp"
    if unfinished.exists():  # whole, too: only the renaming is left out
        unfinished.rename(partial / MANIFEST)
    return tuple(sorted(named)) or ("a file that the server's log names",)


def compress_tars(run_: Run, partial: Path) -> None:
    """Compress the tars that pg_basebackup wrote plain."""
    limit = run_.settings.base_backup_limit_hours * HOUR
    for tar in sorted(partial.glob("*.tar")):
        options = ("-q", "--rm", f"-T{run_.settings.parallel_copies}", f"-{run_.settings.zstd_level}")
        run(Command(("zstd", *options, str(tar)), limit), log=run_.log)
