"""The base backup as a step of `backup`, with its progress."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.make import base_backup
from alfresco_backup.backup.space import telling_of_a_full_disk
from alfresco_backup.host.host import Run
from alfresco_backup.repository.records import BaseBackup
from tasks.backup.begin import worth_another_try
from tasks.runs.progress import Progress


@task(
    name="base-backup",
    task_run_name="base backup",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=30,
    retry_condition_fn=worth_another_try,
)
def make_base_backup(run_: Run) -> BaseBackup:
    """Copy the running database and publish the copy once it is shown to hold what a restore needs."""
    progress = Progress(run_.host.name, "base backup")
    with telling_of_a_full_disk(run_.host.name, run_.repository.root):
        backup = base_backup(run_, progress)
    progress.finish()
    get_run_logger().info(
        "base backup %s: %d bytes of database in %d bytes, %.1f s, WAL %s to %s",
        *(backup.stamp, backup.database_bytes, backup.stored_bytes, backup.seconds),
        *(backup.start_wal, backup.stop_wal),
    )
    return backup
