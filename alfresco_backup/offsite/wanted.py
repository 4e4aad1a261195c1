"""Decides what is fetched: which backup, and of it only what a restore reads. Pure.

A restore to a target time reads one base backup, the WAL from its start to that time, of each content store
the first snapshot after that time and the last one before it, and a configuration.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.offsite.far import FarSide, versions_of
from alfresco_backup.offsite.known import Known
from alfresco_backup.postgres.wal_files import ArchivedFile, Segment, parse_segment_name
from alfresco_backup.repository.layout import CHECKSUMS, DAYS, metadata_of
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people, for_people_and_utc

LINK_BYTES = 4096
"""Of the file system, for each link of a snapshot and each small file."""
MANY_DAYS = 200
IN_USE = "pg_wal"


@dataclass(frozen=True)
class Wanted:
    """What a restore reads. `until`: the target time, to which WAL is read; None: to its end.

    `base` is None where only content is wanted, `snapshots` are empty where only the database is.
    """

    base: BaseBackup | None
    snapshots: tuple[Snapshot, ...]
    configuration: Configuration | None
    until: datetime | None = None

    @property
    def words(self) -> str:
        parts = [f"base backup {self.base.stamp}"] if self.base else []
        parts += [f"{item.store} {item.stamp}" for item in self.snapshots]
        parts += [f"configuration {self.configuration.stamp}"] if self.configuration else []
        wal = f"WAL to {for_people(self.until)}" if self.until else "all WAL from its start on"
        return ", ".join([*parts, wal] if self.base else parts)


@dataclass(frozen=True)
class Unit:
    """What gets its name in BACKUP_DIR at once: a folder or a file, relative to it, and its bytes."""

    path: Path
    bytes: int
    check: BaseBackup | Configuration | tuple[int, int] | int | None = None
    """By what it is judged: its record; files and bytes of a day; bytes of a file; None: that it is there."""
    optional: bool = False

    @property
    def is_content(self) -> bool:
        """Whether a restore goes on without it, and says what is missing."""
        return isinstance(self.check, tuple | Configuration)


@dataclass(frozen=True)
class Piece:
    """What comes from one restic snapshot; its units in the order in which they get their names."""

    name: str
    snapshot: str
    units: tuple[Unit, ...]

    @property
    def bytes(self) -> int:
        return sum(unit.bytes for unit in self.units)

    @property
    def included(self) -> tuple[str, ...]:
        """The paths that restic is asked for: the units, or all days of a run where many of them are wanted.

        restic compares each file with each path; the first run of a store copied thousands of days.
        """
        many = sum(DAYS in unit.path.parts for unit in self.units) > MANY_DAYS
        return tuple(dict.fromkeys(f"/{_run_of(unit.path) if many else unit.path}" for unit in self.units))


def _run_of(path: Path) -> Path:
    """The folder of the run that copied a day, or lists its checksums; any other path as it is."""
    place = path.parts.index(DAYS) + 2 if DAYS in path.parts else len(path.parts)
    return Path(*path.parts[:place])


@dataclass(frozen=True)
class FetchPlan:
    """What is fetched: what BACKUP_DIR lacks. WAL first, then by age: links after what they lead to."""

    wanted: Wanted
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


def choose_wanted(known: Known, backup: str = LATEST, target: datetime | None = None) -> Wanted:
    """What is wanted of a backup ID, or of the newest that has the target time. Raises Refused.

    Without a target time all WAL from the base backup on is wanted and, where no ID is named, also the newest
    snapshot of each content store: every later time can be restored from it then.
    """
    whole = [item for item in known.catalogue.sets if known.far.has(item)]
    chosen = _named(known, backup) if backup != LATEST else _newest(known, whole, target)
    if target is not None:
        _require_reached(known, target)
    snapshots = [*chosen.snapshots.values()]
    if target is not None:
        snapshots = list(_around(known, target))
    elif backup == LATEST:
        snapshots += _newest_of_stores(known)
    base = chosen.base
    configuration = chosen.configuration or _configuration(known, target or chosen.moment)
    return Wanted(base, tuple(dict.fromkeys(snapshots)), configuration, target)


def _named(known: Known, backup: str) -> BackupSet:
    found = next((item for item in known.catalogue.sets if item.stamp == backup), None)
    if found is None:
        raise Refused(f"the off-site repository has no backup {backup}; {available(known)}", _list())
    lacking = sorted(versions_of(found) - known.far.sets.keys())
    if lacking:
        raise Refused(
            f"backup {backup} is not whole in the off-site repository: it refers to {', '.join(lacking)}, "
            f"which was not sent; {available(known)}",
            _list(),
        )
    return found


def _newest(known: Known, whole: Iterable[BackupSet], target: datetime | None) -> BackupSet:
    complete = [item for item in whole if item.complete]
    if target is not None:
        complete = [item for item in complete if item.base and item.base.stopped_at <= target]
    if not complete:
        before = f" that ended before {for_people_and_utc(target)}" if target else ""
        raise Refused(
            f"the off-site repository has no whole and complete backup set{before}; {available(known)}",
            _list(),
        )
    return complete[-1]


def available(known: Known) -> str:
    """The IDs that can be had, in words."""
    stamps = [item.stamp for item in known.catalogue.sets if known.far.has(item)]
    return f"whole there are: {', '.join(stamps)}" if stamps else "none is whole there"


def _list() -> str:
    return program_command("offsite", "list")


def _require_reached(known: Known, target: datetime) -> None:
    segments = [file.modified for file in known.wal.files if file.kind == "segment"] if known.wal else []
    newest = max(segments, default=None)
    if newest is None or newest < target:
        until = for_people_and_utc(newest) if newest else "nothing: no WAL was sent"
        raise Refused(
            f"the WAL in the off-site repository does not reach {for_people_and_utc(target)}; "
            f"it reaches {until}",
            _list(),
        )


def _around(known: Known, target: datetime) -> Iterator[Snapshot]:
    for snapshots in _by_store(known).values():
        after = [item for item in snapshots if item.started_at >= target]
        before = [item for item in snapshots if item.started_at < target]
        yield from (*after[:1], *before[-1:])


def _newest_of_stores(known: Known) -> Iterator[Snapshot]:
    return (snapshots[-1] for snapshots in _by_store(known).values())


def is_whole(snapshot: Snapshot, far: FarSide) -> bool:
    """Whether a snapshot is there with all days that it refers to."""
    return far.has(BackupSet(snapshot.stamp, snapshots={snapshot.store: snapshot}))


def _by_store(known: Known) -> Mapping[str, list[Snapshot]]:
    """The whole snapshots of each content store, oldest first."""
    stores: dict[str, list[Snapshot]] = {}
    for item in known.catalogue.snapshots:
        if is_whole(item, known.far):
            stores.setdefault(item.store, []).append(item)
    return stores


def _configuration(known: Known, time: datetime) -> Configuration | None:
    there = [item for item in known.catalogue.configurations if item.stamp in known.far.sets]
    before = [item for item in there if item.started_at <= time]
    return before[-1] if before else next(iter(there), None)


def plan_fetch(known: Known, wanted: Wanted, root: Path, is_there: Callable[[Path], bool]) -> FetchPlan:
    """What has to be fetched into `root` (BACKUP_DIR); `is_there`: what it has already.

    The paths of `wanted` are in `root`. Raises Refused where something was not sent.
    """
    pieces = [_wal_piece(known, wanted)] if wanted.base else []
    units: dict[str, list[Unit]] = {}
    for snapshot in wanted.snapshots:
        for version, unit in _days(snapshot, root):
            units.setdefault(version, []).append(unit)
    if wanted.base:
        size = sum(file.bytes for file in wanted.base.files)
        units.setdefault(wanted.base.stamp, []).append(
            Unit(_below(root, wanted.base.path), size, wanted.base)
        )
    trees: list[Configuration | Snapshot] = [wanted.configuration] if wanted.configuration else []
    for item in (*trees, *wanted.snapshots):
        units.setdefault(item.stamp, []).extend(_tree(item, root))
    pieces += [
        Piece(stamp, _sent(known.far, stamp), tuple(dict.fromkeys(units[stamp]))) for stamp in sorted(units)
    ]
    lacking = (
        Piece(piece.name, piece.snapshot, tuple(unit for unit in piece.units if not is_there(unit.path)))
        for piece in pieces
    )
    return FetchPlan(
        wanted, tuple(piece for piece in lacking if any(not unit.optional for unit in piece.units))
    )


def _sent(far: FarSide, stamp: str) -> str:
    if stamp not in far.sets:
        raise Refused(f"{stamp} was not sent to the off-site repository", program_command("offsite", "copy"))
    return far.sets[stamp].snapshot


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root)


def _days(snapshot: Snapshot, root: Path) -> Iterator[tuple[str, Unit]]:
    days = _below(root, snapshot.path.parent) / DAYS
    for path, day in (*snapshot.days.items(), *snapshot.loose.items()):
        yield day.version, Unit(days / day.version / path, day.bytes, (day.files, day.bytes))
        yield day.version, Unit(days / f"{day.version}{CHECKSUMS}" / path, 0, optional=True)


def _tree(item: Configuration | Snapshot, root: Path) -> Iterator[Unit]:
    """Metadata first: without its tree it counts as nothing."""
    path = _below(root, item.path)
    yield Unit(metadata_of(path), LINK_BYTES)
    if isinstance(item, Configuration):
        yield Unit(path, item.bytes, item)
    else:
        yield Unit(path, (len(item.days) + len(item.loose)) * LINK_BYTES)


def _wal_piece(known: Known, wanted: Wanted) -> Piece:
    """The archive's files that recovery reads; its marker last: without it recovery finds no end."""
    if known.wal is None or known.far.newest_wal is None:
        raise Refused("no copy of the WAL archive was sent", program_command("offsite", "wal"))
    assert wanted.base is not None
    files = wal_needed(known.wal.files, wanted.base, wanted.until)
    ordered = sorted(files, key=lambda file: (file.kind == "marker", file.name))
    units = tuple(Unit(Path(IN_USE, file.name), file.bytes, file.bytes) for file in ordered)
    return Piece("WAL", known.far.newest_wal.snapshot, units)


def wal_needed(
    files: Iterable[ArchivedFile], base: BaseBackup, until: datetime | None
) -> Iterator[ArchivedFile]:
    """The files of an archive that recovery of a base backup reads, on whatever timelines.

    Of segments those from the base backup's start on: to the first one that was last written to after
    `until`, on each timeline, and the one after it, which recovery may look into. Histories, labels and the
    marker always. An archive without archive-wal's marker does not keep the times of writing: all of it then.
    """
    known = tuple(files)
    keeps_times = any(file.kind == "marker" for file in known)
    last = _last_needed(known, base, until) if until and keeps_times else {}
    for file in known:
        if file.kind != "segment":
            yield file
            continue
        segment = _segment(file, base)
        first = base.start_lsn.segment(base.segment_size)
        if segment and first <= segment.number <= last.get(segment.timeline, segment.number):
            yield file


def _last_needed(files: Iterable[ArchivedFile], base: BaseBackup, until: datetime | None) -> dict[int, int]:
    """By timeline, the number of the last segment that is needed; none where all of it is."""
    least = (int(base.stop_lsn) - 1) // base.segment_size
    last: dict[int, int] = {}
    for file in files:
        segment = _segment(file, base) if file.kind == "segment" else None
        if segment and until and file.modified > until and segment.number >= least:
            last[segment.timeline] = min(last.get(segment.timeline, segment.number + 1), segment.number + 1)
    return last


def _segment(file: ArchivedFile, base: BaseBackup) -> Segment | None:
    try:
        return parse_segment_name(file.wal_name, base.segment_size)
    except ValueError:
        return None
