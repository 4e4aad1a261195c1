"""Catalogues from a few words, for tests of plans: times are ages, LSNs grow with time."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.wal_files import ArchivedFile, FileKind, Lsn, Segment, is_segment_name
from alfresco_backup.repository.layout import DAYS, Repository
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup, BaseFile, Configuration, Snapshot
from alfresco_backup.repository.sets import Catalogue, Problem, group_into_sets
from alfresco_backup.retention.inventory import DayTree, Inventory, LogFile
from alfresco_backup.times import LEGACY_FORMAT, make_stamp

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REPOSITORY = Repository(Path("/backup"))
SEGMENT = 16 << 20
SECOND = timedelta(seconds=1)
UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
CLUSTER = "7300000000000000001"


def age(text: str) -> timedelta:
    """`9d`, `2d6h`, `-1h` (in the future)."""
    sign, number, total = (-1 if text.startswith("-") else 1), "", timedelta()
    for letter in text.removeprefix("-"):
        if letter in UNITS:
            total += UNITS[letter] * int(number)
            number = ""
        else:
            number += letter
    return sign * total


def position(moment: datetime) -> Lsn:
    """Where the WAL of an undisturbed server stands: one segment an hour."""
    hours = (moment - (NOW - timedelta(days=2000))) / timedelta(hours=1)
    return Lsn(int(hours * SEGMENT))


def segment_name(timeline: int, at: Lsn) -> str:
    return Segment(timeline, at.segment(SEGMENT)).name(SEGMENT)


def a_stamp(moment: datetime, *, legacy: bool) -> str:
    return moment.astimezone().strftime(LEGACY_FORMAT) if legacy else make_stamp(moment)


def a_base(
    started_at: datetime,
    *,
    minutes: int = 30,
    timeline: int = 1,
    cluster: str = CLUSTER,
    legacy: bool = False,
    start: Lsn | None = None,
    repository: Repository = REPOSITORY,
) -> BaseBackup:
    stamp = a_stamp(started_at, legacy=legacy)
    stopped_at = started_at + timedelta(minutes=minutes)
    start = start or position(started_at)
    stop = start + 4096
    return BaseBackup(
        stamp=stamp,
        path=repository.base(stamp),
        legacy=legacy,
        host="demo",
        postgresql_version=150018,
        system_identifier=cluster,
        timeline=timeline,
        segment_size=SEGMENT,
        start_lsn=start,
        stop_lsn=stop,
        start_wal=segment_name(timeline, start),
        stop_wal=segment_name(timeline, stop),
        started_at=started_at,
        stopped_at=stopped_at,
        database_bytes=5_000_000,
        stored_bytes=1_000_000,
        seconds=minutes * 60.0,
        files=(BaseFile("base.tar.zst", 1_000_000, "0" * 64, "data"),),
        tablespaces=(),
        data_directory="/opt/alfresco/alf_data/postgresql",
    )


def a_snapshot(
    started_at: datetime,
    stamp: str = "",
    *,
    store: str = MAIN_STORE,
    legacy: bool = False,
    repository: Repository = REPOSITORY,
) -> Snapshot:
    stamp = stamp or a_stamp(started_at, legacy=legacy)
    return Snapshot(
        stamp=stamp,
        path=repository.store(store).snapshot(stamp),
        store=store,
        legacy=legacy,
        source="/opt/alfresco/alf_data/contentstore",
        mode="quick",
        started_at=started_at,
        finished_at=started_at + timedelta(minutes=5),
        files=2_000,
        bytes=9_000_000,
        directories=700,
        new_bytes=40_000,
        new_files=11,
        vanished=0,
        seconds=300.0,
    )


def a_configuration(
    started_at: datetime, stamp: str = "", *, repository: Repository = REPOSITORY
) -> Configuration:
    stamp = stamp or make_stamp(started_at)
    path = repository.configuration(stamp)
    return Configuration(
        stamp, path, started_at, started_at + SECOND, 12, 30_000, {"keystore/keystore": "0" * 64}
    )


def a_wal_file(name: str, modified: datetime) -> ArchivedFile:
    """A file of the archive, its kind told by its ending."""
    wal_name = name.removesuffix(".zst")
    endings: dict[str, FileKind] = {
        ".history": "history",
        ".backup": "backup",
        ".partial": "partial",
        ".tmp": "temporary",
    }
    kind: FileKind = endings.get(Path(wal_name).suffix, "segment" if is_segment_name(wal_name) else "other")
    changed = int(modified.timestamp() * 1e9)
    return ArchivedFile(name, wal_name, kind, wal_name != name, SEGMENT, modified, changed)


@dataclass
class Parts:
    """What a test has put into its repository so far."""

    bases: list[BaseBackup] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    configurations: list[Configuration] = field(default_factory=list)
    wal: list[ArchivedFile] = field(default_factory=list)
    day_trees: list[DayTree] = field(default_factory=list)
    references: dict[Path, frozenset[str]] = field(default_factory=dict)
    logs: list[LogFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    partials: list[Path] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)

    def add_set(
        self,
        started_at: datetime,
        parts: Iterable[str] = ("base", "content", "configuration"),
        *,
        minutes: int = 30,
        timeline: int = 1,
        cluster: str = CLUSTER,
        legacy: bool = False,
        start: Lsn | None = None,
    ) -> list[Path]:
        """The parts of one run one after the other, the contentstore copy after the base's end."""
        base = a_base(
            started_at, minutes=minutes, timeline=timeline, cluster=cluster, legacy=legacy, start=start
        )
        later = base.stopped_at + SECOND
        made: list[Path] = []
        if "base" in parts:
            self.bases.append(base)
            made.append(base.path)
        if "content" in parts:
            self.snapshots.append(a_snapshot(later, "" if legacy else base.stamp, legacy=legacy))
            made.append(self.snapshots[-1].path)
        if "configuration" in parts and not legacy:
            self.configurations.append(a_configuration(later + SECOND, base.stamp))
            made.append(self.configurations[-1].path)
        return made

    def add_days(self, version: str, days: Iterable[str]) -> list[str]:
        """Day trees that the run of that stamp copied; returns their places, for `refer`."""
        store = REPOSITORY.contentstore
        paths = [str(store.root / DAYS / version / day) for day in days]
        self.day_trees += [DayTree(path, version, store.root) for path in paths]
        return paths

    def refer(self, snapshot: Path, paths: Iterable[str]) -> None:
        self.references[snapshot] = self.references.get(snapshot, frozenset()) | frozenset(paths)

    def catalogue(self) -> Catalogue:
        return Catalogue(
            group_into_sets(self.bases, self.snapshots, self.configurations),
            tuple(sorted(self.bases, key=lambda base: base.started_at)),
            tuple(sorted(self.snapshots, key=lambda snapshot: snapshot.started_at)),
            tuple(sorted(self.configurations, key=lambda item: item.started_at)),
            tuple(self.problems),
            tuple(self.partials),
        )

    def full_inventory(self) -> Inventory:
        return replace(
            self.inventory,
            wal=tuple(sorted(self.wal, key=lambda file: file.name)),
            day_trees=tuple(self.day_trees),
            references=self.references,
            logs=tuple(self.logs),
        )
