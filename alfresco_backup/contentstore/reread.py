"""The stored content of one store: its entries, each in all versions that snapshots lead to.

A predecessor's snapshot is a tree of its own; its entries are versions like those below `days/`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from alfresco_backup.contentstore.links import leaves, links_below, read_published
from alfresco_backup.contentstore.reread_day import Entry, Reader, Version
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.repository.days import Days, as_here, as_written
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import make_folder
from alfresco_backup.system.json_fields import Document, Time, Whole, document_of, read_record
from alfresco_backup.times import parse_stamp, utc_now

# Which stored content a drill reads again: so much of it that all is read within so many drills. Pure.
#
# The unit is an entry of a store's snapshots, a day, in all its versions: they share most of their files. A
# drill reads those that were not read for longest until their share of the bytes is reached, and goes on with
# those whose turn is due. So days may come and go, and even a lost state only begins the cycle anew.

FILE_COST = 16 << 10
"""What looking up a file costs, in bytes read meanwhile."""


@dataclass(frozen=True)
class LastRead:
    """The number of the drill that read an entry last, and when; None where no drill has read it yet."""

    drill: Whole
    at: Time | None


@dataclass(frozen=True)
class ReadState:
    """What the drills of one store have read: `drill` is the number of the last one that read any."""

    drill: Whole = 0
    entries: Mapping[str, LastRead] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, Any]:
        document = document_of(self)
        return document | {"entries": {as_written(path): last for path, last in document["entries"].items()}}

    @classmethod
    def from_metadata(cls, document: Document) -> "ReadState":
        state = read_record(cls, document)
        return cls(state.drill, {as_here(path): last for path, last in state.entries.items()})


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

    files: Whole = 0
    bytes: Whole = 0
    recorded: Whole = 0
    damaged: Whole = 0
    entries: Whole = 0
    entries_stored: Whole = 0
    cycle: Whole = 1
    oldest: Time | None = None

    @property
    def sentence(self) -> str:
        """`1,204 stored files of 25 of 300 days read again (12 drills read all), 0 damaged`."""
        words = f"{self.files:,} stored files of {self.entries:,} of {self.entries_stored:,} days read again"
        share = f"{self.cycle} drills read" if self.cycle > 1 else "each drill reads"
        words += f" ({share} all), {self.damaged:,} damaged"
        if self.recorded:
            words += f"; {self.recorded:,} had no checksum from when they were copied; one is recorded now"
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


STATE = "read.json"
Tell = Callable[[str, Sequence[str]], None]
"""Called with what is damaged, in a sentence, and the IDs of the snapshots that have it; none for a list."""

Holders = dict[str, list[str]]
"""Stamps of snapshots by the stamp of the version they lead to."""


def state_file(repository: StoreRepository) -> Path:
    """Where it stands what drills have read of a store."""
    return repository.days / STATE


def read_state(repository: StoreRepository) -> ReadState:
    """What drills have read of a store; as if none had, where that is lost. Raises OSError."""
    try:
        return ReadState.from_metadata(read_json(state_file(repository)))
    except (FileNotFoundError, ValueError):
        return ReadState()


class StoredContent:
    """What the snapshots of a store hold. Raises OSError rather than leave something out."""

    def __init__(self, repository: StoreRepository, snapshots: Sequence[Snapshot], live: Path | None) -> None:
        self.repository, self._live = repository, live
        self._legacy = {snapshot.stamp: snapshot.path for snapshot in snapshots if snapshot.legacy}
        self.entries: dict[str, Holders] = {}
        self.weights: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        for snapshot in snapshots:
            for version, path in _versions(snapshot):
                holders = self.entries.setdefault(path, {})
                holders.setdefault(version, []).append(snapshot.stamp)
            if not snapshot.legacy:
                self._weigh(snapshot.stamp)

    def _weigh(self, stamp: str) -> None:
        """Files of each entry, and what reading it costs; versions share most, so the largest tells."""
        described = read_published(self.repository, stamp)
        tables: tuple[Days, ...] = (described.days, described.loose) if described else ()
        for path, day in (item for table in tables for item in table.items()):
            weight = day.bytes + day.files * FILE_COST
            self.weights[path] = max(weight, self.weights.get(path, 0))
            self.counts[path] = max(day.files, self.counts.get(path, 0))

    def entry(self, path: str) -> Entry:
        """An entry, to be read."""
        holders = self.entries[path]
        versions = [self._version(stamp, path, holders[stamp]) for stamp in sorted(holders, key=parse_stamp)]
        return Entry(path, versions, self._live)

    def _version(self, stamp: str, path: str, snapshots: Sequence[str]) -> Version:
        tree = self._legacy.get(stamp) or self.repository.day_trees(stamp)
        return Version(stamp, tree, self.repository.checksums(stamp) / path, tuple(snapshots))


def _versions(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    root = os.fspath(snapshot.path)
    if not snapshot.legacy:
        yield from links_below(root)
        return
    for leaf in leaves(root, DAY_DEPTH):
        yield snapshot.stamp, os.path.relpath(leaf, root)


def read_share(content: StoredContent, cycle: int, reader: Reader, tell: Tell) -> Reread:
    """Read what is this drill's, so that `cycle` drills read all; `tell` gets a sentence on each damage.

    What was read is noted when the last entry was, whatever was found. Raises OSError.
    """
    state = read_state(content.repository)
    chosen = choose_entries(weigh(content.entries, content.weights), state, cycle)
    counts = weigh(content.entries, content.counts)
    reader.total = sum(counts[path] for path in chosen)
    files = size = recorded = damaged = 0
    for path in chosen:
        read = content.entry(path).read(reader)
        files, size, recorded = files + read.files, size + read.bytes, recorded + read.recorded
        damaged += len(read.damages)
        for damage in read.damages:
            tell(damage.sentence, damage.snapshots)
        for aside in read.lists:
            told = "it was replaced by a list of what was just read"
            tell(f"the list of checksums {aside} was damaged; {told}", ())
    after = state_after(state, content.entries, chosen, utc_now())
    make_folder(content.repository.days, exist_ok=True)
    write_json(state_file(content.repository), after.to_metadata())
    moments = [last.at for last in after.entries.values()]
    oldest = min((moment for moment in moments if moment), default=None) if all(moments) else None
    return Reread(files, size, recorded, damaged, len(chosen), len(content.entries), cycle, oldest)
