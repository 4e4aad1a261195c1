"""Unbroken runs of archived segments along a path of timelines. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from operator import itemgetter

from alfresco_backup.postgres.timelines import TimelinePath, path_to
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.wal.timelines import OwnTimelines

Runs = tuple[tuple[int, int], ...]
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WalMap:
    """The usable segments of one cluster's archive and the timelines' histories.

    `times`: timeline → segment number → time of its last write. `promoted`: timeline → when it began, by its
    history file's time. `runs`: timeline → unbroken ranges of numbers, ends included. `damaged`: segments
    that the archive has and that cannot be used. `own`: what is known of the cluster's server; `foreign`: the
    timelines that it was never on.
    """

    owner: str
    segment_size: int
    times: Mapping[int, Mapping[int, datetime]] = field(default_factory=dict, repr=False)
    paths: Mapping[int, TimelinePath] = field(default_factory=dict)
    promoted: Mapping[int, datetime] = field(default_factory=dict)
    runs: Mapping[int, Runs] = field(default_factory=dict)
    damaged: frozenset[Segment] = frozenset()
    own: OwnTimelines = field(default_factory=OwnTimelines)
    foreign: frozenset[int] = frozenset()
    _along: dict[TimelinePath, Runs] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def timelines(self) -> tuple[int, ...]:
        """All timelines the archive knows of, oldest first."""
        return tuple(sorted({*self.times, *self.paths}))

    @property
    def last_lived(self) -> int:
        """The own timeline written to last: after an undone restore not the highest. 1 without any."""

        def lived(timeline: int) -> tuple[datetime, int]:
            moments = [*self.times.get(timeline, {}).values(), self.promoted.get(timeline, _LONG_AGO)]
            return max(moments), timeline

        return max((each for each in self.timelines if each not in self.foreign), key=lived, default=1)

    @property
    def current(self) -> int:
        """The timeline in use: the server's own word, or else the one that was written to last."""
        return self.own.live or self.last_lived

    def path(self, timeline: int) -> TimelinePath:
        return path_to(timeline, self.paths)

    def time_of(self, segment: Segment) -> datetime | None:
        return self.times.get(segment.timeline, {}).get(segment.number)

    def name_of(self, segment: Segment) -> str:
        return segment.name(self.segment_size)


def make_map(
    owner: str,
    segment_size: int,
    usable: Mapping[Segment, datetime],
    paths: Mapping[int, TimelinePath],
    promoted: Mapping[int, datetime],
    damaged: frozenset[Segment] = frozenset(),
) -> WalMap:
    """A map of the segments that can be used, by their times."""
    times: dict[int, dict[int, datetime]] = {}
    for segment, moment in usable.items():
        times.setdefault(segment.timeline, {})[segment.number] = moment
    runs = {timeline: _runs(numbers) for timeline, numbers in times.items()}
    return WalMap(owner, segment_size, times, paths, promoted, runs, damaged)


def _runs(numbers: Iterable[int]) -> Runs:
    return _joined((number, number) for number in numbers)


def _joined(ranges: Iterable[tuple[int, int]]) -> Runs:
    """Ranges put in order, overlapping and adjacent ones made one."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return tuple(result)


def runs_along(wal: WalMap, path: TimelinePath) -> Runs:
    """The unbroken ranges of segments that recovery along a path can read, each on its timeline.

    The same for every base backup, so they are worked out once.
    """
    if path not in wal._along:
        wal._along[path] = _joined(_clipped(wal, path))
    return wal._along[path]


def _clipped(wal: WalMap, path: TimelinePath) -> Iterator[tuple[int, int]]:
    begins = [span.start.segment(wal.segment_size) for span in path.spans]
    ends = [*(begin - 1 for begin in begins[1:]), None]
    for span, begin, end in zip(path.spans, begins, ends, strict=True):
        for first, last in wal.runs.get(span.timeline, ()):
            clipped = max(first, begin), last if end is None else min(last, end)
            if clipped[0] <= clipped[1]:
                yield clipped


@dataclass(frozen=True)
class Reach:
    """How far recovery of a base backup gets along one path: to the end of the first of the unbroken `runs`.

    `last` is the number of that segment, `newest` that of the newest after all holes.
    """

    path: TimelinePath
    runs: Runs

    @property
    def last(self) -> int:
        return self.runs[0][1]

    @property
    def newest(self) -> int:
        return self.runs[-1][1]

    @property
    def holes(self) -> Runs:
        return tuple((before[1] + 1, after[0] - 1) for before, after in pairwise(self.runs))


def reach(base: BaseBackup, path: TimelinePath, wal: WalMap) -> Reach | None:
    """Follow a path from a base backup's start. None when it cannot be brought to consistency along it.

    The segments that it contains itself count as present, where the path reads them on its own timeline.
    """
    if path.why_not(base.timeline, base.start_lsn, base.stop_lsn):
        return None
    size = base.segment_size
    first = base.start_lsn.segment(size)
    same_archive = base.system_identifier == wal.owner and size == wal.segment_size
    ranges = runs_along(wal, path) if same_archive else ()
    after = ranges[bisect_left(ranges, first, key=itemgetter(1)) :]
    if keeps_own_wal(base) and (last := last_own_segment(base, path)) >= first:
        touched = bisect_right(after, last + 1, key=itemgetter(0))
        after = (*_joined([(first, last), *after[:touched]]), *after[touched:])
    if not after or after[0][0] > first:
        after = ((first - 1, first - 1), *after)
    return Reach(path, after)


def last_own_segment(base: BaseBackup, path: TimelinePath) -> int:
    """The last segment up to a base backup's end that the path reads on its timeline.

    Where there is none, it is below its first.

    A segment in which the path leaves that timeline is the next one's.
    """
    size = base.segment_size
    last = (int(base.stop_lsn) - 1) // size
    while last >= base.start_lsn.segment(size) and path.segment(last, size).timeline != base.timeline:
        last -= 1
    return last


def keeps_own_wal(base: BaseBackup) -> bool:
    """Whether a base backup contains the WAL from its start to its stop."""
    return any(file.holds == "wal" for file in base.files)
