"""Retention: plan it, and do exactly the plan."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Run
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import SNAPSHOT_PREFIX, Repository, StoreRepository, metadata_of
from alfresco_backup.repository.pins import pins_of
from alfresco_backup.retention.inventory import read_inventory, stores_of
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import ORDER, Item, Kind, RetentionPlan, RetentionPolicy, in_words
from alfresco_backup.retention.removal import Freed, remove_below, remove_empty_parents, remove_published
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.files import fsync_directory
from alfresco_backup.times import LEGACY_PATTERN, duration_for_people, size_for_people, utc_now
from tasks.runs.history import publish_table


@dataclass(frozen=True)
class RetentionResult:
    """What retention removed: things by kind, names, bytes of disk given back, and how long it took."""

    counts: Mapping[Kind, int]
    freed: Freed
    seconds: float

    def summary(self) -> str:
        if not self.counts:
            return "Retention removed nothing."
        size, duration = size_for_people(self.freed.bytes), duration_for_people(self.seconds)
        return f"Retention removed {in_words(self.counts)} and gave back {size} in {duration}."


def enforce_retention(run_: Run) -> str:
    """Plan and apply retention at the end of a run that succeeded. Returns a sentence for the report."""
    plan = plan_retention_of(run_.settings, run_.stamp)
    return apply_retention(plan).summary()


@task(name="plan-retention", cache_policy=NO_CACHE)
def plan_retention_of(settings: Settings, running: str = "") -> RetentionPlan:
    """Decide what of the repository is kept and what goes. Changes nothing; the plan is a table artifact."""
    plan = make_retention_plan(settings, running)
    publish_table(plan.rows(), "retention-plan", plan.summary())
    logger = get_run_logger()
    logger.info(plan.summary())
    for item in plan.items:
        if item.kind == "problem":
            logger.warning("kept, look at it: %s: %s", item.path, item.reason)
    return plan


def make_retention_plan(settings: Settings, running: str = "", now: datetime | None = None) -> RetentionPlan:
    """Read the repository and plan. The predecessor's bases are looked through whatever their size.

    Raises BackupError when something cannot be listed: what is not seen might be needed.
    """
    repository = Repository(settings.backup_dir)
    moment = now or utc_now()
    policy = RetentionPolicy.of(settings, running)
    catalogue = read_catalogue(repository, now=moment, limit_bytes=None)
    try:
        inventory = read_inventory(repository)
        places = {repository.postgres, repository.configurations, *(s.root for s in stores_of(repository))}
    except OSError as error:
        raise BackupError(
            f"retention cannot see the whole repository: {error}",
            f"ls -ld {error.filename}; a backup that runs at the same time may have renamed it: try again",
        ) from error
    for problem in catalogue.problems:
        if problem.path in places:
            raise BackupError(
                f"retention cannot see the whole repository: {problem.path} {problem.reason}",
                f"ls -ld {problem.path}",
            )
    return plan_retention(repository, catalogue, inventory, policy, moment)


@task(name="apply-retention", cache_policy=NO_CACHE)
def apply_retention(plan: RetentionPlan) -> RetentionResult:
    """Remove what the plan says, in its order. Repeating it after an interruption is harmless."""
    result = carry_out(plan)
    get_run_logger().info(result.summary())
    return result


def carry_out(plan: RetentionPlan) -> RetentionResult:
    """Do exactly the plan. Raises Refused when the repository is no longer the one that was planned for.

    What refers goes before what it refers to, so an interruption leaves nothing that looks like a backup
    and is none. An item that cannot be removed ends the work after its kind, with an error naming all.
    """
    started = time.monotonic()
    refuse_stale_plan(plan)
    freed = Freed()
    counts: Counter[Kind] = Counter()
    for kind in ORDER:
        items = [item for item in plan.removals if item.kind == kind]
        if items:
            freed += _remove_kind(Repository(plan.root), items)
            counts[kind] = len(items)
    return RetentionResult(dict(counts), freed, time.monotonic() - started)


def refuse_stale_plan(plan: RetentionPlan) -> None:
    """Raise Refused unless everything the plan keeps is still there and nothing was added or pinned."""
    catalogue = read_catalogue(Repository(plan.root), now=plan.now)
    listed = {part.path for part in catalogue.parts}
    planned = {item.path: item for item in plan.items if item.kind in {"base", "snapshot", "configuration"}}
    lost = [path for path, item in planned.items() if item.keep and path not in listed]
    lost += [path for path in plan.must_remain if path not in listed]
    added = listed - planned.keys()
    hint = "plan again: nothing was removed"
    if lost:
        raise Refused(f"the plan keeps {lost[0]}, which is no whole backup any more", hint)
    pinned = pins_of(Repository(plan.root)).keys() - plan.pinned
    if pinned:
        raise Refused(f"set {min(pinned)} was pinned after the plan was made", hint)
    if added:
        raise Refused(f"{min(added)} appeared after the plan was made", hint)


def _remove_kind(repository: Repository, items: Iterable[Item]) -> Freed:
    freed = Freed()
    failures: list[tuple[Path, OSError]] = []
    parents = set()
    for item in items:
        try:
            freed += REMOVERS.get(item.kind, _remove_file)(repository, item.path)
            parents.add(item.path.parent)
        except OSError as error:
            failures.append((item.path, error))
    for parent in sorted(parents):
        if parent.is_dir():
            fsync_directory(parent)
    if failures:
        shown = "\n".join(f"{path}: {error.strerror or error}" for path, error in failures[:10])
        raise BackupError(
            f"retention could not remove {len(failures)} of what it should, and stopped there:\n{shown}",
            _hint_after(repository.root, *failures[0]),
        )
    return freed


def _hint_after(root: Path, path: Path, error: OSError) -> str:
    """A backup made once as root leaves folders of root's, which the account of other runs cannot remove."""
    again = "then run retention again"
    if isinstance(error, PermissionError) and os.geteuid():
        place = shlex.quote(str(root))
        return f"as root: find {place} -xdev -user root -exec chown -h {os.geteuid()} {{}} + ; {again}"
    return f"ls -ld {shlex.quote(str(path))}; {again}"


def _remove_tree_and_metadata(_: Repository, tree: Path) -> Freed:
    """A snapshot, a configuration or a base, then the metadata beside it."""
    freed = remove_published(tree)
    metadata = metadata_of(tree)
    return freed + remove_below(metadata.parent, metadata.name)


def _remove_snapshot(repository: Repository, tree: Path) -> Freed:
    """A snapshot; the checksums of a predecessor's, which lie with those of the day trees, go with it."""
    store, stamp = StoreRepository(tree.parent), tree.name.removeprefix(SNAPSHOT_PREFIX)
    freed = Freed()
    if LEGACY_PATTERN.fullmatch(stamp):
        freed = remove_below(store.root, str(store.checksums(stamp).relative_to(store.root)))
    return freed + _remove_tree_and_metadata(repository, tree)


def _remove_days(repository: Repository, path: Path) -> Freed:
    """A day tree, or all that one run copied; links on the way there are not followed."""
    store = next(store for store in stores_of(repository) if store.days in path.parents)
    version, _, entry = str(path.relative_to(store.days)).partition("/")
    name = store.checksums(version).name
    lists = f"{name}/{entry}" if entry else name
    freed = remove_below(store.days, lists)  # first: with the tree gone nobody would come for them again
    remove_empty_parents(store.days, lists)
    freed += remove_below(store.root, str(path.relative_to(store.root)))
    remove_empty_parents(store.days, str(path.relative_to(store.days)))
    return freed


def _remove_file(_: Repository, path: Path) -> Freed:
    return remove_below(path.parent, path.name)


REMOVERS: dict[str, Callable[[Repository, Path], Freed]] = {
    "snapshot": _remove_snapshot,
    "configuration": _remove_tree_and_metadata,
    "base": _remove_tree_and_metadata,
    "days": _remove_days,
}
