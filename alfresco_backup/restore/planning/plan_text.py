"""A plan for people, as markdown that reads well on a terminal, and for programs, as JSON. Pure."""

from collections.abc import Iterator
from typing import Any

from alfresco_backup.findings import finding_documents, findings_markdown
from alfresco_backup.pages import page
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.planning.plan import DatabasePlan, RestorePlan, StorePlan
from alfresco_backup.restore.planning.steps import received_words, store_words, target_words
from alfresco_backup.times import duration_for_people, for_people, for_people_and_utc, size_for_people


def plan_markdown(plan: RestorePlan) -> str:
    """The whole plan: what it restores, what is lost, its steps, what is set aside, space, warnings."""
    return page(
        f"Plan {plan.restore_id}: restore-{plan.kind} of {plan.host}",
        f"Takes about {duration_for_people(plan.seconds)}. Nothing has been changed yet.",
        "It cannot be executed until the errors below are fixed." if plan.obstacles else "",
        "\n".join(findings_markdown(plan.obstacles)).strip(),
        ("What is restored", _what(plan)),
        ("What is lost", _sentence(plan.lost)),
        ("Steps", _steps(plan)),
        ("What is set aside", (f"`{move.source}` becomes `{move.target.name}`" for move in plan.set_aside)),
        ("Space", (need.words for need in plan.space)),
        ("Warnings", map(_sentence, plan.warnings)),
        ("What is restorable", _sentence(plan.restorable)),
    )


def plan_document(plan: RestorePlan) -> dict[str, Any]:
    """The plan for programs: `restore --json`. Times in ISO 8601 with offset, sizes in bytes."""
    return {
        "restore_id": plan.restore_id,
        "host": plan.host,
        "kind": plan.kind,
        "database": _database_document(plan.database) if plan.database else None,
        "content": [_store_document(store) for store in plan.content],
        "fetched_bytes": plan.fetched_bytes if plan.fetched else None,
        "configuration_backup_id": plan.configuration.stamp if plan.configuration else None,
        "start_alfresco": plan.start_alfresco,
        "steps": [
            {"step": planned.step.value, "what": planned.what, "seconds": round(planned.seconds, 1)}
            for planned in plan.steps
        ],
        "seconds": round(plan.seconds, 1),
        "set_aside": set_aside_document(plan),
        "space": [
            {
                "path": str(need.path),
                "free_bytes": need.free_bytes,
                "needed_bytes": need.needed_bytes,
                "why": need.why,
            }
            for need in plan.space
        ],
        "lost": plan.lost,
        "restorable": plan.restorable,
        "warnings": list(plan.warnings),
        "obstacles": finding_documents(plan.obstacles),
    }


def set_aside_document(plan: RestorePlan) -> list[dict[str, str]]:
    """What a plan renames, for programs."""
    return [{"source": str(move.source), "target": str(move.target)} for move in plan.set_aside]


def _what(plan: RestorePlan) -> Iterator[str]:
    if plan.fetched:
        yield f"fetched from the off-site copy first, {size_for_people(plan.fetched_bytes)}: {plan.fetched}"
    if plan.database is not None:
        database, base = plan.database, plan.database.base
        yield f"database: {target_words(database.target, database)}"
        yield (
            f"from base backup {base.stamp}, which ended at {for_people_and_utc(base.stopped_at)}"
            f"{', made by the predecessor' if base.legacy else ''}"
        )
        sources = ", then ".join(f"`{path}`" for path in database.wal_sources)
        yield f"with {database.segments:,} WAL segments from {sources}"
        if database.received_segments:
            yield f"{received_words(database)} from `{database.received_folder}`"
        if database.wal_location is not None:
            folder = facts_of(base.postgresql_version).wal_directory
            yield f"{folder} in `{database.wal_location.source}`, outside the data directory, as it is now"
        for space in database.tablespaces:
            yield f"tablespace {space.name or space.oid} in `{space.location}`"
    else:
        yield "database: not changed"
    for store in plan.content:
        yield f"{store.store} ({store.strategy}): {store_words(store)}"
    if not plan.content:
        yield "content: not changed, but checked against the database"
    if plan.configuration is not None:
        yield f"configuration: compared with that of {for_people(plan.configuration.started_at)}"
    yield "Alfresco: started at the end" if plan.start_alfresco else "Alfresco: not started"


def _steps(plan: RestorePlan) -> Iterator[str]:
    """A list: a table's cells would be too wide for a terminal."""
    for number, planned in enumerate(plan.steps, 1):
        about = duration_for_people(planned.seconds)
        yield f"{number}. **{planned.step.value}** ({about}): {planned.what}"


def _database_document(database: DatabasePlan) -> dict[str, Any]:
    target = database.target
    return {
        "backup_id": database.base.stamp,
        "postgresql_version": database.base.postgresql_version,
        "programs": str(database.programs),
        "target": target.kind,
        "target_time": target.time.isoformat() if target.time else None,
        "timeline": database.timeline,
        "first_segment": database.first_segment,
        "last_segment": database.last_segment,
        "segments": database.segments,
        "wal_sources": [str(path) for path in database.wal_sources],
        "received_segments": list(database.received_segments),
        "unfinished_segment": database.unfinished or None,
        "data_directory": str(database.data_directory),
        "wal_location": str(database.wal_location.source) if database.wal_location else None,
        "tablespaces": {str(space.oid): str(space.location) for space in database.tablespaces},
    }


def _store_document(store: StorePlan) -> dict[str, Any]:
    return {
        "store": store.store,
        "path": str(store.path),
        "strategy": store.strategy,
        "sources": [
            {"role": source.role, "backup_id": source.snapshot.stamp if source.snapshot else None}
            for source in store.sources
        ],
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
