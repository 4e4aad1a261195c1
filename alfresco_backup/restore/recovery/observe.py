"""The state of the host before a restore: what the planner decides on. Changes nothing."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from alfresco_backup.backup.proof import read_proof
from alfresco_backup.host.host import Host
from alfresco_backup.host.postmaster import postmaster, workers_in
from alfresco_backup.postgres.database import last_checkpoint, system_identifier
from alfresco_backup.postgres.programs import data_directory_version, find_programs
from alfresco_backup.postgres.timelines import read_histories
from alfresco_backup.postgres.wal_files import (
    DEFAULT_SEGMENT_SIZE,
    Segment,
    list_archive,
    parse_segment_name,
    read_segment_header,
)
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.journal_record import find_unfinished
from alfresco_backup.restore.planning.facts import (
    HostFacts,
    LiveServer,
    ReceivedWal,
    SavedWal,
    Space,
    StoreFacts,
)
from alfresco_backup.restore.planning.plan_database import SAVED_WAL
from alfresco_backup.restore.planning.steps import recorded_speeds
from alfresco_backup.restore.recovery.obstacles import existing_part
from alfresco_backup.restore.recovery.report import REPORT
from alfresco_backup.streaming.folder import read_unfinished
from alfresco_backup.system.files import read_json
from alfresco_backup.system.mounts import is_empty, is_mount_point, mounts_below
from alfresco_backup.times import utc_now
from alfresco_backup.wal.audit import read_map
from alfresco_backup.wal.chain import WalMap, make_map
from alfresco_backup.wal.contents import INDEX, ArchiveContents, joined, read_contents, read_index
from alfresco_backup.wal.timelines import TimelineRecord, read_timelines

REPORTS_READ = 10
FINDINGS_NAMED = 3
WAL_DIRECTORIES = ("pg_wal", "pg_xlog")


def inspect_host(host: Host, catalogue: Catalogue, elsewhere: ArchiveContents | None = None) -> HostFacts:
    """The state of the host and its repository's WAL. What cannot be read counts as missing.

    `elsewhere`: a copy of the archive that will be fetched; what it has counts as being in the archive.
    """
    installation, repository = host.installation, host.repository
    data_directory = installation.data_directory.resolve()
    live = inspect_server(host, data_directory)
    contents = _archive_contents(host)
    if elsewhere is not None:
        contents = joined(contents, elsewhere) if contents else elsewhere
    saved = tuple(_saved(repository.restores(host.name)))
    recorded = read_timelines(repository)
    if elsewhere is not None and not recorded.clusters:
        recorded = elsewhere.timelines
    timelines = _timelines(recorded, live, saved)
    known = replace(contents or ArchiveContents(repository.wal, utc_now()), timelines=timelines)
    archive, _ = read_map(known, catalogue.bases)
    stores = tuple(_stores(host, catalogue))
    spaces = {space.location for base in catalogue.bases for space in base.tablespaces}
    spaces |= {space.location for space in (live.tablespaces if live else ())}
    places = [data_directory, *(Path(space) for space in sorted(spaces))]
    places += [live.wal_location] if live and live.wal_location else []
    around = [*places, *(store.path for store in stores)]
    return HostFacts(
        host=host.name,
        now=utc_now(),
        backup_directory=repository.root,
        restores_directory=repository.restores(host.name),
        archive_directory=repository.wal,
        archive=archive,
        data_directory=data_directory,
        programs=tuple(item for item in find_programs(host.settings, "pg_ctl") if item.has("postgres")),
        stores=stores,
        spaces=tuple(free_space(path) for path in (*around, repository.root)),
        archive_readable=contents is not None,
        archive_begun=contents is not None and bool(contents.owner or contents.looks),
        archive_keeps_times=contents is not None and any(file.kind == "marker" for file in contents.files),
        archive_marker_is_damaged=contents is not None and contents.marker_is_damaged,
        live=live,
        saved_wal=saved,
        received=_received(repository.wal_receiver, archive.owner),
        existing=tuple(path for path in places if path.exists()),
        mount_points=tuple(path for path in around if _is_mount(path)),
        data_mounts=mounts_below(data_directory),
        solr_indexes=tuple(path.resolve() for path in installation.solr_indexes if path.is_dir()),
        search=installation.search,
        unfinished=tuple(record.restore_id for record in find_unfinished(repository.restores(host.name))),
        orphan_protect_days=installation.orphan_protect_days,
        eager_cleanup=installation.eager_cleanup,
        speeds=recorded_speeds(_reports(repository.restores(host.name))),
        window_start=utc_now() - timedelta(days=host.settings.retention_days),
        found_by_drills=dict(found_by_drills(catalogue)),
    )


def found_by_drills(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """By base backup what its last drill found wrong with it; of a result that is unreadable status tells.

    Not that documents are missing: that is no damage of a base backup, another one may miss the same.
    """
    for base in catalogue.bases:
        with suppress(OSError, ValueError):
            proof = read_proof(base.path, base.stamp)
            if proof and proof.findings:
                found = proof.findings
                more = f" and {len(found) - FINDINGS_NAMED} more" if len(found) > FINDINGS_NAMED else ""
                words = f"{'; '.join(found[:FINDINGS_NAMED])}{more}"
                yield base.stamp, f"a restore drill on {proof.proven_at.astimezone():%Y-%m-%d} found: {words}"


def inspect_server(host: Host, data_directory: Path) -> LiveServer | None:
    """The data directory in place; None when there is none."""
    if not (data_directory / "PG_VERSION").exists():
        return None
    identifier = system_identifier(data_directory)
    wal = next((data_directory / name for name in WAL_DIRECTORIES if (data_directory / name).is_dir()), None)
    folder = read_wal_folder(wal, identifier) if wal else None
    return LiveServer(
        version=data_directory_version(data_directory),
        running=bool(postmaster(data_directory) or workers_in(data_directory)),
        system_identifier=identifier,
        wal=folder,
        tablespaces=tuple(_tablespaces(data_directory)),
        wal_location=_wal_location(data_directory),
        timeline=_timeline(data_directory, folder),
    )


def _timeline(data_directory: Path, wal: WalMap | None) -> int | None:
    """The timeline of a server, by its files: it may be down.

    Until the first checkpoint after a promotion the control file names the one before; the first segment of
    the new one is written at once.
    """
    checkpoint = last_checkpoint(data_directory)
    return max([*(wal.times if wal else ()), *(checkpoint[:1] if checkpoint else ())], default=None)


def _timelines(record: TimelineRecord, live: LiveServer | None, saved: Iterable[SavedWal]) -> TimelineRecord:
    """What is recorded, and what the server in place and the WAL that restores saved of it say."""
    for item in saved:
        record = record.with_earlier(item.wal.owner, item.wal.times)
    if live and live.system_identifier and live.timeline:
        record = record.with_live(live.system_identifier, live.timeline, utc_now())
    return record


def _wal_location(data_directory: Path) -> Path | None:
    """What pg_wal links to outside the data directory, if it is a link; that may not exist."""
    for name in WAL_DIRECTORIES:
        link = data_directory / name
        if link.is_symlink() and not link.resolve().is_relative_to(data_directory):
            return link.resolve()
    return None


def read_wal_folder(folder: Path, owner: str = "") -> WalMap | None:
    """The segments of a server's own folder whose WAL agrees with their name; None where it cannot be read.

    Without `owner` it is the cluster of the first segment.
    """
    usable: dict[Segment, datetime] = {}
    size = 0
    try:
        files = list_archive(folder)
        for file in files:
            if file.kind != "segment" or file.compressed:
                continue
            try:
                header = read_segment_header(folder / file.name)
                segment = parse_segment_name(file.name, header.segment_size)
            except (ValueError, FileNotFoundError):
                continue
            owner, size = owner or header.system_identifier, header.segment_size
            right_place = header.address == segment.start(size) and header.timeline <= segment.timeline
            if right_place and header.system_identifier == owner:
                usable[segment] = file.modified
        histories = read_histories(folder, files)
    except OSError:
        return None
    promoted = {
        int(file.wal_name.removesuffix(".history"), 16): file.modified
        for file in files
        if file.kind == "history"
    }
    return make_map(owner, size or DEFAULT_SEGMENT_SIZE, usable, histories.paths, promoted)


def _archive_contents(host: Host) -> ArchiveContents | None:
    """The contents of the archive; segments that the last audit read are not read again."""
    directory = host.repository.wal
    try:
        return read_contents(directory, read_index(host.repository.logs / INDEX, directory))
    except OSError:
        return None


def _saved(restores: Path) -> Iterator[SavedWal]:
    """The WAL that earlier restores saved."""
    for folder in sorted(restores.glob(f"*/{SAVED_WAL}")):
        wal = read_wal_folder(folder)
        if wal is not None and wal.times:
            yield SavedWal(folder, wal)


def _received(folder: Path, owner: str) -> ReceivedWal | None:
    """What the WAL receiver has that the archive may lack; None where it cannot be read, or is absent."""
    wal = read_wal_folder(folder, owner)
    if wal is None:
        return None
    try:
        found = read_unfinished(folder)
    except OSError:
        return ReceivedWal(folder, wal)
    if found is None or (owner and found.header.system_identifier != owner):
        return ReceivedWal(folder, wal)
    if found.defect:
        return ReceivedWal(folder, wal, defect=f"{found.path} is not used: {found.defect}")
    usable = {Segment(line, each): when for line, times in wal.times.items() for each, when in times.items()}
    usable[found.segment] = found.written
    size, cluster = found.header.segment_size, found.header.system_identifier
    whole = make_map(cluster, size, usable, wal.paths, wal.promoted)
    return ReceivedWal(folder, whole, found.name, str(found.end.at))


def _reports(restores: Path) -> Iterator[dict[str, Any]]:
    """The reports of the last restores of this host, oldest first; unreadable ones are left out."""
    for path in sorted(restores.glob(f"*/{REPORT}"))[-REPORTS_READ:]:
        with suppress(OSError, ValueError):
            yield read_json(path)


def _stores(host: Host, catalogue: Catalogue) -> Iterator[StoreFacts]:
    for name, configured in host.installation.stores.items():
        path = configured.resolve()
        snapshots = catalogue.snapshots_of(name)
        in_use = path.is_dir() and not is_empty(path)
        recorded = snapshots[-1].bytes if snapshots and not snapshots[-1].legacy else None
        copied = bool(snapshots) and snapshots[-1].path.exists()
        owners = [place.stat().st_uid for place in (path, snapshots[-1].path)] if in_use and copied else []
        became_roots = len(set(owners)) > 1 and owners[0] == 0
        yield StoreFacts(
            name, path, path.is_dir(), recorded if in_use else 0, became_roots, mounts_below(path)
        )


def _tablespaces(data_directory: Path) -> Iterator[Tablespace]:
    folder = data_directory / "pg_tblspc"
    for link in sorted(folder.iterdir()) if folder.is_dir() else ():
        if link.is_symlink() and link.name.isdecimal():
            yield Tablespace(int(link.name), "", str(link.readlink()))


def free_space(path: Path) -> Space:
    """Free bytes for this process where a path is, or would be."""
    place = existing_part(path)
    numbers = os.statvfs(place)
    free = numbers.f_bfree if os.geteuid() == 0 else numbers.f_bavail
    return Space(path, place.stat().st_dev, free * numbers.f_frsize)


def _is_mount(path: Path) -> bool:
    return path.is_dir() and (is_mount_point(path) or path.stat().st_dev != path.parent.stat().st_dev)
