"""What a backup is made of: one frozen record a part, and its metadata on disk.

`to_metadata` gives the document on disk; `from_metadata` reads it back, with the path it was found at. Times
are aware and in UTC, sizes in bytes. Fields a newer writer adds are ignored; a field that is missing or of
the wrong kind raises ValueError naming it. `path` and `legacy` are known from where it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, Strict

from alfresco_backup.postgres.wal_files import LAST_TIMELINE, Lsn, check_segment_size
from alfresco_backup.repository.days import DaysInFile, StoredDays, StoredPath
from alfresco_backup.system.json_fields import (
    Document,
    Number,
    Text,
    Time,
    Whole,
    document_of,
    parsed,
    read_record,
)

MAIN_STORE = "contentstore"
PLACE = frozenset({"path", "legacy"})
Position = Annotated[Lsn, parsed(Lsn.parse), PlainSerializer(str)]


@dataclass(frozen=True)
class BaseFile:
    """One file of a base backup. `holds`: `data`, a tablespace's oid, `wal` or `manifest`."""

    name: Text
    bytes: Whole
    sha256: Text
    holds: Text


@dataclass(frozen=True)
class Tablespace:
    """A tablespace beside the data directory, and where it was."""

    oid: Whole
    name: Text
    location: Text


@dataclass(frozen=True)
class BaseBackup:
    """One base backup: what a restore needs to know without opening the tar.

    `postgresql_version` is server_version_num (150018, 90426). `stopped_at` is the server's clock after the
    backup's end. `damaged_files`: those in which the server met pages with wrong checksums; they were
    copied as they are. `account` is the name of the server's; empty in older sets, whose folder is its own.
    Of a predecessor's base (`legacy`) the minor version and the checksums are not known.
    """

    stamp: Text
    path: Path
    legacy: bool
    host: Text
    postgresql_version: Annotated[int, Strict(), Field(ge=80000, le=9_999_999)]
    system_identifier: Text
    timeline: Annotated[int, Strict(), Field(ge=1, le=LAST_TIMELINE)]
    segment_size: Annotated[Whole, AfterValidator(check_segment_size)]
    start_lsn: Position
    stop_lsn: Position
    start_wal: Text
    stop_wal: Text
    started_at: Time
    stopped_at: Time
    database_bytes: Whole
    stored_bytes: Whole
    seconds: Number
    files: tuple[BaseFile, ...]
    tablespaces: tuple[Tablespace, ...]
    data_directory: Text
    damaged_files: tuple[Text, ...] = ()
    account: Text = ""
    libc: Text = ""
    """`musl` or `glibc`, and the image's ID, where the server ran in a container."""
    image: Text = ""

    def to_metadata(self) -> dict[str, Any]:
        absent = {name for name in ("damaged_files", "libc", "image") if not getattr(self, name)}
        return document_of(self, PLACE | absent)

    @classmethod
    def from_metadata(cls, document: Document, path: Path) -> "BaseBackup":
        return read_record(cls, document, path=path, legacy=False)


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of one content store (`contentstore` is the main one).

    `new_bytes` and `new_files` are what the run copied. `days` and `loose` are read from the metadata file
    when first looked at: thousands of days in hundreds of snapshots need not be in memory for a listing.
    They take no part in comparing two snapshots. `outside` are links that lead out of the store, as far as
    they are known: the snapshot contains them, not what they lead to.
    `deleted_files` and `deleted_days` of the snapshot before are not in this one; `changed_files` hold
    something else than before, `changed` names the first of them. `deletions`: files and days deleted by
    day (UTC), of the last days on which there were runs, this one included. `accepted`: the run whose
    refusal for missing content somebody accepted before this one.
    Of a predecessor's snapshot (`legacy`) sizes and counts are not known and are 0.
    """

    stamp: Text
    path: Path
    store: Text
    legacy: bool
    source: Text
    mode: Text
    started_at: Time
    finished_at: Time
    files: Whole
    bytes: Whole
    directories: Whole
    new_bytes: Whole
    new_files: Whole
    vanished: Whole
    seconds: Number
    days: StoredDays = field(repr=False, compare=False, default_factory=dict)
    loose: StoredDays = field(repr=False, compare=False, default_factory=dict)
    outside: tuple[StoredPath, ...] = ()
    deleted_files: Whole = 0
    deleted_days: Whole = 0
    changed_files: Whole = 0
    changed: tuple[Text, ...] = ()
    deletions: Mapping[str, tuple[Whole, Whole]] = field(default_factory=dict, repr=False, compare=False)
    accepted: Text = ""

    @property
    def day(self) -> str:
        """The day (UTC) on which it was taken, as `deletions` name it."""
        return self.started_at.astimezone(UTC).date().isoformat()

    @property
    def losses(self) -> str:
        """Deleted files and days and files changed in place, in words; empty when there are none."""
        files, days, changed = self.deleted_files, self.deleted_days, self.changed_files
        words = [f"{files:,} file{'s' * (files > 1)} deleted"] if files else []
        words += [f"{days:,} whole day{'s' * (days > 1)} gone"] if days else []
        words += [f"{changed:,} file{'s' * (changed > 1)} changed in place"] if changed else []
        return ", ".join(words)

    def to_metadata(self) -> dict[str, Any]:
        return document_of(self, PLACE if self.outside else PLACE | {"outside"})

    @classmethod
    def from_metadata(
        cls, document: Document, path: Path, *, metadata_file: Path | None = None
    ) -> "Snapshot":
        """With `metadata_file`, days and loose entries are left there until somebody asks for them."""
        tables = (name for name in ("days", "loose") if isinstance(document.get(name), Mapping))
        later = {name: DaysInFile(metadata_file, name) for name in tables} if metadata_file else {}
        return read_record(cls, document, path=path, legacy=False, **later)


@dataclass(frozen=True)
class Configuration:
    """Keystore, shared classes and Solr backups of one run. `digests`: sha256 by relative path.

    `indexes`: by Solr's core, the folder in it of the copy that Solr made before the set's database was
    copied. No other copy of an index is known to be older than that.
    """

    stamp: Text
    path: Path
    started_at: Time
    finished_at: Time
    files: Whole
    bytes: Whole
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    indexes: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def to_metadata(self) -> dict[str, Any]:
        return document_of(self, frozenset({"path"}))

    @classmethod
    def from_metadata(cls, document: Document, path: Path) -> "Configuration":
        return read_record(cls, document, path=path)
