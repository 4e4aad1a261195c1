"""The predecessor's backups: `base-YYYY-MM-DD_HH-MM-SS/base.tar.gz` and full contentstore trees, local time.

They have no metadata. What a restore needs to know of a base backup is read from its tars
(predecessor_tar.py): PostgreSQL 9.4 leaves a large, valid tar without `global/pg_control` when it cannot read
a file in the data directory, and the predecessor called that success. Where the base backup ends is in the
`.backup` file that PostgreSQL archives. Nothing is ever written into these trees.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.postgres.backup_label import BackupLabel, history_file_name, parse_backup_label
from alfresco_backup.postgres.wal_files import (
    DEFAULT_SEGMENT_SIZE,
    LARGEST_SEGMENT_SIZE,
    SMALLEST_SEGMENT_SIZE,
    Lsn,
    parse_segment_name,
)
from alfresco_backup.repository.layout import PREDECESSOR_LATEST, SNAPSHOT_PREFIX
from alfresco_backup.repository.predecessor_tar import BASE_TAR, WAL_TAR, Contents, read_contents
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup, BaseFile, Snapshot, Tablespace
from alfresco_backup.times import parse_stamp

LONGEST_COPY = timedelta(days=7)
_TIME = re.compile(r"^(START|STOP) TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+)$", re.MULTILINE)


def read_predecessor_base(
    stamp: str, directory: Path, archive: Path, limit_bytes: int | None = None
) -> BaseBackup:
    """What is known of a predecessor's base backup. Raises ValueError saying why it is none, or OSError.

    `limit_bytes`: see read_contents. Where the archive lacks the `.backup` file, it is taken to end with the
    last segment in it and when its tar was last written; one without WAL is then no backup.
    """
    contents = read_contents(directory, limit_bytes)
    if contents.unsound:
        raise ValueError(contents.unsound)
    label = _label(contents.label)
    start_lsn, start_wal = Lsn.parse(label.start_lsn), label.start_wal
    segment_size = _segment_size(contents, start_lsn, start_wal)
    started_at = server_time(contents.label, "START") or parse_stamp(stamp)
    written_at = datetime.fromtimestamp((directory / BASE_TAR).stat().st_mtime, UTC)
    history = _history(archive, label, segment_size)
    end = _label(history) if history else label
    if end.stop_lsn:
        stop_lsn, stop_wal = Lsn.parse(end.stop_lsn), end.stop_wal
        stopped_at = server_time(history, "STOP") or written_at
    elif contents.segments:
        stop_wal, stopped_at = contents.segments[-1], written_at
        stop_lsn = parse_segment_name(stop_wal, segment_size).next().start(segment_size)
    else:
        raise ValueError(
            f"it contains no WAL, and {start_wal}.*.backup, which says where it ends, is not in the archive"
        )
    return BaseBackup(
        stamp=stamp,
        path=directory,
        legacy=True,
        host="",
        postgresql_version=_version_number(contents.version),
        system_identifier=contents.system_identifier,
        timeline=parse_segment_name(start_wal, segment_size).timeline,
        segment_size=segment_size,
        start_lsn=start_lsn,
        stop_lsn=stop_lsn,
        start_wal=start_wal,
        stop_wal=stop_wal,
        started_at=started_at.astimezone(UTC),
        stopped_at=max(stopped_at, started_at).astimezone(UTC),
        database_bytes=contents.database_bytes,
        stored_bytes=sum(path.stat().st_size for path in directory.iterdir()),
        seconds=max(0.0, (stopped_at - started_at).total_seconds()),
        files=_files(directory),
        tablespaces=tuple(
            Tablespace(int(oid), "", location) for oid, location in sorted(contents.tablespaces.items())
        ),
        data_directory="",
    )


def read_predecessor_snapshot(stamp: str, tree: Path) -> Snapshot:
    """What is known of a predecessor's contentstore tree without walking it. Raises ValueError or OSError.

    `last` points to the newest tree whose rsync succeeded; one that is newer was left by a failed run.
    When it finished is taken from the tree's change time, as long as that is plausible.
    """
    if not any(tree.iterdir()):
        raise ValueError("the tree is empty")
    last = tree.parent / PREDECESSOR_LATEST
    newest = last.readlink().name.removeprefix(SNAPSHOT_PREFIX) if last.is_symlink() else stamp
    started_at = parse_stamp(stamp).astimezone(UTC)
    if started_at > parse_stamp(newest):
        raise ValueError(f"the run that made it failed: {PREDECESSOR_LATEST} points to the older {newest}")
    changed_at = datetime.fromtimestamp(tree.stat().st_ctime, UTC)
    finished_at = changed_at if started_at <= changed_at <= started_at + LONGEST_COPY else started_at
    return Snapshot(
        stamp=stamp,
        path=tree,
        store=MAIN_STORE,
        legacy=True,
        source="",
        mode="full",
        started_at=started_at,
        finished_at=finished_at,
        files=0,
        bytes=0,
        directories=0,
        new_bytes=0,
        new_files=0,
        vanished=0,
        seconds=(finished_at - started_at).total_seconds(),
    )


def _files(directory: Path) -> tuple[BaseFile, ...]:
    tars = sorted(path for path in directory.iterdir() if path.name.endswith(".tar.gz"))
    holds = {BASE_TAR: "data", WAL_TAR: "wal"}
    return tuple(
        BaseFile(path.name, path.stat().st_size, "", holds.get(path.name, path.name.removesuffix(".tar.gz")))
        for path in tars
    )


def _label(text: str) -> BackupLabel:
    try:
        return parse_backup_label(text)
    except BackupUnsound as error:
        raise ValueError(error.message) from error


def _segment_size(contents: Contents, position: Lsn, name: str) -> int:
    """The size of the segments in the tar; without any, the one with which position and name agree."""
    if contents.segment_bytes:
        return contents.segment_bytes
    steps = (LARGEST_SEGMENT_SIZE // SMALLEST_SEGMENT_SIZE).bit_length()
    for size in (DEFAULT_SEGMENT_SIZE, *(SMALLEST_SEGMENT_SIZE << step for step in range(steps))):
        if int(name[16:], 16) == (int(position) & 0xFFFFFFFF) // size:
            return size
    raise ValueError(f"{position} is not in {name}, though its backup_label says so")


def _history(archive: Path, label: BackupLabel, segment_size: int) -> str:
    """The text of the `.backup` file PostgreSQL archived when it ended, empty when there is none."""
    try:
        return (archive / history_file_name(label, segment_size)).read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def server_time(text: str, which: str) -> datetime | None:
    """A time with a zone's abbreviation, as PostgreSQL writes it. None when it is another zone's."""
    for match in _TIME.finditer(text):
        if match[1] == which:
            moment = datetime.strptime(match[2], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - zone follows below
            return _in_zone(moment, match[3])
    return None


def _in_zone(moment: datetime, zone: str) -> datetime | None:
    if zone in {"UTC", "GMT", "Z"}:
        return moment.replace(tzinfo=UTC)
    if re.fullmatch(r"[+-]\d\d(:?\d\d)?", zone):
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        offset = timedelta(hours=hours, minutes=minutes)
        return moment.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
    for fold in (0, 1):
        local = moment.replace(fold=fold).astimezone()
        if local.tzname() == zone:
            return local
    return None


def _version_number(text: str) -> int:
    """server_version_num of the major version in PG_VERSION; the minor one is not in a tar."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise ValueError(f"PG_VERSION says {text!r}, which is no version of PostgreSQL")
    return int(match[1]) * 10000 + int(match[2] or 0) * 100
