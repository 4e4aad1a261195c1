"""A run that was cancelled and that nobody ends, ends itself.

Prefect's worker ends the runs that it has started, as long as it hears of it. It hears nothing of a run that
was started by hand or by a worker that has been restarted since, and stops listening (3.9.1, measured) when
the server was away for half a minute. Such a run would be Cancelling for ever, go on and hold its host.
"""

import contextlib
import time
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from alfresco_backup.errors import BackupError

LOOK_SECONDS = 10.0
PATIENCE_SECONDS = 45.0
"""More than the 30 s that Prefect's worker leaves a run to stop its tools before it kills it."""
OWN_CLIENT = {"timeout": 10.0}


class RunCancelled(BackupError):
    """The run was cancelled in Prefect, nobody ended it, and so it stopped by itself."""

    def __init__(self) -> None:
        super().__init__("the run was cancelled in Prefect; no worker ended it, so it stopped by itself")


class Cancellation:
    """Whether a run is to be cancelled, and whether that is so for longer than a worker takes to do it."""

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._since: float | None = None
        self._next_look = 0.0

    def wanted(self) -> bool:
        """Look at the run's state, seldom enough to cost nothing. Without a server the answer stays."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                self._since = (self._since or now) if self._is_cancelling() else None
        return self._since is not None

    def overdue(self) -> bool:
        """Whether a worker would have done it by now."""
        return self.wanted() and time.monotonic() - (self._since or 0.0) >= PATIENCE_SECONDS

    def wait_out(self) -> None:
        """At the end of the work: leave a worker its time. Raises RunCancelled when none does it.

        Prefect accepts no other end of such a run, so what it has done cannot be noted any more.
        """
        while self.wanted():
            if self.overdue():
                raise RunCancelled
            time.sleep(1.0)

    def _is_cancelling(self) -> bool:
        with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
            return client.read_flow_run(self._flow_run_id).state_type == StateType.CANCELLING


def ended_itself(state: State[object]) -> bool:
    """Whether a final state is that of a run which stopped by itself because it was cancelled."""
    return f"{RunCancelled.__name__}: " in (state.message or "").partition("\n")[0]


def show_as_cancelled(flow_run_id: UUID, message: str) -> None:
    """Show a run that ended itself as what it is; Prefect made a failure of it. Raises httpx.HTTPError."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Cancelled(message=message), force=True)
