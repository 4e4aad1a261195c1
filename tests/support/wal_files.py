"""WAL segments made by hand: the page header as PostgreSQL writes it, and content that differs by seed."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard

from alfresco_backup.postgres.wal_files import HEADER, LONG_HEADER, Lsn, Segment
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.wal.archiver import ServerView

OWNER = "7123456789012345678"
MAGIC_16 = 0xD110

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
WELL = ServerView(
    moment=NOW,
    system_identifier=OWNER,
    timeline=1,
    segment_size=16 << 20,
    current_segment="000000010000000000000008",
    archive_mode="on",
    archive_command="archive-wal …",
    archive_timeout=300,
    archived_count=7,
    last_archived="000000010000000000000007",
    last_archived_at=NOW - timedelta(minutes=2),
    failed_count=0,
    last_failed="",
    last_failed_at=None,
)
"""A server whose archiving works."""


def segment_bytes(
    segment: Segment, size: int, owner: str = OWNER, *, page_timeline: int = 0, seed: int = 0
) -> bytes:
    """A whole segment. `page_timeline` is its page's timeline where that is an ancestor's."""
    timeline = page_timeline or segment.timeline
    start = int(segment.start(size))
    head = HEADER.pack(MAGIC_16, LONG_HEADER, timeline, start, 0, int(owner), size, 8192)
    body = random.Random(f"{segment}{seed}").randbytes(4096)
    return head + body + bytes(size - len(head) - len(body))


def archive_segment(
    directory: Path,
    segment: Segment,
    size: int,
    *,
    owner: str = OWNER,
    compressed: bool = False,
    modified: datetime | None = None,
    page_timeline: int = 0,
    seed: int = 0,
) -> Path:
    """Put a segment made by hand into a folder, under its name."""
    content = segment_bytes(segment, size, owner, page_timeline=page_timeline, seed=seed)
    path = directory / (segment.name(size) + (".zst" if compressed else ""))
    path.write_bytes(
        zstandard.ZstdCompressor(write_checksum=True).compress(content) if compressed else content
    )
    if modified is not None:
        os.utime(path, (modified.timestamp(), modified.timestamp()))
    return path


def base_backup(
    start: Lsn,
    stop: Lsn,
    timeline: int = 1,
    *,
    stopped_at: datetime,
    segment_size: int,
    owner: str = OWNER,
    files: tuple[BaseFile, ...] = (),
    stamp: str = "20261122T100000Z",
) -> BaseBackup:
    """The record of a base backup, with what matters for its WAL."""
    last = Lsn(int(stop) - 1)
    return BaseBackup(
        stamp=stamp,
        path=Path("postgres") / f"base-{stamp}",
        legacy=False,
        host="demo",
        postgresql_version=150000,
        system_identifier=owner,
        timeline=timeline,
        segment_size=segment_size,
        start_lsn=start,
        stop_lsn=stop,
        start_wal=Segment(timeline, start.segment(segment_size)).name(segment_size),
        stop_wal=Segment(timeline, last.segment(segment_size)).name(segment_size),
        started_at=stopped_at,
        stopped_at=stopped_at,
        database_bytes=0,
        stored_bytes=0,
        seconds=0.0,
        files=files,
        tablespaces=(),
        data_directory="",
    )
