"""What a drill has proven: an artifact, and a note beside the base backup it was made of."""

from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from alfresco_backup.content_check import ContentCheckResult
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host import Run
from alfresco_backup.proofs import write_proof
from alfresco_backup.stamps import duration_for_people, for_people, for_people_and_utc
from tasks.drill import Drill, Looked, proof_of
from tasks.history import publish_markdown
from tasks.recovery import Reached


@task(name="drill-report", cache_policy=NO_CACHE, retries=0)
def report_drill(
    run_: Run, drill: Drill, reached: Reached, looked: Looked, checked: ContentCheckResult
) -> tuple[str, str]:
    """Publish the report and note the proof; returns its gist and its text. Raises DocumentsMissing."""
    text = drill_markdown(drill, reached, looked, checked)
    publish_markdown(text, "restore-drill")
    base = drill.plan.database.base
    write_proof(base.path, proof_of(drill, checked))
    checked.demand_complete()
    if drill.findings:
        raise BackupUnsound(
            f"the drill of base {base.stamp} has found: {'; '.join(drill.findings)}",
            f"look at the report and at {run_.log}",
        )
    return f"base {base.stamp} restores: {reached.sentence()}; {checked.sentence()}", text


def drill_markdown(drill: Drill, reached: Reached, looked: Looked, checked: ContentCheckResult) -> str:
    """The report. RTO is how long the database would have taken; RPO the age of its newest transaction."""
    base = drill.plan.database.base
    newest, took = _moment(looked.newest_commit), proof_of(drill, checked).rto_seconds
    lines = [
        f"# Restore drill of base {base.stamp}",
        "",
        f"**{checked.sentence()}**",
        "",
        f"- asked for: {for_people_and_utc(drill.plan.moment)}",
        f"- reached: {reached.sentence()}",
        f"- newest transaction of Alfresco in it: {newest}",
        f"- restoring the database took {duration_for_people(took)} (RTO, without content)",
        *(f"- FOUND: {item}" for item in drill.findings),
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
