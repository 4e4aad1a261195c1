"""The stored content of one store: its entries, each in all versions that snapshots lead to.

A predecessor's snapshot is a tree of its own; its entries are versions like those below `days/`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alfresco_backup.days import Days
from alfresco_backup.durable import read_json, write_json
from alfresco_backup.inventory import leaves
from alfresco_backup.layout import StoreRepository
from alfresco_backup.records import Snapshot
from alfresco_backup.reread_plan import FILE_COST, ReadState, Reread, choose_entries, state_after, weigh
from alfresco_backup.snapshot_links import links_below, read_published
from alfresco_backup.snapshot_scan import DAY_DEPTH
from alfresco_backup.stamps import parse_stamp, utc_now
from alfresco_backup.stored_entry import Entry, Reader, Version

STATE = "read.json"

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


def read_share(content: StoredContent, cycle: int, reader: Reader, tell: Callable[[str], None]) -> Reread:
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
            tell(damage.sentence)
        for aside in read.lists:
            tell(f"the list of checksums {aside} was damaged; a new one is made of what was read")
    after = state_after(state, content.entries, chosen, utc_now())
    content.repository.days.mkdir(exist_ok=True)
    write_json(state_file(content.repository), after.to_metadata())
    moments = [last.at for last in after.entries.values()]
    oldest = min((moment for moment in moments if moment), default=None) if all(moments) else None
    return Reread(files, size, recorded, damaged, len(chosen), len(content.entries), cycle, oldest)
