"""Makes a base backup: copy, judge by content, wait for its WAL, publish."""

import hashlib
import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from alfresco_backup.backup.base import MAIN_TAR, WAL_TAR, choose_method, refuses_workers
from alfresco_backup.backup.base_copy import (
    WANTED,
    compress_tars,
    copy_database,
    judge_base_backup,
)
from alfresco_backup.backup.server import (
    ask_patiently,
    database_bytes,
    find_tablespaces,
    server_time,
    wal_segment_size,
)
from alfresco_backup.backup.tar_verify import TarContents, reading_along
from alfresco_backup.errors import ArchivingBroken, BackupUnsound, ToolFailed
from alfresco_backup.host.containers import libc_of, server_container
from alfresco_backup.host.host import Run
from alfresco_backup.postgres.backup_label import BackupLabel, history_file_name, parse_backup_label
from alfresco_backup.postgres.database import Identity, identify_system
from alfresco_backup.postgres.wal_files import Lsn, read_small, segments_between
from alfresco_backup.repository.layout import BASE_METADATA, MANIFEST, partial_of
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.files import fsync_tree, publish, read_json, write_json
from alfresco_backup.system.folders import make_folder, open_folder, reading, remove_tree, take_back
from alfresco_backup.system.processes import Command, OnProgress, run
from alfresco_backup.wal.archive import (
    copy_from_archive,
    provide_history,
    refuse_foreign_segment,
    wait_for_archive,
)

HOUR = 3600.0


def base_backup(run_: Run, on_progress: OnProgress) -> BaseBackup:
    """Make the base backup of this run's ID. Raises; then only a `.partial` is left, which is no backup.

    Repeating it starts again: what an earlier try left under the same ID is removed first. It is repeated
    here where zstd turns out to have no threads.
    """
    try:
        return _base_backup(run_, on_progress)
    except ToolFailed as error:
        if not refuses_workers(error.tail):
            raise
    return _base_backup(run_, on_progress, threads=False)


def _base_backup(run_: Run, on_progress: OnProgress, *, threads: bool = True) -> BaseBackup:
    host = run_.host
    partial = _fresh_partial(run_)
    before = identify_system(host.database)
    provide_history(host, before.timeline)
    segment_size, size = wal_segment_size(host), database_bytes(host)
    tablespaces = find_tablespaces(host)
    container = server_container(host.settings) if host.settings.pg_container else None
    method = choose_method(host, bool(tablespaces))
    method = method if threads else replace(method, workers=0)
    began, started_at = time.monotonic(), server_time(host)
    with reading_along(partial, WANTED) as reading:
        damaged = copy_database(run_, method, partial, on_progress)
        take_back_from(host.account, partial)
        stopped_at = ask_patiently(lambda: server_time(host))
        if method.compression == "afterwards":
            compress_tars(run_, partial)
    tars = reading.result()
    after = ask_patiently(lambda: identify_system(host.database))
    if (before.system_identifier, before.timeline) != (after.system_identifier, after.timeline):
        raise BackupUnsound(
            f"the server changed while it was copied: system identifier {before.system_identifier} timeline "
            f"{before.timeline} became {after.system_identifier} timeline {after.timeline}",
            program_command("backup"),
        )
    texts = judge_base_backup(partial, tars, tablespaces, expects_manifest=host.server.has_manifest)
    label = add_wal(run_, partial, parse_backup_label(texts["backup_label"]), segment_size, after)
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
        database_bytes=size,
        stored_bytes=0,
        seconds=round(time.monotonic() - began, 3),
        files=describe_files(partial, tars),
        tablespaces=tablespaces,
        data_directory=str(host.installation.data_directory),
        damaged_files=damaged,
        account=host.account.name,
        libc=libc_of(host.settings, container) if container else "",
        image=container.image if container else "",
    )
    backup = replace(backup, stored_bytes=sum(file.bytes for file in backup.files))
    fsync_tree(partial)
    write_json(partial / BASE_METADATA, backup.to_metadata())
    publish(partial, backup.path)
    return backup


def _fresh_partial(run_: Run) -> Path:
    """An empty `.partial` that the account of the database may write to."""
    make_folder(run_.repository.postgres, exist_ok=True)
    partial = partial_of(run_.repository.base(run_.stamp))
    if os.path.lexists(partial):
        remove_tree(partial)
    make_folder(partial, 0o700, run_.host.account)
    return partial


def take_back_from(account: Account, partial: Path) -> None:
    """Make sure that only this process's account can change what was copied.

    Raises BackupUnsound where PostgreSQL's account left something else in the folder than files of its own.
    """
    try:
        take_back(partial, account)
    except OSError as error:
        name = account.name or account.uid
        raise BackupUnsound(
            f"{error.filename} was made by another process of the account {name}, not by pg_basebackup: "
            f"{error.strerror}",
            f"ls -l {shlex.quote(str(error.filename))}",
        ) from error


def add_wal(run_: Run, partial: Path, start: BackupLabel, segment_size: int, server: Identity) -> BackupLabel:
    """Wait until every segment from start to stop is archived, and put a copy of them into the set.

    With it the set can be restored even when the archive is lost. Returns start and stop as the server says.
    Raises ArchivingBroken when a segment does not arrive in time or is not this server's.
    """
    host, timeline = run_.host, server.timeline
    label = _with_stop(run_, partial, start, segment_size, timeline)
    start_lsn, stop_lsn = Lsn.parse(label.start_lsn), Lsn.parse(label.stop_lsn)
    segments = segments_between(timeline, start_lsn, stop_lsn, segment_size)
    names = [segment.name(segment_size) for segment in segments]
    gathered = partial / "pg_wal.gathered"
    make_folder(gathered)
    for name in names:
        wait_for_archive(host, name)
        copy_from_archive(host, name, gathered)
        refuse_foreign_segment(gathered / name, name, server.system_identifier)
    if timeline > 1:
        history_file = f"{timeline:08X}.history"
        wait_for_archive(host, history_file)
        copy_from_archive(host, history_file, gathered)
    squeeze = f"zstd -q -T{run_.settings.parallel_copies}"
    argv = ("tar", "-c", "-I", squeeze, "-f", WAL_TAR, "-C", gathered.name, ".")
    with open_folder(partial) as folder:
        run(Command(argv, run_.settings.base_backup_limit_hours * HOUR, directory=folder), log=run_.log)
    remove_tree(gathered)
    return label


def _with_stop(run_: Run, partial: Path, start: BackupLabel, segment_size: int, timeline: int) -> BackupLabel:
    """Where the base backup ended: by its history file, which a server that archives nothing does not keep.

    There the manifest tells (13 and later).
    """
    host = run_.host
    if host.settings.wal_streaming and host.superuser_database.value("SHOW archive_mode") == "off":
        ranges = read_json(partial / MANIFEST)["WAL-Ranges"]
        stop = Lsn.parse(ranges[-1]["End-LSN"])
        segments = segments_between(timeline, Lsn.parse(start.start_lsn), stop, segment_size)
        return replace(start, stop_lsn=str(stop), stop_wal=segments[-1].name(segment_size))
    history = wait_for_archive(host, history_file_name(start, segment_size))
    label = parse_backup_label(read_small(history).decode("utf-8", "replace"))
    if not label.stop_wal:
        raise ArchivingBroken(
            f"{history} does not say where the base backup ended", program_command("backup")
        )
    return label


def describe_files(partial: Path, tars: Iterable[TarContents]) -> tuple[BaseFile, ...]:
    """Name, size, checksum and meaning of each file of the set; those of the tars were read already."""
    holds = {f"{MAIN_TAR}.zst": "data", WAL_TAR: "wal", MANIFEST: "manifest"}
    known = {tar.name: tar.sha256 for tar in tars}
    files = []
    for path in sorted(partial.iterdir()):
        digest = known.get(path.name) or _sha256(path)
        meaning = holds.get(path.name, path.name.removesuffix(".tar.zst"))
        files.append(BaseFile(path.name, path.stat().st_size, digest, meaning))
    return tuple(files)


def _sha256(path: Path) -> str:
    with reading(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
