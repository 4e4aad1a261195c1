"""Which base backups are kept, and why: a list of rules, each a function. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path

from alfresco_backup.postgres.timelines import path_to
from alfresco_backup.repository.layout import BASE_PREFIX
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import BackupSet, Catalogue, is_future
from alfresco_backup.retention.inventory import Inventory
from alfresco_backup.retention.periods import kept_for_periods
from alfresco_backup.retention.policy import RetentionPolicy, Verdict
from alfresco_backup.times import STAMP_PATTERN, parse_stamp

Verdicts = dict[Path, Verdict]
FUTURE = Verdict(True, "dated in the future: kept, but not counted; check the clock")
MISSING = Verdict(
    True, "there is no base backup, but the WAL archive records some: a file system may not be mounted"
)
BEING_SENT = "is being sent off-site"


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
        """Whether there is no base backup although the archive records some: PostgreSQL notes each there."""
        noted = any(file.kind == "backup" for file in self.inventory.wal)
        return noted and not self.catalogue.bases

    @cached_property
    def current(self) -> tuple[BaseBackup, ...]:
        """The base backups of the cluster that the newest one is of."""
        return tuple(
            base for base in self.bases if base.system_identifier == self.bases[-1].system_identifier
        )

    @cached_property
    def floor(self) -> tuple[BackupSet, ...]:
        """The newest complete sets of the current cluster, as many as the minimum redundancy; newest last.

        One that a restore drill found damaged counts only where there are too few others.
        """
        sets = {item.base.path: item for item in self.catalogue.complete_sets if item.base}
        complete = [base for base in self.current if base.path in sets]
        by_worth = sorted(complete, key=lambda base: (not self.is_damaged(base), base.stopped_at))
        chosen = set(map(id, by_worth[-self.policy.minimum_redundancy :]))
        return tuple(sets[base.path] for base in complete if id(base) in chosen)

    def is_damaged(self, base: BaseBackup) -> bool:
        """Whether the last restore drill of its set found it damaged."""
        drill = self.inventory.drills.get(base.stamp)
        return drill is not None and drill.damaged

    @cached_property
    def verified(self) -> BaseBackup | None:
        """The newest base backup that its last restore drill verified."""
        drills = self.inventory.drills
        sound = [base for base in self.bases if base.stamp in drills and drills[base.stamp].sound]
        return sound[-1] if sound else None

    @cached_property
    def bases_of_snapshots(self) -> dict[Path, list[BaseBackup]]:
        """The base backups in whose sets a snapshot is; of the predecessor's, two may share one."""
        found: dict[Path, list[BaseBackup]] = {}
        for item in self.catalogue.sets:
            if item.base:
                for snapshot in item.snapshots.values():
                    found.setdefault(snapshot.path, []).append(item.base)
        return found

    @cached_property
    def kept_for(self) -> dict[Path, str]:
        """Why sets are kept whole whatever their age, for each of their parts.

        They are pinned, being sent off-site, or the last of a period; or one of their parts cannot be read,
        so that whether they are complete is not known. Of the predecessor's, two may share a part.
        """
        reasons: dict[Path, list[str]] = {}
        for item in self.catalogue.sets:
            for part in item.parts:
                reasons.setdefault(part.path, []).extend(self._reasons_of(item.stamp))
        return {path: "; ".join(dict.fromkeys(said)) for path, said in reasons.items() if said}

    def _reasons_of(self, stamp: str) -> Iterator[str]:
        if stamp in self.inventory.sending:
            yield BEING_SENT
        if stamp in self.inventory.pins:
            yield f"pinned: {self.inventory.pins[stamp].reason}"
        yield from self.periods.get(stamp, ())
        if stamp in self.unreadable:
            yield f"{self.unreadable[stamp]}, a part of its set, cannot be read"

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """The backup IDs of parts that cannot be read just now, and a part's name. It may be repaired."""
        listed = {part.path for part in self.catalogue.parts}
        names = (item.path.name for item in self.catalogue.problems if item.path not in listed)
        return {name.partition("-")[2]: name for name in names}

    @cached_property
    def unreadable_bases(self) -> tuple[datetime, ...]:
        """When the base backups began that cannot be read just now, but for the predecessor's."""
        stamps = (stamp for stamp, name in self.unreadable.items() if name.startswith(BASE_PREFIX))
        return tuple(parse_stamp(stamp) for stamp in stamps if STAMP_PATTERN.fullmatch(stamp))

    @cached_property
    def periods(self) -> dict[str, list[str]]:
        """The sets that are kept for a week, a month or a year, of whatever cluster, and why."""
        complete = (item.base for item in self.catalogue.complete_sets if item.base)
        present = (base for base in complete if not self.is_future(base))
        return kept_for_periods(present, self.inventory.drills, self.policy)

    @cached_property
    def anchors(self) -> dict[Path, int]:
        """For the timelines with WAL in the window: the newest base backup before it that leads there."""
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
        """Where the history is lost, the newest one of every timeline up to this one might lead to it, and
        so might what leads to one before it.
        """
        older = [base for base in self.current if base.stopped_at < self.start]
        histories = self.inventory.histories
        if timeline > 1 and timeline not in histories:
            below = [base for base in older if base.timeline <= timeline]
            sound = {base.timeline: base for base in below if not self.is_damaged(base)}
            newest = {base.timeline: base for base in below}
            known = (self._anchors_of(each) for each in histories if each < timeline)
            return [*newest.values(), *sound.values(), *chain.from_iterable(known)]
        path = path_to(timeline, histories)
        leading = [base for base in older if not path.why_not(base.timeline, base.start_lsn, base.stop_lsn)]
        return [*leading[-1:], *[base for base in leading if not self.is_damaged(base)][-1:]]


# The rules. Each says why a base backup is kept, in words, or None. To add one: a function, and its place in
# RULES; where its answer changes with the age of a backup, that age in RetentionPolicy.ages.


def _dated_in_the_future(situation: Situation, base: BaseBackup) -> str | None:
    return FUTURE.reason if situation.is_future(base) else None


def _within_the_window(situation: Situation, base: BaseBackup) -> str | None:
    within = base.stopped_at >= situation.start
    return f"ended within {situation.policy.window_text}" if within else None


def _of_another_cluster(situation: Situation, base: BaseBackup) -> str | None:
    """After pg_upgrade the old cluster's backups are the only way into the first part of the window."""
    if not _is_foreign(situation, base) or _is_covered(situation):
        return None
    words = f"of another cluster ({base.system_identifier}) than the newest base backup"
    return f"{words}, which does not cover {situation.policy.window_text} safely yet"


def _reaches_the_window(situation: Situation, base: BaseBackup) -> str | None:
    timeline = situation.anchors.get(base.path)
    if timeline is None:
        return None
    window = situation.policy.window_text
    return f"the newest base backup before {window}, whose start on timeline {timeline} it reaches"


def _of_the_minimum_redundancy(situation: Situation, base: BaseBackup) -> str | None:
    if all(item.base != base for item in situation.floor):
        return None
    return f"one of the {situation.policy.minimum_redundancy} newest complete sets, which are always kept"


def _the_newest(situation: Situation, base: BaseBackup) -> str | None:
    return "the newest base backup" if base == situation.bases[-1] else None


def _the_newest_verified(situation: Situation, base: BaseBackup) -> str | None:
    """Not one set after it is known to restore: it stays until a newer one is verified."""
    return "the newest set that a restore drill verified" if base == situation.verified else None


def _for_a_reason(situation: Situation, base: BaseBackup) -> str | None:
    return situation.kept_for.get(base.path)


@dataclass(frozen=True)
class Rule:
    """Why base backups are kept. `own_wal_only`: as sets that restore to their own end, without later WAL."""

    reason: Callable[[Situation, BaseBackup], str | None]
    own_wal_only: bool = False


RULES = (
    Rule(_dated_in_the_future),
    Rule(_within_the_window),
    Rule(_of_another_cluster),
    Rule(_reaches_the_window),
    Rule(_of_the_minimum_redundancy),
    Rule(_the_newest),
    Rule(_the_newest_verified, own_wal_only=True),
    Rule(_for_a_reason, own_wal_only=True),
)


def decide_bases(situation: Situation) -> Verdicts:
    """A verdict on every base backup of the catalogue."""
    return {base.path: _decide(situation, base) for base in situation.catalogue.bases}


def _decide(situation: Situation, base: BaseBackup) -> Verdict:
    """The first rule that keeps it with all later WAL gives the reason; those for its own only are added."""
    with_wal = (rule.reason(situation, base) for rule in RULES if not rule.own_wal_only)
    first = next(filter(None, with_wal), None)
    alone = [rule.reason(situation, base) for rule in RULES if rule.own_wal_only]
    reasons = [*filter(None, [first, *alone])]
    if not reasons:
        return Verdict(False, _why_removed(situation, base))
    return Verdict(True, "; ".join(reasons), own_wal_only=first is None)


def _why_removed(situation: Situation, base: BaseBackup) -> str:
    window = situation.policy.window_text
    if _is_foreign(situation, base):
        whose = f"of another cluster ({base.system_identifier}) than the newest base backup"
        return f"{whose}, which covers {window} by itself now"
    return f"ended before {window}, whose start a newer base backup reaches"


def _is_foreign(situation: Situation, base: BaseBackup) -> bool:
    return base.system_identifier != situation.bases[-1].system_identifier


def _is_covered(situation: Situation) -> bool:
    """Whether the newest cluster's backups reach the start of the window, with the minimum redundancy.

    Those that a restore drill found damaged do neither.
    """
    sound = [base for base in situation.current if not situation.is_damaged(base)]
    reaching = any(base.path in situation.anchors for base in sound)
    counted = [item for item in situation.floor if item.base in sound]
    return reaching and len(counted) >= situation.policy.minimum_redundancy


def with_reasons(situation: Situation, verdicts: Verdicts) -> Verdicts:
    """The same verdicts, but what belongs to a set that is kept for a reason stays, with that reason."""
    return {
        path: verdict if path not in situation.kept_for else verdict.kept_for(situation.kept_for[path])
        for path, verdict in verdicts.items()
    }
