"""Which base backups are kept, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from alfresco_backup.postgres.timelines import path_to
from alfresco_backup.repository.pins import Pin
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import BackupSet, Catalogue, is_future
from alfresco_backup.retention.inventory import Inventory
from alfresco_backup.retention.policy import RetentionPolicy, Verdict

Verdicts = dict[Path, Verdict]
FUTURE = Verdict(True, "dated in the future: kept, but it counts for nothing; look at the clock")

MISSING = Verdict(
    True, "there is no base backup, yet the WAL archive knows of some: is a file system not mounted?"
)


@dataclass(frozen=True)
class Situation:
    """What all the rules look at. What is dated in the future is left out of all but the catalogue."""

    catalogue: Catalogue
    inventory: Inventory
    policy: RetentionPolicy
    now: datetime

    @cached_property
    def start(self) -> datetime:
        """The beginning of the recovery window."""
        return self.now - self.policy.window

    def is_future(self, part: BaseBackup | Snapshot | Configuration) -> bool:
        return is_future(part, self.now)

    @cached_property
    def bases(self) -> tuple[BaseBackup, ...]:
        return tuple(
            sorted(
                (base for base in self.catalogue.bases if not self.is_future(base)),
                key=lambda base: base.stopped_at,
            )
        )

    @cached_property
    def bases_are_missing(self) -> bool:
        """Whether there is no base backup although the archive knows of some: PostgreSQL notes each there."""
        noted = any(file.kind == "backup" for file in self.inventory.wal)
        return noted and not self.catalogue.bases

    @cached_property
    def current(self) -> tuple[BaseBackup, ...]:
        """The bases of the cluster that the newest base is of."""
        return tuple(
            base for base in self.bases if base.system_identifier == self.bases[-1].system_identifier
        )

    @cached_property
    def floor(self) -> tuple[BackupSet, ...]:
        """The newest complete sets of the current cluster, as many as the minimum redundancy; newest last."""
        sets = {item.base.path: item for item in self.catalogue.complete_sets if item.base}
        complete = [sets[base.path] for base in self.current if base.path in sets]
        return tuple(complete[-self.policy.minimum_redundancy :])

    @cached_property
    def bases_of_snapshots(self) -> dict[Path, list[BaseBackup]]:
        """The bases in whose sets a snapshot is; of the predecessor's, two bases may share one."""
        found: dict[Path, list[BaseBackup]] = {}
        for item in self.catalogue.sets:
            if item.base:
                for snapshot in item.snapshots.values():
                    found.setdefault(snapshot.path, []).append(item.base)
        return found

    @cached_property
    def pinned(self) -> dict[Path, Pin]:
        """The parts of pinned sets, and their pins."""
        pins = self.inventory.pins
        return {
            part.path: pins[item.stamp]
            for item in self.catalogue.sets
            if item.stamp in pins
            for part in item.parts
        }

    @cached_property
    def anchors(self) -> dict[Path, int]:
        """For the timelines with WAL in the window: the newest base before the window that leads there."""
        found: dict[Path, int] = {}
        for timeline in sorted(self._timelines_in_window()):
            for base in self._anchors_of(timeline):
                found.setdefault(base.path, timeline)
        return found

    def _timelines_in_window(self) -> set[int]:
        written = {
            int(file.wal_name[:8], 16)
            for file in self.inventory.wal
            if file.kind == "segment" and file.modified >= self.start
        }
        return written | {
            base.timeline
            for base in self.current
            if base.stopped_at >= self.start or base is self.current[-1]
        }

    def _anchors_of(self, timeline: int) -> Iterable[BaseBackup]:
        """Where the history is lost, the newest base of every timeline up to this one might lead to it."""
        older = [base for base in self.current if base.stopped_at < self.start]
        histories = self.inventory.histories
        if timeline > 1 and timeline not in histories:
            return {base.timeline: base for base in older if base.timeline <= timeline}.values()
        path = path_to(timeline, histories)
        leading = [base for base in older if not path.why_not(base.timeline, base.start_lsn, base.stop_lsn)]
        return leading[-1:]


def decide_bases(situation: Situation) -> Verdicts:
    """A verdict on every base of the catalogue."""
    reason = f"ended before {situation.policy.window_text}, whose start a newer base reaches"
    removed = Verdict(False, reason)
    verdicts = {
        base.path: FUTURE if situation.is_future(base) else next(_reasons_to_keep(situation, base), removed)
        for base in situation.catalogue.bases
    }
    return with_pins(situation, verdicts)


def with_pins(situation: Situation, verdicts: Verdicts) -> Verdicts:
    """The same verdicts, but what belongs to a pinned set stays."""
    return {path: verdict.pinned(situation.pinned.get(path)) for path, verdict in verdicts.items()}


def _reasons_to_keep(situation: Situation, base: BaseBackup) -> Iterator[Verdict]:
    """The first one counts."""
    window = situation.policy.window_text
    if base.stopped_at >= situation.start:
        yield Verdict(True, f"ended within {window}")
    if base.system_identifier != situation.bases[-1].system_identifier:
        yield _verdict_on_another_cluster(situation, base)
    if base.path in situation.anchors:
        timeline = situation.anchors[base.path]
        yield Verdict(True, f"the newest base before {window}, whose start on timeline {timeline} it reaches")
    if any(item.base == base for item in situation.floor):
        count = situation.policy.minimum_redundancy
        yield Verdict(True, f"one of the {count} newest complete sets, which are always kept")
    if base == situation.bases[-1]:
        yield Verdict(True, "the newest base")


def _verdict_on_another_cluster(situation: Situation, base: BaseBackup) -> Verdict:
    """After pg_upgrade the old cluster's bases are the only way into the first part of the window."""
    window = situation.policy.window_text
    whose = f"of another cluster ({base.system_identifier}) than the newest base"
    enough = len(situation.floor) >= situation.policy.minimum_redundancy
    if situation.anchors and enough:
        return Verdict(False, f"{whose}, which covers {window} by itself now")
    return Verdict(True, f"{whose}, which does not cover {window} safely yet")
