"""Which parts belong together, and the catalogue of all of them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.repository.layout import COMPONENTS, Component
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup, Configuration, Snapshot
from alfresco_backup.times import LEGACY_PATTERN, parse_stamp

PAIRING_LIMIT = timedelta(hours=24)
CLOCK_DIFFERENCE = timedelta(minutes=10)
"""How far a database server's clock may be ahead of this machine's without being reported."""


@dataclass(frozen=True)
class Problem:
    """An entry that is no backup, or one that an administrator should check, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class BackupSet:
    """All that one run made. Of the predecessor: a base backup and the next snapshot within a day."""

    stamp: str
    base: BaseBackup | None = None
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    configuration: Configuration | None = None

    @property
    def legacy(self) -> bool:
        return LEGACY_PATTERN.fullmatch(self.stamp) is not None

    @property
    def missing(self) -> tuple[Component, ...]:
        """The components it lacks. The predecessor saved no configuration: its sets are complete without."""
        there: dict[Component, bool] = {
            "postgres": self.base is not None,
            "contentstore": MAIN_STORE in self.snapshots,
            "configuration": self.legacy or self.configuration is not None,
        }
        return tuple(component for component in COMPONENTS if not there[component])

    @property
    def complete(self) -> bool:
        """Whether a host can be restored from it."""
        return not self.missing

    @property
    def parts(self) -> tuple[BaseBackup | Snapshot | Configuration, ...]:
        """What it is made of: database, stores, configuration."""
        found = (self.base, *self.snapshots.values(), self.configuration)
        return tuple(part for part in found if part is not None)

    @property
    def moment(self) -> datetime:
        """When its run started."""
        return parse_stamp(self.stamp)

    @property
    def ended_at(self) -> datetime:
        """When the last of its parts was complete."""
        return max(
            part.stopped_at if isinstance(part, BaseBackup) else part.finished_at for part in self.parts
        )


@dataclass(frozen=True)
class Catalogue:
    """All backups, oldest first. `snapshots` are those of all stores; `partials` are leftovers."""

    sets: tuple[BackupSet, ...] = ()
    bases: tuple[BaseBackup, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    configurations: tuple[Configuration, ...] = ()
    problems: tuple[Problem, ...] = ()
    partials: tuple[Path, ...] = ()

    @property
    def complete_sets(self) -> tuple[BackupSet, ...]:
        return tuple(item for item in self.sets if item.complete)

    @property
    def parts(self) -> tuple[BaseBackup | Snapshot | Configuration, ...]:
        return (*self.bases, *self.snapshots, *self.configurations)

    @property
    def newest_stamp(self) -> str | None:
        """The ID that a new run's must exceed. A future-dated entry counts: IDs order the repository."""
        return max((item.stamp for item in self.sets), key=parse_stamp, default=None)

    def snapshots_of(self, store: str) -> tuple[Snapshot, ...]:
        return tuple(snapshot for snapshot in self.snapshots if snapshot.store == store)


def is_future(part: BaseBackup | Snapshot | Configuration, now: datetime) -> bool:
    """Whether a part is dated later than now. IDs are this machine's time, others may be the server's."""
    return parse_stamp(part.stamp) > now or part.started_at > now + CLOCK_DIFFERENCE


def group_into_sets(
    bases: Iterable[BaseBackup], snapshots: Iterable[Snapshot], configurations: Iterable[Configuration]
) -> tuple[BackupSet, ...]:
    """Parts with one ID belong together; a predecessor's base backup takes the first snapshot after it."""
    by_stamp: dict[str, BackupSet] = {}
    snapshots = list(snapshots)
    configuration_by_stamp = {configuration.stamp: configuration for configuration in configurations}
    base_by_stamp = {base.stamp: base for base in bases}
    taken: set[str] = set()
    for base in base_by_stamp.values():
        if base.legacy and (partner := _partner(base, snapshots)) is not None:
            taken.add(partner.stamp)
            by_stamp[base.stamp] = BackupSet(base.stamp, base, {partner.store: partner})
    grouped: dict[str, dict[str, Snapshot]] = {}
    for snapshot in snapshots:
        grouped.setdefault(snapshot.stamp, {})[snapshot.store] = snapshot
    for stamp in (base_by_stamp.keys() | grouped.keys() | configuration_by_stamp.keys()) - by_stamp.keys():
        if stamp not in taken:
            by_stamp[stamp] = BackupSet(
                stamp, base_by_stamp.get(stamp), grouped.get(stamp, {}), configuration_by_stamp.get(stamp)
            )
    return tuple(sorted(by_stamp.values(), key=lambda item: item.moment))


def _partner(base: BaseBackup, snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The predecessor's snapshot that belongs to its base backup. IDs are whole seconds: the end is cut."""
    end = base.stopped_at.replace(microsecond=0)
    return min(
        (item for item in snapshots if item.legacy and end <= item.started_at <= end + PAIRING_LIMIT),
        key=lambda item: item.started_at,
        default=None,
    )
