"""The steps of a restore in their order, each with a sentence and about how long it takes. Pure."""

from collections.abc import Iterator

from alfresco_backup.restore_estimate import (
    check_seconds,
    content_seconds,
    extract_seconds,
    replay_seconds,
    saved_bytes,
)
from alfresco_backup.restore_facts import HostFacts
from alfresco_backup.restore_plan import (
    ContentSource,
    DatabasePlan,
    PlannedStep,
    RestorePlan,
    Step,
    StorePlan,
    Target,
)
from alfresco_backup.sets import Catalogue
from alfresco_backup.stamps import for_people_and_utc, size_for_people
from alfresco_backup.versions import facts_of

STOP_SECONDS = 30.0
START_SECONDS = 90.0
RESTART_SECONDS = 10.0
RENAME_SECONDS = 1.0


def plan_steps(plan: RestorePlan, facts: HostFacts, catalogue: Catalogue) -> tuple[PlannedStep, ...]:
    """The steps of a plan that has everything but them."""
    steps = [PlannedStep(Step.STOP_ALFRESCO, "stop Alfresco and prove that it is down", STOP_SECONDS)]
    if plan.database is not None:
        steps += _database_steps(plan.database, facts)
    steps += _content_steps(plan, facts, catalogue)
    if plan.configuration is not None:
        what = f"compare keystore and configuration with those of set {plan.configuration.stamp}"
        steps.append(PlannedStep(Step.COMPARE_CONFIGURATION, what, RENAME_SECONDS))
    if plan.indexes:
        what = "set the Solr indexes aside: Alfresco builds them anew, searches are incomplete meanwhile"
        steps.append(PlannedStep(Step.SET_ASIDE_INDEXES, what, RENAME_SECONDS))
    if plan.database is not None:
        what = "restart PostgreSQL as always: until here it lets in nobody but the restore"
        steps.append(PlannedStep(Step.OPEN_DATABASE, what, RESTART_SECONDS))
    if plan.start_alfresco:
        steps.append(PlannedStep(Step.START_ALFRESCO, "start Alfresco", START_SECONDS))
    return tuple(steps)


def _database_steps(database: DatabasePlan, facts: HostFacts) -> Iterator[PlannedStep]:
    yield PlannedStep(Step.STOP_POSTGRESQL, "stop PostgreSQL and prove that it is down", STOP_SECONDS)
    what = _save_words(database, facts)
    seconds = RENAME_SECONDS + saved_bytes(database, facts) / facts.speeds.copy
    yield PlannedStep(Step.SAVE_WAL, what, seconds)
    aside = [database.set_aside, *(space.set_aside for space in database.tablespaces)]
    aside += [database.wal_location.target] if database.wal_location else []
    named = [path for path in aside if path is not None]
    if named:
        what = "rename what is in place to " + ", ".join(str(path) for path in named)
        yield PlannedStep(Step.SET_ASIDE_DATABASE, what, RENAME_SECONDS)
    base = database.base
    what = (
        f"extract base {base.stamp} ({size_for_people(base.database_bytes)}) into {database.data_directory}"
    )
    yield PlannedStep(Step.EXTRACT_DATABASE, what, extract_seconds(base, facts))
    what = f"write recovery settings: {target_words(database.target, database)}"
    yield PlannedStep(Step.WRITE_RECOVERY_SETTINGS, what, RENAME_SECONDS)
    wal = f"{database.segments} WAL segments, {database.first_segment} to {database.last_segment}"
    what = f"start PostgreSQL alone, replay {wal}, wait for promotion, compare what was reached"
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
        what = "check that every document of the database has its file, with its size"
        yield PlannedStep(
            Step.CHECK_CONTENT, what, RENAME_SECONDS + check_seconds(catalogue.snapshots, facts)
        )


def _save_words(database: DatabasePlan, facts: HostFacts) -> str:
    taken = f"take {len(database.set_segments)} WAL segments out of the set" if database.set_segments else ""
    if facts.live is None:
        return taken or "nothing: there is no server whose WAL could be saved"
    needed = f" ({len(database.live_segments)} segments are needed)" if database.live_segments else ""
    folder = facts_of(database.base.postgresql_version).wal_directory
    saved = f"copy WAL that never reached the archive out of {folder}{needed}"
    return f"{saved}, {taken}" if taken else saved


def target_words(target: Target, database: DatabasePlan) -> str:
    """Where recovery ends, for people."""
    line = f"on timeline {database.timeline}"
    if target.kind == "immediate":
        return f"the end of base {database.base.stamp} {line}"
    if target.kind == "end-of-wal":
        moment = f", which is the state at {for_people_and_utc(target.time)}" if target.time else ""
        return f"the end of all WAL {line}{moment}"
    if target.time is None:
        raise ValueError("a target of kind time has a time")
    return f"{for_people_and_utc(target.time)} {line}"


def store_words(plan: StorePlan) -> str:
    """What is done to a store, for people."""
    sources = ", then ".join(_source_words(item, plan) for item in plan.sources)
    if plan.strategy == "replace":
        return f"copy all of {plan.path} from {sources}"
    return f"copy into {plan.path} what it lacks, delete nothing, from {sources}"


def _store_in_short(plan: StorePlan) -> str:
    stamps = [item.snapshot.stamp for item in plan.sources if item.snapshot]
    return f"{plan.strategy} {plan.store} from snapshot{'s' if len(stamps) > 1 else ''} {', '.join(stamps)}"


def _source_words(source: ContentSource, plan: StorePlan) -> str:
    if source.snapshot is None:
        return f"the store set aside at {plan.set_aside}" if plan.set_aside else "what is in the store now"
    started = for_people_and_utc(source.snapshot.started_at)
    return f"snapshot {source.snapshot.stamp} (started {started})"
