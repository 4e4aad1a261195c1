"""What a backup is made of: one frozen record a part, and its metadata on disk.

`to_metadata` gives what durable.write_json writes; `from_metadata` reads it back, with the path it was found
at. Times are aware and in UTC, sizes in bytes. Fields a newer writer adds are ignored; a field that is
missing or of the wrong kind raises ValueError naming it. `path` and `legacy` are known from the place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from alfresco_backup.postgres.wal_files import LAST_TIMELINE, Lsn, check_segment_size
from alfresco_backup.repository.days import Days, DaysInFile, days_from, days_to_metadata
from alfresco_backup.system.json_fields import Document, Fields, plain, time_text

MAIN_STORE = "contentstore"


@dataclass(frozen=True)
class BaseFile:
    """One file of a base backup. `holds`: `data`, a tablespace's oid, `wal` or `manifest`."""

    name: str
    bytes: int
    sha256: str
    holds: str


@dataclass(frozen=True)
class Tablespace:
    """A tablespace beside the data directory, and where it lay."""

    oid: int
    name: str
    location: str


@dataclass(frozen=True)
class BaseBackup:
    """One base backup: what a restore needs to know without opening the tar.

    `postgresql_version` is server_version_num (150018, 90426). `stopped_at` is the server's clock after the
    backup's end. `damaged_files`: those in which the server met pages with wrong checksums; they were
    copied as they are. `account` is the name of the server's; empty in older sets, whose folder is its own.
    Of a predecessor's base (`legacy`) the minor version and the checksums are not known.
    """

    stamp: str
    path: Path
    legacy: bool
    host: str
    postgresql_version: int
    system_identifier: str
    timeline: int
    segment_size: int
    start_lsn: Lsn
    stop_lsn: Lsn
    start_wal: str
    stop_wal: str
    started_at: datetime
    stopped_at: datetime
    database_bytes: int
    stored_bytes: int
    seconds: float
    files: tuple[BaseFile, ...]
    tablespaces: tuple[Tablespace, ...]
    data_directory: str
    damaged_files: tuple[str, ...] = ()
    account: str = ""

    def to_metadata(self) -> dict[str, Any]:
        return {
            **plain(self, "stamp host postgresql_version system_identifier timeline segment_size"),
            "start_lsn": str(self.start_lsn),
            "stop_lsn": str(self.stop_lsn),
            **plain(self, "start_wal stop_wal"),
            "started_at": time_text(self.started_at),
            "stopped_at": time_text(self.stopped_at),
            **plain(self, "database_bytes stored_bytes seconds data_directory account"),
            "files": [plain(file, "name bytes sha256 holds") for file in self.files],
            "tablespaces": [plain(space, "oid name location") for space in self.tablespaces],
            **({"damaged_files": list(self.damaged_files)} if self.damaged_files else {}),
        }

    @classmethod
    def from_metadata(cls, document: Document, path: Path, *, legacy: bool = False) -> "BaseBackup":
        take = Fields(document)
        return cls(
            stamp=take.text("stamp"),
            path=path,
            legacy=legacy,
            host=take.text("host"),
            postgresql_version=take.whole("postgresql_version", 80000, 9_999_999),
            system_identifier=take.text("system_identifier"),
            timeline=take.whole("timeline", 1, LAST_TIMELINE),
            segment_size=check_segment_size(take.whole("segment_size")),
            start_lsn=take.converted("start_lsn", Lsn.parse),
            stop_lsn=take.converted("stop_lsn", Lsn.parse),
            start_wal=take.text("start_wal"),
            stop_wal=take.text("stop_wal"),
            started_at=take.time("started_at"),
            stopped_at=take.time("stopped_at"),
            database_bytes=take.whole("database_bytes"),
            stored_bytes=take.whole("stored_bytes"),
            seconds=take.number("seconds"),
            files=tuple(
                BaseFile(item.text("name"), item.whole("bytes"), item.text("sha256"), item.text("holds"))
                for item in take.items("files")
            ),
            tablespaces=tuple(
                Tablespace(item.whole("oid"), item.text("name"), item.text("location"))
                for item in take.items("tablespaces")
            ),
            data_directory=take.text("data_directory"),
            damaged_files=tuple(take.texts("damaged_files")) if "damaged_files" in document else (),
            account=take.text("account") if "account" in document else "",
        )


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of one content store (`contentstore` is the main one).

    `new_bytes` and `new_files` are what the run copied. `days` and `loose` are read from the metadata file
    when first looked at: thousands of days in hundreds of snapshots need not be in memory for a listing.
    They take no part in comparing two snapshots.
    Of a predecessor's snapshot (`legacy`) sizes and counts are not known and stand as 0.
    """

    stamp: str
    path: Path
    store: str
    legacy: bool
    source: str
    mode: str
    started_at: datetime
    finished_at: datetime
    files: int
    bytes: int
    directories: int
    new_bytes: int
    new_files: int
    vanished: int
    seconds: float
    days: Days = field(default_factory=dict, repr=False, compare=False)
    loose: Days = field(default_factory=dict, repr=False, compare=False)

    def to_metadata(self) -> dict[str, Any]:
        return {
            **plain(self, "stamp store source mode"),
            "started_at": time_text(self.started_at),
            "finished_at": time_text(self.finished_at),
            **plain(self, "files bytes directories new_bytes new_files vanished seconds"),
            "days": days_to_metadata(self.days),
            "loose": days_to_metadata(self.loose),
        }

    @classmethod
    def from_metadata(
        cls, document: Document, path: Path, *, metadata_file: Path | None = None
    ) -> "Snapshot":
        """With `metadata_file`, days and loose entries are left there until somebody asks for them."""
        take = Fields(document)
        days, loose = take.table("days"), take.table("loose")
        return cls(
            stamp=take.text("stamp"),
            path=path,
            store=take.text("store"),
            legacy=False,
            source=take.text("source"),
            mode=take.text("mode"),
            started_at=take.time("started_at"),
            finished_at=take.time("finished_at"),
            files=take.whole("files"),
            bytes=take.whole("bytes"),
            directories=take.whole("directories"),
            new_bytes=take.whole("new_bytes"),
            new_files=take.whole("new_files"),
            vanished=take.whole("vanished"),
            seconds=take.number("seconds"),
            days=DaysInFile(metadata_file, "days") if metadata_file else days_from(days),
            loose=DaysInFile(metadata_file, "loose") if metadata_file else days_from(loose),
        )


@dataclass(frozen=True)
class Configuration:
    """Keystore, shared classes and Solr backups of one run. `digests`: sha256 by relative path."""

    stamp: str
    path: Path
    started_at: datetime
    finished_at: datetime
    files: int
    bytes: int
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def to_metadata(self) -> dict[str, Any]:
        return {
            "stamp": self.stamp,
            "started_at": time_text(self.started_at),
            "finished_at": time_text(self.finished_at),
            **plain(self, "files bytes"),
            "digests": dict(self.digests),
        }

    @classmethod
    def from_metadata(cls, document: Document, path: Path) -> "Configuration":
        take = Fields(document)
        return cls(
            stamp=take.text("stamp"),
            path=path,
            started_at=take.time("started_at"),
            finished_at=take.time("finished_at"),
            files=take.whole("files"),
            bytes=take.whole("bytes"),
            digests={name: str(digest) for name, digest in take.table("digests").items()},
        )
