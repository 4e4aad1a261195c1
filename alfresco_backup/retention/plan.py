"""What of the repository is kept and what goes, each with the reason. Pure: nothing here touches a disk.

The rules, in the words of an administrator:
- Every target time of the recovery window stays reachable: all base backups that ended within it are kept,
  and for each timeline with WAL in it the newest one from before it.
- The newest complete sets, as many as the minimum redundancy says, are never removed, however old.
- WAL is kept from the start of the oldest kept base backup on, or of one that PostgreSQL recorded in the
  archive within the window and that is not seen now; `.history` files are never removed.
- The newest set that a restore drill verified stays until a newer one is verified. One that a drill found
  damaged neither counts for the redundancy, where there are others, nor replaces a sound one.
- Of each of the newest weeks, months and years the last complete set is kept, as many as are asked for.
- Some base backups, those of such sets and of pinned ones, are kept with their own WAL only: it makes them
  consistent, and no later time can be reached from them.
- A snapshot stays as long as its base backup, the first one after a base backup's end as long as that. Those
  of contentstore-only runs are thinned to one a day; a day tree stays while a kept snapshot refers to it.
- Order is by time, never by name. What is dated in the future is kept, reported, and not counted.
- What cannot be read is kept and reported, and so are the other parts of its set. While a folder of parts is
  empty, nothing goes: its file system may not be mounted, and what is not seen may need anything.
- Restores' journals and data they set aside are not read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.retention.bases import Situation, Verdicts, decide_bases
from alfresco_backup.retention.inventory import Inventory
from alfresco_backup.retention.policy import ORDER, Item, Kind, RetentionPlan, RetentionPolicy
from alfresco_backup.retention.snapshots import decide_configurations, decide_snapshots
from alfresco_backup.retention.wal_and_days import decide_day_trees, decide_logs, decide_partials, decide_wal

__all__ = ["Item", "RetentionPlan", "RetentionPolicy", "plan_retention"]


def plan_retention(
    repository: Repository,
    catalogue: Catalogue,
    inventory: Inventory,
    policy: RetentionPolicy,
    now: datetime,
) -> RetentionPlan:
    """Decide about everything in the repository. `repository` serves for its names only."""
    situation = Situation(catalogue, inventory, policy, now)
    bases, snapshots, configurations = decide_parts(situation)
    partials = list(decide_partials(situation))
    gone = {item.path for item in partials if not item.keep}
    gone |= {path for path, verdict in snapshots.items() if not verdict.keep}
    items = [
        *partials,
        *_items("snapshot", catalogue.snapshots, snapshots),
        *_items("configuration", catalogue.configurations, configurations),
        *decide_day_trees(situation, gone),
        *_items("base", catalogue.bases, bases),
        *decide_wal(situation, bases, repository.wal),
        *decide_logs(situation),
    ]
    decided = {item.path for item in items}
    items += [
        Item("problem", problem.path, True, problem.reason)
        for problem in catalogue.problems
        if problem.path not in decided
    ]
    if catalogue.parts and inventory.empty:
        items = [_kept_for_the_unseen(item, inventory.empty[0]) for item in items]
    items.sort(key=lambda item: ORDER.index(item.kind))
    return RetentionPlan(
        repository.root,
        now,
        situation.start,
        tuple(items),
        _newest_set(situation),
        frozenset(inventory.pins),
        sending=inventory.sending,
    )


def decide_parts(situation: Situation) -> tuple[Verdicts, Verdicts, Verdicts]:
    """The verdicts on base backups, snapshots and configurations."""
    bases = decide_bases(situation)
    return bases, decide_snapshots(situation, bases), decide_configurations(situation, bases)


def _items(
    kind: Kind, parts: Iterable[BaseBackup | Snapshot | Configuration], verdicts: Verdicts
) -> Iterator[Item]:
    for part in parts:
        verdict = verdicts[part.path]
        size = part.stored_bytes if isinstance(part, BaseBackup) else 0
        yield Item(kind, part.path, verdict.keep, verdict.reason, size)


def _kept_for_the_unseen(item: Item, empty: str) -> Item:
    """Runs make such a folder when they begin to fill it, and retention never empties it."""
    if item.keep or item.kind == "log":
        return item
    return replace(item, keep=True, reason=f"folder {empty} is empty: a file system may not be mounted")


def _newest_set(situation: Situation) -> tuple[Path, ...]:
    if not situation.floor:
        return ()
    newest = situation.floor[-1]
    return tuple(part.path for part in newest.parts)
