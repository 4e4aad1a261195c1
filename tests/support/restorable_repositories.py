"""A repository with sets of several days and all the WAL between, which the audit finds restorable."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.wal_files import MARKER, Segment
from alfresco_backup.repository.layout import Repository
from alfresco_backup.wal.contents import INDEX, read_contents, write_index
from tests.support.catalogues import CLUSTER, SEGMENT, age, position
from tests.support.repository_on_disk import DiskRepository
from tests.support.wal_files import archive_segment

HOUR = timedelta(hours=1)
SETS = ("4d", "3d", "2d", "1d", "3h")


def restorable_repository(root: Path, now: datetime, sets: Sequence[str] = SETS) -> DiskRepository:
    """Whole sets begun that long ago, and a segment for each hour since the oldest of them."""
    disk = DiskRepository(root, now)
    for when in sets:
        disk.run(when)
    (disk.repository.wal / MARKER).write_text(f"{CLUSTER}\n")
    oldest = max(age(when) for when in sets)
    for hours in range(int(oldest / HOUR) + 1):
        moment = now - oldest + hours * HOUR
        archive(disk, moment)
    return disk


def archive(disk: DiskRepository, moment: datetime) -> Path:
    """Archive the segment that was written at a moment; half an hour later came its last write."""
    segment = Segment(1, position(moment).segment(SEGMENT))
    written = min(moment + HOUR / 2, disk.now)
    folder = disk.repository.wal
    return archive_segment(folder, segment, SEGMENT, owner=CLUSTER, compressed=True, modified=written)


def mark_verified(disk: DiskRepository) -> None:
    """As after an audit that has read all of the archive; made-up segments have no content to verify."""
    repository = disk.repository
    contents = read_contents(repository.wal)
    looks = {name: replace(look, verified_at=disk.now) for name, look in contents.looks.items()}
    repository.logs.mkdir(exist_ok=True)
    write_index(repository.logs / INDEX, replace(contents, looks=looks))


def copy_of(disk: DiskRepository, root: Path) -> DiskRepository:
    """The same repository at another place."""
    shutil.copytree(disk.repository.root, root, symlinks=True)
    copy = DiskRepository(root, disk.now)
    copy.versions = dict(disk.versions)
    return copy


def segment_at(repository: Repository, moment: datetime) -> Path:
    """The archived segment of a moment."""
    return repository.wal / f"{Segment(1, position(moment).segment(SEGMENT)).name(SEGMENT)}.zst"


def env_of(repository: Path, folder: Path) -> Path:
    """A `.env` for such a BACKUP_DIR, of a host that is nothing but an empty data directory."""
    home = folder / "alfresco"
    (home / "alf_data/postgresql").mkdir(parents=True)
    file = folder / "host.env"
    file.write_text(
        f"PGHOST=localhost\nPGUSER=alfresco\nBACKUP_DIR={repository}\n"
        f"ALF_BASE_DIR={home}\nALF_HOST_NAME=demo\nRETENTION_DAYS=1\n"
    )
    file.chmod(0o600)
    return file
