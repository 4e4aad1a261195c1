"""The base backup: copy, judge by content, wait for its WAL, publish."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.base_backup import (
    MAIN_TAR,
    WAL_TAR,
    BackupLabel,
    BaseBackupMethod,
    choose_compression,
    history_file_name,
    parse_backup_label,
    parse_progress,
)
from alfresco_backup.database import identify_system
from alfresco_backup.durable import fsync_tree, publish, write_json
from alfresco_backup.errors import ArchivingBroken, BackupUnsound
from alfresco_backup.host import Host, Run
from alfresco_backup.installation import Programs, owner_of
from alfresco_backup.layout import BASE_METADATA, MANIFEST, partial_of
from alfresco_backup.records import BaseBackup, BaseFile, Tablespace
from alfresco_backup.runner import Command, Watch, run, run_pipeline
from alfresco_backup.stamps import utc_now
from alfresco_backup.wal import Lsn, segments_between
from tasks.archive import copy_from_archive, wait_for_archive, watch_archiver
from tasks.base_judge import judge_base_backup, read_member
from tasks.progress import Progress
from tasks.retries import worth_another_try

HOUR = 3600.0
OnProgress = Callable[[float, float], None]
ASK_SECONDS = 30.0
WATCH_SECONDS = 30.0


@task(
    name="base-backup",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=30,
    retry_condition_fn=worth_another_try,
)
def make_base_backup(run_: Run) -> BaseBackup:
    """Copy the running database and publish the copy once it is shown to hold what a restore needs."""
    progress = Progress("base backup")
    backup = base_backup(run_, progress)
    progress.finish()
    get_run_logger().info(
        "base backup %s: %d bytes of database in %d bytes, %.1f s, WAL %s to %s",
        *(backup.stamp, backup.database_bytes, backup.stored_bytes, backup.seconds),
        *(backup.start_wal, backup.stop_wal),
    )
    return backup


def base_backup(run_: Run, on_progress: OnProgress) -> BaseBackup:
    """Make the base backup of this run's stamp. Raises; then only a `.partial` is left, which is no backup.

    Repeating it starts anew: what an earlier try left under the same stamp is removed first.
    """
    host = run_.host
    partial = _fresh_partial(run_)
    before = identify_system(host.database)
    tablespaces = find_tablespaces(host)
    method = choose_method(host, bool(tablespaces))
    started_at = server_time(host)
    copy_database(run_, method, partial, on_progress)
    stopped_at = server_time(host)
    after = identify_system(host.database)
    if (before.system_identifier, before.timeline) != (after.system_identifier, after.timeline):
        raise BackupUnsound(
            f"the server changed while it was copied: system identifier {before.system_identifier} timeline "
            f"{before.timeline} became {after.system_identifier} timeline {after.timeline}",
            "run the backup again",
        )
    if method.compression == "afterwards":
        compress_tars(run_, partial)
    judge_base_backup(run_, partial, expects_manifest=host.server.has_manifest)
    segment_size = wal_segment_size(host)
    label = add_wal(run_, partial, segment_size, after.timeline)
    backup = BaseBackup(
        stamp=run_.stamp,
        path=run_.repository.base(run_.stamp),
        legacy=False,
        host=host.name,
        postgresql_version=host.server_version,
        system_identifier=after.system_identifier,
        timeline=after.timeline,
        segment_size=segment_size,
        start_lsn=Lsn.parse(label.start_lsn),
        stop_lsn=Lsn.parse(label.stop_lsn),
        start_wal=label.start_wal,
        stop_wal=label.stop_wal,
        started_at=started_at,
        stopped_at=stopped_at,
        database_bytes=database_bytes(host),
        stored_bytes=0,
        seconds=(utc_now() - started_at).total_seconds(),
        files=describe_files(partial),
        tablespaces=tablespaces,
        data_directory=str(host.installation.data_directory),
    )
    backup = replace(backup, stored_bytes=sum(file.bytes for file in backup.files))
    fsync_tree(partial)
    write_json(partial / BASE_METADATA, backup.to_metadata())
    publish(partial, backup.path)
    return backup


def _fresh_partial(run_: Run) -> Path:
    """An empty `.partial` that the account of the database may write to."""
    postgres = run_.repository.postgres
    postgres.mkdir(exist_ok=True)
    partial = partial_of(run_.repository.base(run_.stamp))
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    if owner_of(partial).uid != run_.host.account.uid:
        shutil.chown(partial, run_.host.account.uid, run_.host.account.gid)
    return partial


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


def find_tablespaces(host: Host) -> tuple[Tablespace, ...]:
    """Tablespaces outside the data directory; those made inside it (in place) travel with the main tar."""
    rows = host.database.query(
        "SELECT oid, spcname, pg_tablespace_location(oid) FROM pg_tablespace"
        " WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY oid"
    )
    return tuple(Tablespace(int(oid), name, location) for oid, name, location in rows)


def server_time(host: Host) -> datetime:
    """The server's clock, which stamps commits and so decides what is before or after a moment."""
    return datetime.fromisoformat(host.database.value("SELECT clock_timestamp()"))


def database_bytes(host: Host) -> int:
    """The size of all databases that PGUSER may look at together, uncompressed."""
    return int(
        host.database.value(
            "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"
            " WHERE has_database_privilege(oid, 'CONNECT')"
        )
    )


def wal_segment_size(host: Host) -> int:
    """The size of a WAL segment in bytes."""
    return int(
        host.database.value(
            "SELECT setting::bigint * CASE unit WHEN 'B' THEN 1 ELSE 8192 END"  # in 8 kB pages before 11
            " FROM pg_settings WHERE name = 'wal_segment_size'"
        )
    )


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


def add_wal(run_: Run, partial: Path, segment_size: int, timeline: int) -> BackupLabel:
    """Wait until every segment from start to stop is archived, and put a copy of them into the set.

    With it the set restores even when the archive is lost. Returns start and stop as the server noted them.
    Raises ArchivingBroken when a segment does not arrive in time.
    """
    host = run_.host
    start = parse_backup_label(read_member(partial, "backup_label"))
    history_name = history_file_name(start, segment_size)
    history = wait_for_archive(host, history_name)
    label = parse_backup_label(history.read_text(encoding="utf-8", errors="replace"))
    if not label.stop_wal:
        raise ArchivingBroken(f"{history} names no stop", "run the backup again")
    start_lsn, stop_lsn = Lsn.parse(label.start_lsn), Lsn.parse(label.stop_lsn)
    segments = segments_between(timeline, start_lsn, stop_lsn, segment_size)
    names = [segment.name(segment_size) for segment in segments]
    gathered = partial / "pg_wal.gathered"
    gathered.mkdir()
    for name in names:
        wait_for_archive(host, name)
        copy_from_archive(host, name, gathered)
    if timeline > 1:
        history_file = f"{timeline:08X}.history"
        wait_for_archive(host, history_file)
        copy_from_archive(host, history_file, gathered)
    squeeze = f"zstd -q -T{run_.settings.parallel_copies}"
    argv = ("tar", "-c", "-I", squeeze, "-f", str(partial / WAL_TAR), "-C", str(gathered), ".")
    run(Command(argv, HOUR), log=run_.log)
    shutil.rmtree(gathered)
    return label


def describe_files(partial: Path) -> tuple[BaseFile, ...]:
    """Name, size, checksum and meaning of each file of the set."""
    holds = {f"{MAIN_TAR}.zst": "data", WAL_TAR: "wal", MANIFEST: "manifest"}
    files = []
    for path in sorted(partial.iterdir()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        meaning = holds.get(path.name, path.name.removesuffix(".tar.zst"))
        files.append(BaseFile(path.name, path.stat().st_size, digest, meaning))
    return tuple(files)
