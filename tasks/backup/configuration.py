"""The configuration of a set as a step of `backup`."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.configuration import back_up_configuration
from alfresco_backup.backup.solr import IndexBackups, back_up_indexes
from alfresco_backup.backup.space import telling_of_a_full_disk
from alfresco_backup.host.host import Run
from alfresco_backup.repository.records import Configuration
from alfresco_backup.repository.sets import Catalogue
from tasks.backup.begin import worth_another_try


@task(name="Solr indexes", task_run_name="Solr indexes", cache_policy=NO_CACHE, retries=0)
def copy_indexes(run_: Run) -> IndexBackups:
    """Have Solr copy its indexes, before the database is copied: only an older index can catch up."""
    done = back_up_indexes(run_.host)
    for finding in done.findings:
        get_run_logger().info(finding.line)  # the report warns
    return done


@task(
    name="configuration",
    task_run_name="configuration",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=worth_another_try,
)
def copy_configuration(run_: Run, catalogue: Catalogue, indexes: IndexBackups) -> Configuration:
    """Copy keystore, shared classes and Solr backups of the host into the set."""
    with telling_of_a_full_disk(run_.host.name, run_.repository.root):
        configuration = back_up_configuration(run_, catalogue, get_run_logger().warning, indexes.made)
    parts = ", ".join(run_.host.installation.configuration_parts) or "nothing"
    get_run_logger().info(
        "configuration %s: %s; %d files, %d bytes",
        configuration.stamp,
        parts,
        configuration.files,
        configuration.bytes,
    )
    return configuration
