"""Reads what is in the repository: every backup, in order of time, and everything that is not a backup.

Reading never fails because of one entry: what is unreadable, half deleted or foreign becomes a Problem. Names
that end in `.partial`, and metadata without its tree, are what a killed run leaves: they are never listed.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import (
    BASE_METADATA,
    BASE_PREFIX,
    COMPONENTS,
    CONFIGURATION_PREFIX,
    DAYS,
    LATEST,
    PREDECESSOR_LATEST,
    SNAPSHOT_PREFIX,
    Repository,
    StoreRepository,
    is_there,
    metadata_of,
)
from alfresco_backup.repository.predecessor import read_predecessor_base, read_predecessor_snapshot
from alfresco_backup.repository.records import (
    MAIN_STORE,
    BaseBackup,
    BaseFile,
    Configuration,
    Snapshot,
    Tablespace,
)
from alfresco_backup.repository.sets import BackupSet, Catalogue, Problem, group_into_sets, is_future
from alfresco_backup.system.files import PARTIAL, read_json
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN, parse_stamp, utc_now

__all__ = [
    "MAIN_STORE",
    "BackupSet",
    "BaseBackup",
    "BaseFile",
    "Catalogue",
    "Configuration",
    "DayVersion",
    "Problem",
    "Snapshot",
    "Tablespace",
    "group_into_sets",
    "read_catalogue",
]

IGNORED = frozenset({"lost+found", DAYS, LATEST, PREDECESSOR_LATEST})
LOOK_THROUGH_LIMIT = 512 << 20
"""Bytes of a predecessor's tars that a listing reads at most; about ten seconds."""
T = TypeVar("T")


def read_catalogue(
    repository: Repository, *, now: datetime | None = None, limit_bytes: int | None = LOOK_THROUGH_LIMIT
) -> Catalogue:
    """List the repository. A folder that does not exist is empty; one that cannot be read is a Problem.

    Of the predecessor's base backups, those whose tars exceed `limit_bytes` and were never read are Problems
    until somebody lists with None (no limit).
    """

    def read_base(stamp: str, path: Path) -> BaseBackup:
        if LEGACY_PATTERN.fullmatch(stamp):
            return read_predecessor_base(stamp, path, repository.wal, limit_bytes)
        return _read_base(stamp, path)

    reading = _Reading()
    bases = list(reading.parts(repository.postgres, BASE_PREFIX, read_base))
    snapshots = [
        snapshot for store in _stores(reading, repository) for snapshot in _read_store(reading, *store)
    ]
    configurations = list(reading.parts(repository.configurations, CONFIGURATION_PREFIX, _read_configuration))
    reading.note_future([*bases, *snapshots, *configurations], now or utc_now())
    bases.sort(key=lambda base: (base.started_at, base.stamp))
    snapshots.sort(key=lambda snapshot: (snapshot.started_at, snapshot.stamp, snapshot.store))
    configurations.sort(key=lambda configuration: (configuration.started_at, configuration.stamp))
    return Catalogue(
        group_into_sets(bases, snapshots, configurations),
        tuple(bases),
        tuple(snapshots),
        tuple(configurations),
        tuple(reading.problems),
        tuple(sorted(reading.partials)),
    )


class _Reading:
    """One pass over the repository, collecting what is no backup."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.partials: list[Path] = []

    def parts(self, folder: Path, prefix: str, read: Callable[[str, Path], T]) -> Iterator[T]:
        """Every entry of a folder that `read` understands; it raises OSError or ValueError for the others."""
        for path in self.entries(folder):
            stamp = path.name.removeprefix(prefix)
            try:
                if path.name.endswith(PARTIAL):
                    self.partials.append(path)
                elif _is_metadata(path, prefix):
                    if not path.with_suffix("").is_dir():
                        self.partials.append(path)
                elif not (path.name.startswith(prefix) and _is_stamp(stamp)):
                    raise ValueError("not the name of a backup")
                elif path.is_symlink() or not path.is_dir():
                    raise ValueError("a folder is expected")
                else:
                    yield read(stamp, path)
            except (OSError, ValueError, RecursionError) as error:
                self.problems.append(Problem(path, _reason(error)))

    def entries(self, folder: Path) -> list[Path]:
        try:
            found = sorted(folder.iterdir()) if is_there(folder) else []
        except OSError as error:
            self.problems.append(Problem(folder, _reason(error)))
            return []
        return [path for path in found if path.name not in IGNORED and not path.name.startswith(".")]

    def note_future(self, parts: Iterable[BaseBackup | Snapshot | Configuration], now: datetime) -> None:
        self.problems.extend(
            Problem(part.path, f"dated in the future: {part.stamp}; the clock was wrong then or is wrong now")
            for part in parts
            if is_future(part, now)
        )


def _stores(reading: _Reading, repository: Repository) -> Iterator[tuple[str, StoreRepository]]:
    yield MAIN_STORE, repository.contentstore
    for path in reading.entries(repository.root / "stores"):
        if path.is_dir():
            yield path.name, repository.store(path.name)


def _read_store(reading: _Reading, name: str, store: StoreRepository) -> list[Snapshot]:
    def read(stamp: str, path: Path) -> Snapshot:
        if LEGACY_PATTERN.fullmatch(stamp):
            return read_predecessor_snapshot(stamp, path)
        file = metadata_of(path)
        snapshot = Snapshot.from_metadata(_metadata(file), path, metadata_file=file)
        _require_same_id(stamp, snapshot.stamp)
        if snapshot.store != name:
            raise ValueError(f"its metadata is of store {snapshot.store!r}, its folder of store {name!r}")
        return snapshot

    reading.partials.extend(path for path in reading.entries(store.days) if path.name.endswith(PARTIAL))
    return list(reading.parts(store.root, SNAPSHOT_PREFIX, read))


def _read_base(stamp: str, path: Path) -> BaseBackup:
    base = BaseBackup.from_metadata(_metadata(path / BASE_METADATA), path)
    _require_same_id(stamp, base.stamp)
    for file in base.files:
        size = (path / file.name).lstat().st_size
        if size != file.bytes:
            raise ValueError(f"{file.name} has {size} bytes, its metadata says {file.bytes}")
    if not base.files:
        raise ValueError("its metadata names no files")
    return base


def _read_configuration(stamp: str, path: Path) -> Configuration:
    configuration = Configuration.from_metadata(_metadata(metadata_of(path)), path)
    _require_same_id(stamp, configuration.stamp)
    return configuration


def _metadata(file: Path) -> dict[str, object]:
    try:
        return read_json(file)
    except FileNotFoundError as error:
        raise ValueError(f"its metadata {file.name} is missing") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"its metadata {file.name} is damaged: {error}") from error


def _require_same_id(name: str, metadata: str) -> None:
    if name != metadata:
        raise ValueError(f"its name says {name}, its metadata {metadata}")


def _is_stamp(text: str) -> bool:
    """Whether the text is a backup ID; raises ValueError for a date that no calendar has."""
    if not (STAMP_PATTERN.fullmatch(text) or LEGACY_PATTERN.fullmatch(text)):
        return False
    parse_stamp(text)
    return True


def _is_metadata(path: Path, prefix: str) -> bool:
    return path.suffix == ".json" and path.name.startswith(prefix) and not path.is_dir()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}: {error.filename}"
    return str(error) or type(error).__name__


def old_leftovers(repository: Repository, stamp: str, components: Collection[str]) -> Iterator[Path]:
    """What runs before this one left of components that no run continues, oldest first of each."""
    for component, place in COMPONENTS.items():
        if component not in components or place.continued:
            continue
        for path in sorted(repository.folder_of(component).glob(f"{place.prefix}*{PARTIAL}")):
            name = path.name.removeprefix(place.prefix).removesuffix(PARTIAL).removesuffix(".json")
            if STAMP_PATTERN.fullmatch(name) and name < stamp:
                yield path
