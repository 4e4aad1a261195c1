"""What PostgreSQL's log tells about a recovery, line by line, in English (lc_messages = C). Pure.

The messages are the same from 9.4 to 18 (xlog.c, xlogrecovery.c, xlogarchive.c).
"""

import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from alfresco_backup.postgres.wal_files import Lsn, parse_segment_name
from alfresco_backup.restore.planning.plan import Target

TAIL_LINES = 25
_RESTORED = re.compile(r'restored log file "([0-9A-F]{24})" from archive')
_STOPPED = re.compile(
    r"recovery stopping (?:before|after) (?:commit|abort)(?: of prepared transaction| of transaction)? \d+,"
    r" time (\S+ \S+)"
)
_LAST_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_REDO_DONE = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
_NEW_TIMELINE = re.compile(r"selected new timeline ID: (\d+)")
_UNREACHED = "recovery ended before configured recovery target was reached"
_CONSISTENT = "recovery stopping after reaching consistency"
_READY = "database system is ready to accept connections"
_SEVERE = re.compile(r"\b(?:FATAL|PANIC):\s+(.*)")


@dataclass
class RecoveryLog:
    """What was read so far. Times are those of commits, aware.

    `stopped_before` is the time of the first commit or abort that was not replayed: proof that a time target
    was reached. `restored` counts segments fetched, `fetched_last` says whether `last_segment` was one.
    """

    last_segment: str = ""
    restored: int = 0
    fetched_last: bool = False
    stopped_before: datetime | None = None
    consistent: bool = False
    last_commit: datetime | None = None
    redo_done: Lsn | None = None
    timeline: int | None = None
    unreached: bool = False
    ready: bool = False
    severe: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def read(self, line: str) -> None:
        """Take in one line."""
        if not line.strip():
            return
        self.tail.append(line)
        if found := _RESTORED.search(line):
            self.restored += 1
            self.fetched_last |= found[1] == self.last_segment
        elif found := _STOPPED.search(line):
            self.stopped_before = _moment(found[1])
        elif found := _LAST_COMMIT.search(line):
            self.last_commit = _moment(found[1])
        elif found := _REDO_DONE.search(line):
            self.redo_done = Lsn.parse(found[1])
        elif found := _NEW_TIMELINE.search(line):
            self.timeline = int(found[1])
        elif _CONSISTENT in line:
            self.consistent = True
        elif _UNREACHED in line:
            self.unreached = True
        elif _READY in line:
            self.ready = True
        if found := _SEVERE.search(line):
            self.severe.append(found[1])


def why_not_reached(log: RecoveryLog, target: Target, segment_size: int) -> str:
    """Why a recovery did not come to its target, in a sentence; empty when it did.

    Before 13 PostgreSQL opens the database silently when the WAL ends before the target, from 13 on it stops.
    """
    last_commit = f"; the last commit found is of {log.last_commit}" if log.last_commit else ""
    if target.kind == "immediate":
        return "" if log.consistent else "PostgreSQL did not stop at the end of the base backup"
    if target.kind == "time" and log.stopped_before is not None:
        return ""
    if target.kind == "time" and not target.end_of_wal_suffices:
        return f"the WAL ended before {target.time}{last_commit}"
    if not read_last_segment(log, segment_size):
        return f"the WAL ended before segment {log.last_segment} was read{last_commit}"
    return ""


def read_last_segment(log: RecoveryLog, segment_size: int) -> bool:
    """Whether the last segment that was counted on was fetched, or replayed from the server's own folder."""
    if log.fetched_last or log.redo_done is None:
        return log.fetched_last
    return log.redo_done.segment(segment_size) >= parse_segment_name(log.last_segment, segment_size).number


def _moment(text: str) -> datetime:
    """A time as PostgreSQL logs it with timezone = UTC: `2026-11-22 03:00:00.123+00`."""
    return datetime.fromisoformat(text.rstrip(",").replace(" UTC", "+00:00"))
