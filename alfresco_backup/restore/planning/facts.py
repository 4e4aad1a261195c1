"""What a restore's plan is made of: the state of the host before anything is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from alfresco_backup.host.installation import DEFAULT_PROTECT_DAYS
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.wal.chain import WalMap


@dataclass(frozen=True)
class LiveServer:
    """The data directory now in place. `version` is the major one, from PG_VERSION (150000, 90400).

    `wal` are the segments of its pg_wal, archived or not, whose header agrees with their name (the others
    are recycled or prepared ones), with the times of their last write, and its `.history` files. None where
    they cannot be read. `tablespaces` are those its pg_tblspc links to; their names may be unknown.
    `wal_location` is what its pg_wal links to outside it; that may not exist. `timeline` is the one it is on,
    None where that cannot be read.
    """

    version: int
    running: bool
    system_identifier: str = ""
    wal: WalMap | None = None
    tablespaces: tuple[Tablespace, ...] = ()
    wal_location: Path | None = None
    timeline: int | None = None


@dataclass(frozen=True)
class SavedWal:
    """A folder of segments that an earlier restore saved from a pg_wal, inspected like a live one.

    The last segment's time is that of the server's end: stopping, it writes a checkpoint.
    """

    path: Path
    wal: WalMap


@dataclass(frozen=True)
class ReceivedWal:
    """The receiver's folder: `wal` are its whole segments, and the unfinished one where it can be used.

    `unfinished` is that one's name, empty for none; its time is that of the last write to it, and its records
    end at `until`. `defect` is why there is one that cannot be used, in words.
    """

    path: Path
    wal: WalMap
    unfinished: str = ""
    until: str = ""
    defect: str = ""


@dataclass(frozen=True)
class StoreFacts:
    """One content store of the host. `bytes`: its size as last recorded or measured; None: unknown.

    `became_roots`: it is in use and its own folder belongs to root, while in its last snapshot it does not.
    `mounts`: the mount points below it.
    """

    name: str
    path: Path
    exists: bool
    bytes: int | None = None
    became_roots: bool = False
    mounts: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Space:
    """Free bytes for this process on the file system (`device`) where `path` is, or would be."""

    path: Path
    device: int
    free_bytes: int


@dataclass(frozen=True)
class Speeds:
    """Bytes a second of each kind of work: recorded by earlier restores of the host, else cautious guesses.

    `check_rows` is rows a second of the content check.
    """

    extract: float = 100e6
    replay: float = 50e6
    copy: float = 80e6
    compare_files: float = 20_000
    check_rows: float = 60_000


@dataclass(frozen=True)
class HostFacts:
    """The state of a host and of its repository's WAL at one time.

    `archive` is what wal_audit.read_map says of `archive_directory`; `archive_readable` is False where that
    folder is missing or cannot be read. `archive_begun`: archive-wal's marker or a segment is in it; without
    either restore-wal takes it for an archive that is not mounted. `archive_keeps_times`: its segments have
    the time of their last write (archive-wal's marker is there); with a plain `cp` it is that of copying.
    `archive_marker_is_damaged`: restore-wal refuses to take anything for the end of that archive's WAL.
    `data_directory` is where the data directory is or belongs, symlinks resolved; `live` is None when there
    is none. `existing` are those of these places that exist: the data directory, the live server's WAL
    outside it, the tablespaces of the live server and of all base backups. `mount_points` are those of them
    and of the stores that are mount points and so cannot be renamed; `data_mounts` are the mount points
    within the data directory. `spaces` covers all these places and BACKUP_DIR. `programs` are folders with a
    server program (`postgres`), best first. `unfinished` are the IDs of restores whose journal has no end.
    `solr_indexes` are those that exist. `received` is None where no WAL was ever streamed. `window_start`:
    where the recovery window begins; of older base backups retention keeps their own WAL only.
    `found_by_drills`: by base backup, what its last restore drill found damaged, in words.
    """

    host: str
    now: datetime
    backup_directory: Path
    restores_directory: Path
    archive_directory: Path
    archive: WalMap
    data_directory: Path
    programs: tuple[Programs, ...]
    stores: tuple[StoreFacts, ...]
    spaces: tuple[Space, ...] = ()
    archive_readable: bool = True
    archive_begun: bool = True
    archive_keeps_times: bool = True
    archive_marker_is_damaged: bool = False
    live: LiveServer | None = None
    saved_wal: tuple[SavedWal, ...] = ()
    received: ReceivedWal | None = None
    existing: tuple[Path, ...] = ()
    mount_points: tuple[Path, ...] = ()
    data_mounts: tuple[Path, ...] = ()
    solr_indexes: tuple[Path, ...] = ()
    search: str = ""
    unfinished: tuple[str, ...] = ()
    orphan_protect_days: float = DEFAULT_PROTECT_DAYS
    eager_cleanup: bool = False
    speeds: Speeds = Speeds()
    window_start: datetime | None = None
    found_by_drills: Mapping[str, str] = field(default_factory=dict)
