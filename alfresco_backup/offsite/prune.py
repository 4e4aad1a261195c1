"""Decides what of the off-site repository may go. Pure.

It follows local retention: an ID goes when it has been gone here for the grace period and nothing that stays
there refers to its days. What the local sets refer to stays, whether they are there already or not.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from alfresco_backup.offsite.far import FarSet, FarSide, FarSnapshot
from alfresco_backup.retention.policy import verdict_text
from alfresco_backup.times import for_people, parse_stamp

WAL = "WAL archive"


@dataclass(frozen=True)
class Here:
    """What BACKUP_DIR has: its backup IDs, those that its sets refer to, and since when others are gone."""

    stamps: frozenset[str]
    referred: frozenset[str]
    gone_since: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class FarPolicy:
    """How long what is gone here stays there, and how many complete sets always do."""

    grace: timedelta
    minimum_redundancy: int


@dataclass(frozen=True)
class FarItem:
    """A backup ID or a copy of the WAL archive, and what becomes of it. `name`: the ID, or WAL."""

    snapshot: FarSnapshot
    keep: bool
    reason: str

    @property
    def name(self) -> str:
        return self.snapshot.stamp or WAL


@dataclass(frozen=True)
class PrunePlan:
    """An item for each of the host's backup IDs and copies of the WAL archive there, oldest first.

    `gone_since` is to be noted for the next plan. `held`: why nothing is removed. `unfinished`: an earlier
    run forgot snapshots and did not come to removing their data.
    """

    items: tuple[FarItem, ...]
    gone_since: Mapping[str, datetime] = field(default_factory=dict)
    held: str = ""
    unfinished: bool = False

    @property
    def removals(self) -> tuple[FarItem, ...]:
        return tuple(item for item in self.items if not item.keep)

    @property
    def snapshots(self) -> int:
        """How many restic snapshots these are; backup IDs that were sent together are in one."""
        return len({item.snapshot.snapshot for item in self.items})

    @property
    def forgotten(self) -> tuple[str, ...]:
        """The restic snapshots that go."""
        return tuple(dict.fromkeys(item.snapshot.snapshot for item in self.removals))

    @property
    def empty(self) -> bool:
        return not self.removals and not self.unfinished

    def summary(self) -> str:
        """One sentence for reports."""
        if self.held:
            return f"Nothing is removed off-site: {self.held}"
        going = len(self.forgotten)
        wal = sum(item.name == WAL for item in self.removals)
        if not self.removals:
            more = "; an unfinished removal is to be completed" if self.unfinished else ""
            return f"Nothing to remove off-site: {self.snapshots} snapshots stay{more}."
        return (
            f"To remove off-site: {going - wal} snapshots of backup IDs and {wal} of the WAL archive; "
            f"{self.snapshots - going} of {self.snapshots} stay."
        )

    def text(self) -> str:
        """The plan for a terminal, each snapshot with the reason."""
        return verdict_text(self.summary(), self.rows())

    def rows(self) -> list[dict[str, str]]:
        """The plan as a table; snapshots of one name with the same reason share a row."""
        groups: dict[tuple[str, bool, str], list[FarItem]] = {}
        for item in self.items:
            groups.setdefault((item.name, item.keep, item.reason), []).append(item)
        return [
            {
                "which": f"{name} ({len(items)} snapshots)" if len(items) > 1 else name,
                "verdict": "keep" if keep else "remove",
                "why": reason,
            }
            for (name, keep, reason), items in groups.items()
        ]


def plan_prune(
    far: FarSide, sets: Mapping[str, FarSet], here: Here, policy: FarPolicy, now: datetime
) -> PrunePlan:
    """Decide about every snapshot of the host. `sets`: what is known of each ID there."""
    gone = {
        stamp: min(here.gone_since.get(stamp, now), now) for stamp in far.sets if stamp not in here.stamps
    }
    restorable = _restorable(far, sets, here, policy, now, gone)
    staying = _with_referred(restorable, far, sets, here)
    items = [*_set_items(far, staying, gone), *_wal_items(far, restorable, gone, policy, now)]
    items.sort(key=lambda item: item.snapshot.taken_at)
    return PrunePlan(kept_together(items), gone)


def kept_together(items: Iterable[FarItem]) -> tuple[FarItem, ...]:
    """The same, but what is in one restic snapshot with something that stays is kept: it goes as a whole."""
    items = tuple(items)
    kept = {item.snapshot.snapshot: item.name for item in items if item.keep}

    def judged(item: FarItem) -> FarItem:
        other = "" if item.keep else kept.get(item.snapshot.snapshot)
        return replace(item, keep=True, reason=_sent_with(other)) if other else item

    return tuple(map(judged, items))


def damaged_items(far: FarSide, damaged: Collection[str]) -> tuple[FarItem, ...]:
    """What becomes of each snapshot where those that use a damaged pack are to go."""
    return tuple(
        FarItem(item, keep=False, reason="uses a damaged pack")
        if item.snapshot in damaged
        else FarItem(item, keep=True, reason="uses no damaged pack")
        for item in far.snapshots
    )


def _restorable(
    far: FarSide,
    sets: Mapping[str, FarSet],
    here: Here,
    policy: FarPolicy,
    now: datetime,
    gone: Mapping[str, datetime],
) -> dict[str, str]:
    """The IDs that stay for their own sake, each with the reason."""
    staying: dict[str, str] = {}
    for stamp in far.sets:
        if stamp not in gone:
            staying[stamp] = "in BACKUP_DIR"
        elif now - gone[stamp] < policy.grace:
            until = for_people(gone[stamp] + policy.grace)
            staying[stamp] = f"removed here by {for_people(gone[stamp])}; the grace period ends {until}"
    complete = sorted((stamp for stamp in far.sets if _is_complete(stamp, sets, far)), key=parse_stamp)
    lacking = policy.minimum_redundancy - sum(stamp in staying for stamp in complete)
    spare = [stamp for stamp in complete if stamp not in staying]
    for stamp in spare[len(spare) - max(lacking, 0) :]:
        staying[stamp] = f"one of the {policy.minimum_redundancy} newest complete sets there"
    return staying


def _is_complete(stamp: str, sets: Mapping[str, FarSet], far: FarSide) -> bool:
    known = sets.get(stamp)
    return known is not None and known.complete and known.needs <= far.sets.keys()


def _with_referred(
    restorable: Mapping[str, str], far: FarSide, sets: Mapping[str, FarSet], here: Here
) -> dict[str, str]:
    """What stays keeps the IDs whose days it refers to and those sent with it, and these theirs.

    So each that stays is whole.
    """
    staying = dict(restorable)
    for stamp in here.referred & far.sets.keys():
        staying.setdefault(stamp, "sets in BACKUP_DIR refer to its days")
    waiting = list(staying)
    while waiting:
        stamp = waiting.pop()
        for version in sets[stamp].needs if stamp in sets else ():
            if version in far.sets and version not in staying:
                staying[version] = f"{stamp}, which stays, refers to its days"
                waiting.append(version)
        for other in far.sent_with(stamp) - staying.keys():
            staying[other] = _sent_with(stamp)
            waiting.append(other)
    return staying


def _sent_with(stamp: str) -> str:
    return f"sent together with {stamp}, which stays"


def _set_items(far: FarSide, staying: Mapping[str, str], gone: Mapping[str, datetime]) -> Iterator[FarItem]:
    for item in far.snapshots:
        if item.kind != "set":
            continue
        if far.sets[item.stamp] != item:
            yield FarItem(item, keep=False, reason="sent again since")
        elif item.stamp in staying:
            yield FarItem(item, keep=True, reason=staying[item.stamp])
        else:
            yield FarItem(item, keep=False, reason=f"removed here by {for_people(gone[item.stamp])}")


def _wal_items(
    far: FarSide,
    restorable: Collection[str],
    gone: Mapping[str, datetime],
    policy: FarPolicy,
    now: datetime,
) -> Iterator[FarItem]:
    """A copy of the archive stays for the segments that no newer one has, while a set there may need them.

    Not one that stays only for its days. Local retention has removed them here. A set that is gone here
    reaches every time since its start; and an archive that was emptied by accident is to be missed within the
    grace period.
    """
    since = min((parse_stamp(stamp) for stamp in restorable if stamp in gone), default=now)
    newer: list[FarSnapshot] = []
    for item in reversed([item for item in far.snapshots if item.kind == "wal"]):
        if not newer:
            yield FarItem(item, keep=True, reason="the newest")
        elif any(_has_all(other, item) for other in newer):
            yield FarItem(item, keep=False, reason="a newer one has all its segments")
            continue
        elif item.taken_at >= min(since, now - policy.grace):
            yield FarItem(item, keep=True, reason="has segments that no newer one has")
        else:
            yield FarItem(item, keep=False, reason="no set that stays needs its segments")
            continue
        newer.append(item)


def _has_all(newer: FarSnapshot, older: FarSnapshot) -> bool:
    """As far as first segment and number tell: an archive grows at its end and is removed from its start.

    Where older sets are kept with their own WAL, it is removed from between, too: what is before the newest
    unbroken run has to be the same then.
    """
    if older.older_wal and newer.older_wal != older.older_wal:
        return False
    more = newer.first_wal <= older.first_wal and newer.wal_files >= older.wal_files
    return more and newer.repository == older.repository
