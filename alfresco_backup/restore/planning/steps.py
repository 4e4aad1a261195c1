"""What a restore does, how much it writes where and about how long it takes. Pure.

First the space that each file system needs, then the steps with their times, at last the speeds that earlier
restores of the host were recorded with.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.facts import HostFacts, Space, Speeds, StoreFacts
from alfresco_backup.restore.planning.plan import (
    ContentSource,
    DatabasePlan,
    PlannedStep,
    RestorePlan,
    SpaceNeed,
    Step,
    StorePlan,
    Target,
)
from alfresco_backup.times import for_people_and_utc, size_for_people

WAL_KEPT_IN_REPLAY = 1 << 30
"""What recovery keeps in pg_wal at most: it removes segments at restart points (max_wal_size, 1 GB)."""
ENOUGH_TO_JUDGE = 256 << 20


@dataclass(frozen=True)
class Write:
    """Bytes that a restore writes below a path; `known` is False where their number was not recorded."""

    path: Path
    bytes: int
    why: str
    known: bool = True

    @property
    def words(self) -> str:
        return f"{self.why} {size_for_people(self.bytes) if self.known else '(size unknown)'}"


def space_needs(
    database: DatabasePlan | None, content: Iterable[StorePlan], facts: HostFacts
) -> tuple[SpaceNeed, ...]:
    """What is written to each file system. Raises Refused when one has too little space."""
    writes = [*(_database_writes(database, facts) if database else ()), *_content_writes(content, facts)]
    by_device: dict[int, list[Write]] = {}
    spaces: dict[int, Space] = {}
    for write in writes:
        space = _space_of(write.path, facts.spaces)
        if space is not None:
            by_device.setdefault(space.device, []).append(write)
            spaces.setdefault(space.device, space)
    needs = tuple(
        SpaceNeed(
            items[0].path,
            spaces[device].free_bytes,
            sum(item.bytes for item in items),
            ", ".join(item.words for item in items),
        )
        for device, items in by_device.items()
    )
    short = [need for need in needs if need.needed_bytes > need.free_bytes]
    if short:
        lines = "; ".join(need.words for need in short)
        raise Refused(
            f"not enough space: {lines}. Data that earlier restores set aside can be removed by undo "
            "--discard",
            f"df -h {' '.join(shlex.quote(str(need.path)) for need in short)}",
        )
    return needs


def _database_writes(database: DatabasePlan, facts: HostFacts) -> Iterator[Write]:
    base = database.base
    parts = {file.holds: file.bytes for file in base.files}
    stored = sum(size for holds, size in parts.items() if holds == "data" or holds.isdecimal()) or 1
    outside = 0
    for space in database.tablespaces:
        size = base.database_bytes * parts.get(str(space.oid), 0) // stored if space.restored else 0
        outside += size
        if size:
            yield Write(space.location, size, f"tablespace {space.name or space.oid}")
    yield Write(database.data_directory, max(base.database_bytes - outside, 0), "database")
    replayed = min(database.segments * base.segment_size, WAL_KEPT_IN_REPLAY)
    wal = database.wal_location.source if database.wal_location else database.data_directory
    yield Write(wal, replayed, "WAL to replay")
    saved = saved_bytes(database, facts)
    if saved:
        yield Write(database.saved_wal, saved, "WAL saved that is not in the archive")


def saved_bytes(database: DatabasePlan, facts: HostFacts) -> int:
    """How much WAL a restore saves: what is on the live server only, needed or not, and what the set has."""
    base, live = database.base, facts.live.wal if facts.live else None
    from_set = len(database.set_segments) * base.segment_size
    if live is None or live.owner != base.system_identifier:
        return from_set
    archive = facts.archive
    same = facts.archive_readable and (archive.owner, archive.segment_size) == (live.owner, live.segment_size)
    archived = archive.times if same else {}
    waiting = sum(len(numbers.keys() - archived.get(line, {}).keys()) for line, numbers in live.times.items())
    return from_set + waiting * live.segment_size


def _content_writes(content: Iterable[StorePlan], facts: HostFacts) -> Iterator[Write]:
    stores = {store.name: store for store in facts.stores}
    for plan in content:
        size = content_bytes(plan, stores[plan.store])
        yield Write(plan.path, size or 0, f"content of {plan.store}", known=size is not None)


def content_bytes(plan: StorePlan, store: StoreFacts) -> int | None:
    """About how much is copied into a store: all of a snapshot, or what it has more than the store.

    None where that is unknown: the predecessor's trees, and a store that was never measured.
    """
    snapshots = [source.snapshot for source in plan.sources if source.snapshot]
    if not snapshots or any(snapshot.legacy for snapshot in snapshots):
        return None
    whole = max(snapshot.bytes for snapshot in snapshots)
    if plan.strategy == "replace" or not store.exists:
        return whole
    return max(whole - store.bytes, 0) if store.bytes is not None else None


def _space_of(path: Path, spaces: Iterable[Space]) -> Space | None:
    """The nearest place whose free space is known."""
    around = [space for space in spaces if path == space.path or path.is_relative_to(space.path)]
    return max(around, key=lambda space: len(space.path.parts), default=None)


def extract_seconds(base: BaseBackup, facts: HostFacts) -> float:
    """Extracting is no slower than the backup was: that one also compressed."""
    recorded = base.database_bytes / base.seconds if base.seconds > 1 else 0.0
    return base.database_bytes / max(facts.speeds.extract, recorded)


def replay_seconds(database: DatabasePlan, facts: HostFacts) -> float:
    """Fetching and replaying every segment."""
    return database.segments * database.base.segment_size / facts.speeds.replay


def content_seconds(plan: StorePlan, facts: HostFacts, snapshots: Iterable[Snapshot]) -> float:
    """Comparing every file of the sources, and copying what is missing at the best speed recorded."""
    store = next(item for item in facts.stores if item.name == plan.store)
    files = sum(source.snapshot.files for source in plan.sources if source.snapshot)
    recorded = [
        snapshot.new_bytes / snapshot.seconds
        for snapshot in snapshots
        if snapshot.new_bytes >= ENOUGH_TO_JUDGE and snapshot.seconds > 0
    ]
    copied = (content_bytes(plan, store) or 0) / max([facts.speeds.copy, *recorded])
    return files / facts.speeds.compare_files + copied


def check_seconds(snapshots: Iterable[Snapshot], facts: HostFacts) -> float:
    """The content check reads about as many rows as there are files."""
    files = max((snapshot.files for snapshot in snapshots), default=0)
    return files / facts.speeds.check_rows


STOP_SECONDS = 30.0
START_SECONDS = 90.0
RESTART_SECONDS = 10.0
RENAME_SECONDS = 1.0


def plan_steps(plan: RestorePlan, facts: HostFacts, catalogue: Catalogue) -> tuple[PlannedStep, ...]:
    """The steps of a plan that has everything but them."""
    steps = [PlannedStep(Step.STOP_ALFRESCO, "stop Alfresco and check that it is down", STOP_SECONDS)]
    if plan.database is not None:
        steps += _database_steps(plan.database, facts)
    steps += _content_steps(plan, facts, catalogue)
    if plan.configuration is not None:
        what = f"compare keystore and configuration with those of backup {plan.configuration.stamp}"
        steps.append(PlannedStep(Step.COMPARE_CONFIGURATION, what, RENAME_SECONDS))
    if plan.indexes:
        steps.append(PlannedStep(Step.SET_ASIDE_INDEXES, _index_words(plan), RENAME_SECONDS))
    if plan.database is not None:
        what = "restart PostgreSQL with its normal pg_hba.conf (until now only the restore could connect)"
        steps.append(PlannedStep(Step.OPEN_DATABASE, what, RESTART_SECONDS))
    if plan.start_alfresco:
        steps.append(PlannedStep(Step.START_ALFRESCO, "start Alfresco", START_SECONDS))
    return tuple(steps)


def _index_words(plan: RestorePlan) -> str:
    back = [index for index in plan.indexes if index.copy]
    if not back or plan.database is None:
        return (
            "set the Solr indexes aside: Solr rebuilds them from all documents, which takes hours on a large "
            "host; searches are incomplete meanwhile"
        )
    stamp, begun = plan.database.base.stamp, for_people_and_utc(plan.database.base.started_at)
    return (
        f"set the Solr indexes aside and put back those that Solr copied for backup {stamp}: "
        f"{', '.join(str(index.source) for index in back)}; Solr catches up with what was committed since "
        f"{begun}, and rebuilds what is not named"
    )


def _database_steps(database: DatabasePlan, facts: HostFacts) -> Iterator[PlannedStep]:
    yield PlannedStep(Step.STOP_POSTGRESQL, "stop PostgreSQL and check that it is down", STOP_SECONDS)
    what = _save_words(database, facts)
    seconds = RENAME_SECONDS + saved_bytes(database, facts) / facts.speeds.copy
    yield PlannedStep(Step.SAVE_WAL, what, seconds)
    aside = [database.set_aside, *(space.set_aside for space in database.tablespaces)]
    aside += [database.wal_location.target] if database.wal_location else []
    named = [path for path in aside if path is not None]
    if named:
        what = "rename the present data to " + ", ".join(str(path) for path in named)
        yield PlannedStep(Step.SET_ASIDE_DATABASE, what, RENAME_SECONDS)
    base = database.base
    size = size_for_people(base.database_bytes)
    what = f"extract base backup {base.stamp} ({size}) into {database.data_directory}"
    yield PlannedStep(Step.EXTRACT_DATABASE, what, extract_seconds(base, facts))
    what = f"write recovery settings: {target_words(database.target, database)}"
    yield PlannedStep(Step.WRITE_RECOVERY_SETTINGS, what, RENAME_SECONDS)
    wal = f"{database.segments} WAL segments, {database.first_segment} to {database.last_segment}"
    what = (
        f"start PostgreSQL for the restore only, replay {wal}, wait for promotion, compare the state "
        "reached with the target"
    )
    yield PlannedStep(Step.RECOVER_DATABASE, what, STOP_SECONDS + replay_seconds(database, facts))


def _content_steps(plan: RestorePlan, facts: HostFacts, catalogue: Catalogue) -> Iterator[PlannedStep]:
    moved = [item for item in plan.content if item.set_aside is not None]
    if moved:
        what = "rename " + ", ".join(f"{item.path} to {item.set_aside}" for item in moved)
        yield PlannedStep(Step.SET_ASIDE_CONTENT, what, RENAME_SECONDS)
    if plan.content:
        what = "; ".join(_store_in_short(item) for item in plan.content)
        seconds = sum(content_seconds(item, facts, catalogue.snapshots) for item in plan.content)
        yield PlannedStep(Step.RESTORE_CONTENT, what, seconds)
    if plan.database is not None or facts.live is not None:
        what = "check that every document of the database has its content file, of the right size"
        yield PlannedStep(
            Step.CHECK_CONTENT, what, RENAME_SECONDS + check_seconds(catalogue.snapshots, facts)
        )


def _save_words(database: DatabasePlan, facts: HostFacts) -> str:
    count = len(database.set_segments)
    taken = f"extract {count} WAL segments from the backup" if count else ""
    if database.received_segments:
        copied = f"copy {received_words(database)} from the WAL receiver"
        taken = f"{taken}, {copied}" if taken else copied
    if facts.live is None:
        return taken or "nothing: there is no server whose WAL could be saved"
    needed = f" ({len(database.live_segments)} segments are needed)" if database.live_segments else ""
    folder = facts_of(database.base.postgresql_version).wal_directory
    saved = f"copy WAL that was never archived from {folder}{needed}"
    return f"{saved}, {taken}" if taken else saved


def received_words(database: DatabasePlan) -> str:
    """The segments that only the WAL receiver has, for people."""
    names = database.received_segments
    several = len(names) > 1
    words = f"{len(names):,} WAL segments" if several else f"WAL segment {names[0]}"
    last = f", {database.unfinished} as far as it was received" if several else ", as far as it was received"
    return f"{words}{last if database.unfinished else ''}"


def target_words(target: Target, database: DatabasePlan) -> str:
    """Where recovery ends, for people."""
    line = f"on timeline {database.timeline}"
    if target.kind == "immediate":
        return f"the end of base backup {database.base.stamp} {line}"
    if target.kind == "end-of-wal":
        state = f", which is the state at {for_people_and_utc(target.time)}" if target.time else ""
        return f"the end of all WAL {line}{state}"
    if target.time is None:
        raise ValueError("a target of kind time has a time")
    return f"{for_people_and_utc(target.time)} {line}"


def store_words(plan: StorePlan) -> str:
    """What is done to a store, for people."""
    sources = ", then ".join(_source_words(item, plan) for item in plan.sources)
    if plan.strategy == "replace":
        return f"copy all of {plan.path} from {sources}"
    return f"copy missing or different files into {plan.path}, delete nothing, from {sources}"


def _store_in_short(plan: StorePlan) -> str:
    stamps = [item.snapshot.stamp for item in plan.sources if item.snapshot]
    return f"{plan.strategy} {plan.store} from snapshot{'s' if len(stamps) > 1 else ''} {', '.join(stamps)}"


def _source_words(source: ContentSource, plan: StorePlan) -> str:
    if source.snapshot is None:
        return f"the store set aside at {plan.set_aside}" if plan.set_aside else "the present store"
    started = for_people_and_utc(source.snapshot.started_at)
    return f"snapshot {source.snapshot.stamp} (started {started})"


ENOUGH_BYTES = 256 << 20
ENOUGH_COUNT = 20_000
_MEASURED: tuple[tuple[str, str, Step, int], ...] = (
    ("extract", "database_bytes", Step.EXTRACT_DATABASE, ENOUGH_BYTES),
    ("replay", "wal_bytes", Step.RECOVER_DATABASE, ENOUGH_BYTES),
    ("copy", "content_bytes", Step.RESTORE_CONTENT, ENOUGH_BYTES),
    ("check_rows", "documents_checked", Step.CHECK_CONTENT, ENOUGH_COUNT),
)


def recorded_speeds(reports: Iterable[Mapping[str, Any]]) -> Speeds:
    """The speeds of the newest report that did enough of each kind of work; guesses for the rest.

    `reports` are those of finished restores (recovery/report.report_document), oldest first.
    """
    speeds = Speeds()
    for report in reports:
        steps = report.get("steps", {})
        for name, amount_name, step, enough in _MEASURED:
            amount, seconds = report.get(amount_name) or 0, steps.get(step.value) or 0
            if amount >= enough and seconds > 0:
                speeds = replace(speeds, **{name: amount / seconds})
        compared, seconds = report.get("content_compared") or 0, steps.get(Step.RESTORE_CONTENT.value) or 0
        if compared >= ENOUGH_COUNT and seconds > 0 and not report.get("content_bytes"):
            speeds = replace(speeds, compare_files=compared / seconds)
    return speeds
