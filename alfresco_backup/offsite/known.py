"""What the off-site repository knows of a host: catalogue and WAL archive, read without a backup being here.

One `restic restore` brings the metadata of all sets, a second one the small files of the WAL archive; its
segments are known by their names, sizes and times.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from alfresco_backup.errors import Refused
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSide, FarSnapshot, read_far
from alfresco_backup.postgres.timelines import read_histories
from alfresco_backup.postgres.wal_files import (
    DEFAULT_SEGMENT_SIZE,
    ArchivedFile,
    SegmentHeader,
    named_file,
    parse_segment_name,
)
from alfresco_backup.repository.catalogue import MAIN_STORE
from alfresco_backup.repository.layout import (
    BASE_METADATA,
    BASE_PREFIX,
    CONFIGURATION_PREFIX,
    SNAPSHOT_PREFIX,
    Repository,
)
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import Catalogue, Problem, group_into_sets
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import read_json
from alfresco_backup.system.processes import Watch
from alfresco_backup.times import utc_now
from alfresco_backup.wal.contents import ArchiveContents, SegmentLook, read_owner
from alfresco_backup.wal.timelines import read_timelines

T = TypeVar("T")
METADATA = (
    "/repository.json",
    "/timelines.json",
    "/pins/*.json",
    "/holds/*.json",
    f"/postgres/{BASE_PREFIX}*/{BASE_METADATA}",
    f"/postgres/{BASE_PREFIX}*/proven.json",
    f"/configuration/{CONFIGURATION_PREFIX}*.json",
    f"/contentstore/{SNAPSHOT_PREFIX}*.json",
    f"/stores/*/{SNAPSHOT_PREFIX}*.json",
)
"""What a listing of the repository needs of the newest shipment."""
WAL_METADATA = (
    "/repository.json",
    "/timelines.json",
    "/pg_wal/system-identifier",
    "/pg_wal/*.history*",
    "/pg_wal/*.backup*",
)


@dataclass(frozen=True)
class Known:
    """What is there of one host. `folder` has the metadata in BACKUP_DIR's layout; paths are BACKUP_DIR's.

    `wal` are the files of the newest copy of the archive, None where none was sent; its segments are taken
    for what their names say. `identity` is that of the repository that was sent.
    """

    far: FarSide
    identity: str
    folder: Path
    catalogue: Catalogue
    wal: ArchiveContents | None


def read_known(
    engine: Engine,
    host_name: str,
    repository: Repository,
    folder: Path,
    *,
    own: str = "",
    older: bool = False,
) -> Known:
    """Fetch the metadata into an empty folder and read it, as if it were `repository`'s.

    `own`: the identity that BACKUP_DIR is known by; it decides where several machines have sent under one
    name, else the newest shipment does. `older`: also the metadata of IDs that the newest shipment no longer
    lists, since retention has removed them here; one call of restic each. Raises Refused where nothing was
    sent, and what Engine.run raises.
    """
    far = read_far(engine, host_name)
    if not far.sets:
        raise Refused(
            f"the off-site repository {engine.shown} contains no backup set of host {host_name}",
            program_command("offsite", "list"),
        )
    identity = own if own in far.identities else list(far.sets.values())[-1].repository
    far = replace(far, snapshots=tuple(item for item in far.snapshots if item.repository == identity))
    newest = max(far.sets.values(), key=lambda item: item.taken_at)
    sources = [(newest, METADATA), *([(far.newest_wal, WAL_METADATA)] if far.newest_wal else [])]
    for snapshot, patterns in sorted(sources, key=lambda source: source[0].taken_at):
        restore(engine, snapshot.snapshot, folder, patterns)
    catalogue = read_far_catalogue(folder, repository)
    if older:
        known = {part.stamp for part in catalogue.parts}
        for stamp in far.sets.keys() - known:
            restore(engine, far.sets[stamp].snapshot, folder, metadata_of_id(stamp))
        catalogue = read_far_catalogue(folder, repository)
    return Known(
        far, identity, folder, catalogue, _read_wal(engine, far.newest_wal, folder, repository, catalogue)
    )


def metadata_of_id(stamp: str) -> tuple[str, ...]:
    """The same of one ID."""
    return (
        f"/postgres/{BASE_PREFIX}{stamp}/*.json",
        f"/configuration/{CONFIGURATION_PREFIX}{stamp}.json",
        f"/contentstore/{SNAPSHOT_PREFIX}{stamp}.json",
        f"/stores/*/{SNAPSHOT_PREFIX}{stamp}.json",
    )


def restore(
    engine: Engine,
    snapshot: str,
    folder: Path,
    paths: Iterable[str],
    limit_seconds: float = 3600.0,
    watch: Watch | None = None,
) -> None:
    """Restore these paths of a restic snapshot, which may be patterns, below a folder. Takes no lock.

    Raises what Engine.run raises: restic compares each piece with its hash. A path that the snapshot does
    not have is passed over.
    """
    includes = [word for path in paths for word in ("--include", path)]
    words = ("restore", snapshot, "--no-lock", "--target", str(folder), *includes)
    engine.run(*words, timeout_seconds=limit_seconds, watch=watch)


def read_far_catalogue(folder: Path, repository: Repository) -> Catalogue:
    """The sets whose metadata is in `folder`, with the paths they have, or will have, in `repository`.

    Those of the predecessor have no metadata and are not among them.
    """
    problems: list[Problem] = []

    def parts(pattern: str, read: Callable[[Path], T]) -> Iterator[T]:
        for file in sorted(folder.glob(pattern)):
            try:
                yield read(file)
            except (OSError, ValueError, RecursionError) as error:
                problems.append(Problem(repository.root / file.relative_to(folder), str(error)))

    def read_base(file: Path) -> BaseBackup:
        return BaseBackup.from_metadata(read_json(file), repository.root / file.parent.relative_to(folder))

    def read_snapshot(file: Path) -> Snapshot:
        tree = repository.root / file.relative_to(folder).with_suffix("")
        return Snapshot.from_metadata(read_json(file), tree, metadata_file=file)

    def read_configuration(file: Path) -> Configuration:
        tree = repository.root / file.relative_to(folder).with_suffix("")
        return Configuration.from_metadata(read_json(file), tree)

    bases = sorted(
        parts(f"postgres/{BASE_PREFIX}*/{BASE_METADATA}", read_base), key=lambda item: item.started_at
    )
    snapshots = [
        *parts(f"{MAIN_STORE}/{SNAPSHOT_PREFIX}*.json", read_snapshot),
        *parts(f"stores/*/{SNAPSHOT_PREFIX}*.json", read_snapshot),
    ]
    snapshots.sort(key=lambda item: (item.started_at, item.stamp, item.store))
    configurations = sorted(
        parts(f"configuration/{CONFIGURATION_PREFIX}*.json", read_configuration),
        key=lambda item: item.started_at,
    )
    return Catalogue(
        group_into_sets(bases, snapshots, configurations),
        tuple(bases),
        tuple(snapshots),
        tuple(configurations),
        tuple(problems),
    )


def _read_wal(
    engine: Engine, snapshot: FarSnapshot | None, folder: Path, repository: Repository, catalogue: Catalogue
) -> ArchiveContents | None:
    if snapshot is None:
        return None
    files: list[ArchivedFile] = []

    def take(line: str) -> None:
        node = json.loads(line) if line.startswith("{") else {}
        path = Path(str(node.get("path", "/")))
        if node.get("type") == "file" and path.parent == Path("/pg_wal"):
            written = datetime.fromisoformat(str(node["mtime"])).astimezone(UTC)
            files.append(named_file(path.name, int(node.get("size", 0)), written))

    engine.run("ls", "--json", "--no-lock", snapshot.snapshot, "/pg_wal", on_line=take)
    owner = read_owner(folder / "pg_wal")
    owner = owner or (catalogue.bases[-1].system_identifier if catalogue.bases else "")
    size = catalogue.bases[-1].segment_size if catalogue.bases else DEFAULT_SEGMENT_SIZE
    ordered = tuple(sorted(files, key=lambda file: file.name))
    return ArchiveContents(
        repository.wal,
        utc_now(),
        ordered,
        {file.name: _look(file, owner, size) for file in ordered if file.kind == "segment"},
        histories=read_histories(folder / "pg_wal", ordered),
        owner=owner,
        timelines=read_timelines(Repository(folder)),
    )


def _look(file: ArchivedFile, owner: str, size: int) -> SegmentLook:
    """What a segment's name and size say of it."""
    if not file.bytes:
        return SegmentLook(None, "empty", "it is empty")
    segment = parse_segment_name(file.wal_name, size)
    header = SegmentHeader(0, segment.timeline, segment.start(size), owner, size)
    if not file.compressed and file.bytes != size:
        return SegmentLook(header, "short", f"it has {file.bytes} of {size} bytes")
    return SegmentLook(header)
