"""How much a restore writes where, and how long its steps take: from recorded sizes and speeds. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.records import BaseBackup, Snapshot
from alfresco_backup.restore_facts import HostFacts, Space, StoreFacts
from alfresco_backup.restore_plan import DatabasePlan, SpaceNeed, StorePlan
from alfresco_backup.stamps import size_for_people

WAL_KEPT_IN_REPLAY = 1 << 30
"""What recovery keeps in pg_wal at most: it removes segments at restart points (max_wal_size, 1 GB)."""
ENOUGH_TO_JUDGE = 256 << 20


@dataclass(frozen=True)
class Write:
    """Bytes that a restore writes below a path; `known` is False where nobody recorded how many."""

    path: Path
    bytes: int
    why: str
    known: bool = True

    @property
    def words(self) -> str:
        return f"{self.why} {size_for_people(self.bytes) if self.known else '(size not known)'}"


def space_needs(
    database: DatabasePlan | None, content: Iterable[StorePlan], facts: HostFacts
) -> tuple[SpaceNeed, ...]:
    """What each file system has to take, one line a file system. Raises Refused when one is too small."""
    writes = [*(_database_writes(database, facts) if database else ()), *_content_writes(content, facts)]
    by_device: dict[int, list[Write]] = {}
    spaces: dict[int, Space] = {}
    for write in writes:
        space = _space_of(write.path, facts.spaces)
        if space is not None:
            by_device.setdefault(space.device, []).append(write)
            spaces.setdefault(space.device, space)
    needs = tuple(
        SpaceNeed(
            items[0].path,
            spaces[device].free_bytes,
            sum(item.bytes for item in items),
            ", ".join(item.words for item in items),
        )
        for device, items in by_device.items()
    )
    short = [need for need in needs if need.needed_bytes > need.free_bytes]
    if short:
        lines = "; ".join(
            f"{need.path}: {size_for_people(need.needed_bytes)} needed ({need.why}), "
            f"{size_for_people(need.free_bytes)} free"
            for need in short
        )
        raise Refused(
            f"not enough space: {lines}",
            "free space there; what earlier restores set aside goes with undo-restore and discard",
        )
    return needs


def _database_writes(database: DatabasePlan, facts: HostFacts) -> Iterator[Write]:
    base = database.base
    parts = {file.holds: file.bytes for file in base.files}
    stored = sum(size for holds, size in parts.items() if holds == "data" or holds.isdecimal()) or 1
    outside = 0
    for space in database.tablespaces:
        size = base.database_bytes * parts.get(str(space.oid), 0) // stored if space.restored else 0
        outside += size
        if size:
            yield Write(space.location, size, f"tablespace {space.name or space.oid}")
    yield Write(database.data_directory, max(base.database_bytes - outside, 0), "database")
    replayed = min(database.segments * base.segment_size, WAL_KEPT_IN_REPLAY)
    wal = database.wal_location.source if database.wal_location else database.data_directory
    yield Write(wal, replayed, "WAL to replay")
    saved = saved_bytes(database, facts)
    if saved:
        yield Write(database.saved_wal, saved, "WAL saved that is not in the archive")


def saved_bytes(database: DatabasePlan, facts: HostFacts) -> int:
    """How much WAL a restore saves: what only the live server has, needed or not, and what the set has."""
    base, live = database.base, facts.live.wal if facts.live else None
    from_set = len(database.set_segments) * base.segment_size
    if live is None or live.owner != base.system_identifier:
        return from_set
    archive = facts.archive
    same = facts.archive_readable and (archive.owner, archive.segment_size) == (live.owner, live.segment_size)
    archived = archive.times if same else {}
    waiting = sum(len(numbers.keys() - archived.get(line, {}).keys()) for line, numbers in live.times.items())
    return from_set + waiting * live.segment_size


def _content_writes(content: Iterable[StorePlan], facts: HostFacts) -> Iterator[Write]:
    stores = {store.name: store for store in facts.stores}
    for plan in content:
        size = content_bytes(plan, stores[plan.store])
        yield Write(plan.path, size or 0, f"content of {plan.store}", known=size is not None)


def content_bytes(plan: StorePlan, store: StoreFacts) -> int | None:
    """About how much is copied into a store: all of a snapshot, or what it has more than the store.

    None where that is not known: the predecessor's trees, and a store that was never measured.
    """
    snapshots = [source.snapshot for source in plan.sources if source.snapshot]
    if not snapshots or any(snapshot.legacy for snapshot in snapshots):
        return None
    whole = max(snapshot.bytes for snapshot in snapshots)
    if plan.strategy == "replace" or not store.exists:
        return whole
    return max(whole - store.bytes, 0) if store.bytes is not None else None


def _space_of(path: Path, spaces: Iterable[Space]) -> Space | None:
    """The nearest place that was looked at."""
    around = [space for space in spaces if path == space.path or path.is_relative_to(space.path)]
    return max(around, key=lambda space: len(space.path.parts), default=None)


def extract_seconds(base: BaseBackup, facts: HostFacts) -> float:
    """Extracting is not slower than the backup was: that one also compressed."""
    recorded = base.database_bytes / base.seconds if base.seconds > 1 else 0.0
    return base.database_bytes / max(facts.speeds.extract, recorded)


def replay_seconds(database: DatabasePlan, facts: HostFacts) -> float:
    """Fetching and replaying every segment."""
    return database.segments * database.base.segment_size / facts.speeds.replay


def content_seconds(plan: StorePlan, facts: HostFacts, snapshots: Iterable[Snapshot]) -> float:
    """Looking at every file of the sources, and copying what is missing at the best speed recorded."""
    store = next(item for item in facts.stores if item.name == plan.store)
    files = sum(source.snapshot.files for source in plan.sources if source.snapshot)
    recorded = [
        snapshot.new_bytes / snapshot.seconds
        for snapshot in snapshots
        if snapshot.new_bytes >= ENOUGH_TO_JUDGE and snapshot.seconds > 0
    ]
    copied = (content_bytes(plan, store) or 0) / max([facts.speeds.copy, *recorded])
    return files / facts.speeds.compare_files + copied


def check_seconds(snapshots: Iterable[Snapshot], facts: HostFacts) -> float:
    """The content check looks at as many rows as there are files, about."""
    files = max((snapshot.files for snapshot in snapshots), default=0)
    return files / facts.speeds.check_rows
