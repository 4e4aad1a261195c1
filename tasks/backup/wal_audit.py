"""The audit of the WAL archive as flows make it: reported, and refused where restores are endangered."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import ArchivingBroken
from alfresco_backup.host.host import Host
from alfresco_backup.streaming.report import streaming_of
from alfresco_backup.times import utc_now
from alfresco_backup.wal.audit import WalAudit
from alfresco_backup.wal.audit_table import audit_markdown, window_rows
from alfresco_backup.wal.observe import audit_host
from tasks.runs.history import publish_markdown, publish_table


@task(name="audit-wal", task_run_name="audit of the WAL archive", cache_policy=NO_CACHE)
def audit_wal(host: Host) -> str:
    """Audit the WAL archive and say what can be restored, in one sentence. Findings do not fail the run."""
    result = with_streaming(host, audit_host(host))
    publish_audit(host, result)
    problems = "; ".join(item.line for item in result.errors)
    return f"{result.summary}; {problems}" if problems else result.summary


@task(name="inspect-wal", task_run_name="audit of the WAL archive", cache_policy=NO_CACHE)
def inspect_wal(host: Host) -> WalAudit:
    """Audit the WAL archive and report it."""
    result = with_streaming(host, audit_host(host))
    publish_audit(host, result)
    return result


def with_streaming(host: Host, result: WalAudit) -> WalAudit:
    """The audit with how WAL streaming goes. The disk guard looks, too."""
    report = streaming_of(host.settings, utc_now(), guard=True)
    for finding in report.findings if report else ():
        result = result.with_finding(finding)
    return result


def refuse_endangered(result: WalAudit) -> None:
    """Raise ArchivingBroken when something endangers restores: what is lost, and what to type next."""
    if result.errors:
        lines = [item.line for item in result.errors]
        raise ArchivingBroken("; ".join([*lines, result.summary]), result.errors[0].fix)


def publish_audit(host: Host, result: WalAudit) -> None:
    """Table `recovery-window`, the details as `wal-audit`, a log line for each finding that is not well."""
    publish_table(host.name, window_rows(result), "recovery-window", f"{host.name}: {result.summary}")
    publish_markdown(host.name, audit_markdown(result, host.name), "wal-audit")
    logger = get_run_logger()
    logger.info("%d files in the WAL archive; %s", result.files, result.summary)
    for finding in result.findings:
        if finding.level != "ok":
            level = logging.ERROR if finding.level == "error" else logging.WARNING
            logger.log(level, finding.with_hint)
