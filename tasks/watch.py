"""What automations notice, looked at again before anybody is woken up."""

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.filters import EventFilter
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Crashed

from alfresco_backup.alert_mail import failure_mail, overdue_mail
from alfresco_backup.catalogue import read_catalogue
from alfresco_backup.errors import Refused
from alfresco_backup.freshness import judge_freshness, overdue_facts, restorable_window
from alfresco_backup.host import Host
from alfresco_backup.smtp import wants_mail
from alfresco_backup.stamps import for_people, utc_now
from tasks.alert_facts import gather_facts, mark_mailed
from tasks.alerts import deliver

HEARTBEAT = "prefect.flow-run.heartbeat"
RUN_PREFIX = "prefect.flow-run."
PATIENCE_SECONDS = 75.0  # more than two heartbeats of 30 s
SILENT_SECONDS = 90.0  # as in prefect.yaml
POLL_SECONDS = 2.0


@task(name="tell-overdue", cache_policy=NO_CACHE)
def tell_overdue(host: Host) -> str:
    """Mail that the newest complete set is too old, if it is. Returns what was found and done."""
    now = utc_now()
    catalogue = read_catalogue(host.repository)
    freshness = judge_freshness(catalogue, host.settings, now)
    if not freshness.overdue:
        return f"all is well: {freshness.sentence}"
    get_run_logger().error(freshness.sentence)
    if not wants_mail(host.settings):
        return f"{freshness.sentence}; no mail is wanted"
    window = restorable_window(host.settings, catalogue, now)
    facts = overdue_facts(host.settings, freshness, window, "flow notify", now)
    deliver(overdue_mail(facts, host.settings.backup_max_age_hours), host.settings)
    return f"{freshness.sentence}; mail sent to {', '.join(host.settings.alert_email)}"


@task(name="tell-silent", cache_policy=NO_CACHE)
def tell_silent(host: Host, run: str) -> str:
    """Give a silent run another minute; then show it as crashed and mail it. Returns what was found and done.

    The wait keeps a server that was away, and so heard no heartbeat, from declaring healthy runs dead.
    """
    run_id = _run_id(run)
    since = utc_now()
    deadline = time.monotonic() + PATIENCE_SECONDS
    with get_client(sync_client=True) as client:
        while True:
            flow_run = _read(client, run_id, run)
            if flow_run.state is not None and flow_run.state.is_final():
                return f'"{flow_run.name}" has ended: {flow_run.state.name}'
            if _heard(client, run_id, since):
                return f'"{flow_run.name}" is alive'
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        silence = for_people(since - timedelta(seconds=SILENT_SECONDS))
        state: State[Any] = Crashed(message=f"its process was killed: no sign of life since {silence}")
        client.set_flow_run_state(run_id, state, force=True)
        flow_name = client.read_flow(flow_run.flow_id).name
    told = _mail(host, flow_run, state, flow_name)
    return f'"{flow_run.name}" sends no sign of life and is shown as crashed; {told}'


def _mail(host: Host, flow_run: FlowRun, state: State[Any], flow_name: str) -> str:
    if not wants_mail(host.settings):
        return "no mail is wanted"
    deliver(failure_mail(gather_facts(host, flow_run, state, flow_name)), host.settings)
    return f"mail sent to {', '.join(host.settings.alert_email)}{mark_mailed(flow_run)}"


def _run_id(run: str) -> UUID:
    try:
        return UUID(run.removeprefix(RUN_PREFIX))
    except ValueError as error:
        raise Refused(f"run={run!r}: the id of a flow run is expected", "prefect flow-run ls") from error


def _read(client: SyncPrefectClient, run_id: UUID, run: str) -> FlowRun:
    try:
        return client.read_flow_run(run_id)
    except ObjectNotFound as error:
        raise Refused(f"run={run!r}: there is no such flow run", "prefect flow-run ls") from error


def _heard(client: SyncPrefectClient, run_id: UUID, since: datetime) -> bool:
    """Whether the run has sent a heartbeat since that moment."""
    wanted = EventFilter.model_validate(
        {
            "occurred": {"since": since},
            "event": {"name": [HEARTBEAT]},
            "resource": {"id": [f"{RUN_PREFIX}{run_id}"]},
        }
    )
    return client.read_events(wanted, limit=1).total > 0
