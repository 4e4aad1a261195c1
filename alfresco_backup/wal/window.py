"""From when to when a base backup can be restored, what is missing, and what a recovery reads. Pure.

What the times mean. A segment's time is that of the last write to it, so everything in it was committed by
then; nothing says when the last of it was committed. Hence the end of an interval, Y, is the time up to
which *all* commits are in the archive, not that of the last commit. A `recovery_target_time` between the last
commit and Y describes the same state as Y, yet PostgreSQL does not find a later commit to stop at: from 13
it refuses ("recovery ended before configured recovery target was reached"), before that it promotes silently
at the end of the WAL. To restore such a time, recover to the end of the WAL of that timeline. Where an
archive was filled by a plain `cp`, the times are those of copying, and Y is late by the lag of archiving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

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
    continued = any(last >= fork for _, last in wal.runs.get(parent, ()))
    first = wal.time_of(Segment(path.timeline, fork)) or base.stopped_at
    if continued:
        return max(base.stopped_at, wal.promoted.get(path.timeline, first))
    before = wal.time_of(path.segment(fork - 1, wal.segment_size)) if fork else None
    return max(base.stopped_at, before or base.stopped_at)


def gaps_of(
    base: BaseBackup,
    wal: WalMap,
    bases: Sequence[BaseBackup],
    current: int,
    settled: datetime = _ANY_TIME,
) -> tuple[Gap, ...]:
    """What stops recovery of a base backup, on every own timeline that it can follow.

    `bases` are all kept ones, `current` is the timeline in use. After the newest segment of the archive a
    later base backup that contains its own WAL proves that there was more, if it had ended by `settled`:
    what was written after that may still arrive.
    """
    if not _of_archive(base, wal):
        return ()
    ended = [other for other in bases if other.stopped_at <= settled]
    found: dict[tuple[str, str], Gap] = {}
    for timeline in sorted({base.timeline, *wal.timelines} - wal.foreign, reverse=True):
        path = wal.path(timeline)
        reached = reach(base, path, wal) if timeline >= base.timeline else None
        for first, last in (*reached.holes, *_hole_at_the_end(reached, ended, wal)) if reached else ():
            since = _restorable_until(base, path, first, wal)
            after = wal.time_of(path.segment(last + 1, wal.segment_size))
            beyond = [other.stopped_at for other in bases if _restores_later(other, path, (first, last), wal)]
            gap = Gap(
                first=wal.name_of(path.segment(first, wal.segment_size)),
                last=wal.name_of(path.segment(last, wal.segment_size)),
                count=last - first + 1,
                before=since,
                after=max(after or since, since),
                lost_until=min(beyond, default=None),
                current=wal.path(current).segment(first, wal.segment_size)
                == path.segment(first, wal.segment_size),
                damaged=sum(first <= number <= last for number in _damaged_on(path, wal)),
            )
            found.setdefault((gap.first, gap.last), gap)
    return tuple(sorted(found.values(), key=lambda gap: (gap.before, gap.first)))


def _restorable_until(base: BaseBackup, path: TimelinePath, first: int, wal: WalMap) -> datetime:
    """Up to when nothing is lost by a hole: the last write before it.

    Where a timeline begins in it, that is when it began, if its parent's WAL is in the archive beyond that.
    """
    own = wal.path(path.segment(first, wal.segment_size).timeline)
    if own.timeline != base.timeline and own.fork.segment(wal.segment_size) == first:
        return _began(base, own, first, wal)
    before = wal.time_of(path.segment(first - 1, wal.segment_size)) if first else None
    return max(before or base.stopped_at, base.stopped_at)


def _hole_at_the_end(reached: Reach, bases: Sequence[BaseBackup], wal: WalMap) -> Runs:
    """What is between the newest usable segment and the end of the WAL there was, if anything.

    The newest base backup on the path and damaged segments show how far that went.
    """
    kept = [base for base in bases if keeps_own_wal(base) and _on_path(base, reached.path, wal)]
    last = max((last_own_segment(base, reached.path) for base in kept), default=reached.newest)
    last = max([last, *_damaged_on(reached.path, wal)])
    return ((reached.newest + 1, last),) if last > reached.newest else ()


def _damaged_on(path: TimelinePath, wal: WalMap) -> list[int]:
    """The numbers of the damaged segments that recovery along a path would read."""
    return [each.number for each in wal.damaged if path.segment(each.number, wal.segment_size) == each]


def _restores_later(base: BaseBackup, path: TimelinePath, hole: tuple[int, int], wal: WalMap) -> bool:
    """Whether a base backup starts after a hole, or contains WAL of it itself."""
    if not _on_path(base, path, wal):
        return False
    behind = base.start_lsn.segment(base.segment_size) > hole[1]
    return behind or (keeps_own_wal(base) and last_own_segment(base, path) >= hole[0])


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
