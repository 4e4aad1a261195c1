"""Which kept base backup needs a segment of WAL, asked for every one of an archive. Pure.

An archive has hundreds of thousands of segments, so each is looked up between the few places where the answer
changes, which base backups make, in place of being compared with every base backup.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.repository.records import BaseBackup

_ENDLESS = 1 << 62
Stretch = tuple[int, int, int]
"""First and last number of the segments that a base backup needs, and its place in the order."""


class NeededWal:
    """What needs a segment by its name: `from_on`, base backups with all WAL from their start on, or those
    kept `alone`, with their own WAL. Each answer is the first one in the order given, None for none.

    A name that does not fit a base backup's segment size may be of use to it, and counts as needed.
    """

    def __init__(self, from_on: Sequence[BaseBackup], alone: Sequence[BaseBackup]) -> None:
        self._from_on, self._alone = from_on, alone
        self._sizes = sorted({base.segment_size for base in (*from_on, *alone)})
        self._places: dict[tuple[int, int], tuple[_Stretches, _Stretches]] = {}

    def of(self, name: str) -> tuple[BaseBackup | None, BaseBackup | None]:
        """The first of those `from_on`, and the first of those `alone`, that need the segment."""
        first, own = len(self._from_on), len(self._alone)
        for size in self._sizes:
            try:
                segment = parse_segment_name(name, size)
            except ValueError:
                first = min(first, _first_of_size(self._from_on, size))
                own = min(own, _first_of_size(self._alone, size))
                continue
            later, within = self._stretches(segment, size)
            first = min(first, later.first(segment.number, first))
            own = min(own, within.first(segment.number, own))
        return (
            self._from_on[first] if first < len(self._from_on) else None,
            self._alone[own] if own < len(self._alone) else None,
        )

    def _stretches(self, segment: Segment, size: int) -> "tuple[_Stretches, _Stretches]":
        """Recovery may read a base backup's own timeline and those that branched off later, from its start
        on; to its end it reads its own alone.
        """
        key = (segment.timeline, size)
        if key not in self._places:
            later = (
                (base.start_lsn.segment(size), _ENDLESS, rank)
                for rank, base in enumerate(self._from_on)
                if base.segment_size == size and base.timeline <= segment.timeline
            )
            within = (
                (first, last, rank)
                for rank, base in enumerate(self._alone)
                if base.segment_size == size
                for first, last in _own_numbers(base, segment.timeline)
            )
            self._places[key] = _Stretches(later), _Stretches(within)
        return self._places[key]


class _Stretches:
    """Which of overlapping stretches of numbers is the first in the order, at every number."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        waiting = sorted(stretches, reverse=True)
        self._edges = sorted({edge for first, last, _ in waiting for edge in (first, last + 1)})
        self._firsts: list[int | None] = []
        open_: list[tuple[int, int]] = []
        for edge in self._edges:
            while waiting and waiting[-1][0] <= edge:
                _, last, rank = waiting.pop()
                heapq.heappush(open_, (rank, last))
            while open_ and open_[0][1] < edge:
                heapq.heappop(open_)
            self._firsts.append(open_[0][0] if open_ else None)

    def first(self, number: int, otherwise: int) -> int:
        place = bisect_right(self._edges, number)
        found = self._firsts[place - 1] if place else None
        return otherwise if found is None else found


def _own_numbers(base: BaseBackup, timeline: int) -> Iterator[tuple[int, int]]:
    """A base backup's own segments on a timeline; all where the name of its last one is odd."""
    size = base.segment_size
    try:
        last = parse_segment_name(base.stop_wal, size).number
    except ValueError:
        yield 0, _ENDLESS
        return
    if base.timeline == timeline:
        yield base.start_lsn.segment(size), last


def _first_of_size(bases: Sequence[BaseBackup], size: int) -> int:
    ranks = (rank for rank, base in enumerate(bases) if base.segment_size == size)
    return next(ranks, len(bases))
