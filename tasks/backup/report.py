"""What a run leaves for people: its report and the table of its parts."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.concerns import Part, warnings_about
from alfresco_backup.backup.report import backup_report, row_of
from alfresco_backup.backup.solr import IndexBackups
from alfresco_backup.host.host import Run
from alfresco_backup.streaming.report import inspect_streaming
from alfresco_backup.times import utc_now
from tasks.runs.history import publish_markdown, publish_table


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_backup(run_: Run, parts: Sequence[Part], window: str, freed: str, indexes: IndexBackups) -> str:
    """Publish the run's report and its table of parts; returns the report's text."""
    warnings = warnings_about(parts, run_.host.installation.orphan_protect_days)
    streaming = inspect_streaming(run_.host, utc_now())
    warnings += [item.with_hint for item in streaming.problems] if streaming else []
    warnings += [item.with_hint for item in indexes.findings if item.level != "ok"]
    text = backup_report(run_, [row_of(part) for part in parts], warnings, window, freed)
    rows = [row_of(part).for_people() for part in parts]
    publish_table(run_.host.name, rows, "backup-parts", f"Set {run_.stamp} of {run_.host.name}")
    publish_markdown(run_.host.name, f"{text}\n\nRaw output of the tools: `{run_.log}`\n", "backup-report")
    for warning in warnings:
        get_run_logger().warning("%s", warning)
    get_run_logger().info("set %s published in %s; %s", run_.stamp, run_.repository.root, window)
    return text
