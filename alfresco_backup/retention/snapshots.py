"""Which snapshots and configurations are kept, and why. Pure."""

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.repository.sets import PAIRING_LIMIT
from alfresco_backup.retention.bases import FUTURE, MISSING, Situation, Verdicts, with_reasons
from alfresco_backup.retention.policy import Verdict


def decide_snapshots(situation: Situation, bases: Verdicts) -> Verdicts:
    """A verdict on every snapshot of every store, given those on the base backups."""
    if situation.bases_are_missing:
        return {item.path: MISSING for item in situation.catalogue.snapshots}
    verdicts: Verdicts = {}
    for store in {snapshot.store for snapshot in situation.catalogue.snapshots}:
        verdicts |= _decide_store(situation, bases, situation.catalogue.snapshots_of(store))
    return with_reasons(situation, verdicts)


def _decide_store(situation: Situation, bases: Verdicts, snapshots: Iterable[Snapshot]) -> Verdicts:
    future = {item.path: FUTURE for item in snapshots if situation.is_future(item)}
    present = sorted(
        (item for item in snapshots if item.path not in future), key=lambda item: item.started_at
    )
    needed = _needed(situation, bases, present)
    thinned = _thinned(situation, bases, present)
    verdicts: Verdicts = {}
    for snapshot in present:
        if snapshot.path in needed:
            verdicts[snapshot.path] = needed[snapshot.path]
        elif snapshot.started_at < situation.start:
            reason = f"started before {situation.policy.window_text}, and no kept base backup needs it"
            verdicts[snapshot.path] = Verdict(False, reason)
        elif snapshot.path in thinned:
            reason = f"contentstore-only run; {thinned[snapshot.path]} is kept for that day (UTC)"
            verdicts[snapshot.path] = Verdict(False, reason)
        else:
            verdicts[snapshot.path] = Verdict(True, f"within {situation.policy.window_text}")
    return future | verdicts


def _needed(situation: Situation, bases: Verdicts, snapshots: list[Snapshot]) -> Verdicts:
    """Snapshots without which something that is kept could not be restored completely."""
    needed: Verdicts = {}
    if not snapshots:
        return needed
    starts = [item.started_at for item in snapshots]
    for base in (base for base in situation.catalogue.bases if bases[base.path].keep):
        later = bisect_left(starts, base.stopped_at.replace(microsecond=0))
        if later < len(snapshots):
            reason = f"the first snapshot that started after base backup {base.stamp} ended"
            needed[snapshots[later].path] = Verdict(True, reason)
    for begun in situation.unreadable_bases:  # when it ended is not known
        last = bisect_left(starts, begun + PAIRING_LIMIT)
        reason = "may be the first snapshot that started after a base backup ended which cannot be read"
        following = snapshots[bisect_left(starts, begun) : last + 1]
        needed |= {snapshot.path: Verdict(True, reason) for snapshot in following}
    before = [item for item in snapshots if item.finished_at <= situation.start]
    if before:
        newest = max(before, key=lambda item: item.finished_at)
        needed[newest.path] = Verdict(True, f"the last snapshot before {situation.policy.window_text}")
    for snapshot in snapshots:
        base_kept = _kept_base(situation, bases, snapshot)
        if base_kept:
            needed[snapshot.path] = Verdict(True, f"belongs to base backup {base_kept.stamp}, which is kept")
    needed.setdefault(snapshots[-1].path, Verdict(True, "the newest snapshot"))
    return needed


def _kept_base(situation: Situation, bases: Verdicts, snapshot: Snapshot) -> BaseBackup | None:
    owners = situation.bases_of_snapshots.get(snapshot.path, [])
    return next((base for base in owners if bases[base.path].keep), None)


def _thinned(situation: Situation, bases: Verdicts, snapshots: list[Snapshot]) -> dict[Path, str]:
    """Snapshots in whose place another one of the same day is kept, and that one's backup ID."""
    oldest_dense = situation.now - situation.policy.thin_after
    of_day = {}
    for snapshot in snapshots:
        of_a_set = _kept_base(situation, bases, snapshot) or snapshot.stamp in situation.unreadable
        if snapshot.started_at < oldest_dense and not of_a_set:
            of_day[snapshot.started_at.date()] = snapshot
    representatives = {item.path for item in of_day.values()}
    return {
        snapshot.path: of_day[snapshot.started_at.date()].stamp
        for snapshot in snapshots
        if snapshot.started_at < oldest_dense
        and snapshot.path not in representatives
        and snapshot.started_at.date() in of_day
    }


def decide_configurations(situation: Situation, bases: Verdicts) -> Verdicts:
    """A verdict on every configuration: it stays with its base backup, and while it is young."""
    if situation.bases_are_missing:
        return {item.path: MISSING for item in situation.catalogue.configurations}
    kept = {base.stamp: base for base in situation.catalogue.bases if bases[base.path].keep}
    present = [item for item in situation.catalogue.configurations if not situation.is_future(item)]
    newest = max(present, key=lambda item: item.started_at, default=None)
    verdicts: Verdicts = {}
    for item in situation.catalogue.configurations:
        if situation.is_future(item):
            verdicts[item.path] = FUTURE
        elif item.stamp in kept:
            verdicts[item.path] = Verdict(True, f"belongs to base backup {item.stamp}, which is kept")
        elif item.started_at >= situation.start:
            verdicts[item.path] = Verdict(True, f"within {situation.policy.window_text}")
        elif item == newest:
            verdicts[item.path] = Verdict(True, "the newest configuration")
        else:
            reason = f"started before {situation.policy.window_text}, and its base backup is not kept"
            verdicts[item.path] = Verdict(False, reason)
    return with_reasons(situation, verdicts)
