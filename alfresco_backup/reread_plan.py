"""Which stored content a drill reads again: so much of it that all is read within so many drills. Pure.

The unit is an entry of a store's snapshots, a day, in all its versions: they share most of their files. A
drill reads those that were not read for longest until their share of the bytes is reached, and goes on with
those whose turn is due. So days may come and go, and even a lost state only begins the cycle anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alfresco_backup.days import as_here, as_written
from alfresco_backup.fields import Document, Fields, plain, time_text

FILE_COST = 16 << 10
"""What looking up a file costs, in bytes read meanwhile."""


@dataclass(frozen=True)
class LastRead:
    """The number of the drill that read an entry last, and when; None where no drill has read it yet."""

    drill: int
    at: datetime | None


@dataclass(frozen=True)
class ReadState:
    """What the drills of one store have read: `drill` is the number of the last one that read any."""

    drill: int = 0
    entries: Mapping[str, LastRead] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, Any]:
        entries = {
            as_written(path): {"drill": last.drill, "at": time_text(last.at) if last.at else None}
            for path, last in self.entries.items()
        }
        return {"drill": self.drill, "entries": entries}

    @classmethod
    def from_metadata(cls, document: Document) -> "ReadState":
        take = Fields(document)
        entries = {}
        for path, entry in take.table("entries").items():
            last = Fields(entry)
            at = last.time("at") if entry.get("at") is not None else None
            entries[as_here(path)] = LastRead(last.whole("drill"), at)
        return cls(take.whole("drill"), entries)


def choose_entries(weights: Mapping[str, int], state: ReadState, cycle: int) -> list[str]:
    """The entries that the next drill reads, those that were not read for longest first.

    An entry nobody has read yet counts as read by the drill before: its checksums were taken as it was
    copied. What was read within half a cycle is left alone, and a huge day waits for its turn.
    `weights`: what reading each costs, in any unit.
    """
    number = state.drill + 1
    share = sum(weights.values()) / cycle
    last = {path: known_of(state, path) for path in weights}
    chosen: list[str] = []
    size = 0
    for path in sorted(weights, key=lambda path: (last[path].drill, path)):
        age = number - last[path].drill
        early = age > cycle // 2 and size + weights[path] <= share
        if age >= cycle or early or (last[path].at is None and size < share):
            chosen.append(path)
            size += weights[path]
    return chosen


def known_of(state: ReadState, path: str) -> LastRead:
    return state.entries.get(path, LastRead(state.drill, None))


def state_after(state: ReadState, there: Iterable[str], read: Iterable[str], now: datetime) -> ReadState:
    """The state once these entries were read; entries that are gone are forgotten."""
    number = state.drill + 1
    entries = {path: known_of(state, path) for path in there}
    return ReadState(number, entries | {path: LastRead(number, now) for path in read if path in entries})


def weigh(entries: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """A weight for every entry; those of which nothing is known get that of an average one."""
    average = sum(known.values()) // len(known) if known else 1
    return {path: max(1, known.get(path, average)) for path in entries}


@dataclass(frozen=True)
class Reread:
    """What a drill has read again. `recorded`: files that had no checksum yet and have one now.

    `entries` of `entries_stored` days were read. `oldest`: when the day was read that was not for longest,
    None as long as there is one that no drill has read. `damaged` counts files; the findings name them.
    """

    files: int = 0
    bytes: int = 0
    recorded: int = 0
    damaged: int = 0
    entries: int = 0
    entries_stored: int = 0
    cycle: int = 1
    oldest: datetime | None = None

    @property
    def sentence(self) -> str:
        """`1,204 stored files of 25 of 300 days read again (12 drills read all), 0 damaged`."""
        words = f"{self.files:,} stored files of {self.entries:,} of {self.entries_stored:,} days read again"
        share = f"{self.cycle} drills read" if self.cycle > 1 else "each drill reads"
        words += f" ({share} all), {self.damaged:,} damaged"
        if self.recorded:
            words += f"; {self.recorded:,} had no checksum from when they were copied, it is recorded now"
        return words

    def __add__(self, other: "Reread") -> "Reread":
        both = (self.oldest, other.oldest) if self.entries_stored else (other.oldest,)
        known = [moment for moment in both if moment]
        return Reread(
            self.files + other.files,
            self.bytes + other.bytes,
            self.recorded + other.recorded,
            self.damaged + other.damaged,
            self.entries + other.entries,
            self.entries_stored + other.entries_stored,
            other.cycle,
            min(known) if len(known) == len(both) else None,
        )

    def to_metadata(self) -> dict[str, Any]:
        return {
            **plain(self, "files bytes recorded damaged entries entries_stored cycle"),
            "oldest": time_text(self.oldest) if self.oldest else None,
        }

    @classmethod
    def from_metadata(cls, document: Document) -> "Reread":
        take = Fields(document)
        return cls(
            files=take.whole("files"),
            bytes=take.whole("bytes"),
            recorded=take.whole("recorded"),
            damaged=take.whole("damaged"),
            entries=take.whole("entries"),
            entries_stored=take.whole("entries_stored"),
            cycle=take.whole("cycle"),
            oldest=take.time("oldest") if document.get("oldest") is not None else None,
        )
