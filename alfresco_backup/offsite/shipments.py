"""Decides what is to be sent, one shipment per backup ID, and which are sent together.

Pure, but for `paths_of` and `metadata_paths`, which list what is there.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.offsite.far import FarSide, versions_of
from alfresco_backup.repository.layout import (
    BASE_METADATA,
    BASE_PREFIX,
    CONFIGURATION_PREFIX,
    SNAPSHOT_PREFIX,
    Repository,
    StoreRepository,
    metadata_of,
)
from alfresco_backup.repository.sets import BackupSet, Catalogue


@dataclass(frozen=True)
class Shipment:
    """A backup ID that is to be sent. `needed_by`: the sets that are not there without it.

    `bytes` are read of it; most of them may be there already. `partly`: days of it that sets refer to are
    not here; what is here is sent, and does not count.
    """

    stamp: str
    needed_by: tuple[str, ...]
    bytes: int = 0
    partly: bool = False


Batch = tuple[Shipment, ...]
"""Shipments that become one restic snapshot."""
BATCH_SETS = 24
BATCH_BYTES = 512 << 20
"""What is sent together goes together, and is read again from its start after a kill: so not too much."""


def plan_copy(catalogue: Catalogue, far: FarSide) -> tuple[Shipment, ...]:
    """What is to be sent, in this order: the newest complete set and the days it needs, then the rest by age.

    A set that is being made is not in the catalogue, so it is never sent.
    """
    needs = {item.stamp: versions_of(item) - far.sets.keys() for item in catalogue.sets}
    order: dict[str, None] = {}
    for item in (*catalogue.complete_sets[-1:], *catalogue.sets):
        order.update(dict.fromkeys(sorted(needs[item.stamp])))
    sizes = _sizes(catalogue) if order else {}
    return tuple(Shipment(stamp, tuple(_needing(stamp, needs)), sizes.get(stamp, 0)) for stamp in order)


def batches(shipments: Iterable[Shipment]) -> Iterator[Batch]:
    """What is sent together, in the same order: at most BATCH_SETS of at most BATCH_BYTES.

    Each run of restic costs a second, whatever it sends. A larger ID is sent alone, and so is a part.
    """
    batch: Batch = ()
    for item in shipments:
        more = (*batch, item)
        fits = len(more) <= BATCH_SETS and sum(one.bytes for one in more) <= BATCH_BYTES
        if batch and (not fits or any(one.partly for one in more)):
            yield batch
            more = (item,)
        batch = more
    if batch:
        yield batch


def _sizes(catalogue: Catalogue) -> dict[str, int]:
    """By backup ID, the bytes of its base backup, its configuration and the days that sets refer to."""
    days = {
        (day.version, snapshot.store, path): day.bytes
        for snapshot in catalogue.snapshots
        for path, day in (*snapshot.days.items(), *snapshot.loose.items())
    }
    sizes: dict[str, int] = {}
    found = [(version, size) for (version, _, _), size in days.items()]
    found += [(base.stamp, sum(file.bytes for file in base.files)) for base in catalogue.bases]
    for stamp, size in (*found, *((item.stamp, item.bytes) for item in catalogue.configurations)):
        sizes[stamp] = sizes.get(stamp, 0) + size
    return sizes


def _needing(stamp: str, needs: dict[str, set[str]]) -> Iterator[str]:
    return (name for name, versions in needs.items() if stamp in versions)


def lost_days(repository: Repository, catalogue: Catalogue, far: FarSide) -> dict[str, dict[str, list[str]]]:
    """By set and backup ID, the days that the set refers to and that are neither there nor here.

    Paths are relative to BACKUP_DIR. Raises OSError where it cannot be told.
    """
    lost: dict[str, dict[str, list[str]]] = {}
    here: dict[Path, bool] = {}
    for item in catalogue.sets:
        for snapshot in item.snapshots.values():
            store = repository.store(snapshot.store)
            for path, day in (*snapshot.days.items(), *snapshot.loose.items()):
                if day.version in far.sets:
                    continue
                tree = store.day_trees(day.version) / path
                if tree not in here:
                    here[tree] = tree.is_symlink() or tree.exists()
                if not here[tree]:
                    name = str(tree.relative_to(repository.root))
                    lost.setdefault(item.stamp, {}).setdefault(day.version, []).append(name)
    return lost


def not_there(sets: Iterable[BackupSet], far: FarSide) -> list[str]:
    """The IDs of sets that are not wholly off-site."""
    return [item.stamp for item in sets if not far.has(item)]


def paths_of(repository: Repository, stamp: str, stores: Collection[str]) -> tuple[Path, ...]:
    """What a run made, relative to BACKUP_DIR: base backup, snapshots, its day trees, configuration."""
    configuration = repository.configuration(stamp)
    found = [repository.base(stamp), configuration, metadata_of(configuration)]
    for name in stores:
        store = repository.store(name)
        tree = store.snapshot(stamp)
        found += [tree, metadata_of(tree), store.day_trees(stamp), store.checksums(stamp)]
    return tuple(path.relative_to(repository.root) for path in found if path.exists())


def metadata_paths(repository: Repository, stores: Collection[str]) -> tuple[Path, ...]:
    """The metadata of all sets, relative to BACKUP_DIR: each shipment has them, the newest the catalogue."""
    found = [repository.marker, repository.timelines]
    for folder in (repository.pins, repository.holds):
        found += folder.glob("*.json")
    found += repository.postgres.glob(f"{BASE_PREFIX}*/{BASE_METADATA}")
    found += repository.postgres.glob(f"{BASE_PREFIX}*/proven.json")
    found += repository.configurations.glob(f"{CONFIGURATION_PREFIX}*.json")
    for name in stores:
        found += _store_metadata(repository.store(name))
    return tuple(sorted(path.relative_to(repository.root) for path in found if path.is_file()))


def _store_metadata(store: StoreRepository) -> Iterator[Path]:
    yield from store.root.glob(f"{SNAPSHOT_PREFIX}*.json")
    yield from store.days.glob("*.json")
