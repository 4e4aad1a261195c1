"""Preflight: everything that could stop a backup is looked at before anything is copied."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.findings import Finding, findings_rows
from alfresco_backup.host.host import Run
from alfresco_backup.preflight.host import inspect_host
from alfresco_backup.preflight.rules import refuse_on_errors
from alfresco_backup.repository.sets import Catalogue
from tasks.runs.history import publish_table


@task(name="check-host", task_run_name="preflight", cache_policy=NO_CACHE)
def check_host(run_: Run, components: Sequence[str], catalogue: Catalogue) -> list[Finding]:
    """Look at tools, server, places and space; prove that archiving works. Errors stop the run here."""
    findings = inspect_host(run_, components, catalogue)
    name = run_.host.name
    publish_table(name, findings_rows(findings), "preflight", f"Preflight of {name}")
    logger = get_run_logger()
    for finding in findings:
        if finding.level == "warning":
            logger.warning(finding.with_hint)
    refuse_on_errors(findings)
    logger.info("preflight: %d checks, no errors", len(findings))
    return findings
