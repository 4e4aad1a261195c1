"""Reads a repository, plans retention, and removes exactly what the plan says."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.postgres.wal_files import list_archive
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import (
    SNAPSHOT_PREFIX,
    Repository,
    StoreRepository,
    is_there,
    metadata_of,
)
from alfresco_backup.repository.pins import pins_of
from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.repository.sending import being_sent, no_new_notes
from alfresco_backup.retention.clock import Witnesses, clock_disagreement, file_system_time, newest_end
from alfresco_backup.retention.content import ContentLimits, content_alarm
from alfresco_backup.retention.holds import Hold, open_holds, read_holds, write_hold
from alfresco_backup.retention.inventory import read_inventory, stores_of
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import ORDER, Item, Kind, RetentionPlan, RetentionPolicy, in_words
from alfresco_backup.retention.removal import Freed, remove_below, remove_empty_parents, remove_published
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.files import fsync_directory
from alfresco_backup.times import LEGACY_PATTERN, duration_for_people, make_stamp, size_for_people, utc_now


@dataclass(frozen=True)
class RetentionResult:
    """What retention removed: things by kind, files and bytes of disk, and how long it took.

    `postponed`: why it removed nothing this time.
    """

    counts: Mapping[Kind, int]
    freed: Freed
    seconds: float
    postponed: str = ""

    def summary(self) -> str:
        if self.postponed:
            return f"Retention removed nothing this time: {self.postponed}."
        if not self.counts:
            return "Retention removed nothing."
        size, duration = size_for_people(self.freed.bytes), duration_for_people(self.seconds)
        return f"Retention removed {in_words(self.counts)} and freed {size} in {duration}."


def make_retention_plan(settings: Settings, running: str = "", now: datetime | None = None) -> RetentionPlan:
    """Read the repository and plan. The predecessor's base backups are read whatever their size.

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
            f"retention cannot list the whole repository, so nothing is removed: {error}; a backup that runs "
            "at the same time may have renamed it",
            f"ls -ld {shlex.quote(str(error.filename))}; {program_command('retention')}",
        ) from error
    for problem in catalogue.problems:
        if problem.path in places:
            raise BackupError(
                "retention cannot list the whole repository, so nothing is removed: "
                f"{problem.path} {problem.reason}",
                f"ls -ld {shlex.quote(str(problem.path))}",
            )
    return plan_retention(repository, catalogue, inventory, policy, moment)


def with_holds(
    plan: RetentionPlan, settings: Settings, running: str, server: datetime | None
) -> RetentionPlan:
    """The plan with what keeps it from being done: holds that nobody accepted, a clock that disagrees, and
    snapshots whose store lost or changed more than is usual.

    `running` is the run that plans; `server` the database server's clock, None where it does not answer. A
    new hold is not on disk yet: see note_holds. Raises BackupError when the holds cannot be listed.
    """
    repository = Repository(settings.backup_dir)
    catalogue = read_catalogue(repository, now=plan.now)
    ends = [part.stopped_at if isinstance(part, BaseBackup) else part.finished_at for part in catalogue.parts
            if part.stamp != running]  # fmt: skip
    try:
        holds = read_holds(repository)
        waiting = open_holds(holds, plan.now)
        # Who accepted a hold of the clock has looked at the time; who accepted another one has not.
        accepted = [hold.accepted_at for hold in holds if hold.accepted_at and hold.cause == "clock"]
        witnesses = Witnesses(
            newest_end([*ends, *accepted], plan.now),
            tuple(file.modified for file in list_archive(repository.wal)) if is_there(repository.wal) else (),
            server,
            file_system_time(repository.root),
        )
    except OSError as error:
        raise BackupError(
            f"what holds retention cannot be read, so nothing is removed: {error}",
            f"ls -ld {shlex.quote(str(error.filename or repository.holds))}",
        ) from error
    found = dict(_content_alarms(catalogue.snapshots, holds, ContentLimits.of(settings)))
    new = [Hold(run, "content", said, plan.now) for run, said in found.items()]
    said = clock_disagreement(plan.now, witnesses, timedelta(days=settings.clock_gap_days))
    if said and not any(hold.cause == "clock" for hold in waiting):
        new.append(Hold(running or make_stamp(plan.now), "clock", said, plan.now))
    return replace(plan, holds=(*waiting, *_named_apart(new, {hold.run for hold in holds})))


def _content_alarms(
    snapshots: Iterable[Snapshot], holds: Iterable[Hold], limits: ContentLimits
) -> Iterator[tuple[str, str]]:
    """The runs whose snapshots lost or changed too much, each with all that is to be said of it.

    Asked of every snapshot: a run may have ended before it came to its own retention.
    """
    told = {hold.run.partition("-")[0] for hold in holds if hold.cause == "content"}
    alarms: dict[str, list[str]] = {}
    for snapshot in snapshots:
        if not snapshot.legacy and snapshot.stamp not in told and (said := content_alarm(snapshot, limits)):
            alarms.setdefault(snapshot.stamp, []).append(said)
    for run, sentences in alarms.items():
        yield run, "; ".join(sentences)


def _named_apart(holds: Iterable[Hold], taken: set[str]) -> Iterator[Hold]:
    """Each with a name of its own: who accepts one of a run's holds has not looked at the others."""
    for hold in holds:
        named = hold if hold.run not in taken else replace(hold, run=f"{hold.run}-{hold.cause}")
        taken = taken | {named.run}
        yield named


def note_holds(plan: RetentionPlan) -> None:
    """Put the holds that the plan has found onto disk, where they stay until they are accepted."""
    repository = Repository(plan.root)
    known = {hold.run for hold in read_holds(repository)}
    for hold in plan.holds:
        if hold.run not in known:
            write_hold(repository, hold)


def carry_out(plan: RetentionPlan) -> RetentionResult:
    """Do exactly the plan. Raises Refused for a plan on hold, and when the repository has changed since.

    What refers goes before what it refers to, so an interruption leaves nothing that looks like a backup
    and is none. An item that cannot be removed ends the work after its kind, with an error naming all.
    """
    started = time.monotonic()
    if plan.holds:
        raise Refused(plan.holds[0].said, plan.holds[0].fix)
    freed = Freed()
    counts: Counter[Kind] = Counter()
    with no_new_notes(Repository(plan.root)):
        refuse_stale_plan(plan)
        if stamp := _sent_since(plan):
            said = f"{stamp}, which was to be removed, is being sent off-site since"
            return RetentionResult({}, freed, time.monotonic() - started, said)
        for kind in ORDER:
            items = [item for item in plan.removals if item.kind == kind]
            if items:
                freed += _remove_kind(Repository(plan.root), items)
                counts[kind] = len(items)
    return RetentionResult(dict(counts), freed, time.monotonic() - started)


def _sent_since(plan: RetentionPlan) -> str:
    """A backup ID that the plan touches and that is being sent off-site since it was made; or empty."""
    late = being_sent(Repository(plan.root)) - plan.sending
    touched = [str(item.path.relative_to(plan.root)) for item in plan.removals] if late else []
    return next((stamp for stamp in sorted(late) if any(stamp in path for path in touched)), "")


def refuse_stale_plan(plan: RetentionPlan) -> None:
    """Raise Refused unless everything the plan keeps is still there and nothing was added or pinned."""
    catalogue = read_catalogue(Repository(plan.root), now=plan.now)
    listed = {part.path for part in catalogue.parts}
    planned = {item.path: item for item in plan.items if item.kind in {"base", "snapshot", "configuration"}}
    lost = [path for path, item in planned.items() if item.keep and path not in listed]
    lost += [path for path in plan.must_remain if path not in listed]
    added = listed - planned.keys()
    pinned = pins_of(Repository(plan.root)).keys() - plan.pinned
    changed = [f"{path}, which the plan keeps, is no complete backup any more" for path in lost]
    changed += [f"set {stamp} was pinned after the plan was made" for stamp in sorted(pinned)]
    changed += [f"{path} appeared after the plan was made" for path in sorted(added)]
    if changed:
        raise Refused(f"{changed[0]}; nothing was removed", program_command("retention"))


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
            f"retention stopped: {len(failures)} things could not be removed:\n{shown}",
            _hint_after(repository.root, *failures[0]),
        )
    return freed


def _hint_after(root: Path, path: Path, error: OSError) -> str:
    """A backup made once as root leaves folders of root's, which the account of other runs cannot remove."""
    if isinstance(error, PermissionError) and os.geteuid():
        return f"find {shlex.quote(str(root))} -xdev -user root -exec chown -h {os.geteuid()} {{}} +"
    return f"ls -ld {shlex.quote(str(path))}"


def _remove_tree_and_metadata(_: Repository, tree: Path) -> Freed:
    """A snapshot, a configuration or a base, then the metadata beside it."""
    freed = remove_published(tree)
    metadata = metadata_of(tree)
    return freed + remove_below(metadata.parent, metadata.name)


def _remove_snapshot(repository: Repository, tree: Path) -> Freed:
    """A snapshot; the checksums of a predecessor's, which are with those of the day trees, go with it."""
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
    freed = remove_below(store.days, lists)  # first: with the tree gone they would stay for ever
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
