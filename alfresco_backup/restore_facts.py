"""What a restore's plan is made of: facts observed on the host before anything is touched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from alfresco_backup.installation import DEFAULT_PROTECT_DAYS, Programs
from alfresco_backup.timelines import Histories
from alfresco_backup.wal import ArchivedFile


@dataclass(frozen=True)
class WalFolder:
    """A folder of WAL: the archive, a live pg_wal, or segments an earlier restore saved.

    Of a live pg_wal `files` holds only segments whose header agrees with their name: others are recycled or
    prepared ones that hold no WAL of that name. `unsound` says by WAL name why a file cannot be used.
    `system_identifier` is empty where it is not known.
    """

    path: Path
    files: tuple[ArchivedFile, ...] = ()
    unsound: Mapping[str, str] = field(default_factory=dict)
    system_identifier: str = ""


@dataclass(frozen=True)
class LiveServer:
    """The data directory now in place. `version` is the major one, from PG_VERSION (150000, 90400).

    `bytes` is its size where it was measured. `wal` are its own segments, archived or not.
    """

    data_directory: Path
    version: int
    running: bool
    system_identifier: str = ""
    wal: WalFolder | None = None


@dataclass(frozen=True)
class StoreFacts:
    """One content store of the host. `bytes` and `files` as last recorded or measured; None: not known."""

    name: str
    path: Path
    exists: bool
    bytes: int | None = None
    is_mount: bool = False


@dataclass(frozen=True)
class Space:
    """Free bytes for this process on the file system that holds (or would hold) `path`."""

    path: Path
    device: int
    free_bytes: int


@dataclass(frozen=True)
class HostFacts:
    """One look at a host and its repository's WAL.

    `data_directory` is where the server's data directory is or belongs, symlinks resolved; `live` is None
    when nothing is there. `spaces` must cover the data directory, every tablespace's place, every store and
    BACKUP_DIR. `programs` are folders with a server program (`postgres`), best first. `unfinished` are the
    stamps of restores whose journal has no end.
    """

    host: str
    now: datetime
    backup_directory: Path
    restores_directory: Path
    data_directory: Path
    programs: tuple[Programs, ...]
    archive: WalFolder | None
    histories: Histories
    stores: tuple[StoreFacts, ...]
    spaces: tuple[Space, ...]
    live: LiveServer | None = None
    saved_wal: tuple[WalFolder, ...] = ()
    existing_tablespaces: tuple[Path, ...] = ()
    mount_points: tuple[Path, ...] = ()
    solr_indexes: tuple[Path, ...] = ()
    unfinished: tuple[str, ...] = ()
    orphan_protect_days: float = DEFAULT_PROTECT_DAYS
    eager_cleanup: bool = False
