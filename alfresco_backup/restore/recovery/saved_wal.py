"""WAL that recovery needs and the archive does not have: copied from the old pg_wal, or from the backup."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.backup.base import WAL_TAR
from alfresco_backup.errors import BackupError
from alfresco_backup.postgres.database import system_identifier
from alfresco_backup.postgres.wal_files import is_segment_name, parse_segment_name, read_segment_header
from alfresco_backup.repository.predecessor_tar import WAL_TAR as LEGACY_WAL_TAR
from alfresco_backup.restore.recovery.observe import WAL_DIRECTORIES
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.settings.commands import program_command
from alfresco_backup.streaming.folder import copy_unfinished
from alfresco_backup.system.accounts import Account, acting_as, owner_of
from alfresco_backup.system.files import PARTIAL, fsync_directory, replacing
from alfresco_backup.system.folders import held, open_file, reading, remove_tree, scratch_folder, unlink
from alfresco_backup.system.processes import Command, run_pipeline
from alfresco_backup.system.zstd_files import same_content
from alfresco_backup.wal.archive import archived_path

HOUR = 3600.0


@dataclass(frozen=True)
class SavedFiles:
    """What was copied into the restore's WAL folder: names, and how many bytes."""

    from_server: tuple[str, ...]
    from_set: tuple[str, ...]
    bytes: int
    from_receiver: tuple[str, ...] = ()

    def sentence(self) -> str:
        received = f", {len(self.from_receiver)} taken from the WAL receiver" if self.from_receiver else ""
        return (
            f"{len(self.from_server)} WAL files saved that were not in the archive, "
            f"{len(self.from_set)} extracted from the backup{received}"
        )


def save_wal(restoration: Restoration) -> SavedFiles:
    """Copy the WAL that is in the stopped server's pg_wal only, and what the base backup must supply.

    Copies, so that the old data directory is not changed. Raises BackupError when a segment of the plan is
    missing.
    """
    database = restoration.database
    folder = database.saved_wal
    directory = database.data_directory
    owner = owner_of(directory) if directory.exists() else None
    from_server = [_keep(restoration, path, owner) for path in unarchived(restoration)]
    from_receiver = _take_received(restoration) if database.received_segments else []
    from_set = _take_from_set(restoration) if database.set_segments else []
    fsync_directory(folder)
    present = {path.name for path in folder.iterdir()}
    archive = database.wal_sources[0]
    counted_on = (*database.live_segments, *database.received_segments, *database.set_segments)
    lost = [
        name
        for name in counted_on
        if name not in present and (name in database.skipped_segments or not archived_path(archive, name))
    ]
    if lost:
        raise BackupError(
            f"WAL that recovery needs has disappeared since the restore was planned: {', '.join(lost)}; "
            "plan the restore again",
            program_command("wal-audit"),
        )
    size = sum(path.stat().st_size for path in folder.iterdir())
    return SavedFiles(tuple(from_server), tuple(from_set), size, tuple(from_receiver))


def unarchived(restoration: Restoration) -> Iterator[Path]:
    """The files of the data directory's pg_wal with WAL of this cluster that are not in the archive.

    The name of a segment that was recycled or prepared for later does not agree with its WAL. The last one is
    there as far as it was written. What the server's account may not read is none of the server's files.
    """
    database = restoration.database
    archive = database.wal_sources[0]
    if system_identifier(database.data_directory) != database.base.system_identifier:
        return
    owner = owner_of(database.data_directory)
    with held(database.data_directory) as inside:
        for folder in (inside / name for name in WAL_DIRECTORIES):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                with acting_as(owner):
                    holds_wal = _holds_wal(path, database.base.system_identifier)
                if holds_wal and not _is_archived(path, archive):
                    yield path


def _holds_wal(path: Path, system_identifier: str) -> bool:
    try:
        if path.suffix == ".history":
            with path.open("rb") as stream:
                return bool(stream.read(1))
        if not is_segment_name(path.name):
            return False
        header = read_segment_header(path)
        segment = parse_segment_name(path.name, header.segment_size)
    except (ValueError, PermissionError):
        return False
    place = (header.address, header.system_identifier)
    return place == (segment.start(header.segment_size), system_identifier) and (
        header.timeline <= segment.timeline
    )


def _is_archived(path: Path, archive: Path) -> bool:
    """Whether the archive has this file with the same content; a damaged one there does not count."""
    found = archived_path(archive, path.name)
    if found is None:
        return False
    if found.suffix == ".zst":
        return same_content(path, found)
    return filecmp.cmp(path, found, shallow=False)


def _keep(restoration: Restoration, path: Path, owner: Account | None) -> str:
    """Copy a file into the folder of saved WAL, read with the rights of `owner`."""
    with acting_as(owner):
        source = os.fdopen(open_file(path, os.O_RDONLY, follow=True), "rb")
    target = restoration.database.saved_wal / path.name
    with source, replacing(target, 0o600, restoration.account) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        status = os.fstat(source.fileno())
        os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    return path.name


def _take_received(restoration: Restoration) -> list[str]:
    """Copy the wanted segments of the WAL receiver, the unfinished one as a whole file; and its histories.

    One that has been finished since the plan was made is in the archive, or is whole by now.
    """
    database = restoration.database
    folder = database.received_folder
    assert folder is not None, "a plan names the folder of what it takes from there"
    owner = owner_of(folder)
    with acting_as(owner):
        present = {path.name for path in folder.iterdir()}
    wanted = [*database.received_segments, *(name for name in sorted(present) if name.endswith(".history"))]
    taken = []
    for name in wanted:
        if (database.saved_wal / name).exists():
            continue
        if name in present:
            taken.append(_keep(restoration, folder / name, owner))
        elif name == database.unfinished and f"{name}{PARTIAL}" in present:
            _keep_unfinished(restoration, folder / f"{name}{PARTIAL}")
            taken.append(name)
    return taken


def _keep_unfinished(restoration: Restoration, source: Path) -> None:
    """Copy what the receiver has of a segment into the saved WAL, as a file of a whole one's size."""
    scratch = restoration.folder / ".unfinished"
    unlink(scratch, missing_ok=True)
    copy_unfinished(source, scratch)
    target = restoration.database.saved_wal / source.name.removesuffix(PARTIAL)
    with reading(scratch) as stream, replacing(target, 0o600, restoration.account) as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
    unlink(scratch)


def _take_from_set(restoration: Restoration) -> list[str]:
    """Extract the wanted segments, and any history, from the backup's own WAL tar, unless already saved."""
    database = restoration.database
    tar = database.base.path / (LEGACY_WAL_TAR if database.base.legacy else WAL_TAR)
    taken = []
    scratch = restoration.folder / ".wal-of-set"
    if scratch.exists():
        remove_tree(scratch)
    with scratch_folder(scratch) as folder:
        unpack = Command(("tar", "-x", "--no-same-owner", "-f", "-"), HOUR, directory=folder)
        run_pipeline(Command(decompress(tar), HOUR), unpack, log=restoration.log)
        for path in sorted(scratch.rglob("*")):
            wanted = path.name in database.set_segments or path.suffix == ".history"
            if wanted and not (database.saved_wal / path.name).exists():
                taken.append(_keep(restoration, path, None))
    return taken


def decompress(file: Path) -> tuple[str, ...]:
    """The command that writes a compressed file's content to its standard output."""
    return ("gzip", "-dc", str(file)) if file.suffix == ".gz" else ("zstd", "-q", "-dc", "-T0", str(file))
