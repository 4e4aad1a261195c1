"""Runs of a schedule that could not start in time, because worker or server were away: one is enough.

Prefect's worker starts all of them (3.9.1, measured).
"""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext

from alfresco_backup.times import for_people, utc_now
from tasks.alerts.facts import work_of
from tasks.runs.history import not_essential

SCHEDULED = "auto-scheduled"
"""Tag that Prefect's scheduler gives its runs."""
AT_ONCE = 50


def newer_run_due() -> str:
    """Why this run need not do its work: a later one of its schedule is due as well. Empty: it must.

    After an outage of days all the runs that were missed start together. Only the newest does the work; the
    older ones would make the same set again, or wait for the host in vain and be mailed as failed. Runs by
    hand, and those of other parts or modes, are no concern. Where Prefect cannot be asked the run goes on.
    """
    context = FlowRunContext.get()
    own = context.flow_run if context else None
    if own is None or own.deployment_id is None or SCHEDULED not in own.tags:
        return ""
    later: list[FlowRun] = []
    with not_essential("the search for later runs"):
        later = _later_runs(own)
    if not later:
        return ""
    due = own.expected_start_time
    newest = later[0].expected_start_time
    assert due is not None and newest is not None, "scheduled runs have a time"
    instead = f"the run due {for_people(newest)} replaces it"
    return f"it was due {for_people(due)} and could not start then; {instead}"


def _later_runs(own: FlowRun) -> list[FlowRun]:
    """Scheduled runs of the same work that are due too and have not failed, newest first."""
    due = {"after_": own.expected_start_time, "before_": utc_now()}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(
                id=DeploymentFilterId.model_validate({"any_": [own.deployment_id]})
            ),
            flow_run_filter=FlowRunFilter(
                expected_start_time=FlowRunFilterExpectedStartTime.model_validate(due)
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=AT_ONCE,
        )
    return [run for run in runs if _takes_over(run, own)]


def _takes_over(run: FlowRun, own: FlowRun) -> bool:
    later = (run.expected_start_time or utc_now()) > (own.expected_start_time or utc_now())
    same = SCHEDULED in run.tags and work_of(run.parameters, {}) == work_of(own.parameters, {})
    sound = run.state is not None and (not run.state.is_final() or run.state.is_completed())
    return later and same and sound
