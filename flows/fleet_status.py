"""Flow `fleet-status`."""

from pathlib import Path
from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from alfresco_backup.cli.forms import form_field
from alfresco_backup.fleet.assess import FleetReport
from alfresco_backup.fleet.show import fleet_page, fleet_rows, fleet_text
from alfresco_backup.status.web_page import write_page
from tasks.runs.fleet import read_fleet
from tasks.runs.history import finished, publish_table, run_name


@task(name="read-fleet", cache_policy=NO_CACHE)
def collect() -> FleetReport:
    """Read what all hosts have published."""
    return read_fleet()


@flow(name="fleet-status", flow_run_name=run_name)
def fleet_status(
    page: Annotated[str, form_field("Page", "file to write as HTML, on the machine that runs this")] = "",
) -> State[str]:
    """Show all hosts of this Prefect server in one table, those in trouble first.

    Reads the state that each host's own runs have published at their end; no host is asked or logged in to.
    The table `fleet-status-all` is an artifact; the same with charts is written where `page` names a file.
    The run fails while any host is in trouble: one that has published nothing for 26 hours, or never, is.
    """
    report = collect()
    publish_table("all", fleet_rows(report), "fleet-status", report.sentence)
    if page:
        write_page(Path(page), fleet_page(report))
    if report.exit_code:
        return Failed(message=report.sentence)
    return finished(report.sentence, fleet_text(report))
