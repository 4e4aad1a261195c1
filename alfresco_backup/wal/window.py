"""From when to when a base backup can be restored, what is missing, and what a recovery reads. Pure.

What the times mean. A segment's time is that of the last write to it, so everything in it was committed by
then; nothing says when the last of it was committed. Hence the end of an interval, Y, is the time up to
which *all* commits are in the archive, not that of the last commit. A `recovery_target_time` between the last
commit and Y describes the same state as Y, yet PostgreSQL does not find a later commit to stop at: from 13
it refuses ("recovery ended before configured recovery target was reached"), before that it promotes silently
at the end of the WAL. To restore such a time, recover to the end of the WAL of that timeline. Where an
archive was filled by a plain `cp`, the times are those of copying, and Y is late by the lag of archiving.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.timelines import TimelinePath, path_to
from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people
from alfresco_backup.wal.chain import Reach, Runs, WalMap, keeps_own_wal, last_own_segment, reach

_ANY_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Interval:
    """Target times that can be restored: `start` to `end`, both included, on `timeline`.

    What `end` means is said above.

    `last_segment` is the last segment recovery reads. For a time in several intervals, the newest timeline is
    the one that Alfresco used afterwards.
    """

    start: datetime
    end: datetime
    timeline: int
    last_segment: str

    def contains(self, moment: datetime) -> bool:
        return self.start <= moment <= self.end


@dataclass(frozen=True)
class Gap:
    """Segments that recovery of a kept base backup would need next, and that cannot be used.

    `before` and `after` are the times of the segments around it, or `before` when a timeline began in it:
    what was committed between them is only in the gap. From this base backup nothing after `before` can be
    restored; `lost_until` is when the next base backup after the gap, or within it, ended, None when there
    is none: then everything since `before` is lost.
    `current`: whether it is on the path to the timeline in use. `damaged`: how many of the segments are in
    the archive, and damaged.
    """

    first: str
    last: str
    count: int
    before: datetime
    after: datetime
    lost_until: datetime | None
    current: bool
    damaged: int = 0

    def names(self, segment_size: int) -> tuple[str, ...]:
        """The names of all its segments; empty when it spans timelines."""
        first, last = (parse_segment_name(name, segment_size) for name in (self.first, self.last))
        if first.timeline != last.timeline:
            return ()
        numbers = range(first.number, last.number + 1)
        return tuple(Segment(first.timeline, number).name(segment_size) for number in numbers)

    @property
    def sentence(self) -> str:
        """What is lost, for people."""
        segments = self.first if self.count == 1 else f"{self.first} to {self.last} ({self.count:,} segments)"
        until = (
            f"until {for_people(self.lost_until)}" if self.lost_until else "until a new base backup is made"
        )
        state = "missing or damaged" if self.damaged else "missing"
        state = "damaged" if self.damaged == self.count else state
        return f"{segments} {state}: nothing from {for_people(self.before)} {until} can be restored"


def window(base: BaseBackup, wal: WalMap) -> tuple[Interval, ...]:
    """The target times that can be restored from this base backup, one interval a timeline, oldest first.

    Empty when it cannot be restored at all. The first starts when the base backup had ended. A later
    timeline's starts when it was promoted; where its parent was not continued in the archive (a crash, a
    move, not a recovery to an earlier time) it starts where the parent's ends: no time is left out.
    Of another cluster's base backup the archive's timelines say nothing. Foreign timelines have theirs, too.
    """
    intervals = []
    own = base.system_identifier == wal.owner
    for timeline in sorted({base.timeline, *wal.timelines}) if own else (base.timeline,):
        path = path_to(timeline, wal.paths if own else {})
        interval = _interval(base, path, wal) if timeline >= base.timeline else None
        if interval is not None:
            intervals.append(interval)
    return tuple(intervals)


def _interval(base: BaseBackup, path: TimelinePath, wal: WalMap) -> Interval | None:
    reached = reach(base, path, wal)
    stop = (int(base.stop_lsn) - 1) // base.segment_size
    fork = path.fork.segment(base.segment_size)
    if reached is None or reached.last < stop or (path.timeline != base.timeline and reached.last < fork):
        return None
    start = base.stopped_at if path.timeline == base.timeline else _began(base, path, fork, wal)
    last = path.segment(reached.last, base.segment_size)
    written = wal.time_of(last) if base.system_identifier == wal.owner else None
    end = max(start, written or base.stopped_at)
    return Interval(start, end, path.timeline, last.name(base.segment_size))


def _began(base: BaseBackup, path: TimelinePath, fork: int, wal: WalMap) -> datetime:
    """From when on the times of a path's last timeline count as its own."""
    parent = path.spans[-2].timeline
    continued = any(last >= fork for _, last in wal.runs.get(parent, ())[-1:])
    first = wal.time_of(Segment(path.timeline, fork)) or base.stopped_at
    if continued:
        return max(base.stopped_at, wal.promoted.get(path.timeline, first))
    before = wal.time_of(path.segment(fork - 1, wal.segment_size)) if fork else None
    return max(base.stopped_at, before or base.stopped_at)


class GapSearch:
    """What stops recovery of base backups, on every own timeline that they can follow.

    `bases` are all kept ones, `current` is the timeline in use. After the newest segment of the archive a
    later base backup that contains its own WAL proves that there was more, if it had ended by `settled`:
    what was written after that may still arrive. What the base backups say of a timeline is worked out once.
    """

    def __init__(
        self, wal: WalMap, bases: Sequence[BaseBackup], current: int, settled: datetime = _ANY_TIME
    ) -> None:
        self._wal, self._current = wal, wal.path(current)
        self._bases, self._settled = bases, settled
        self._lines: dict[int, _Line] = {}

    def of(self, base: BaseBackup) -> tuple[Gap, ...]:
        """The gaps of one base backup, oldest first."""
        wal = self._wal
        if not _of_archive(base, wal):
            return ()
        found: dict[tuple[str, str], Gap] = {}
        for timeline in sorted({base.timeline, *wal.timelines} - wal.foreign, reverse=True):
            reached = reach(base, wal.path(timeline), wal) if timeline >= base.timeline else None
            if reached is None:
                continue
            line = self._line(timeline)
            for hole in (*reached.holes, *line.hole_at_the_end(reached)):
                gap = line.gap(hole, _restorable_until(base, reached.path, hole[0], wal))
                found.setdefault((gap.first, gap.last), gap)
        return tuple(sorted(found.values(), key=lambda gap: (gap.before, gap.first)))

    def _line(self, timeline: int) -> "_Line":
        if timeline not in self._lines:
            self._lines[timeline] = _Line(
                self._wal, self._wal.path(timeline), self._current, self._bases, self._settled
            )
        return self._lines[timeline]


class _Line:
    """What all base backups and damaged segments on one timeline's path tell of its gaps."""

    def __init__(
        self,
        wal: WalMap,
        path: TimelinePath,
        current: TimelinePath,
        bases: Sequence[BaseBackup],
        settled: datetime,
    ) -> None:
        self._wal, self._path, self._current = wal, path, current
        on_path = [base for base in bases if _on_path(base, path, wal)]
        ends = {id(base): last_own_segment(base, path) for base in on_path if keeps_own_wal(base)}
        self._started = _Soonest(
            (base.start_lsn.segment(base.segment_size), base.stopped_at) for base in on_path
        )
        self._contained = _Soonest((ends[id(base)], base.stopped_at) for base in on_path if id(base) in ends)
        self._damaged = sorted(
            each.number for each in wal.damaged if path.segment(each.number, wal.segment_size) == each
        )
        ended = [ends[id(base)] for base in on_path if id(base) in ends and base.stopped_at <= settled]
        self._newest = max([*ended, *self._damaged], default=-1)
        self._gaps: dict[tuple[int, int, datetime], Gap] = {}

    def hole_at_the_end(self, reached: Reach) -> Runs:
        """What is between the newest usable segment and the end of the WAL there was, if anything.

        The newest base backup on the path and damaged segments show how far that went.
        """
        return ((reached.newest + 1, self._newest),) if self._newest > reached.newest else ()

    def gap(self, hole: tuple[int, int], since: datetime) -> Gap:
        """The hole as a gap before which everything up to `since` can be restored."""
        if (*hole, since) not in self._gaps:
            self._gaps[(*hole, since)] = self._make_gap(*hole, since)
        return self._gaps[(*hole, since)]

    def _make_gap(self, first: int, last: int, since: datetime) -> Gap:
        wal, path = self._wal, self._path
        size = wal.segment_size
        after = wal.time_of(path.segment(last + 1, size))
        # A base backup that starts after the hole, or contains WAL of it itself, restores later times.
        beyond = [self._started.from_on(last + 1), self._contained.from_on(first)]
        return Gap(
            first=wal.name_of(path.segment(first, size)),
            last=wal.name_of(path.segment(last, size)),
            count=last - first + 1,
            before=since,
            after=max(after or since, since),
            lost_until=min((end for end in beyond if end), default=None),
            current=self._current.segment(first, size) == path.segment(first, size),
            damaged=bisect_right(self._damaged, last) - bisect_left(self._damaged, first),
        )


class _Soonest:
    """Of things with a segment's number and a time: the first time of those from a number on."""

    def __init__(self, things: Iterable[tuple[int, datetime]]) -> None:
        ordered = sorted(things, reverse=True)
        self._numbers = [number for number, _ in reversed(ordered)]
        self._times = list(accumulate((time for _, time in ordered), min))[::-1]

    def from_on(self, number: int) -> datetime | None:
        place = bisect_left(self._numbers, number)
        return self._times[place] if place < len(self._times) else None


def gaps_of(
    base: BaseBackup,
    wal: WalMap,
    bases: Sequence[BaseBackup],
    current: int,
    settled: datetime = _ANY_TIME,
) -> tuple[Gap, ...]:
    """The gaps of one base backup, see GapSearch, which is for several."""
    return GapSearch(wal, bases, current, settled).of(base)


def _restorable_until(base: BaseBackup, path: TimelinePath, first: int, wal: WalMap) -> datetime:
    """Up to when nothing is lost by a hole: the last write before it.

    Where a timeline begins in it, that is when it began, if its parent's WAL is in the archive beyond that.
    """
    own = wal.path(path.segment(first, wal.segment_size).timeline)
    if own.timeline != base.timeline and own.fork.segment(wal.segment_size) == first:
        return _began(base, own, first, wal)
    before = wal.time_of(path.segment(first - 1, wal.segment_size)) if first else None
    return max(before or base.stopped_at, base.stopped_at)


def _on_path(base: BaseBackup, path: TimelinePath, wal: WalMap) -> bool:
    return _of_archive(base, wal) and not path.why_not(base.timeline, base.start_lsn, base.stop_lsn)


def _of_archive(base: BaseBackup, wal: WalMap) -> bool:
    return (base.system_identifier, base.segment_size) == (wal.owner, wal.segment_size)


def segments_needed(base: BaseBackup, moment: datetime, timeline: int, wal: WalMap) -> tuple[Segment, ...]:
    """The segments that recovery of a base backup to a target time on a timeline must read, in order.

    The last is the first one written to after that time; recovery may look into the one after it as well.
    Raises Refused when the time cannot be reached that way.
    """
    interval = next((item for item in window(base, wal) if item.timeline == timeline), None)
    if interval is None or not interval.contains(moment):
        reachable = (
            f"only from {for_people(interval.start)} to {for_people(interval.end)}"
            if interval
            else "to nothing on that timeline"
        )
        raise Refused(
            f"base backup {base.stamp} cannot be recovered to {for_people(moment)} on timeline {timeline}; "
            f"it can be recovered {reachable}",
            program_command("wal-audit"),
        )
    size = base.segment_size
    path = wal.path(timeline)
    least = max((int(base.stop_lsn) - 1) // size, path.fork.segment(size) if timeline != base.timeline else 0)
    needed = []
    for number in range(base.start_lsn.segment(size), 1 << 62):
        segment = path.segment(number, size)
        needed.append(segment)
        written = wal.time_of(segment)
        enough = number >= least and written is not None and written > moment
        if enough or segment.name(size) == interval.last_segment:
            break
    return tuple(needed)
