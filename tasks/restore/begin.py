"""The first step of a restore: everything that can refuse it, then its folder and journal."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.recovery.restoration import Restoration, open_restoration


@task(name="begin-restore", task_run_name="begin the restore", cache_policy=NO_CACHE, retries=0)
def begin_restore(host: Host, plan: RestorePlan) -> Restoration:
    """Check everything that can refuse, then open the restore's folder and journal. Changes nothing else."""
    restoration = open_restoration(host, plan)
    logger = get_run_logger()
    logger.info("restore %s of %s begins; journal %s", plan.restore_id, host.name, restoration.journal.path)
    logger.info("raw output of the tools: %s", restoration.log)
    return restoration
