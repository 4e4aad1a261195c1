"""Retention as flows run it: its plan is shown, and then done."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Run
from alfresco_backup.retention.apply import RetentionResult, carry_out, make_retention_plan
from alfresco_backup.retention.policy import RetentionPlan
from alfresco_backup.settings.model import Settings
from tasks.runs.history import publish_table


def enforce_retention(run_: Run) -> str:
    """Plan and apply retention at the end of a run that succeeded. Returns a sentence for the report."""
    plan = plan_retention_of(run_.settings, run_.stamp)
    return apply_retention(plan).summary()


@task(name="plan-retention", cache_policy=NO_CACHE)
def plan_retention_of(settings: Settings, running: str = "") -> RetentionPlan:
    """Decide what of the repository is kept and what goes. Changes nothing; the plan is a table artifact."""
    plan = make_retention_plan(settings, running)
    publish_table(plan.rows(), "retention-plan", plan.summary())
    logger = get_run_logger()
    logger.info(plan.summary())
    for item in plan.items:
        if item.kind == "problem":
            logger.warning("%s is no backup and is kept: %s", item.path, item.reason)
    return plan


@task(name="apply-retention", cache_policy=NO_CACHE)
def apply_retention(plan: RetentionPlan) -> RetentionResult:
    """Remove what the plan says, in its order. Repeating it after an interruption is harmless."""
    result = carry_out(plan)
    get_run_logger().info(result.summary())
    return result
