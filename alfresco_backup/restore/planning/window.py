"""Which target times can be restored: all base backups, all timelines, WAL archived or not. Pure.

alfresco_backup/wal/window.py says what one base backup and one archive give. Here the segments of the live
pg_wal and those that earlier restores saved count too, and target times get the timeline that was in use
then: after a recovery at 10:00 to the state of 9:00, what was committed between 9:00 and 10:00 is on the old
timeline only, and what was committed after 10:00 on the new one.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import pairwise

from alfresco_backup.postgres.timelines import Span, TimelinePath
from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.times import for_people_and_utc
from alfresco_backup.wal.chain import WalMap, make_map
from alfresco_backup.wal.window import GapSearch, Interval, window

GAPS_NAMED = 5
TICK = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
_STOPPED_BEFORE = re.compile(r"before (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*)")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_STOPPED = datetime(2000, 1, 2, tzinfo=UTC)
"""A time target that the WAL's end came before is noted as PostgreSQL's epoch, 2000-01-01."""


@dataclass(frozen=True)
class KnownWal:
    """All WAL there is, merged. `live_timeline` is that of the server in place, None without any of its WAL.

    Where that server's WAL is the newest of its timeline, the timeline reaches to the present: nothing can
    have been committed elsewhere. `written` is when that WAL was last written to.
    """

    wal: WalMap
    live_timeline: int | None = None
    written: datetime | None = None


def merge_wal(facts: HostFacts) -> KnownWal:
    """The archive's segments, and where it lacks them the live server's, the saved and the received ones.

    Only WAL of the archive's cluster and segment size counts.
    """
    archive = facts.archive
    live = facts.live.wal if facts.live and _same(facts.live.wal, archive) else None
    saved = [item.wal for item in facts.saved_wal if _same(item.wal, archive)]
    received = facts.received.wal if facts.received and _same(facts.received.wal, archive) else None
    maps = [*([received] if received else []), *saved, *([live] if live else []), archive]
    usable = {
        Segment(timeline, number): moment
        for item in maps
        for timeline, times in item.times.items()
        for number, moment in times.items()
    }
    paths = {timeline: path for item in maps for timeline, path in item.paths.items()}
    promoted = {timeline: moment for item in maps for timeline, moment in item.promoted.items()}
    newest = _newest(live) if live else None
    timeline, written = None, None
    if newest and not any(
        item.timeline == newest.timeline and item.number > newest.number for item in usable
    ):
        timeline, written = newest.timeline, usable[newest]
        usable[newest] = max(written, facts.now)
    damaged = archive.damaged - set(usable)
    wal = make_map(archive.owner, archive.segment_size, usable, paths, promoted, damaged)
    wal = replace(wal, own=archive.own, foreign=archive.foreign)
    return KnownWal(wal, timeline, written)


def _same(wal: WalMap | None, archive: WalMap) -> bool:
    own = (archive.owner, archive.segment_size)
    return wal is not None and (wal.owner, wal.segment_size) == own


def _newest(wal: WalMap) -> Segment | None:
    timeline = max((timeline for timeline, times in wal.times.items() if times), default=None)
    return None if timeline is None else Segment(timeline, max(wal.times[timeline]))


@dataclass(frozen=True)
class Way:
    """Target times that one base backup can be recovered to, on one timeline."""

    base: BaseBackup
    interval: Interval

    @property
    def timeline(self) -> int:
        return self.interval.timeline

    def contains(self, time: datetime) -> bool:
        """A base backup must have ended before the time: until its end it is not consistent."""
        return self.interval.contains(time) and self.base.stopped_at < time

    @property
    def end_only(self) -> bool:
        """Whether there is no WAL of it after the base backup's end."""
        last = parse_segment_name(self.interval.last_segment, self.base.segment_size).number
        return last == (int(self.base.stop_lsn) - 1) // self.base.segment_size


@dataclass(frozen=True)
class Reachable:
    """Everything that can be restored, by base backup and timeline.

    `foreign` are the ways on timelines that the host's server was never on; nothing but `foreign_to` and an
    explicit timeline looks at them.
    """

    known: KnownWal
    bases: tuple[BaseBackup, ...]
    ways: tuple[Way, ...]
    foreign: tuple[Way, ...] = ()
    window_start: datetime | None = None

    @property
    def older(self) -> tuple[Way, ...]:
        """Those from before the recovery window, of which retention keeps no later WAL."""
        return tuple(way for way in self.ways if self._is_older(way))

    def _is_older(self, way: Way) -> bool:
        start = self.window_start
        return start is not None and way.interval.end < start and way.end_only

    @property
    def within(self) -> "Reachable":
        """The same without the older ones; where there are no others, all."""
        return replace(self, ways=tuple(way for way in self.ways if not self._is_older(way)) or self.ways)

    @property
    def spans(self) -> tuple[tuple[datetime, datetime], ...]:
        """The times that can be restored from any base backup on any timeline, joined, oldest first."""
        joined: list[tuple[datetime, datetime]] = []
        for start, end in sorted((way.interval.start, way.interval.end) for way in self.ways):
            if joined and start <= joined[-1][1] + SECOND:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return tuple(joined)

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """What is between the spans."""
        spans = self.spans
        return tuple((before[1], after[0]) for before, after in pairwise(spans))

    @property
    def sentence(self) -> str:
        """`restorable from X to Y (gaps: …)`, in local time and UTC; in whole seconds within the spans.

        Of base backups that are kept without later WAL only the number is told.
        """
        older = len({way.base.stamp for way in self.older})
        if older and self.within.ways != self.ways:
            ends = f"the end{'s' * (older > 1)} of {older:,} older base backup{'s' * (older > 1)}"
            return f"{self.within.sentence}, and {ends}"
        spans = self.spans
        if not spans:
            return "nothing is restorable: no base backup has the WAL it needs"
        start, end = spans[0][0], spans[-1][1]
        words = f"restorable from {for_people_and_utc(min(whole_second_after(start), end))}"
        words += f" to {for_people_and_utc(end)}"
        named = [
            f"{for_people_and_utc(start)} to {for_people_and_utc(whole_second_after(end))}"
            for start, end in self.gaps[:GAPS_NAMED]
        ]
        if not named:
            return f"{words} (no gaps)"
        more = f" and {len(self.gaps) - GAPS_NAMED} more" if len(self.gaps) > GAPS_NAMED else ""
        return f"{words} (gap{'s' if len(self.gaps) > 1 else ''}: {'; '.join(named)}{more})"

    def ways_to(self, time: datetime) -> tuple[Way, ...]:
        """The ways to a target time, best first: on the newest timeline, from the newest base backup."""
        ways = [way for way in self.ways if way.contains(time)]
        return tuple(sorted(ways, key=lambda way: (way.timeline, way.base.stopped_at), reverse=True))

    def foreign_to(self, time: datetime) -> tuple[int, ...]:
        """The foreign timelines that a target time is on, newest first."""
        return tuple(sorted({way.timeline for way in self.foreign if way.contains(time)}, reverse=True))

    def on(self, timeline: int) -> "Reachable":
        """The same when a timeline was asked for, be it foreign."""
        ways = [way for way in (*self.ways, *self.foreign) if way.timeline == timeline]
        return replace(self, ways=tuple(ways), foreign=())

    def latest(self) -> Way | None:
        """The way to the end of all WAL: of the timeline in use, else of the one that reaches furthest."""
        ways = [way for way in self.ways if way.timeline == self.known.wal.own.live] or self.ways
        return max(
            ways,
            key=lambda way: (way.interval.end, way.interval.timeline, way.base.stopped_at),
            default=None,
        )

    def gap_words(self, time: datetime) -> str:
        """Which segments are missing on the way from the newest base backup before a time, if that is why."""
        wal = self.known.wal
        current = self.known.live_timeline or wal.own.live or max(wal.timelines, default=1)
        search = GapSearch(wal, self.bases, current)
        for base in reversed([base for base in self.bases if base.stopped_at < time]):
            for gap in search.of(base):
                if gap.before < time <= (gap.lost_until or time):
                    return gap.sentence
        return ""


def find_reachable(facts: HostFacts, bases: Iterable[BaseBackup]) -> Reachable:
    """All target times that any of the base backups can be recovered to.

    Base backups of another cluster than the archive's are left out: its WAL is not theirs.
    """
    known = merge_wal(facts)
    own = [base for base in bases if not known.wal.owner or base.system_identifier == known.wal.owner]
    own.sort(key=lambda base: base.stopped_at)
    left = cache(partial(_left, wal=known.wal))  # the same for all base backups, and looks at all segments
    ways = [
        Way(base, piece)
        for base in own
        for interval in window(base, known.wal)
        for piece in own_times(interval, known.wal.path(interval.timeline), known.wal, left)
    ]
    foreign = tuple(way for way in ways if way.timeline in known.wal.foreign)
    ways = [way for way in ways if way.timeline not in known.wal.foreign]
    return Reachable(known, tuple(own), tuple(ways), foreign, facts.window_start)


def own_times(
    interval: Interval, path: TimelinePath, wal: WalMap, left: Callable[[Span], datetime]
) -> tuple[Interval, ...]:
    """The times of an interval when its timeline was in use, or an ancestor of it before that was `left`.

    What was committed on an ancestor after the place where it was left is not on the path, even where the
    archive lacks its WAL of that time. An ancestor that was left at its very end had nothing after it, until
    the host was on another timeline. (The undo of a restore leaves no trace in timelines.)
    """
    pieces = []
    for number, span in enumerate(path.spans):
        began = wal.promoted.get(span.timeline, interval.start)
        start = max(began, interval.start) if number else interval.start
        until = min(left(span), interval.end)
        if start <= until:
            pieces.append(replace(interval, start=start, end=until))
    return _joined(pieces)


def _left(span: Span, wal: WalMap) -> datetime:
    """The last time of a timeline that is on the path; long ago where nothing tells."""
    if span.end is None:
        return datetime.max.replace(tzinfo=UTC)
    stopped = _STOPPED_BEFORE.fullmatch(span.reason)
    time = _parsed(stopped[1]) if stopped else None
    if span.reason in ("", "no recovery target specified") or (time and time < _NEVER_STOPPED):
        last = span.end.segment(wal.segment_size)
        known = [when for number, when in wal.times.get(span.timeline, {}).items() if number <= last]
        lived = max([*known, wal.promoted.get(span.timeline, _LONG_AGO)], default=_LONG_AGO)
        others = {line: when for line, when in wal.promoted.items() if line not in wal.foreign}
        later = [when for line, when in others.items() if line != span.timeline and when > lived]
        return min(later, default=lived) - TICK
    return time - TICK if time else _LONG_AGO


def _joined(pieces: list[Interval]) -> tuple[Interval, ...]:
    """Intervals of one timeline, those that touch made one."""
    joined: list[Interval] = []
    for piece in pieces:
        if joined and piece.start <= joined[-1].end + TICK:
            joined[-1] = replace(joined[-1], end=max(piece.end, joined[-1].end))
        else:
            joined.append(piece)
    return tuple(joined)


def _parsed(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else None


def whole_second_after(time: datetime) -> datetime:
    """The first whole second after a time: what a person can type and is within the span."""
    return time.replace(microsecond=0) + SECOND
