"""Timelines: which one holds which WAL on the way to a target.

Each promotion starts a new timeline and writes a `.history` file that names all ancestors and where each
was left (PostgreSQL's `timeline.c`). An LSN alone does not name a place: after a point-in-time recovery
two timelines hold different WAL for the same positions.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.postgres.wal_files import ArchivedFile, Lsn, Segment, read_small

_ENTRY = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)(?:\s+(.*))?")


@dataclass(frozen=True, slots=True)
class Span:
    """One timeline's part of a path: from `start` up to, not including, `end` (None: still growing).

    `reason` is why PostgreSQL left it, in its own words ("before 2026-11-22 10:00:00+00", "no recovery
    target specified").
    """

    timeline: int
    start: Lsn
    end: Lsn | None
    reason: str = ""


@dataclass(frozen=True)
class TimelinePath:
    """The way from the cluster's beginning to the end of one timeline: its ancestors, then itself."""

    spans: tuple[Span, ...]

    @property
    def timeline(self) -> int:
        """The timeline the path leads to."""
        return self.spans[-1].timeline

    @property
    def fork(self) -> Lsn:
        """Where that timeline left its parent; 0/0 for one without a parent."""
        return self.spans[-1].start

    def span_of(self, timeline: int) -> Span | None:
        """A timeline's part of the path; None when the path does not lead over it."""
        return next((span for span in self.spans if span.timeline == timeline), None)

    def segment(self, number: int, segment_size: int) -> Segment:
        """The segment of that number which recovery along this path reads.

        Where a timeline begins within a segment, it is the new timeline's: its file starts with a copy of the
        parent's pages. PostgreSQL looks for the newest timeline first (`XLogFileReadAnyTLI`).
        """
        owners = (
            span.timeline for span in reversed(self.spans) if span.start.segment(segment_size) <= number
        )
        return Segment(next(owners), number)

    def why_not(self, timeline: int, start: Lsn, stop: Lsn) -> str:
        """Why a base backup from `start` to `stop` on `timeline` cannot be recovered along this path.

        Empty when it can. A base must have ended before its timeline was left: PostgreSQL refuses it
        otherwise ("requested timeline … does not contain minimum recovery point").
        """
        span = self.span_of(timeline)
        if span is None:
            return f"timeline {self.timeline} does not descend from timeline {timeline}"
        if start < span.start:
            return f"the base started at {start}, before timeline {timeline} began at {span.start}"
        if span.end is not None and stop > span.end:
            left = f"the way to timeline {self.timeline} leaves timeline {timeline} at {span.end}"
            return f"{left}, before the base ended at {stop}"
        return ""


def parse_history(timeline: int, text: str) -> TimelinePath:
    """Read the content of a timeline's `.history` file. Raises ValueError naming the line that is wrong."""
    spans: list[Span] = []
    start = Lsn(0)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ValueError(
                f"line {number} of timeline {timeline}'s history is no 'timeline position reason': {line!r}"
            )
        parent, end = int(match[1]), Lsn.parse(match[2])
        if not (spans[-1].timeline if spans else 0) < parent < timeline:
            raise ValueError(
                f"line {number} of timeline {timeline}'s history names timeline {parent} out of order"
            )
        if end < start:
            raise ValueError(
                f"line {number} of timeline {timeline}'s history goes back from {start} to {end}"
            )
        spans.append(Span(parent, start, end, (match[3] or "").strip()))
        start = end
    if not spans:
        raise ValueError(f"timeline {timeline}'s history is empty: it names no timeline before it")
    return TimelinePath((*spans, Span(timeline, start, None)))


def path_to(timeline: int, histories: Mapping[int, TimelinePath]) -> TimelinePath:
    """The path of a timeline. Without a history it has no known ancestors, as PostgreSQL takes it too."""
    return histories.get(timeline) or TimelinePath((Span(timeline, Lsn(0), None),))


@dataclass(frozen=True)
class Histories:
    """The histories of an archive by timeline, and those that could not be read with the reason."""

    paths: Mapping[int, TimelinePath]
    unreadable: Mapping[str, str]


def read_histories(directory: Path, files: Iterable[ArchivedFile]) -> Histories:
    """Read the `.history` files of an archive; one that cannot be read is reported."""
    paths: dict[int, TimelinePath] = {}
    unreadable: dict[str, str] = {}
    for file in files:
        if file.kind != "history":
            continue
        timeline = int(file.wal_name.removesuffix(".history"), 16)
        try:
            paths[timeline] = parse_history(timeline, read_small(directory / file.name).decode())
        except (OSError, ValueError) as error:
            unreadable[file.name] = str(error)
    return Histories(paths, unreadable)
