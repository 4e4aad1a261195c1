"""The plan of a restore: what a doer carries out, step by step, and nothing else.

Made by planner.make_restore_plan, shown by plan_text. Times are aware and in UTC, sizes in bytes.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from alfresco_backup.findings import Finding
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.restore.planning.request import RestoreKind, Strategy
from alfresco_backup.times import size_for_people

TargetKind = Literal["immediate", "time", "end-of-wal", "lsn"]
SourceRole = Literal["set", "newest", "after", "live", "before"]


class Step(StrEnum):
    """The steps of a restore in their order; the journal uses the same names."""

    STOP_ALFRESCO = "stop-alfresco"
    STOP_POSTGRESQL = "stop-postgresql"
    SAVE_WAL = "save-wal"
    SET_ASIDE_DATABASE = "set-aside-database"
    EXTRACT_DATABASE = "extract-database"
    WRITE_RECOVERY_SETTINGS = "write-recovery-settings"
    RECOVER_DATABASE = "recover-database"
    SET_ASIDE_CONTENT = "set-aside-content"
    RESTORE_CONTENT = "restore-content"
    CHECK_CONTENT = "check-content"
    COMPARE_CONFIGURATION = "compare-configuration"
    SET_ASIDE_INDEXES = "set-aside-indexes"
    OPEN_DATABASE = "open-database"
    START_ALFRESCO = "start-alfresco"


@dataclass(frozen=True)
class PlannedStep:
    """One step: its name, what it does in a sentence, and about how long it takes."""

    step: Step
    what: str
    seconds: float


@dataclass(frozen=True)
class Target:
    """Where recovery ends.

    `immediate`: at the end of the base backup. `time`: after the last commit at or before `time`.
    `end-of-wal`: where the WAL ends; with a `time`, that is the state at that time, since nothing was
    committed between. `lsn`: after the record that begins at `lsn`.

    `end_of_wal_suffices` (for `time`): the WAL reaches beyond `time`, so when PostgreSQL finds no commit
    after it, the end of the WAL is the state asked for. False: a WAL that ends earlier is a failure.
    """

    kind: TargetKind
    time: datetime | None = None
    end_of_wal_suffices: bool = False
    lsn: Lsn | None = None


@dataclass(frozen=True)
class TablespacePlan:
    """A tablespace: where it was and where it goes; `set_aside`: for what is there now (None: nothing).

    Not `restored`: the base backup does not contain it. It is set aside and left as an empty folder all the
    same, since replaying its creation removes what it finds there, and fails without the folder.
    """

    oid: int
    name: str
    recorded: Path
    location: Path
    set_aside: Path | None
    restored: bool = True


@dataclass(frozen=True)
class Move:
    """A rename on one file system that sets something aside."""

    source: Path
    target: Path


@dataclass(frozen=True)
class IndexPlan(Move):
    """A Solr index that is set aside. `copy`: the set's copy that takes its place; None: Solr rebuilds it."""

    copy: Path | None = None


@dataclass(frozen=True)
class DatabasePlan:
    """How the database is restored.

    `timeline` is the one recovery is pinned to. `first_segment` to `last_segment` are the WAL it reads at
    least, `segments` their number. `live_segments` are those that are in the live pg_wal only, to be copied
    to `saved_wal` before the data directory is set aside; `set_segments` those to be put there from the
    set's own pg_wal tar. `wal_sources` are restore-wal's folders in their order. Of `skipped_segments` the
    archive's file is damaged, and another of these folders has a sound one. `set_aside` is None where no
    data directory is in place. `wal_location` is for a pg_wal that is a link out of the data directory:
    what is there is set aside too, and the restored pg_wal links to the same place. `received_segments` are
    those that only the WAL receiver's folder has, to be copied to `saved_wal`; of them `unfinished` is the
    one that is not whole, empty for none.
    """

    base: BaseBackup
    programs: Path
    target: Target
    timeline: int
    first_segment: str
    last_segment: str
    segments: int
    live_segments: tuple[str, ...]
    set_segments: tuple[str, ...]
    wal_sources: tuple[Path, ...]
    saved_wal: Path
    data_directory: Path
    set_aside: Path | None
    tablespaces: tuple[TablespacePlan, ...]
    wal_location: Move | None = None
    skipped_segments: tuple[str, ...] = ()
    received_segments: tuple[str, ...] = ()
    received_folder: Path | None = None
    unfinished: str = ""


@dataclass(frozen=True)
class ContentSource:
    """Where content comes from: a snapshot, or the store as it is now (`live`, without snapshot).

    `replaces`: files of the store that differ in this source may be replaced by its own; not by those
    of a snapshot from before the target time, which may have copied a file while it was written.
    """

    role: SourceRole
    snapshot: Snapshot | None

    @property
    def replaces(self) -> bool:
        return self.role in ("set", "newest", "after")


@dataclass(frozen=True)
class StorePlan:
    """How one content store is restored. `sources` in order of precedence: the first that has a file wins.

    Of a file with different sizes in store and sources the larger is the whole one: Alfresco writes a
    file once and it only grows, so a smaller one was copied while it was written, or cut off by a crash.
    Nothing is removed from the store.

    `set_aside` is where the store is moved to first (`replace` only). A `live` source is then that place;
    with `fill` it is the store itself, and nothing is copied for it.
    """

    store: str
    path: Path
    strategy: Strategy
    sources: tuple[ContentSource, ...]
    set_aside: Path | None


@dataclass(frozen=True)
class SpaceNeed:
    """What a file system has and what the restore writes to it."""

    path: Path
    free_bytes: int
    needed_bytes: int
    why: str

    @property
    def words(self) -> str:
        free, needed = size_for_people(self.free_bytes), size_for_people(self.needed_bytes)
        return f"{self.path}: {needed} needed ({self.why}), {free} free"


@dataclass(frozen=True)
class RestorePlan:
    """A restore, decided. `restore_id` names its journal and everything it sets aside.

    `database` is None for a restore of content only; `content` is empty for one of the database only.
    `lost` says what will be gone, `warnings` what an operator should consider before typing the host's name.
    `obstacles` must be fixed before the plan can be executed. `fetched`: what is fetched from the off-site
    copy before that, and its bytes; then the backups are not here yet.
    """

    restore_id: str
    host: str
    kind: RestoreKind
    database: DatabasePlan | None
    content: tuple[StorePlan, ...]
    configuration: Configuration | None
    indexes: tuple[IndexPlan, ...]
    start_alfresco: bool
    steps: tuple[PlannedStep, ...]
    space: tuple[SpaceNeed, ...]
    lost: str
    restorable: str
    warnings: tuple[str, ...] = ()
    obstacles: tuple[Finding, ...] = ()
    fetched: str = ""
    fetched_bytes: int = 0

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return sum(step.seconds for step in self.steps)

    @property
    def set_aside(self) -> tuple[Move, ...]:
        """Everything that is renamed, in order: data directory, its WAL, tablespaces, stores, indexes."""
        moves = []
        if self.database is not None:
            if self.database.set_aside is not None:
                moves.append(Move(self.database.data_directory, self.database.set_aside))
            if self.database.wal_location is not None:
                moves.append(self.database.wal_location)
            moves += [
                Move(item.location, item.set_aside) for item in self.database.tablespaces if item.set_aside
            ]
        moves += [Move(item.path, item.set_aside) for item in self.content if item.set_aside]
        return (*moves, *(Move(index.source, index.target) for index in self.indexes))
