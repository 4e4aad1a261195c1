"""How fast the repository grows, and the day its disk is full. Pure.

The pace is what the backups of the recovery window have recorded as new. It counts without the first of
each kind, which may be the first ever. Base backups and WAL are removed when they leave the window, so
they only count until then; documents are taken to stay. Whatever else is on the disk is not foreseen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alfresco_backup.postgres.wal_files import ArchivedFile
from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.times import size_for_people

DAY = timedelta(days=1)
ENOUGH_DAYS = 3.0
HORIZON_DAYS = 3650


@dataclass(frozen=True)
class DiskFigures:
    """The file system that holds the repository, in bytes and inodes; `free` is what an ordinary user gets.

    `inodes` is 0 where the file system makes them as needed.
    """

    total: int
    used: int
    free: int
    inodes: int = 0
    free_inodes: int = 0


@dataclass(frozen=True)
class Pace:
    """New bytes a day, over the last `days`."""

    days: float
    database: float
    wal: float
    content: float
    configuration: float

    @property
    def total(self) -> float:
        return self.database + self.wal + self.content + self.configuration


@dataclass(frozen=True)
class Trend:
    """`pace` is None with too little history. `full_on` is None then, and where it is too far to foresee."""

    pace: Pace | None
    full_on: datetime | None
    sentence: str


def foresee(
    catalogue: Catalogue, wal: Sequence[ArchivedFile], disk: DiskFigures, window: timedelta, now: datetime
) -> Trend:
    """The trend from what the backups of the window have recorded."""
    history = _history(catalogue, window, now)
    if history is None or now - history < ENOUGH_DAYS * DAY:
        days = (now - history) / DAY if history else 0.0
        return Trend(None, None, f"too little history for a trend: {days:.1f} of {ENOUGH_DAYS:g} days")
    pace = _measure(catalogue, wal, history, now)
    full_on = _full_on(catalogue, wal, disk, pace, window, now)
    parts = ", ".join(
        f"{name} {size_for_people(amount)}"
        for name, amount in (("database", pace.database), ("WAL", pace.wal), ("documents", pace.content))
    )
    words = f"{size_for_people(pace.total)} new a day over the last {pace.days:.0f} days ({parts})"
    if full_on is None:
        return Trend(pace, None, f"{words}; at this pace it is not full within {HORIZON_DAYS // 365} years")
    return Trend(pace, full_on, f"{words}; at this pace it is full about {full_on.astimezone():%Y-%m-%d}")


def _history(catalogue: Catalogue, window: timedelta, now: datetime) -> datetime | None:
    """When the oldest backup of the window began: what is older may have gone in part."""
    moments = [item.moment for item in catalogue.sets if now - window <= item.moment <= now]
    return min(moments, default=None)


def _measure(catalogue: Catalogue, wal: Iterable[ArchivedFile], since: datetime, now: datetime) -> Pace:
    days = (now - since) / DAY
    bases = [base for base in catalogue.bases if since <= base.started_at <= now]
    configurations = [item for item in catalogue.configurations if since <= item.started_at <= now]
    stores = {snapshot.store for snapshot in catalogue.snapshots}
    content = sum(
        _grown([item for item in catalogue.snapshots_of(store) if since <= item.started_at <= now])
        for store in stores
    )
    return Pace(
        days,
        sum(base.stored_bytes for base in bases[1:]) / days,
        sum(file.bytes for file in wal if since < file.modified <= now) / days,
        content / days,
        sum(item.bytes for item in configurations[1:]) / days,
    )


def _grown(snapshots: Sequence[Snapshot]) -> int:
    """What a store's snapshots added. Where some were thinned out since, the store's growth is nearer."""
    own = [item for item in snapshots if not item.legacy]
    if not own:
        return 0
    return max(sum(item.new_bytes for item in own[1:]), own[-1].bytes - own[0].bytes)


def _full_on(
    catalogue: Catalogue,
    wal: Iterable[ArchivedFile],
    disk: DiskFigures,
    pace: Pace,
    window: timedelta,
    now: datetime,
) -> datetime | None:
    spacing = _spacing(catalogue.bases, now)
    stays = window + spacing
    returned = sorted(_returns(catalogue, wal, stays, now))
    stays_days = stays / DAY
    passing, index, back = pace.database + pace.wal + pace.configuration, 0, 0
    for day in range(HORIZON_DAYS + 1):
        while index < len(returned) and returned[index][0] <= day:
            back += returned[index][1]
            index += 1
        if disk.free - pace.total * day + back + passing * max(0.0, day - stays_days) <= 0:
            return now + day * DAY
    return None


def _returns(
    catalogue: Catalogue, wal: Iterable[ArchivedFile], stays: timedelta, now: datetime
) -> Iterator[tuple[float, int]]:
    """In how many days what is here now is given back; what is older than that already stays for a reason."""
    things = [(base.stopped_at, base.stored_bytes) for base in catalogue.bases]
    things += [(item.started_at, item.bytes) for item in catalogue.configurations]
    things += [(file.modified, file.bytes) for file in wal]
    for moment, size in things:
        days = (moment + stays - now) / DAY
        if days >= 0:
            yield days, size


def _spacing(bases: Sequence[BaseBackup], now: datetime) -> timedelta:
    """How far apart base backups are: the one before the window stays that much longer."""
    recent = [base.stopped_at for base in bases if base.stopped_at <= now][-8:]
    return (recent[-1] - recent[0]) / (len(recent) - 1) if len(recent) > 1 else timedelta()
