"""What automations notice, looked at again before anybody is woken up; and what they may have missed."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host
from alfresco_backup.notify.deliver import why_nobody_is_told
from alfresco_backup.notify.messages import failure_mail, overdue_mail
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.commands import prefect_command
from alfresco_backup.status.freshness import judge_freshness, overdue_facts, restorable_window
from alfresco_backup.times import utc_now
from tasks.alerts.facts import SETTLED, gather_facts, mark, mark_mailed
from tasks.alerts.hooks import send_alert
from tasks.alerts.lost_runs import (
    RUN_PREFIX,
    end_lost,
    failed_runs_of,
    read_run,
    remain_silent,
    runs_under_way,
    untold_runs,
)

NOTIFY = "notify"
REPEATED = "repeated"
"""Tag of a run of `notify` that failed and whose work a later one has done."""
PATIENCE_SECONDS = 75.0  # more than two heartbeats of 30 s
SILENT_SECONDS = 90.0  # as in prefect.yaml
QUIET = timedelta(minutes=10)
"""More than a process takes to start, or a server to come back, on the slowest machine."""
LOOK_BACK = timedelta(hours=24)


@task(name="tell-overdue", task_run_name="look for overdue backups", cache_policy=NO_CACHE)
def tell_overdue(host: Host) -> str:
    """Mail that the newest complete set is too old, if it is. Returns what was found and done."""
    return _tell_overdue(host)


def _tell_overdue(host: Host) -> str:
    now = utc_now()
    catalogue = read_catalogue(host.repository)
    freshness = judge_freshness(catalogue, host.settings, now)
    if not freshness.overdue:
        return f"all is well: {freshness.sentence}"
    get_run_logger().error(freshness.sentence)
    if why_nobody_is_told(host.settings):
        return f"{freshness.sentence}; e-mail alerts are disabled"
    window = restorable_window(host.settings, catalogue, now)
    facts = overdue_facts(host.settings, freshness, window, "flow notify", now)
    alert = overdue_mail(facts, host.settings.backup_max_age_hours)
    return f"{freshness.sentence}; {send_alert(alert, host.settings, get_run_logger())}"


@task(name="tell-silent", task_run_name="look after the silent run", cache_policy=NO_CACHE)
def tell_silent(host: Host, run: str) -> str:
    """Give a silent run another minute; then show it as crashed and mail it. Returns what was found."""
    run_id = _run_id(run)
    since = utc_now() - timedelta(seconds=SILENT_SECONDS)
    with get_client(sync_client=True) as client:
        flow_run = _read(client, run_id, run)
        if not _has_ended(flow_run) and remain_silent(client, [flow_run], PATIENCE_SECONDS):
            state = end_lost(client, flow_run, since)
            if state is not None:
                told = _tell_lost(host, client, flow_run, state)
                return f'"{flow_run.name}" sends no heartbeat and is shown as {state.name}; {told}'
        flow_run = _read(client, run_id, run)
    if _has_ended(flow_run):
        return f'"{flow_run.name}" has ended: {flow_run.state_name}'
    return f'"{flow_run.name}" is alive'


@task(name="look-after-runs", task_run_name="look after runs", cache_policy=NO_CACHE)
def look_after_runs(host: Host) -> str:
    """End and mail what no automation saw to its end. Returns what was found and done.

    An automation speaks once, and only of a run that has lived: not of one whose worker was killed before it
    started, nor again when `notify` itself was killed, or the mail server was away. So what is the case is
    looked at here, and what is still to be told is told. Raises AlertNotSent; the next look tries again.
    """
    return settle_runs(host, QUIET, PATIENCE_SECONDS)


def settle_runs(host: Host, quiet: timedelta, patience: float) -> str:
    """look_after_runs for runs that have been silent for `quiet`, and are for `patience` seconds more."""
    now = utc_now()
    told = []
    with get_client(sync_client=True) as client:
        lost = remain_silent(client, runs_under_way(client, host.name, quiet), patience)
        ended = [(run, state) for run in lost if (state := end_lost(client, run, now - quiet))]
        late = untold_runs(client, host.name, now - LOOK_BACK)
        for run, state in [*ended, *((run, run.state) for run in late if run.state)]:
            told.append(f'"{run.name}": {state.message}; {_tell_lost(host, client, run, state)}')
        failed = failed_runs_of(client, host.name, NOTIFY, now - LOOK_BACK)
        overdue = [run for run in failed if run.parameters.get("reason") == "overdue"]
        if missed := [run for run in overdue if REPEATED not in run.tags]:
            told.append(_tell_overdue(host))
            for run in missed:
                mark(run, REPEATED)
    for sentence in told:
        get_run_logger().warning(sentence)
    return "; ".join(told) or "all runs are alive or have ended; every lost run was reported"


def _tell_lost(host: Host, client: SyncPrefectClient, flow_run: FlowRun, state: State[Any]) -> str:
    """Mail the end of a lost run. Not of `notify`: the next check reports what this one could not."""
    flow_name = client.read_flow(flow_run.flow_id).name
    if flow_name == NOTIFY:
        mark(flow_run, SETTLED)
        return "the next check reports what this one could not"
    if why_nobody_is_told(host.settings):
        mark(flow_run, SETTLED)
        return "e-mail alerts are disabled"
    alert = failure_mail(gather_facts(host, flow_run, state, flow_name))
    return f"{send_alert(alert, host.settings, get_run_logger())}{mark_mailed(flow_run)}"


def _has_ended(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_final()


def _run_id(run: str) -> UUID:
    try:
        return UUID(run.removeprefix(RUN_PREFIX))
    except ValueError as error:
        list_runs = prefect_command("flow-run", "ls")
        raise Refused(f"run={run!r}: the ID of a flow run is expected", list_runs) from error


def _read(client: SyncPrefectClient, run_id: UUID, run: str) -> FlowRun:
    found = read_run(client, run_id)
    if found is None:
        raise Refused(f"run={run!r}: there is no such flow run", prefect_command("flow-run", "ls"))
    return found
