"""What a drill has proven: an artifact, and a note beside the base backup it was made of."""

from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from alfresco_backup.content_check import ContentCheckResult
from alfresco_backup.durable import write_json
from alfresco_backup.host import Run
from alfresco_backup.stamps import duration_for_people, for_people, for_people_and_utc, utc_now
from tasks.drill import Drill, Looked
from tasks.recovery import Reached

PROVEN = "proven.json"


@task(name="drill-report", cache_policy=NO_CACHE, retries=0)
def report_drill(
    run_: Run, drill: Drill, reached: Reached, looked: Looked, checked: ContentCheckResult
) -> tuple[str, str]:
    """Publish the report and note the proof; returns its gist and its text. Raises DocumentsMissing."""
    text = drill_markdown(run_, drill, reached, looked, checked)
    create_markdown_artifact(text, key="restore-drill")
    checked.demand_complete()
    base = drill.plan.database.base
    write_json(base.path / PROVEN, proof(run_, drill, looked, checked))
    return f"base {base.stamp} restores: {reached.sentence()}; {checked.sentence()}", text


def rto_seconds(drill: Drill) -> float:
    """How long a restore of the database would have taken: what only proves it does not count."""
    return sum(drill.seconds.get(name, 0.0) for name in ("extract", "recover"))


def proof(run_: Run, drill: Drill, looked: Looked, checked: ContentCheckResult) -> dict[str, Any]:
    """What is kept: when, how far, how long, how many documents."""
    return {
        "stamp": run_.stamp,
        "proven_at": utc_now().isoformat(),
        "moment": drill.plan.moment.isoformat(),
        "newest_commit": looked.newest_commit.astimezone(UTC).isoformat() if looked.newest_commit else "",
        "rto_seconds": rto_seconds(drill),
        "steps": drill.seconds,
        "verified": [item for item in drill.verified if item],
        "rows": looked.rows,
        "documents": checked.checked,
        "missing": checked.lost,
        "found_in": dict(checked.found_in),
    }


def drill_markdown(
    run_: Run, drill: Drill, reached: Reached, looked: Looked, checked: ContentCheckResult
) -> str:
    base = drill.plan.database.base
    newest = _moment(looked.newest_commit)
    lines = [
        f"# Restore drill of base {base.stamp}",
        "",
        f"**{checked.sentence()}**",
        "",
        f"- asked for: {for_people_and_utc(drill.plan.moment)}",
        f"- reached: {reached.sentence()}",
        f"- newest transaction of Alfresco in it: {newest}",
        f"- restoring the database took {duration_for_people(rto_seconds(drill))} (RTO without content)",
        *(f"- {item}" for item in drill.verified if item),
        *(f"- {count:,} documents found in {name}" for name, count in checked.found_in.items()),
        *(f"- all findings: `{checked.csv}`" for _ in [0] if checked.csv),
        "",
        "| step | duration |",
        "|---|---|",
        *(f"| {name} | {duration_for_people(seconds)} |" for name, seconds in drill.seconds.items()),
        "",
        "| table | rows |",
        "|---|---|",
        *(f"| `{name}` | {count:,} |" for name, count in looked.rows.items()),
    ]
    return "\n".join(lines) + "\n"


def _moment(moment: datetime | None) -> str:
    return for_people(moment) if moment else "none"
