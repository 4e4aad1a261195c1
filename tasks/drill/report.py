"""The result of a drill: an artifact, and a file beside the base backup that was restored."""

import shlex
from collections.abc import Iterator
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from alfresco_backup.contentstore.check import ContentCheckResult
from alfresco_backup.errors import BackupUnsound, DocumentsMissing, NotVerified
from alfresco_backup.host.host import Run
from alfresco_backup.pages import markdown_table
from alfresco_backup.times import duration_for_people, for_people, for_people_and_utc, size_for_people
from tasks.drill.drill import DatabaseState, Drill, note_proof, proof_of
from tasks.restore.recovery import Reached
from tasks.runs.history import publish_markdown


@task(name="drill-report", task_run_name="report of the drill", cache_policy=NO_CACHE, retries=0)
def report_drill(
    run_: Run, drill: Drill, reached: Reached, looked: DatabaseState, checked: ContentCheckResult
) -> tuple[str, str]:
    """Publish the report and note the proof; returns its gist and its text.

    Raises DocumentsMissing, BackupUnsound, or NotVerified where all that was checked is sound.
    """
    text = drill_markdown(drill, reached, looked, checked)
    publish_markdown(drill.restoration.host.name, text, "restore-drill")
    base = drill.plan.database.base
    note_proof(drill, checked)
    found = "; ".join((*drill.findings, *drill.elsewhere))
    try:
        checked.require_complete()
    except NotVerified:
        pass  # it is among what could not be verified: what was found comes first
    except DocumentsMissing as error:
        raise DocumentsMissing("; ".join(filter(None, (error.message, found))), error.hint) from error
    if found:
        where = "found" if drill.findings else "found no damage in its set, but elsewhere"
        raise BackupUnsound(
            f"the restore drill of base backup {base.stamp} {where}: {found}",
            f"less {shlex.quote(str(run_.log))}",
        )
    if drill.unverified:
        words = "; ".join(error.message for error in drill.unverified)
        raise NotVerified(
            f"base backup {base.stamp} was restored, but not all of it could be verified: {words}",
            drill.unverified[0].hint,
        )
    copy = " from the off-site copy" if drill.far else ""
    return f"base backup {base.stamp} is verified{copy}: {reached.sentence()}; {checked.sentence()}", text


def drill_markdown(drill: Drill, reached: Reached, looked: DatabaseState, checked: ContentCheckResult) -> str:
    """The report. RTO is how long the database would have taken; RPO the age of its newest transaction."""
    base = drill.plan.database.base
    newest, took = _moment(looked.newest_commit), proof_of(drill, checked).rto_seconds
    lines = [
        f"# Restore drill of base backup {base.stamp}{', from the off-site copy' if drill.far else ''}",
        "",
        f"**{checked.sentence()}**",
        "",
        f"- target time: {for_people_and_utc(drill.plan.target_time)}",
        f"- reached: {reached.sentence()}",
        f"- newest transaction of Alfresco: {newest}",
        f"- restoring the database took {duration_for_people(took)} (RTO, without content)",
        *(f"- {line}" for line in _of_plan_and_content(drill)),
        *(f"- FOUND: {item}" for item in drill.findings),
        *(f"- FOUND, not in this set: {item}" for item in drill.elsewhere),
        *(f"- COULD NOT BE VERIFIED: {error.message}" for error in drill.unverified),
        *(f"- {item}" for item in drill.verified if item),
        *(f"- replaced, to keep it apart from the live server: {item}" for item in drill.replaced),
        *(f"- {count:,} documents found in {name}" for name, count in checked.found_in.items()),
        *(f"- {count:,} documents in {place} not checked" for place, count in checked.elsewhere.items()),
        *(f"- all findings: `{checked.csv}`" for _ in [0] if checked.csv),
        "",
        markdown_table(
            [
                {"step": name, "duration": duration_for_people(seconds)}
                for name, seconds in drill.seconds.items()
            ]
        ),
        "",
        markdown_table([{"table": f"`{name}`", "rows": f"{count:,}"} for name, count in looked.rows.items()]),
    ]
    return "\n".join(lines) + "\n"


def _of_plan_and_content(drill: Drill) -> Iterator[str]:
    until, age = drill.plan.restorable_until, drill.plan.rpo_seconds
    if until is not None and age is not None:
        old = duration_for_people(age)
        yield f"newest restorable time: {for_people(until)}, {old} old (RPO)"
    if drill.reread:
        yield f"{size_for_people(drill.reread.bytes)} read again: {drill.reread.sentence}"
        yield f"read longest ago: {_moment(drill.reread.oldest)}"


def _moment(moment: datetime | None) -> str:
    return for_people(moment) if moment else "none"
