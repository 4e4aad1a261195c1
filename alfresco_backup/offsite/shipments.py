"""Decides what is to be sent, one shipment per backup ID.

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
from alfresco_backup.times import parse_stamp


@dataclass(frozen=True)
class Shipment:
    """A backup ID that is to be sent. `needed_by`: the sets that are not there without it.

    `small`: hardly anything of it is new once those before it are there, so it may be sent beside others;
    runs of restic that go on at the same time do not know what the others send, and each would send it.
    `partly`: days of it that sets refer to are not here; what is here is sent, and does not count.
    """

    stamp: str
    needed_by: tuple[str, ...]
    small: bool = False
    partly: bool = False


def plan_copy(catalogue: Catalogue, far: FarSide) -> tuple[Shipment, ...]:
    """What is to be sent, in this order: the newest complete set and the days it needs, then the rest by age,
    the small ones last.

    A set that is being made is not in the catalogue, so it is never sent.
    """
    needs = {item.stamp: versions_of(item) - far.sets.keys() for item in catalogue.sets}
    order: dict[str, None] = {}
    for item in (*catalogue.complete_sets[-1:], *catalogue.sets):
        order.update(dict.fromkeys(sorted(needs[item.stamp])))
    large = _large(catalogue) if len(order) > 1 else set(order)
    for item in catalogue.complete_sets[-1:]:  # it waits for nothing that it does not need
        large |= needs[item.stamp]
    shipments = (Shipment(stamp, tuple(_needing(stamp, needs)), stamp not in large) for stamp in order)
    return tuple(sorted(shipments, key=lambda item: item.small))


def _large(catalogue: Catalogue) -> set[str]:
    """The IDs with a base backup, a configuration or the newest version of a day.

    A version of a day that has a newer one is nearly all in that: files are added to a day, hardly ever
    deleted.
    """
    newest: dict[tuple[str, str], str] = {}
    for snapshot in catalogue.snapshots:
        for path, day in (*snapshot.days.items(), *snapshot.loose.items()):
            key = snapshot.store, path
            newest[key] = max(newest.get(key, day.version), day.version, key=parse_stamp)
    bases = {item.stamp for item in catalogue.bases}
    return bases | {item.stamp for item in catalogue.configurations} | set(newest.values())


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
