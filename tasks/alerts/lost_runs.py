"""Runs that Prefect shows as under way though their process is gone, or was never started.

Nobody is left to end them: Prefect's worker ends only what it has started itself and still remembers (3.9.1,
measured: both killed, a new worker, Running for as long as was looked). The
server accepts the end of a run once, so of two that notice it only one tells of it.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import SetStateStatus
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from alfresco_backup.errors import NotInTime
from alfresco_backup.system.waiting import wait_until
from alfresco_backup.times import for_people, utc_now
from tasks.alerts.facts import MAILED, SETTLED

HEARTBEAT = "prefect.flow-run.heartbeat"
RUN_PREFIX = "prefect.flow-run."
UNDER_WAY = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
KILLED = "its process was killed: no heartbeat since "
NEVER_STARTED = "its process was never started: its worker ended after accepting the run at "
CANCELLED = "it was cancelled and its process is gone: no heartbeat since "
OURS = (KILLED, NEVER_STARTED, CANCELLED)
POLL_SECONDS = 2.0
AT_ONCE = 200
TELLING = timedelta(minutes=5)
"""More than it takes to send a mail: a run that ended longer ago and is not marked was told to nobody."""


def runs_under_way(client: SyncPrefectClient, host: str, quiet: timedelta) -> list[FlowRun]:
    """Runs of the host that are under way in Prefect and have given no heartbeat for so long."""
    since = utc_now() - quiet
    old = [run for run in _runs(client, host, UNDER_WAY) if run.state and run.state.timestamp < since]
    return [run for run in old if not heard(client, run, since)]


def remain_silent(client: SyncPrefectClient, runs: Iterable[FlowRun], patience: float) -> list[FlowRun]:
    """Those of the runs that give no heartbeat for `patience` seconds more.

    The wait keeps a server that was away, and so heard no heartbeat, from declaring healthy runs dead.
    """
    since = utc_now()
    silent = list(runs)

    def all_heard() -> bool:
        silent[:] = [run for run in silent if not (_moved(client, run) or heard(client, run, since))]
        return not silent

    with suppress(NotInTime):
        wait_until(all_heard, patience, "no heartbeat", every=POLL_SECONDS)
    return silent


def heard(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    """Whether the run has sent a heartbeat since that moment."""
    wanted = EventFilter.model_validate(
        {
            "occurred": {"since": since},
            "event": {"name": [HEARTBEAT]},
            "resource": {"id": [f"{RUN_PREFIX}{run.id}"]},
        }
    )
    return client.read_events(wanted, limit=1).total > 0


def end_lost(client: SyncPrefectClient, run: FlowRun, silent_since: datetime) -> State[Any] | None:
    """Show a lost run as what it is. None when the server refuses: it has ended meanwhile."""
    assert run.state
    state: State[Any] = Crashed(message=f"{KILLED}{for_people(silent_since)}")
    if run.state.type == StateType.PENDING:
        state = Crashed(message=f"{NEVER_STARTED}{for_people(run.state.timestamp)}")
    if run.state.type == StateType.CANCELLING:  # Prefect accepts no other end of it
        state = Cancelled(message=f"{CANCELLED}{for_people(silent_since)}")
    answer = client.set_flow_run_state(run.id, state)
    return state if answer.status == SetStateStatus.ACCEPT else None


def untold_runs(client: SyncPrefectClient, host: str, since: datetime) -> list[FlowRun]:
    """Runs that were shown as lost after that moment, and whose mail is still to be sent."""
    latest = utc_now() - TELLING
    return [
        run
        for run in _runs(client, host, (StateType.CRASHED, StateType.CANCELLED))
        if run.state
        and since < run.state.timestamp < latest
        and (run.state.message or "").startswith(OURS)
        and not {MAILED, SETTLED} & set(run.tags)
    ]


def failed_runs_of(client: SyncPrefectClient, host: str, flow_name: str, since: datetime) -> list[FlowRun]:
    """Runs of a flow that crashed or failed after that moment."""
    runs = _runs(client, host, (StateType.CRASHED, StateType.FAILED), flow_name)
    return [run for run in runs if run.state and run.state.timestamp > since]


def read_run(client: SyncPrefectClient, run_id: UUID) -> FlowRun | None:
    """A run as it is now; None when it was removed."""
    try:
        return client.read_flow_run(run_id)
    except ObjectNotFound:
        return None


def _moved(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run has entered another state, or is gone."""
    now = read_run(client, run.id)
    return now is None or now.state_id != run.state_id


def _runs(
    client: SyncPrefectClient, host: str, types: Iterable[StateType], flow_name: str = ""
) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])) if flow_name else None,
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[host]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=AT_ONCE,
    )
