"""Checking the off-site repository, as its flow runs it."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.check import Checked, check
from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.state import log_of, note_size
from alfresco_backup.system.folders import make_folder
from alfresco_backup.times import utc_now


@task(name="check-offsite-copy", task_run_name="check of the off-site copy", cache_policy=NO_CACHE)
def check_far_side(host: Host) -> Checked:
    """Read structure and a share of the packs; compare the IDs there with the catalogue."""
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    checked = check(host, engine_of(host), utc_now(), log_of(host, "check"))
    note_size(host, checked.stored_bytes)
    get_run_logger().info("off-site copy checked: %s", checked)
    return checked
