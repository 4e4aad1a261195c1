"""Which snapshots contain the files a database state refers to. Pure.

A file is whole on disk before its transaction commits and is removed only `orphan_protect_days` after its
last reference went. So a snapshot that started after a time T and finished before T plus that period contains
every file of that state. Together with the last one started before T it also covers files that were
purged in between. Where none started after T, the store itself has what was added last.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.backup.concerns import late_warning
from alfresco_backup.errors import Refused
from alfresco_backup.repository.records import MAIN_STORE, Snapshot
from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.restore.planning.facts import HostFacts, StoreFacts
from alfresco_backup.restore.planning.plan import ContentSource, SourceRole, StorePlan
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest, command_of
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.times import for_people_and_utc


@dataclass(frozen=True)
class ContentChoice:
    """How the stores are restored, and what to consider before."""

    stores: tuple[StorePlan, ...]
    warnings: tuple[str, ...] = ()


def set_aside_path(path: Path, stamp: str) -> Path:
    """Where a restore sets aside what it finds in place: beside it, so that renaming does it."""
    return path.with_name(f"{path.name}.before-restore-{stamp}")


def choose_content(
    request: RestoreRequest,
    catalogue: Catalogue,
    facts: HostFacts,
    backup_set: BackupSet | None,
    state_time: datetime | None,
    stamp: str,
) -> ContentChoice:
    """The sources of each store. Raises Refused when there is none for the main one.

    `backup_set` is the set that is restored (full, contentstore), `state_time` the time of the database
    state; without a set the sources are those around it.
    """
    past = [item for item in catalogue.snapshots if item.started_at <= facts.now]
    stores, warnings = [], []
    for store in facts.stores:
        snapshots = [item for item in past if item.store == store.name]
        if request.kind == "contentstore":
            sources, said = _as_recorded(request, store, snapshots, backup_set)
        elif backup_set is not None and store.name in backup_set.snapshots:
            sources, said = _of_full_set(backup_set, backup_set.snapshots[store.name], facts)
        else:
            sources, said = _around(store, snapshots, state_time or facts.now, facts)
        warnings += said
        if all(source.role == "live" for source in sources):
            if store.name == MAIN_STORE and not sources:
                raise Refused(
                    f"there is no snapshot of the content store {store.path}, and the store does not exist: "
                    "only the database can be restored, and every document would be missing",
                    command_of(replace(request, kind="postgres", contentstore="fill")),
                )
            warnings.append(f"store {store.name}: there is no snapshot to fill it from; it is left as it is")
            continue
        if store.became_roots and request.contentstore == "fill":
            warnings.append(
                f"store {store.name}: {store.path} itself belongs to root, which it did not when it was "
                "backed up; the restore does not change that. Alfresco must be able to write to it: ls -ld "
                f"{shlex.quote(str(store.path))}"
            )
        stores.append(_plan(request, store, sources, facts, stamp))
        since = None if request.kind == "contentstore" or backup_set else state_time
        warnings += _changed_since(request, store, sources, snapshots, since)
    warnings += [
        f"store {name} is not in EXTRA_CONTENT_DIRS and is not restored; it was last backed up from "
        f"{last.source} at {for_people_and_utc(last.started_at)}. If it is still in use: "
        f"{_naming({name: last}, facts)}"
        for name, last in _unnamed(past, facts).items()
    ]
    return ContentChoice(tuple(stores), tuple(warnings))


def _changed_since(
    request: RestoreRequest,
    store: StoreFacts,
    sources: Sequence[ContentSource],
    snapshots: Sequence[Snapshot],
    since: datetime | None,
) -> list[str]:
    """What changed in place since the target time, or since the snapshot of the set where that is None.

    Alfresco never does that; malware does. A fill keeps what is larger in the store than in the backup, and
    of several snapshots the larger file is taken.
    """
    chosen = [source.snapshot for source in sources if source.snapshot]
    if since is None and (request.contentstore == "replace" or not store.exists):  # exactly as backed up
        return []
    begin = since or max(item.started_at for item in chosen)
    found = [item for item in snapshots if item.changed_files and item.started_at > begin]
    if not found:
        return []
    count, first = sum(item.changed_files for item in found), found[0]
    such = f" ({first.changed[0]}{', ...' if count > 1 else ''})" if first.changed else ""
    files = f"1 file{such} was" if count == 1 else f"{count:,} files{such} were"
    exact = f". HINT: {command_of(replace(request, contentstore='replace'))}" if since is None else ""
    before = [item.stamp for item in chosen if item.started_at <= begin] if since else []
    sound = f"; snapshot {before[-1]} has them as they were" if before else ""
    return [
        f"store {store.name}: {files} changed in place later, as snapshot {first.stamp} recorded; what is "
        f"larger than it was stays as changed{sound}{exact}"
    ]


def require_named_stores(content: ContentChoice, catalogue: Catalogue, facts: HostFacts) -> None:
    """Raise Refused when a backup that is restored contains a store that no setting of this host names.

    As on a host that was set up again. A store that was given up stops only restores from before that.
    """
    stamps = {item.snapshot.stamp for plan in content.stores for item in plan.sources if item.snapshot}
    unnamed = _unnamed([item for item in catalogue.snapshots if item.stamp in stamps], facts)
    if unnamed:
        listed = ", ".join(
            f"{name} (backed up from {item.source}, in {item.stamp})" for name, item in unnamed.items()
        )
        raise Refused(
            f"the backup contains content stores that are not in EXTRA_CONTENT_DIRS: {listed}; their "
            "documents would be missing",
            _naming(unnamed, facts),
        )


def _unnamed(snapshots: Sequence[Snapshot], facts: HostFacts) -> dict[str, Snapshot]:
    """The last snapshot of each store that the settings do not name."""
    named = {store.name for store in facts.stores}
    return {item.store: item for item in snapshots if item.store not in named}


def _naming(stores: Mapping[str, Snapshot], facts: HostFacts) -> str:
    paths = {store.name: str(store.path) for store in facts.stores if store.name != MAIN_STORE}
    paths |= {name: snapshot.source for name, snapshot in stores.items()}
    value = ",".join(f"{name}={path}" for name, path in paths.items())
    return f"{edit_setting('EXTRA_CONTENT_DIRS', value)} (with the paths of this host)"


def _plan(
    request: RestoreRequest,
    store: StoreFacts,
    sources: tuple[ContentSource, ...],
    facts: HostFacts,
    stamp: str,
) -> StorePlan:
    replaces = request.contentstore == "replace" and store.exists
    if replaces and store.path in facts.mount_points:
        raise Refused(
            f"contentstore replace: {store.path} is a mount point, which cannot be set aside by renaming "
            "it; use fill, which copies what is missing and deletes nothing",
            command_of(replace(request, contentstore="fill")),
        )
    if replaces and store.mounts:
        raise Refused(
            f"contentstore replace: {', '.join(map(str, store.mounts))} is mounted in {store.path}, which "
            "cannot be set aside by renaming it: the mount would move with it; use fill, which copies what "
            "is missing and deletes nothing",
            command_of(replace(request, contentstore="fill")),
        )
    return StorePlan(
        store.name,
        store.path,
        request.contentstore,
        sources,
        set_aside_path(store.path, stamp) if replaces else None,
    )


def _as_recorded(
    request: RestoreRequest,
    store: StoreFacts,
    snapshots: Sequence[Snapshot],
    backup_set: BackupSet | None,
) -> tuple[tuple[ContentSource, ...], list[str]]:
    """Content only: a set's snapshot, or the newest of each store."""
    if request.backup == LATEST:
        newest = max(snapshots, key=_started, default=None)
        return (_sources(("newest", newest)), []) if newest else (_live_if_there(store), [])
    snapshot = backup_set.snapshots.get(store.name) if backup_set else None
    if snapshot is None:
        return _live_if_there(store), [
            f"store {store.name}: backup {request.backup} contains no snapshot of it"
        ]
    return _of_set(snapshot)


def _of_set(snapshot: Snapshot) -> tuple[tuple[ContentSource, ...], list[str]]:
    return _sources(("set", snapshot)), []


def _of_full_set(
    backup_set: BackupSet, snapshot: Snapshot, facts: HostFacts
) -> tuple[tuple[ContentSource, ...], list[str]]:
    """A set's snapshot for its database; one that finished too late may lack what was purged meanwhile."""
    base = backup_set.base
    late = late_warning(base, snapshot, facts.orphan_protect_days) if base else ""
    return _sources(("set", snapshot)), [f"store {snapshot.store}: {late}"] if late else []


def _around(
    store: StoreFacts, snapshots: Sequence[Snapshot], time: datetime, facts: HostFacts
) -> tuple[tuple[ContentSource, ...], list[str]]:
    """The first snapshot started after a time, the store itself where none was, the last one before."""
    after = min((item for item in snapshots if item.started_at >= time), key=_started, default=None)
    before = max((item for item in snapshots if item.started_at < time), key=_started, default=None)
    protected_until = time + timedelta(days=facts.orphan_protect_days)
    warnings = []
    live_needed = after is None or after.finished_at > protected_until
    if after is not None and after.finished_at > protected_until:
        warnings.append(
            f"store {store.name}: the first snapshot after the target time finished at "
            f"{for_people_and_utc(after.finished_at)}, more than {facts.orphan_protect_days:g} days later: "
            "files purged meanwhile may be missing"
        )
    if after is None:
        warnings += _without_after(store, before, time, facts)
    if facts.eager_cleanup:
        warnings.append(
            f"store {store.name}: Alfresco purges deleted files at once "
            "(system.content.eagerOrphanCleanup); a file added and deleted between two snapshots is in "
            "neither of them"
        )
    live = _live_if_there(store) if live_needed else ()
    return (*_sources(("after", after)), *live, *_sources(("before", before))), warnings


def _without_after(store: StoreFacts, before: Snapshot | None, time: datetime, facts: HostFacts) -> list[str]:
    if not store.exists:
        if before is None:
            return []
        return [
            f"store {store.name}: no snapshot started after the target time and the store does not exist; "
            f"documents added after {for_people_and_utc(before.started_at)} will be missing. A target time "
            "up to then has all its documents"
        ]
    if time + timedelta(days=facts.orphan_protect_days) < facts.now:
        return [
            f"store {store.name}: no snapshot started after the target time, which is more than "
            f"{facts.orphan_protect_days:g} days ago: files deleted since may have been purged from the store"
        ]
    return []


def _live_if_there(store: StoreFacts) -> tuple[ContentSource, ...]:
    return (ContentSource("live", None),) if store.exists else ()


def _sources(*found: tuple[SourceRole, Snapshot | None]) -> tuple[ContentSource, ...]:
    return tuple(ContentSource(role, snapshot) for role, snapshot in found if snapshot is not None)


def _started(snapshot: Snapshot) -> datetime:
    return snapshot.started_at
