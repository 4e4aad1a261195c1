"""What PostgreSQL's log tells about a recovery, line by line, in English (lc_messages = C). Pure.

The messages are the same from 9.4 to 18 (xlog.c, xlogrecovery.c, xlogarchive.c).
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from alfresco_backup.postgres.wal_files import Lsn, parse_segment_name
from alfresco_backup.postgres.wal_records import WHOLE, EndKind
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
_FLAGS = {
    "unreached": re.compile("recovery ended before configured recovery target was reached"),
    "consistent": re.compile("recovery stopping after reaching consistency"),
    "paused": re.compile("pausing at the end of recovery|recovery has paused"),
    "standby": re.compile("database system is ready to accept read.only connections"),
    "no_standby": re.compile(
        "hot standby is not possible|recovery aborted because of insufficient parameter settings"
    ),
    "ready": re.compile("database system is ready to accept connections"),
}
"""A hot standby is not possible with WAL of wal_level archive, or where a parameter was raised in it: FATAL,
from 14 on a pause without end.
"""
_SEVERE = re.compile(r"\b(?:FATAL|PANIC):\s+(.*)")
_COMPLAINT = re.compile(
    r"\bLOG:\s+((?:invalid|incorrect|unexpected|missing contrecord|contrecord|there is no contrecord|"
    r"out-of-|record (?:with|length)|WAL file is from|BKPBLOCK|BKPIMAGE|"
    r"could not (?:read|restore image|decompress)).*)"
)
"""Why PostgreSQL takes something for no WAL record (xlogreader.c, xlogrecovery.c, before 15 xlog.c)."""


@dataclass
class RecoveryLog:
    """What was read so far. Times are those of commits, aware.

    `stopped_before` is the time of the first commit or abort that was not replayed: proof that a time target
    was reached. `restored` counts segments fetched, `fetched` names the last of them. `redo_done` is the
    position of the last record replayed, `complaint` what PostgreSQL said of the bytes behind it: nothing
    where it only found no further segment. `paused` and `standby`: replay is paused, clients may read;
    `no_standby`: it cannot be a hot standby from here on.
    """

    restored: int = 0
    fetched: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    complaint: str = ""
    stopped_before: datetime | None = None
    consistent: bool = False
    last_commit: datetime | None = None
    redo_done: Lsn | None = None
    timeline: int | None = None
    unreached: bool = False
    ready: bool = False
    paused: bool = False
    standby: bool = False
    no_standby: bool = False
    severe: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def read(self, line: str) -> None:
        """Take in one line."""
        if not line.strip():
            return
        self.tail.append(line)
        if found := _RESTORED.search(line):
            self.restored += 1
            if self.redo_done is None:  # afterwards the last segment is fetched once more
                self.fetched.append(found[1])
                self.complaint = ""
        elif found := _STOPPED.search(line):
            self.stopped_before = _moment(found[1])
        elif found := _LAST_COMMIT.search(line):
            self.last_commit = _moment(found[1])
        elif found := _REDO_DONE.search(line):
            self.redo_done = Lsn.parse(found[1])
        elif found := _NEW_TIMELINE.search(line):
            self.timeline = int(found[1])
        elif (found := _COMPLAINT.search(line)) and self.redo_done is None:
            self.complaint = found[1]
        for flag, pattern in _FLAGS.items():
            if pattern.search(line):
                setattr(self, flag, True)
        if found := _SEVERE.search(line):
            self.severe.append(found[1])

    @property
    def paused_at_target(self) -> bool:
        """Whether it stopped at a commit or at consistency, is paused there, and answers."""
        return self.paused and self.standby and (self.stopped_before is not None or self.consistent)


@dataclass(frozen=True)
class ReplayEnd:
    """Where a replay ended: at `at` in `segment`, of which `kind` tells how its records end there.

    `goes_on`: the segment after it is to be had now. `words` say why what is at `at` is no record; of
    `untold` nothing but them is known.
    """

    kind: EndKind | Literal["untold"]
    at: Lsn
    segment: str
    words: str = ""
    goes_on: bool = False

    @classmethod
    def untold(cls, words: str) -> "ReplayEnd":
        return cls("untold", Lsn(0), "", words)

    def is_end_of_wal(self, complaint: str) -> bool:
        """Whether there was no more WAL to read.

        A segment that is to be had now, of which PostgreSQL did not complain, has arrived since: restore-wal
        said that it was absent.
        """
        if self.kind in ("unfinished", "cut off"):
            return not self.goes_on
        return self.kind in WHOLE and not (self.goes_on and complaint)


def why_not_reached(
    log: RecoveryLog, target: Target, last_segment: str, segment_size: int, find_end: Callable[[], ReplayEnd]
) -> str:
    """Why a recovery did not come to its target, in a sentence; empty when it did.

    `find_end` is asked where the replay ended, if that matters.

    Before 13 PostgreSQL opens the database silently when the WAL ends before the target, from 13 on it stops.
    A target time is reached when a later commit was left out; or, where the WAL reaches beyond it, when all
    of `last_segment` was replayed, the first one written to after the target time. The end of the WAL
    is reached where there is no more of it, not before `last_segment` has ended.
    """
    last_commit = f"; the last commit found is {log.last_commit}" if log.last_commit else ""
    if target.kind == "immediate":
        return "" if log.consistent else "PostgreSQL did not stop at the end of the base backup"
    if target.kind == "time" and log.stopped_before is not None:
        return ""
    if target.kind == "time" and not target.end_of_wal_suffices:
        return f"the WAL ended before {target.time}{last_commit}"
    reason = _why_replay_fell_short(log, target, last_segment, segment_size, find_end())
    return reason and f"{reason}{last_commit}"


def _why_replay_fell_short(
    log: RecoveryLog, target: Target, last_segment: str, segment_size: int, end: ReplayEnd
) -> str:
    if end.kind == "untold":
        return f"where the replay ended cannot be verified: {end.words}"
    planned = parse_segment_name(last_segment, segment_size).number
    at_end = end.is_end_of_wal(log.complaint)
    beyond = int(end.at) >= (planned + 1) * segment_size
    within = end.kind != "complete" and end.at.segment(segment_size) == planned
    if (beyond and (at_end or target.kind == "time")) or (within and at_end):
        return ""
    if at_end:
        return f"the WAL ended at {end.at}, before segment {last_segment} was read"
    said = log.complaint or end.words or "no further record"
    return f"segment {end.segment} is damaged at {end.at}, where the replay ended ({said})"


def _moment(text: str) -> datetime:
    """A time as PostgreSQL logs it with timezone = UTC: `2026-11-22 03:00:00.123+00`."""
    return datetime.fromisoformat(text.rstrip(",").replace(" UTC", "+00:00"))
