"""A repository on disk as the runs of some weeks leave it, small enough to be made in a moment."""

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import BASE_METADATA, MANIFEST, Repository, metadata_of
from alfresco_backup.repository.records import BaseBackup, BaseFile, Configuration, Snapshot
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.files import write_json
from alfresco_backup.times import utc_now
from tests.support.catalogues import (
    CLUSTER,
    NOW,
    a_base,
    a_configuration,
    a_snapshot,
    age,
    position,
    segment_name,
)

DAYS = ("2026/1/1", "2026/1/2", "2026/11/20")


class DiskRepository:
    """Writes parts the way the tasks publish them; `run` makes a whole set."""

    def __init__(self, root: Path, now: datetime = NOW) -> None:
        self.now = now
        self.repository = Repository(root)
        self.versions: dict[str, str] = {}
        for folder in (self.repository.postgres, self.repository.wal, self.repository.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, when: str, *, copied: tuple[str, ...] = ()) -> str:
        """One whole set, begun that long ago; `copied` are the days it copied anew. Returns its stamp."""
        started_at = self.now - age(when)
        base = self.base(started_at)
        self.snapshot(base.stopped_at + timedelta(seconds=1), base.stamp, copied=copied)
        self.configuration(base.stopped_at + timedelta(seconds=2), base.stamp)
        return base.stamp

    def base(
        self, started_at: datetime, cluster: str = CLUSTER, *, timeline: int = 1, start: Lsn | None = None
    ) -> BaseBackup:
        base = a_base(started_at, cluster=cluster, timeline=timeline, start=start, repository=self.repository)
        base.path.mkdir(parents=True)
        content = {"base.tar.zst": b"data " * 400, "pg_wal.tar.zst": b"wal " * 100, MANIFEST: b"{}"}
        for name, data in content.items():
            (base.path / name).write_bytes(data)
        files = tuple(BaseFile(name, len(data), "0" * 64, "data") for name, data in content.items())
        base = replace(base, files=files, stored_bytes=sum(file.bytes for file in files))
        write_json(base.path / BASE_METADATA, base.to_metadata())
        return base

    def snapshot(
        self,
        started_at: datetime,
        stamp: str = "",
        *,
        copied: tuple[str, ...] = (),
        store: str = "contentstore",
    ) -> Snapshot:
        """The first one copies every day; later ones those named."""
        snapshot = a_snapshot(started_at, stamp, store=store, repository=self.repository)
        place = self.repository.store(store)
        for day in copied or (() if self.versions else DAYS):
            tree = place.day_trees(snapshot.stamp) / day / "10/30"
            tree.mkdir(parents=True)
            (tree / f"{snapshot.stamp}.bin").write_bytes(b"document " * 50)
            self.versions[day] = snapshot.stamp
        for day, version in self.versions.items():
            link = snapshot.path / day
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path("../../../days", version, day))
        days = {day: DayVersion(version, "f" * 64, 3, 1, 450) for day, version in self.versions.items()}
        write_json(metadata_of(snapshot.path), replace(snapshot, days=days).to_metadata())
        place.latest.unlink(missing_ok=True)
        place.latest.symlink_to(snapshot.path.name)
        return snapshot

    def configuration(self, started_at: datetime, stamp: str = "") -> Configuration:
        configuration = a_configuration(started_at, stamp, repository=self.repository)
        keystore = configuration.path / "keystore"
        keystore.mkdir(parents=True)
        (keystore / "keystore").write_bytes(b"keys")
        write_json(metadata_of(configuration.path), configuration.to_metadata())
        return configuration

    def wal(self, *whens: str) -> None:
        """Segments of those moments, with the times of their writing."""
        for when in whens:
            moment = self.now - age(when)
            path = self.repository.wal / segment_name(1, position(moment))
            path.write_bytes(b"segment" * 10)
            self.date(path, moment)

    @staticmethod
    def date(path: Path, moment: datetime) -> None:
        os.utime(path, (moment.timestamp(), moment.timestamp()))

    def settings(self, **others: object) -> Settings:
        return Settings(
            pghost="localhost",
            pguser="alfresco",
            backup_dir=self.repository.root,
            alf_base_dir=self.repository.root.parent / "alfresco",
            **others,
        )


def sets_until_an_hour_ago(folder: Path) -> DiskRepository:
    """Five sets of three weeks with their WAL, by the real clock: other evidence of the time is real too."""
    disk = DiskRepository(folder / "backup", utc_now())
    for when in ("20d", "12d", "8d", "2d", "1h"):
        disk.run(when)
    disk.wal("20d", "8d", "2d", "1h")
    return disk


def listing(root: Path) -> dict[str, str]:
    """Every name below a folder and what it is: the target of a link, the size of a file."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[str(path.relative_to(root))] = "folder"
        else:
            found[str(path.relative_to(root))] = f"{path.stat().st_size} bytes"
    return found
