"""The folder that WAL is received into: what may go into the archive, what may leave, where to begin.

Pure, but for the reading and copying of the newest unfinished segment, which restores use.

pg_receivewal knows by the newest file alone where to go on: the highest segment, of several timelines the
highest of that. A whole one is followed by the next; a `.partial` one is received again from its beginning.
One of another size than a segment's stops it, an empty one does not (FindStreamingStart in pg_receivewal.c,
open_walfile in receivelog.c): so an empty `.partial` chooses where it begins. Without any file it begins at
the slot's position from 15 on, and before at the server's present one, which would be a gap that nobody sees.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.postgres.wal_files import (
    HEADER,
    ArchivedFile,
    Lsn,
    Segment,
    SegmentHeader,
    list_archive,
    parse_header,
    parse_segment_name,
)
from alfresco_backup.postgres.wal_records import (
    EndKind,
    RecordsEnd,
    SegmentRecords,
    checksum_is_right,
    open_segment,
)
from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.system.files import PARTIAL
from alfresco_backup.system.folders import open_file

USABLE: tuple[EndKind, ...] = ("complete", "crossing", "unfinished", "cut off")
BLOCK = 8192


@dataclass(frozen=True)
class Received:
    """A whole or, where `partial`, an unfinished segment in the folder."""

    name: str
    segment: Segment
    partial: bool

    @property
    def order(self) -> tuple[int, int, bool]:
        """As pg_receivewal compares them."""
        return self.segment.number, self.segment.timeline, not self.partial


@dataclass(frozen=True)
class FolderPlan:
    """What is to be done with the files. `finished`: to archive, in this order; `removable`: those of them
    that may be removed once they are in the archive; `away`: what would stop or mislead the receiver.

    `newest` is what it will go on from; None where there is nothing.
    """

    finished: tuple[str, ...]
    removable: frozenset[str]
    away: tuple[str, ...]
    newest: Received | None


def plan_folder(files: Iterable[ArchivedFile], segment_size: int) -> FolderPlan:
    """Look at the files by name and size.

    The newest whole segment stays until the next one is whole: between the two it alone says where to go on.
    `away` is meant for a folder that nobody receives into: a file that is being made has an odd size.
    """
    histories, received, away = [], [], []
    for file in files:
        if file.kind == "history":
            histories.append(file.name)
        elif file.kind in ("segment", "partial") and not file.compressed:
            partial = file.kind == "partial"
            segment = parse_segment_name(file.wal_name.removesuffix(PARTIAL), segment_size)
            if file.bytes == segment_size or (partial and file.bytes == 0):
                received.append(Received(file.name, segment, partial))
            else:
                away.append(file.name)
    received.sort(key=lambda item: item.order)
    whole = [item for item in received if not item.partial]
    last = whole[-1].order if whole else (-1, 0, True)
    away += [item.name for item in received if item.partial and item.order < last]
    return FolderPlan(
        (*histories, *(item.name for item in whole)),
        frozenset(item.name for item in whole[:-1]),
        tuple(away),
        received[-1] if received else None,
    )


@dataclass(frozen=True)
class Unfinished:
    """The newest segment that the receiver has not got whole. `written` is when it was last written to.

    `end`: up to where its records are good. `defect` is why it cannot be used; empty where it can.
    """

    path: Path
    segment: Segment
    header: SegmentHeader
    written: datetime
    end: RecordsEnd
    defect: str = ""

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(PARTIAL)


def read_unfinished(folder: Path) -> Unfinished | None:
    """The newest unfinished segment of the receiver's folder, read to its end; None where there is none.

    None, too, where nothing has been received of it, and where a whole segment is newer. It may be written to
    meanwhile: a copy is read. Raises OSError where the folder cannot be listed.
    """
    with acting_as(owner_of(folder)):
        files = [file for file in list_archive(folder) if file.kind in ("segment", "partial") and file.bytes]
        newest = max(files, key=lambda file: (file.wal_name[8:24], file.wal_name[:8]), default=None)
    if newest is None or newest.kind != "partial":
        return None
    path = folder / newest.name
    with tempfile.TemporaryDirectory(prefix="alfresco-backup-wal-") as scratch:
        plain = Path(scratch, "segment")
        try:
            header, end = copy_unfinished(path, plain)
            segment = parse_segment_name(newest.name.removesuffix(PARTIAL), header.segment_size)
        except ValueError:
            return None
    defect = ""
    if header.address != segment.start(header.segment_size) or header.timeline > segment.timeline:
        defect = f"it has WAL from {header.address} of timeline {header.timeline}"
    elif end.kind not in USABLE:
        defect = f"it is damaged at {end.at}: {end.words}"
    return Unfinished(path, segment, header, newest.modified, end, defect)


def copy_unfinished(source: Path, target: Path) -> tuple[SegmentHeader, RecordsEnd]:
    """Copy an unfinished segment into a new file of a whole one's size; how its records end there.

    The blocks are read from the last to the first: of a file that is written meanwhile, what is copied then
    has no holes. A last record that was not received whole, by its checksum, is left out. Raises ValueError
    where nothing was received, OSError where it cannot be read or copied.
    """
    with acting_as(owner_of(source.parent)):
        reader = open_file(source, os.O_RDONLY)
    writer = open_file(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        header = parse_header(os.pread(reader, HEADER.size, 0))
        os.ftruncate(writer, header.segment_size)
        for offset in range(header.segment_size - BLOCK, -1, -BLOCK):
            block = os.pread(reader, BLOCK, offset)
            if any(block):
                os.pwrite(writer, block, offset)
        with open_segment(target) as records:
            last, end = _follow(records)
            if last is not None and checksum_is_right(records.body(last), header) is False:
                offset = int(last) - int(records.start)
                os.ftruncate(writer, offset)
                os.ftruncate(writer, header.segment_size)
                end = RecordsEnd("unfinished", last)
        os.fsync(writer)
    finally:
        os.close(reader)
        os.close(writer)
    return header, end


def _follow(records: SegmentRecords) -> tuple[Lsn | None, RecordsEnd]:
    """The last whole record, if any begins here, and where the records end.

    Damaged, with no last record, where one that others follow has not the checksum it states:
    replay would end there.
    """
    last: Lsn | None = None
    wrong: Lsn | None = None
    at = records.first()
    while isinstance(at, Lsn):
        record = records.record_at(at, last)
        if isinstance(record, RecordsEnd):
            return last, record
        if wrong is not None:
            return None, RecordsEnd("damaged", wrong, "the record has not the checksum that it states")
        if not record.given_up:
            last = record.at
            if checksum_is_right(records.body(last), records.header) is False:
                wrong = last
        at = record.end
    return last, at
