"""Retention as flows run it: its plan is shown, and then done."""

from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.server import server_time
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host, Run
from alfresco_backup.retention.apply import (
    RetentionResult,
    carry_out,
    make_retention_plan,
    note_holds,
    with_holds,
)
from alfresco_backup.retention.policy import RetentionPlan
from tasks.runs.history import not_searched, publish_table


def enforce_retention(run_: Run) -> str:
    """Plan and apply retention at the end of a run that succeeded. Returns a sentence for the report.

    On hold nothing is removed: the backup is made all the same, and that is told by mail and status.
    """
    plan = plan_retention_of(run_.host, run_.stamp)
    if plan.holds:
        note_holds(plan)
        get_run_logger().warning(plan.summary())
        return plan.summary()
    return apply_retention(not_searched(plan)).summary()


@task(name="plan-retention", task_run_name="plan of the retention", cache_policy=NO_CACHE)
def plan_retention_of(host: Host, running: str = "") -> RetentionPlan:
    """Decide what of the repository is kept and what goes. Changes nothing; the plan is a table artifact."""
    plan = make_retention_plan(host.settings, running)
    plan = with_holds(plan, host.settings, running, _server_time(host))
    publish_table(host.name, plan.rows(), "retention-plan", plan.summary())
    logger = get_run_logger()
    logger.info(plan.summary())
    for item in plan.items:
        if item.kind == "problem":
            logger.warning("%s is no backup and is kept: %s", item.path, item.reason)
    return plan


def _server_time(host: Host) -> datetime | None:
    """None where the server does not answer: room may be needed while it is down."""
    try:
        return server_time(host)
    except BackupError as error:
        get_run_logger().info("the database server's clock is not compared: %s", error.message)
        return None


@task(name="apply-retention", task_run_name="retention", cache_policy=NO_CACHE)
def apply_retention(plan: RetentionPlan) -> RetentionResult:
    """Remove what the plan says, in its order. Repeating it after an interruption is harmless."""
    result = carry_out(plan)
    get_run_logger().info(result.summary())
    return result
