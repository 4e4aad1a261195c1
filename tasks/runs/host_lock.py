"""One writing run at a time on a host: the host's global concurrency limit, in place of a lock file.

Worker runs and `python backup.py` take the same limit. It is a lease of this process, and children die with
this process (alfresco_backup/system/processes.py), so a free lock means that nothing is running. The lock of
a killed run is free 60 to 75 s later, when the server notices that its lease has run out.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Completed, Running
from prefect.variables import Variable

from alfresco_backup.errors import BackupError, HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.host.lock import writing_lock
from alfresco_backup.settings.commands import prefect_command
from alfresco_backup.times import duration_for_people, for_people, utc_now
from tasks.runs.cancelling import Cancellation, RunCancelled, show_as_cancelled
from tasks.runs.history import not_essential
from tasks.runs.lock_lease import POLL_SECONDS, TELL_SECONDS, Lease, RunLogger, holder_variable, worth_waiting

BACKUP_WAIT_SECONDS = 3600.0
SKIPPED = "Skipped"
"""State of an hourly run that had nothing to do: completed, yet no success that ends an alarm."""
WAITING = "WaitingForHost"


@dataclass(frozen=True)
class HostLockHolder:
    """Who says to hold a lock. For people: the lease alone decides."""

    name: str
    since: datetime | None

    def __str__(self) -> str:
        return f"{self.name}, since {for_people(self.since)}" if self.since else self.name


@contextmanager
def host_lock(host: Host, wait_seconds: float = BACKUP_WAIT_SECONDS) -> Iterator[None]:
    """Hold the host's lock while the block runs.

    A taken lock is waited for, and the run's log and state say for whom; with 0 it is not. Raises HostBusy
    when the time is over, httpx.HTTPError when no server answers by then. Raises HostLockLost, with the block
    interrupted, when the Prefect server was away for over a minute and another run has taken the lock since;
    any other absence of the server is outlived. Raises RunCancelled when the run was cancelled and no worker
    ends it.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise BackupError("only a flow run can take a host's lock")
    logger = get_run_logger()
    _ensure_limit(host.name)
    run_id = context.flow_run.id
    try:
        with _wait_for_lock(host.name, run_id, wait_seconds, logger):
            _note_holder(host.name, {"flow_run": str(run_id), "since": utc_now().isoformat()})
            try:
                with writing_lock(host, wait_seconds, logger):
                    yield
            finally:
                _withdraw_note(host.name, run_id)
        Cancellation(run_id).wait_out()
    except RunCancelled as cancelled:
        # Prefect accepts no other end of a run that is being cancelled, and runs no hook before it has one.
        with not_essential("that the run was cancelled"):
            show_as_cancelled(run_id, cancelled.message)
        raise


def backup_wait(components: Collection[str], mode: str) -> float:
    """How long a backup waits for the host: an hour; for the hourly copy of content not at all."""
    return 0.0 if set(components) == {"contentstore"} and mode == "quick" else BACKUP_WAIT_SECONDS


def restore_wait(host: Host) -> float:
    """How long a restore waits for the host."""
    return host.settings.busy_wait_minutes * 60


def skipped_or_raise(busy: HostBusy, wait_seconds: float) -> State[str]:
    """What becomes of a backup that found the host busy.

    One that would not wait is skipped: the run that holds the host, or the next hour's, does its work. It
    ends in a completed state of its own name: no mail is sent and no alarm taken back. One that waited fails.
    """
    if wait_seconds:
        raise busy
    return skipped(busy.message)


def skipped(reason: str) -> State[str]:
    """What a run returns that has nothing to do: completed, yet no success that ends an alarm."""
    message = f"skipped: {reason}"
    get_run_logger().warning(message)
    return Completed(name=SKIPPED, message=message, data=message)


def _wait_for_lock(name: str, holder: UUID, wait_seconds: float, logger: RunLogger) -> Lease:
    started = time.monotonic()
    told = -TELL_SECONDS
    cancellation = Cancellation(holder)
    while True:
        if cancellation.overdue():
            raise RunCancelled
        lease = None if cancellation.wanted() else _take(name, holder, logger, started + wait_seconds)
        if lease is not None:
            break
        waited = time.monotonic() - started
        held_by = read_holder(name)
        if waited >= wait_seconds and not cancellation.wanted():
            patience = f"; waited {duration_for_people(waited)}" if waited > 1 else ""
            raise HostBusy(
                f"the host {name} is locked by {held_by}{patience}",
                "look at that run in Prefect; once it has ended, start this one again",
            )
        if waited - told >= TELL_SECONDS:
            limit = duration_for_people(wait_seconds - waited)
            logger.info("waiting for host %s, for at most %s more: it is locked by %s", name, limit, held_by)
            if told < 0:
                _show_state(holder, Running(name=WAITING, message=f"waits for {held_by}"))
            told = waited
        time.sleep(POLL_SECONDS)
    if told >= 0:
        waited_words = duration_for_people(time.monotonic() - started)
        logger.info("host %s is no longer locked; waited %s", name, waited_words)
        _show_state(holder, Running(message=f"waited {waited_words} for the host lock"))
    return lease


def _take(name: str, holder: UUID, logger: RunLogger, deadline: float) -> Lease | None:
    """The host's lock; None when it is taken, or when the server is away and may be back by the deadline."""
    try:
        return Lease.take(name, holder, logger)
    except httpx.HTTPError as error:
        if time.monotonic() >= deadline or not worth_waiting(error):
            raise
        logger.warning("the Prefect server does not answer; waiting for it: %r", error)
        return None


def read_holder(name: str) -> HostLockHolder:
    """Who holds the host as far as the server knows. A note that is missing or out of date raises nothing."""
    try:
        note = Variable.get(holder_variable(name))
        if not isinstance(note, dict) or "flow_run" not in note:
            return HostLockHolder("a run that has just begun or was just killed", None)
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(str(note["flow_run"])))
        ended = f" ({run.state.name}; its lock expires soon)" if run.state and run.state.is_final() else ""
        return HostLockHolder(f"{run.name}{ended}", datetime.fromisoformat(str(note["since"])))
    except (httpx.HTTPError, ObjectNotFound) as error:
        return HostLockHolder(f"a run whose name cannot be read ({error})", None)


def _note_holder(name: str, note: dict[str, str]) -> None:
    """Leave a note for those who wait, and for this run's lease. The run goes on without it."""
    try:
        Variable.set(holder_variable(name), note, overwrite=True)
    except httpx.HTTPError as error:
        get_run_logger().warning("could not record which run locks host %s: %s", name, error)


def _withdraw_note(name: str, holder: UUID) -> None:
    """Take this run's note back. Another's stays: that run took the lock while the server was away."""
    with not_essential(f"that host {name} is no longer locked"):
        note = Variable.get(holder_variable(name))
        if isinstance(note, dict) and note.get("flow_run") == str(holder):
            Variable.set(holder_variable(name), {}, overwrite=True)


def _ensure_limit(name: str) -> None:
    """Make the limit if it is missing. Raises when it is switched off: Prefect would let everybody pass."""
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):  # another first run has made it since this one looked
            client.upsert_global_concurrency_limit_by_name(name, 1)
        if not client.read_global_concurrency_limit_by_name(name).active:
            raise BackupError(
                f"the concurrency limit {name} is switched off", prefect_command("gcl", "enable", name)
            )


def _show_state(flow_run_id: UUID, state: State[None]) -> None:
    """Show a state for people. Not by force: a run that is being cancelled stays so."""
    with not_essential("the run's state"), get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, state)
