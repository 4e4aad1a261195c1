"""Where a replay ended, and whether the WAL ends there. Reads the files PostgreSQL read, changes nothing.

PostgreSQL ends a recovery wherever it cannot read the next record: where the WAL ends, and where it is
damaged. Which of the two it was shows what lies behind the last record it replayed (`redo done at`).
"""

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from alfresco_backup.postgres.database import last_checkpoint
from alfresco_backup.postgres.timelines import TimelinePath, path_to, read_histories
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.postgres.wal_files import ZST, Lsn, Segment, list_archive, read_segment_header
from alfresco_backup.postgres.wal_records import Record, RecordsEnd, SegmentRecords, open_segment
from alfresco_backup.restore.planning.plan import DatabasePlan
from alfresco_backup.restore.recovery.recovery_log import RecoveryLog, ReplayEnd
from alfresco_backup.system.zstd_files import decompress
from alfresco_backup.wal.archive import archived_path


def find_replay_end(database: DatabasePlan, archive: Path, log: RecoveryLog) -> ReplayEnd:
    """Where the replay that wrote `log` ended; says so where that cannot be told.

    `archive` is the folder that holds finished segments only.
    """
    if log.redo_done is None:
        return ReplayEnd.untold("PostgreSQL replayed no WAL")
    with tempfile.TemporaryDirectory(prefix="alfresco-backup-wal-") as folder, ExitStack() as opened:
        return _Search(database, archive, log, Path(folder), opened).find(log.redo_done)


class _Search:
    """The WAL of one recovery, by the places that restore-wal looks into."""

    def __init__(
        self, database: DatabasePlan, archive: Path, log: RecoveryLog, scratch: Path, opened: ExitStack
    ) -> None:
        self.database, self.archive, self.log = database, archive, log
        self.scratch, self.opened = scratch, opened
        self.size = database.base.segment_size
        self.facts = facts_of(database.base.postgresql_version)
        own = database.data_directory / self.facts.wal_directory
        self.places = (*database.wal_sources, own)
        self.paths: dict[int, TimelinePath] = {}
        for place in reversed(self.places):
            with suppress(OSError):
                self.paths |= read_histories(place, list_archive(place)).paths

    def find(self, last: Lsn) -> ReplayEnd:
        """Go behind the record at `last`, the last that was replayed."""
        number = last.segment(self.size)
        records = self._open(number)
        record = records.record_at(last) if records else None
        if records and isinstance(record, Record):
            if record.end == records.end:
                return self._ended(number, RecordsEnd("complete", record.end), last)
            return self._ended(number, records.record_at(record.end, last), last)
        if isinstance(record, RecordsEnd) and record.kind == "crossing":
            number += 1
            records = self._open(number)
            first = records.first() if records else None
            if records and isinstance(first, Lsn):
                return self._ended(number, records.record_at(first, last), last)
        return ReplayEnd.untold(f"segment {self._name(number)} does not have the WAL that was replayed")

    def _ended(self, number: int, behind: Record | RecordsEnd, last: Lsn) -> ReplayEnd:
        """What was found behind the last record. One that is there after all has a wrong checksum."""
        found = behind if isinstance(behind, RecordsEnd) else RecordsEnd("damaged", behind.at)
        kind = found.kind
        if kind in ("unfinished", "cut off") and not self._may_end_so(number, last, found):
            kind = "damaged"
        return ReplayEnd(kind, found.at, self._name(number), found.words, self._place(number + 1) is not None)

    def _may_end_so(self, number: int, last: Lsn, found: RecordsEnd) -> bool:
        """Whether a segment may end like one that a server was still writing.

        One from a server's own folder may, unless that server's control file knows of a later record. In the
        archive only one that a server before 9.5 left behind when it began a timeline at that very place,
        which this recovery itself does not prove.
        """
        name, place = self._name(number), self._place(number)
        timeline = int(name[:8], 16)
        if place is not None and place.parent != self.archive:
            live = self.database.set_aside if name in self.database.live_segments else None
            written = last_checkpoint(live) if live else None
            return written is None or written[0] != timeline or written[1] <= last
        paths = [path for path in self.paths.values() if path.timeline != self.log.timeline]
        left = any((span.timeline, span.end) == (timeline, found.at) for path in paths for span in path.spans)
        return left and found.kind == "unfinished" and self.facts.archives_unfinished

    def _name(self, number: int) -> str:
        """The segment of a number: as PostgreSQL fetched it, else as its path of timelines has it."""
        place = Segment(1, number).name(self.size)[8:]
        fetched = [name for name in self.log.fetched if name.endswith(place)]
        if fetched:
            return fetched[-1]
        return path_to(self.database.timeline, self.paths).segment(number, self.size).name(self.size)

    def _place(self, number: int) -> Path | None:
        """Where restore-wal finds it: a file that is not what its name says is passed over."""
        name = self._name(number)
        for place in self.places:
            if place == self.archive and name in self.database.skipped_segments:
                continue
            path = archived_path(place, name)
            with suppress(ValueError, OSError):
                if path and read_segment_header(path).address == Lsn(number * self.size):
                    return path
        return None

    def _open(self, number: int) -> SegmentRecords | None:
        path = self._place(number)
        if path is None:
            return None
        plain = path
        try:
            if path.suffix == ZST:
                plain = self.scratch / path.stem
                decompress(path, plain)
            return self.opened.enter_context(open_segment(plain))
        except (ValueError, OSError):
            return None
