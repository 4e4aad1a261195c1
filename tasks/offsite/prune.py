"""Pruning the off-site repository, as its flow runs it: the plan is shown, and then done."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.prune import PrunePlan
from alfresco_backup.offsite.state import log_of
from alfresco_backup.system.folders import make_folder
from alfresco_backup.times import utc_now
from tasks.runs.history import publish_table


@task(name="plan-offsite-prune", task_run_name="plan of the off-site retention", cache_policy=NO_CACHE)
def plan_prune_of(host: Host, *, damaged: bool = False) -> PrunePlan:
    """Decide what of the off-site repository stays and what may go; the plan is a table artifact."""
    plan = make_prune_plan(host, engine_of(host), utc_now(), damaged=damaged)
    publish_table(host.name, plan.rows(), "offsite-prune-plan", plan.summary())
    get_run_logger().info(plan.summary())
    return plan


@task(name="apply-offsite-prune", task_run_name="remove from the off-site copy", cache_policy=NO_CACHE)
def apply_prune(host: Host, plan: PrunePlan) -> str:
    """Remove what the plan says. Repeating it after an interruption is harmless."""
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    words = carry_out(host, engine_of(host), plan, log=log_of(host, "prune"))
    get_run_logger().info(words)
    return words
