"""What a run leaves in Prefect's history: its name, its last words, the catalogue as it stands.

None of it may fail a run: where the server is away, a line in the log says so.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingResult
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.utilities.annotations import quote

from alfresco_backup.host.host import Host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import is_everything
from alfresco_backup.status.as_text import status_markdown, status_rows
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import parse_stamp, utc_now

T = TypeVar("T")
SET_PUBLISHED = "alfresco-backup.set.published"
ID_PUBLISHED = "alfresco-backup.id.published"
REPORT_LOST = "The run is completed. Its report could not be read; it is among the artifacts of the run."


def of_host(what: str, host_name: str) -> str:
    """A key or variable of one host among all on a server, in letters Prefect takes: `backup-sets-alf1`."""
    return f"{what}-{re.sub(r'[^a-z0-9]+', '-', host_name.lower())}"


def run_name() -> str:
    """The name of a run without a stamp, for `@flow(flow_run_name=run_name)`: `backup 2026-11-22 02:30`."""
    return f"{flow_run.flow_name} {flow_run.scheduled_start_time.astimezone():%Y-%m-%d %H:%M}"


def name_run(flow_name: str, components: Sequence[str], stamp: str) -> None:
    """Name the run after what it makes: `backup 2026-11-22 set 20261122T023000Z`, the day in local time."""
    what = flow_name if is_everything(components) else f"{flow_name} {'+'.join(components)}"
    _set_run_name(f"{what} {parse_stamp(stamp).astimezone():%Y-%m-%d} set {stamp}")


def name_restore(asked: str, stamp: str) -> None:
    """Name the run after its restore: `restore-pitr: the state at …, restore 20261123T084100Z`.

    The restore's stamp stands last: by it the log of its tools is found.
    """
    _set_run_name(f"{flow_run.flow_name}: {asked}, restore {stamp}")


def _set_run_name(name: str) -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with not_essential("the run's name"), get_client(sync_client=True) as client:
        client.set_flow_run_name(context.flow_run.id, name)
        context.flow_run.name = name


def finished(sentence: str, result: str) -> State[str]:
    """What a flow returns: completed, with a sentence for the list of runs; `result` is its return value."""
    return Completed(message=sentence, data=result)


def not_searched(value: T) -> T:
    """A task's argument as it is: Prefect looks into every field of the others, twice, for results of tasks.

    For what has as many fields as there are backups or segments. Only directly in the call of a task.
    """
    return cast(T, quote(value))


def report_of(flow: Callable[..., State[str]], **parameters: object) -> str:
    """Call a flow and give what it returns, its report. Raises what the flow raises.

    When the server's answer to a run's last word is lost, Prefect (3.9.1) asks again, is told that the run
    has ended, and no longer knows what it returned. The run is completed all the same: then REPORT_LOST.
    """
    try:
        return str(flow(**parameters))
    except MissingResult:
        return REPORT_LOST


def publish_catalogue(host: Host, stamp: str) -> None:
    """Announce what was published as `stamp`, and show what `python -m alfresco_backup status` shows.

    Artifacts: the table `backup-sets-HOST`, the whole status as `backup-status-HOST`. Two events that
    automations wait for (prefect.yaml). ID_PUBLISHED starts the off-site copy, of content alone too.
    SET_PUBLISHED keeps `no backup of …` quiet: only a complete set passes for a backup.
    """
    complete = [item.stamp for item in read_catalogue(host.repository).complete_sets]
    resource = {"prefect.resource.id": f"alfresco-backup.host.{host.name}", "stamp": stamp}
    emit_event(ID_PUBLISHED, resource)
    if stamp in complete:
        emit_event(SET_PUBLISHED, resource)
    report = read_status(host.settings, utc_now())
    words = f"{host.name}: {len(complete)} complete sets in {host.repository.root}; {report.headline}"
    publish_table(host.name, status_rows(report), "backup-sets", words)
    publish_markdown(host.name, status_markdown(report), "backup-status")


def publish_table(host_name: str, rows: list[dict[str, str]], key: str, description: str) -> None:
    """Show a table on the run's page, and as the newest of its key and host.

    A server that is away costs a warning, never the work it tells of.
    """
    with not_essential(f"the table {key}"):
        create_table_artifact(rows, key=of_host(key, host_name), description=description)


def publish_markdown(host_name: str, text: str, key: str) -> None:
    """Show a text on the run's page; like publish_table."""
    with not_essential(f"the text {key}"):
        create_markdown_artifact(text, key=of_host(key, host_name))


@contextmanager
def not_essential(what: str) -> Iterator[None]:
    """Around what only adds to the history: a server that is away or refuses costs a warning."""
    try:
        yield
    except httpx.HTTPError as error:
        get_run_logger().warning("%s could not be recorded in Prefect: %r", what, error)
