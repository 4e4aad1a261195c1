"""Reads what retention decides about besides the catalogue: WAL, day trees and who refers to them, logs."""

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from alfresco_backup.backup.proof import Proof, read_proof
from alfresco_backup.contentstore.links import leaves
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.postgres.timelines import TimelinePath, read_histories
from alfresco_backup.postgres.wal_files import ArchivedFile, list_archive
from alfresco_backup.repository.layout import (
    BASE_PREFIX,
    COMPONENTS,
    SNAPSHOT_PREFIX,
    Repository,
    StoreRepository,
    is_there,
)
from alfresco_backup.repository.pins import Pin, read_pins
from alfresco_backup.repository.sending import being_sent

logger = logging.getLogger(__name__)
REMOVED = ".removed.partial"
"""Ending of what retention is about to delete: every reader skips it, and nothing continues it."""


@dataclass(frozen=True)
class DayTree:
    """One day tree (or loose file) that the run `version` copied into the store at `store`."""

    path: str
    version: str
    store: Path


@dataclass(frozen=True)
class LogFile:
    """The raw output of one run."""

    path: Path
    modified: datetime
    bytes: int


@dataclass(frozen=True)
class Inventory:
    """Everything that is not in the catalogue.

    `references`: for each snapshot tree the places below `days/` that its links lead to, as text paths;
    trees that the catalogue does not list are in it as well. `pins` and `drills`, the result of each set's
    last restore drill, go by the backup ID of their set. `sending`: the IDs that are being sent off-site.
    `empty`: the names of folders of parts that exist, with nothing in them.
    """

    wal: tuple[ArchivedFile, ...] = ()
    histories: Mapping[int, TimelinePath] = field(default_factory=dict)
    day_trees: tuple[DayTree, ...] = ()
    references: Mapping[Path, frozenset[str]] = field(default_factory=dict)
    logs: tuple[LogFile, ...] = ()
    pins: Mapping[str, Pin] = field(default_factory=dict)
    drills: Mapping[str, Proof] = field(default_factory=dict)
    sending: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()


def read_inventory(repository: Repository) -> Inventory:
    """List WAL, day trees, logs and pins. Raises OSError rather than leave something out."""
    wal = list_archive(repository.wal) if is_there(repository.wal) else ()
    known: dict[str, str] = {}
    references: dict[Path, frozenset[str]] = {}
    day_trees: list[DayTree] = []
    folders = [repository.folder_of(component) for component in COMPONENTS]
    for store in stores_of(repository):
        for tree in _snapshot_trees(store):
            links = _links(os.fspath(tree), os.fspath(store.days), DAY_DEPTH)
            references[tree] = frozenset(known.setdefault(link, link) for link in links)
        day_trees.extend(_day_trees(store))
    return Inventory(
        wal,
        read_histories(repository.wal, wal).paths,
        tuple(day_trees),
        references,
        tuple(_logs(repository.logs)),
        read_pins(repository),
        dict(_drills(repository)),
        being_sent(repository),
        tuple(folder.name for folder in folders if is_there(folder) and not any(folder.iterdir())),
    )


def _drills(repository: Repository) -> Iterator[tuple[str, Proof]]:
    """What cannot be read is no result: it neither verifies a set nor calls it damaged."""
    for base in sorted(repository.postgres.glob(f"{BASE_PREFIX}*")):
        stamp = base.name.removeprefix(BASE_PREFIX)
        try:
            proof = read_proof(base, stamp)
        except (OSError, ValueError) as error:
            logger.warning("result of the restore drill of %s: %s", stamp, error)
            continue
        if proof:
            yield stamp, proof


def stores_of(repository: Repository) -> tuple[StoreRepository, ...]:
    """The places of all content stores that have backups, the main one first."""
    further = repository.root / "stores"
    names = sorted(path.name for path in further.iterdir() if path.is_dir()) if is_there(further) else []
    return tuple(
        store
        for store in (repository.contentstore, *(repository.store(name) for name in names))
        if is_there(store.root)
    )


def _snapshot_trees(store: StoreRepository) -> Iterator[Path]:
    """Every tree of links; not by `glob`, which takes a folder that it may not read for an empty one."""
    for tree in sorted(store.root.iterdir()):
        named = tree.name.startswith(SNAPSHOT_PREFIX) and not tree.name.endswith(REMOVED)
        if named and stat.S_ISDIR(tree.lstat().st_mode):
            yield tree


def _links(folder: str, days: str, depth: int) -> Iterator[str]:
    """Where the links of a snapshot lead, as far as that is below `days`. Links are never followed."""
    days = os.path.normpath(days)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                target = os.path.normpath(os.path.join(folder, os.readlink(entry.path)))  # noqa: PTH115, PTH118
                if target.startswith(f"{days}/"):
                    yield target
            elif depth > 1 and entry.is_dir(follow_symlinks=False):
                yield from _links(entry.path, days, depth - 1)


def _day_trees(store: StoreRepository) -> Iterator[DayTree]:
    if not is_there(store.days):
        return
    for version in sorted(store.days.iterdir()):
        if version.is_dir() and not version.is_symlink() and "." not in version.name:
            for path in leaves(os.fspath(version), DAY_DEPTH):
                yield DayTree(path, version.name, store.root)


def _logs(folder: Path) -> Iterator[LogFile]:
    if not is_there(folder):
        return
    for path in sorted(folder.glob("*.log")):
        status = path.lstat()
        if path.is_file() and not path.is_symlink():
            yield LogFile(path, datetime.fromtimestamp(status.st_mtime, UTC), status.st_size)
