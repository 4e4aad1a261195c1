"""A plan as people and programs read it: markdown that reads well on a terminal, too, rows, JSON. Pure."""

from collections.abc import Iterator
from typing import Any

from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.planning.plan import DatabasePlan, RestorePlan, StorePlan
from alfresco_backup.restore.planning.steps import store_words, target_words
from alfresco_backup.times import duration_for_people, for_people, for_people_and_utc, size_for_people

SCHEMA = 1


def plan_markdown(plan: RestorePlan) -> str:
    """The whole plan: what it restores, its steps, what is set aside, space, what is lost, what to weigh."""
    blocks = [
        f"# Plan {plan.stamp}: restore-{plan.kind} of {plan.host}",
        f"It takes about {duration_for_people(plan.seconds)}. Nothing has been touched yet.",
        "## What is restored\n\n" + "\n".join(f"- {line}" for line in _what(plan)),
        f"## What is lost\n\n{_sentence(plan.lost)}",
        "## Steps\n\n" + "\n".join(_steps(plan)),
    ]
    if plan.set_aside:
        moves = "\n".join(f"- `{move.source}` becomes `{move.target.name}`" for move in plan.set_aside)
        blocks.append(f"## What is set aside, beside where it lies\n\n{moves}")
    if plan.space:
        blocks.append("## Space\n\n" + _table(space_rows(plan)))
    if plan.warnings:
        blocks.append("## To weigh\n\n" + "\n".join(f"- {_sentence(line)}" for line in plan.warnings))
    blocks.append(f"## What could be restored\n\n{_sentence(plan.reachable)}")
    return "\n\n".join(blocks) + "\n"


def plan_rows(plan: RestorePlan) -> list[dict[str, str]]:
    """The steps as rows of a table."""
    return [
        {
            "step": f"{number}. {planned.step.value}",
            "what it does": planned.what,
            "about": duration_for_people(planned.seconds),
        }
        for number, planned in enumerate(plan.steps, 1)
    ]


def space_rows(plan: RestorePlan) -> list[dict[str, str]]:
    """What each file system has to take, as rows of a table."""
    return [
        {
            "file system of": str(need.path),
            "needed": size_for_people(need.needed_bytes),
            "free": size_for_people(need.free_bytes),
            "for": need.why,
        }
        for need in plan.space
    ]


def plan_document(plan: RestorePlan) -> dict[str, Any]:
    """The plan for programs: `restore.py --json`. Times in ISO 8601 with offset, sizes in bytes."""
    return {
        "schema": SCHEMA,
        "stamp": plan.stamp,
        "host": plan.host,
        "kind": plan.kind,
        "database": _database_document(plan.database) if plan.database else None,
        "content": [_store_document(store) for store in plan.content],
        "configuration": plan.configuration.stamp if plan.configuration else None,
        "start_alfresco": plan.start_alfresco,
        "steps": [
            {"step": planned.step.value, "what": planned.what, "seconds": round(planned.seconds, 1)}
            for planned in plan.steps
        ],
        "seconds": round(plan.seconds, 1),
        "set_aside": [{"source": str(move.source), "target": str(move.target)} for move in plan.set_aside],
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
        "reachable": plan.reachable,
        "warnings": list(plan.warnings),
    }


def _what(plan: RestorePlan) -> Iterator[str]:
    if plan.database is not None:
        database, base = plan.database, plan.database.base
        yield f"database: {target_words(database.target, database)}"
        yield (
            f"from base {base.stamp}, which ended at {for_people_and_utc(base.stopped_at)}"
            f"{', made by the predecessor' if base.legacy else ''}"
        )
        sources = ", then ".join(f"`{path}`" for path in database.wal_sources)
        yield f"with {database.segments:,} WAL segments from {sources}"
        if database.wal_location is not None:
            folder = facts_of(base.postgresql_version).wal_directory
            yield f"{folder} in `{database.wal_location.source}`, outside the data directory, as it is now"
        for space in database.tablespaces:
            yield f"tablespace {space.name or space.oid} in `{space.location}`"
    else:
        yield "database: left as it is"
    for store in plan.content:
        yield f"{store.store} ({store.strategy}): {store_words(store)}"
    if not plan.content:
        yield "content: left as it is, and checked against the database"
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
        "base": database.base.stamp,
        "postgresql_version": database.base.postgresql_version,
        "programs": str(database.programs),
        "target": target.kind,
        "target_time": target.time.isoformat() if target.time else None,
        "timeline": database.timeline,
        "first_segment": database.first_segment,
        "last_segment": database.last_segment,
        "segments": database.segments,
        "wal_sources": [str(path) for path in database.wal_sources],
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
            {"role": source.role, "snapshot": source.snapshot.stamp if source.snapshot else None}
            for source in store.sources
        ],
    }


def _table(rows: list[dict[str, str]]) -> str:
    """A markdown table whose columns line up, so that it reads well without rendering, too."""
    heads = list(rows[0])
    cells = [heads, *([row[head].replace("|", "\\|") for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    widths[-1] = len(heads[-1])
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    ]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
