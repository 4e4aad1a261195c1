"""Which moments can be restored: all base backups, all timelines, archived and not yet archived WAL. Pure.

wal_window.py says what one base backup and one archive give. Here the segments of the live pg_wal and those
that earlier restores saved count too, and moments get the timeline they were lived on: after a recovery at
10:00 to the state of 9:00, what was committed between 9:00 and 10:00 lies on the old timeline only, and what
was committed after 10:00 on the new one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from alfresco_backup.records import BaseBackup
from alfresco_backup.restore_facts import HostFacts
from alfresco_backup.stamps import for_people_and_utc
from alfresco_backup.timelines import TimelinePath
from alfresco_backup.wal import Segment
from alfresco_backup.wal_map import WalMap, make_map
from alfresco_backup.wal_window import Interval, gaps_of, window

GAPS_NAMED = 5
TICK = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
_STOPPED_BEFORE = re.compile(r"before (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*)")
_NEVER_STOPPED = datetime(2000, 1, 2, tzinfo=UTC)
"""A time target that the WAL's end came before is noted as PostgreSQL's epoch, 2000-01-01."""


@dataclass(frozen=True)
class KnownWal:
    """All WAL there is, merged. `live_timeline` is that of the server in place, None without one of its WAL.

    Where that server's WAL is the newest of its timeline, the timeline reaches to the present: nothing can
    have been committed elsewhere. `written` is when that WAL was really last written to.
    """

    wal: WalMap
    live_timeline: int | None = None
    written: datetime | None = None


def merge_wal(facts: HostFacts) -> KnownWal:
    """The archive's segments, and where it lacks them the live server's and the saved ones.

    Only WAL of the archive's cluster and segment size counts.
    """
    archive = facts.archive
    live = facts.live.wal if facts.live else None
    maps = [saved.wal for saved in facts.saved_wal] + ([live] if live else []) + [archive]
    maps = [item for item in maps if (item.owner, item.segment_size) == (archive.owner, archive.segment_size)]
    usable = {
        Segment(timeline, number): moment
        for item in maps
        for timeline, times in item.times.items()
        for number, moment in times.items()
    }
    paths = {timeline: path for item in maps for timeline, path in item.paths.items()}
    promoted = {timeline: moment for item in maps for timeline, moment in item.promoted.items()}
    timeline, written = None, None
    newest = _newest(live) if live in maps and live else None
    if newest is not None:
        timeline = newest.timeline
        last = max(number for line, number in _places(usable) if line == timeline)
        if last <= newest.number:
            written = usable[newest]
            usable[newest] = max(facts.now, written)
    return KnownWal(make_map(archive.owner, archive.segment_size, usable, paths, promoted), timeline, written)


def _newest(wal: WalMap) -> Segment | None:
    timeline = max((timeline for timeline, times in wal.times.items() if times), default=None)
    return None if timeline is None else Segment(timeline, max(wal.times[timeline]))


def _places(segments: Iterable[Segment]) -> Iterable[tuple[int, int]]:
    return ((segment.timeline, segment.number) for segment in segments)


@dataclass(frozen=True)
class Reach:
    """Moments that one base backup can be brought to, on one timeline."""

    base: BaseBackup
    interval: Interval

    def holds(self, moment: datetime) -> bool:
        """A base must have ended before the moment: until its end it is not consistent."""
        return self.interval.holds(moment) and self.base.stopped_at < moment


@dataclass(frozen=True)
class Reachable:
    """Everything that can be reached, by base backup and timeline."""

    known: KnownWal
    bases: tuple[BaseBackup, ...]
    reaches: tuple[Reach, ...]

    @property
    def spans(self) -> tuple[tuple[datetime, datetime], ...]:
        """The moments that can be restored from any base backup on any timeline, joined, oldest first."""
        joined: list[tuple[datetime, datetime]] = []
        for start, end in sorted((reach.interval.start, reach.interval.end) for reach in self.reaches):
            if joined and start <= joined[-1][1] + SECOND:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return tuple(joined)

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """What lies between the spans."""
        spans = self.spans
        return tuple((before[1], after[0]) for before, after in pairwise(spans))

    @property
    def sentence(self) -> str:
        """`restorable from X to Y (gaps: …)`, in local time and UTC; whole seconds that lie inside."""
        spans = self.spans
        if not spans:
            return "no moment can be restored: no base backup has the WAL it needs"
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

    def holding(self, moment: datetime) -> tuple[Reach, ...]:
        """The ways to a moment, best first: on the newest timeline, from the newest base backup."""
        ways = [reach for reach in self.reaches if reach.holds(moment)]
        return tuple(sorted(ways, key=lambda way: (way.interval.timeline, way.base.stopped_at), reverse=True))

    def latest(self, timeline: int | None = None) -> Reach | None:
        """The way to the end of all WAL of a timeline; by default of the one that reaches furthest."""
        ways = [reach for reach in self.reaches if timeline in (None, reach.interval.timeline)]
        return max(
            ways,
            key=lambda way: (way.interval.end, way.interval.timeline, way.base.stopped_at),
            default=None,
        )

    def gap_words(self, moment: datetime) -> str:
        """Which segments are missing on the way from the newest base before a moment, if that is why."""
        wal = self.known.wal
        current = self.known.live_timeline or max(wal.timelines, default=1)
        for base in reversed([base for base in self.bases if base.stopped_at < moment]):
            for gap in gaps_of(base, wal, self.bases, current):
                if gap.before < moment <= (gap.lost_until or moment):
                    return gap.sentence
        return ""


def find_reachable(facts: HostFacts, bases: Iterable[BaseBackup]) -> Reachable:
    """All moments to which any of the base backups can be brought.

    Base backups of another cluster than the archive's are left out: its WAL is not theirs.
    """
    known = merge_wal(facts)
    own = [base for base in bases if not known.wal.owner or base.system_identifier == known.wal.owner]
    own.sort(key=lambda base: base.stopped_at)
    reaches = [
        Reach(base, piece)
        for base in own
        for interval in window(base, known.wal)
        for piece in own_moments(interval, known.wal.path(interval.timeline), known.wal.promoted)
    ]
    return Reachable(known, tuple(own), tuple(reaches))


def own_moments(
    interval: Interval, path: TimelinePath, promoted: Mapping[int, datetime]
) -> tuple[Interval, ...]:
    """The moments of an interval that were lived on its timeline, or on its parent before that was left.

    What the parent went through after the place where the timeline begins is not on it, even where the
    archive lacks the parent's WAL of that time. A parent that was left at its very end had nothing after it.
    """
    began = promoted.get(interval.timeline)
    if len(path.spans) == 1 or began is None or began <= interval.start:
        return (interval,)
    reason = path.spans[-2].reason
    if reason in ("", "no recovery target specified"):
        return (interval,)
    until = _stopped_before(reason)
    if until is not None and until < _NEVER_STOPPED:
        return (interval,)
    pieces = [replace(interval, end=until - TICK)] if until and until > interval.start else []
    if began <= interval.end:
        pieces.append(replace(interval, start=began))
    return tuple(pieces)


def _stopped_before(reason: str) -> datetime | None:
    """The commit before which an earlier recovery stopped, as the history file tells it."""
    match = _STOPPED_BEFORE.fullmatch(reason)
    try:
        moment = datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def whole_second_after(moment: datetime) -> datetime:
    """The first whole second after a moment: what a person can type and lies inside."""
    return moment.replace(microsecond=0) + SECOND
