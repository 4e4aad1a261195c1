"""Made-up hosts for tests of restore plans: one segment a minute, times given as minutes of one day.

Segment n of timeline 1 is finished at minute n. A base "from 3" starts in the middle of segment 3, stops in
it and has ended at minute 3.5. `later` delays a timeline that was begun later.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.postgres.wal_files import Lsn, Segment
from alfresco_backup.repository.records import (
    MAIN_STORE,
    BaseBackup,
    BaseFile,
    Configuration,
    Snapshot,
    Tablespace,
)
from alfresco_backup.repository.sets import Catalogue, Problem, group_into_sets
from alfresco_backup.restore.planning.facts import HostFacts, LiveServer, SavedWal, Space, StoreFacts
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreKind, RestoreRequest
from alfresco_backup.times import LEGACY_FORMAT, make_stamp
from alfresco_backup.wal.chain import WalMap, make_map

SIZE = 1 << 20
OWNER = "7123456789012345678"
DAY = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOST = "alfresco-1"
STAMP = "20261122T235900Z"
GIB = 1 << 30
DATA = Path("/alf/data")
STORE = Path("/alf/contentstore")
BACKUP = Path("/backup")
Run = tuple[int, int, int]


@contextmanager
def local_zone(name: str) -> Iterator[None]:
    """Let this process live in a time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


def at(minute: float) -> datetime:
    """A moment of the made-up day."""
    return DAY + timedelta(minutes=minute)


def minute(moment: datetime) -> float:
    return (moment - DAY) / timedelta(minutes=1)


def short(name: str) -> str:
    """Timeline and number of a segment's name."""
    return f"{int(name[:8], 16)}:{int(name[8:], 16)}"


def fork(
    segment: int, reason: str = "before 2026-11-22 10:09:30.5+00", parents: str = "", of: int = 1
) -> str:
    """The history of a timeline that left timeline `of` in the middle of a segment."""
    return f"{parents}{of}\t{Lsn(segment * SIZE + 500)}\t{reason}\n"


def wal_map(
    *runs: Run,
    histories: dict[int, str] | None = None,
    promoted: dict[int, float] | None = None,
    later: dict[int, float] | None = None,
    owner: str = OWNER,
) -> WalMap:
    """Segments as (timeline, first, last), each last written to at the minute of its number, or later."""
    usable = {
        Segment(timeline, number): at(number + (later or {}).get(timeline, 0))
        for timeline, first, last in runs
        for number in range(first, last + 1)
    }
    paths = {timeline: parse_history(timeline, text) for timeline, text in (histories or {}).items()}
    began = {timeline: at(when) for timeline, when in (promoted or {}).items()}
    return make_map(owner, SIZE, usable, paths, began)


def base(
    first: int,
    stop: int | None = None,
    *,
    timeline: int = 1,
    later: float = 0,
    own_wal: bool = False,
    owner: str = OWNER,
    version: int = 150018,
    legacy: bool = False,
    tablespaces: tuple[Tablespace, ...] = (),
) -> BaseBackup:
    """A base backup from segment `first` to `stop` (the same by default), ended at minute stop + 0.5."""
    stop = first if stop is None else stop
    started = at(first + later)
    stamp = started.astimezone().strftime(LEGACY_FORMAT) if legacy else make_stamp(started)
    wal = (BaseFile("pg_wal.tar.zst", 1, "", "wal"),) if own_wal else ()
    spaces = tuple(BaseFile(f"{space.oid}.tar.zst", GIB // 8, "", str(space.oid)) for space in tablespaces)
    return BaseBackup(
        stamp=stamp,
        path=BACKUP / "postgres" / f"base-{stamp}",
        legacy=legacy,
        host=HOST,
        postgresql_version=version,
        system_identifier=owner,
        timeline=timeline,
        segment_size=SIZE,
        start_lsn=Lsn(first * SIZE + 40),
        stop_lsn=Lsn(stop * SIZE + 400),
        start_wal=Segment(timeline, first).name(SIZE),
        stop_wal=Segment(timeline, stop).name(SIZE),
        started_at=started,
        stopped_at=at(stop + later + 0.5),
        database_bytes=2 * GIB,
        stored_bytes=GIB // 4,
        seconds=20.0,
        files=(BaseFile("base.tar.zst", GIB // 8, "", "data"), *spaces, *wal),
        tablespaces=tablespaces,
        data_directory=str(DATA),
    )


def snapshot(
    start: float, *, store: str = MAIN_STORE, minutes: float = 0.2, size: int = GIB, legacy: bool = False
) -> Snapshot:
    """A snapshot that started at a minute."""
    started = at(start)
    stamp = started.astimezone().strftime(LEGACY_FORMAT) if legacy else make_stamp(started)
    return Snapshot(
        stamp=stamp,
        path=BACKUP / "contentstore" / f"contentstore-{stamp}",
        store=store,
        legacy=legacy,
        source=str(STORE),
        mode="quick",
        started_at=started,
        finished_at=at(start + minutes),
        files=300_000,
        bytes=size,
        directories=1000,
        new_bytes=0,
        new_files=0,
        vanished=0,
        seconds=minutes * 60,
    )


def of_set(base_: BaseBackup, store: str = MAIN_STORE) -> Snapshot:
    """The snapshot that the run of a base backup made once that had ended."""
    after = snapshot(minute(base_.stopped_at) + 0.1, store=store)
    return replace(after, stamp=base_.stamp)


def configuration(stamp: str, started: float) -> Configuration:
    return Configuration(stamp, BACKUP / "configuration" / stamp, at(started), at(started), 10, 1000)


def live_server(
    *runs: Run, running: bool = True, version: int = 150000, owner: str = OWNER, **history: dict[int, str]
) -> LiveServer:
    return LiveServer(version, running, owner, wal_map(*runs, owner=owner, **history))


@dataclass(frozen=True)
class World:
    """A repository and a host. `full_sets`: every base has a snapshot and a configuration of its stamp."""

    bases: Sequence[BaseBackup] = ()
    wal: WalMap = field(default_factory=wal_map)
    snapshots: Sequence[Snapshot] = ()
    live: LiveServer | None = None
    now: float = 60
    full_sets: bool = True
    configurations: Sequence[Configuration] = ()
    problems: Iterable[Problem] = ()
    partials: Iterable[Path] = ()
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        snapshots, configurations = list(self.snapshots), list(self.configurations)
        if self.full_sets:
            snapshots += [of_set(item) for item in self.bases]
            configurations += [configuration(item.stamp, minute(item.stopped_at)) for item in self.bases]
        bases = sorted(self.bases, key=lambda item: item.started_at)
        snapshots.sort(key=lambda item: item.started_at)
        configurations.sort(key=lambda item: item.started_at)
        return Catalogue(
            group_into_sets(bases, snapshots, configurations),
            tuple(bases),
            tuple(snapshots),
            tuple(configurations),
            tuple(self.problems),
            tuple(self.partials),
        )

    @property
    def host(self) -> HostFacts:
        seen = HostFacts(
            host=HOST,
            now=at(self.now),
            backup_directory=BACKUP,
            restores_directory=BACKUP / "restores" / HOST,
            archive_directory=BACKUP / "pg_wal",
            archive=self.wal,
            data_directory=DATA,
            programs=(
                Programs(Path("/alf/postgresql/bin"), 150018),
                Programs(Path("/usr/lib/postgresql/16/bin"), 160004),
            ),
            stores=(StoreFacts(MAIN_STORE, STORE, exists=True, bytes=GIB),),
            spaces=(Space(Path("/alf"), 1, 100 * GIB), Space(BACKUP, 2, 100 * GIB)),
            live=self.live,
            existing=(DATA,) if self.live else (),
        )
        return replace(seen, **self.facts)  # type: ignore[arg-type]

    def ask(self, request: RestoreRequest) -> RestorePlan:
        return make_restore_plan(request, self.catalogue, self.host, STAMP)

    def plan(self, kind: RestoreKind, **wanted: object) -> RestorePlan:
        return self.ask(RestoreRequest(kind, **wanted))  # type: ignore[arg-type]

    def pitr(self, target: float, **wanted: object) -> RestorePlan:
        return self.plan("pitr", target_time=at(target), **wanted)


def saved(path: str, *runs: Run) -> SavedWal:
    return SavedWal(Path(path), wal_map(*runs))
