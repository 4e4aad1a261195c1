"""What a mail says of a run, gathered from Prefect and from the repository."""

import inspect
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterStartTime,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.exceptions import PrefectException
from prefect.flows import Flow
from prefect.settings import PREFECT_UI_URL

from alfresco_backup.errors import NotInTime
from alfresco_backup.host.host import Host
from alfresco_backup.notify.messages import RunFacts, headline
from alfresco_backup.offsite.engine import FarSideAway
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.status.freshness import last_good, restorable_window
from alfresco_backup.streaming.report import inspect_streaming
from alfresco_backup.system.folders import reading
from alfresco_backup.system.waiting import wait_until
from alfresco_backup.times import STAMP_PATTERN, utc_now
from tasks.runs.cancelling import ended_itself
from tasks.runs.host_lock import SKIPPED

FREQUENT = "frequent"
"""Tag of deployments that run often: no mail about a success, none about the same failure within hours."""
MAILED = "mailed"
"""Tag of a run about whose failure a mail was sent."""
SETTLED = "settled"
"""Tag of a lost run of which nobody is to be told."""
WORK_PARAMETERS = ("components", "contentstore_mode", "mode", "discard")
REMIND_AFTER = timedelta(hours=12)
LOOK_BACK_RUNS = 200
TAIL_LINES = 25
STEP_PATIENCE_SECONDS = 3.0
OUTCOMES = {
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
    StateType.CANCELLING: "was cancelled",
    StateType.CANCELLED: "was cancelled",
    StateType.COMPLETED: "completed",
}


def gather_facts(host: Host, flow_run: FlowRun, state: State[Any], flow_name: str) -> RunFacts:
    """Everything a mail says of the run. What cannot be found out is said to be unknown."""
    name, step = name_and_step(flow_run, state)
    log = find_log(host, name)
    catalogue = read_catalogue(host.repository)
    now = utc_now()
    return RunFacts(
        host=host.name,
        customer=host.settings.customer_name,
        flow=flow_name,
        run=name,
        outcome=outcome_of(state),
        moment=now,
        step=step,
        message=state.message or "",
        tail=() if state.is_completed() else tail_of(log),
        last_good=last_good(catalogue, now),
        window=restorable_window(host.settings, catalogue, now),
        streaming=streaming_words(host, now),
        link=link_to(flow_run),
        log=str(log or ""),
    )


def streaming_words(host: Host, now: datetime) -> str:
    """How far behind the commits are safe; empty where no WAL is streamed."""
    report = inspect_streaming(host, now)
    return report.sentence if report else ""


def outcome_of(state: State[Any]) -> str:
    """How a run ended, in words that follow its flow's name."""
    if ended_itself(state):
        return OUTCOMES[StateType.CANCELLED]
    return "timed out" if state.name == "TimedOut" else OUTCOMES.get(state.type, state.name or "ended")


def name_and_step(flow_run: FlowRun, state: State[Any]) -> tuple[str, str]:
    """The run's newest name, and the step at which it ended. A mail without them is better than none."""
    name = flow_run.name
    try:
        with get_client(sync_client=True) as client:
            name = client.read_flow_run(flow_run.id).name
            return name, "" if state.is_completed() else failing_step(client, flow_run)
    except (httpx.HTTPError, PrefectException):
        return name, ""


def failing_step(client: SyncPrefectClient, flow_run: FlowRun) -> str:
    """The task that failed last, else the one that had begun last; empty when none had.

    Prefect 3 records task runs by events, a moment after the fact, so they are waited for a little. Of a
    process that was killed the last ones are missing: its task may be Pending for ever.
    """
    runs: list[TaskRun] = []

    def failed() -> str:
        runs[:] = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])),
            sort=TaskRunSort.EXPECTED_START_TIME_DESC,
            limit=LOOK_BACK_RUNS,
        )
        return _last_in(runs, StateType.FAILED, StateType.CRASHED)

    with suppress(NotInTime):
        return wait_until(failed, STEP_PATIENCE_SECONDS, "no task has failed")
    return _last_in(runs, StateType.RUNNING, StateType.PENDING)


def _last_in(runs: list[TaskRun], *states: StateType) -> str:
    """The name of the last task in one of the states; the runs are given last first."""
    return next((_task_name(run) for run in runs if run.state_type in states), "")


def alarmed_before(
    host: Host, flow_run: FlowRun, flow_name: str, defaults: Mapping[str, Any] | None = None
) -> str:
    """The failure that this success ends, in words; empty when the run before was well or nobody was told.

    Only runs of the same work count, see `work_of`.
    """
    for run in earlier_runs(host, flow_run, flow_name, defaults):
        if run.state is None or run.state.name == SKIPPED:
            continue
        if run.state.is_completed():
            return ""
        if MAILED in run.tags:
            return f'run "{run.name}" {OUTCOMES.get(run.state.type, run.state.name or "")}'
    return ""


def already_mailed(
    host: Host,
    flow_run: FlowRun,
    state: State[Any],
    flow_name: str,
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """The earlier run whose mail told the same within REMIND_AFTER, with no success between; else empty."""
    for run in earlier_runs(host, flow_run, flow_name, defaults):
        if run.state is None or run.state.name == SKIPPED:
            continue
        same = same_failure(run.state.message or "", state.message or "")
        if run.state.is_completed() or not same or utc_now() - run.state.timestamp > REMIND_AFTER:
            return ""
        if MAILED in run.tags:
            return f'"{run.name}"'
    return ""


def same_failure(one: str, other: str) -> bool:
    """Whether two messages tell of the same failure: their words, or that the far side is away.

    A place that cannot be reached shows it in turn as a time-out, a refusal, a broken connection; WAL is sent
    every few minutes, and each change would be a mail.
    """
    away = f"{FarSideAway.__name__}: "
    return headline(one) == headline(other) or all(
        away in message.partition("\n")[0] for message in (one, other)
    )


def earlier_runs(
    host: Host, flow_run: FlowRun, flow_name: str, defaults: Mapping[str, Any] | None = None
) -> list[FlowRun]:
    """Finished runs of the same work on this host which started before this one, newest first.

    The same work: of the same flow and deployment (for a run by hand: of none), on the same parts in the same
    mode. An hourly copy of content says nothing about the nightly set, nor a plan about a restore. `defaults`
    are the flow's, for parameters that a run was not given.
    """
    started = flow_run.start_time or flow_run.expected_start_time or utc_now()
    deployment: dict[str, Any] = (
        {"any_": [flow_run.deployment_id]} if flow_run.deployment_id else {"is_null_": True}
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[host.name]),
                deployment_id=FlowRunFilterDeploymentId.model_validate(deployment),
                start_time=FlowRunFilterStartTime.model_validate({"before_": started}),
            ),
            sort=FlowRunSort.START_TIME_DESC,
            limit=LOOK_BACK_RUNS,
        )
    own = work_of(flow_run.parameters, defaults or {})
    return [
        run
        for run in runs
        if run.id != flow_run.id
        and run.state
        and run.state.is_final()
        and work_of(run.parameters, defaults or {}) == own
    ]


def work_of(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Any, ...]:
    """What distinguishes runs that do different work: parts and modes, in no particular order."""
    values = [parameters.get(name, defaults.get(name)) for name in WORK_PARAMETERS]
    return tuple(frozenset(value) if isinstance(value, list) else value for value in values)


def defaults_of(flow: Flow[..., Any]) -> dict[str, Any]:
    """A flow's parameters that need not be given, with their values."""
    parameters = inspect.signature(flow.fn).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not item.empty}


def mark_mailed(flow_run: FlowRun) -> str:
    """Note on the run that a mail was sent about it. Where that fails, what to add to "mail sent"."""
    try:
        mark(flow_run, MAILED)
    except (httpx.HTTPError, PrefectException) as error:
        return f"; that could not be noted in Prefect, so no mail will tell of its recovery: {error!r}"
    return ""


def mark(flow_run: FlowRun, tag: str) -> None:
    """Add a tag to a run. Raises httpx.HTTPError, PrefectException."""
    with get_client(sync_client=True) as client:
        tags = client.read_flow_run(flow_run.id).tags
        client.update_flow_run(flow_run.id, tags=[*tags, tag])


def find_log(host: Host, run_name: str) -> Path | None:
    """The run's log of raw output, found by the last stamp in its name; before it may stand its set's."""
    stamps = STAMP_PATTERN.findall(run_name)
    if not stamps or not host.repository.logs.is_dir():
        return None
    return next(iter(sorted(host.repository.logs.glob(f"*-{stamps[-1]}.log"))), None)


def tail_of(log: Path | None) -> tuple[str, ...]:
    """The last lines of a log, or why there are none. Reads no more than its end."""
    if log is None:
        return ()
    try:
        with reading(log) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 65536))
            text = stream.read().decode("utf-8", "replace").replace("\r", "\n")
    except OSError as error:
        return (f"{log} cannot be read: {error.strerror}",)
    return tuple(line for line in text.splitlines() if line.strip())[-TAIL_LINES:]


def link_to(flow_run: FlowRun) -> str:
    """The run's page in Prefect; empty where there is no user interface."""
    base = PREFECT_UI_URL.value()
    return f"{base.rstrip('/')}/runs/flow-run/{flow_run.id}" if base else ""


def _task_name(run: TaskRun) -> str:
    """The name of a step; one that has not begun Prefect calls `base-backup-1f0`, which loses its suffix."""
    return run.name if " " in run.name else re.sub(r"-[0-9a-f]+$", "", run.name)
