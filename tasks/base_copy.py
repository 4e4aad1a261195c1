"""The copying of a base backup: choosing how, and running pg_basebackup."""

from collections.abc import Callable
from pathlib import Path

from alfresco_backup.base_backup import MAIN_TAR, BaseBackupMethod, choose_compression, parse_progress
from alfresco_backup.host import Host, Run
from alfresco_backup.installation import Programs
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


def copy_database(run_: Run, method: BaseBackupMethod, partial: Path, on_progress: OnProgress) -> None:
    """Run pg_basebackup. Archiving is watched meanwhile: the server waits for its archiver without end."""
    host = run_.host
    hours = host.settings.base_backup_limit_hours
    hint = f"look at {run_.log} and at the server's log; then run the backup again"
    copy = Command(
        method.argv(partial, f"alfresco-backup {run_.stamp}"),
        hours * HOUR,
        host.database.environment,
        host.account,
        hint=hint,
        chatter=parse_progress,
    )
    watch = Watch(WATCH_SECONDS, watch_archiver(host))

    def on_line(line: str) -> None:
        measured = parse_progress(line)
        if measured:
            on_progress(*measured)

    if method.compression == "pipe":
        squeeze = Command(("zstd", "-q", f"-T{method.workers}", f"-{method.level}"), hours * HOUR, hint=hint)
        target = partial / f"{MAIN_TAR}.zst"
        run_pipeline(copy, squeeze, target, log=run_.log, on_line=on_line, watch=watch)
    else:
        run(copy, log=run_.log, on_line=on_line, watch=watch)


def compress_tars(run_: Run, partial: Path) -> None:
    """Compress the tars that pg_basebackup wrote plain."""
    limit = run_.settings.base_backup_limit_hours * HOUR
    for tar in sorted(partial.glob("*.tar")):
        options = ("-q", "--rm", f"-T{run_.settings.parallel_copies}", f"-{run_.settings.zstd_level}")
        run(Command(("zstd", *options, str(tar)), limit), log=run_.log)
