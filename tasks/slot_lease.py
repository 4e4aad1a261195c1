"""The lease of a host's slot: taken, kept alive while the Prefect server comes and goes, given back.

Prefect's own `concurrency()` gives up after three failed renewals. A copy of many hours must outlive a server
that is restarted or away for a while, and must still never run beside another one, so this lease
- keeps trying to renew itself for as long as the run lives,
- takes the slot anew when the server forgot it and nobody else has it,
- stops the run when somebody else has it.
"""

import _thread
import contextvars
import logging
import threading
import time
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import PrefectHTTPStatusError

from alfresco_backup.errors import BackupError
from alfresco_backup.stamps import duration_for_people

LEASE_SECONDS = 60.0  # the least that the server accepts; how long the slot of a killed run stays taken
RENEW_SECONDS = 15.0
TELL_SECONDS = 300.0
RELEASE_PATIENCE_SECONDS = 900.0
POLL_SECONDS = 2.0
OWN_CLIENT = {"timeout": 10.0}
"""Unlike the flow's, so that this module gets a client of its own: the flow's retries for a minute."""
RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]


class SlotLost(BackupError):
    """Another run took the host's slot while the Prefect server was away; this run had to stop."""


class Lease:
    """One run's hold on a limit. Make it with `take`; use it as a context manager around the run's work."""

    def __init__(self, name: str, holder: UUID, lease_id: UUID, logger: RunLogger):
        self._name = name
        self._holder = holder
        self._lease_id = lease_id
        self._logger = logger
        self._ended = threading.Event()
        self._lost = ""
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._keep,), name=f"slot-{name}", daemon=True
        )

    @classmethod
    def take(cls, name: str, holder: UUID, logger: RunLogger) -> "Lease | None":
        """Take the limit's slot; None when it is taken. Raises httpx.HTTPError when no server answers."""
        lease_id = _request_slot(name, holder)
        return None if lease_id is None else cls(name, holder, lease_id, logger)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self._ended.set()
        self._thread.join(timeout=RENEW_SECONDS)
        if self._lost:
            raise SlotLost(self._lost, "start it again when that run has ended") from error
        self._release()

    def _keep(self) -> None:
        """Renew until the run ends. A server that is away is tried again without end."""
        answered = time.monotonic()
        told = 0.0
        while not self._ended.wait(RENEW_SECONDS):
            away = time.monotonic() - answered
            try:
                self._renew()
            except httpx.HTTPError as error:
                if away - told > TELL_SECONDS or not told:
                    told = away
                    words = "the Prefect server has been away for %s; the run goes on: %r"
                    self._logger.warning(words, duration_for_people(away), error)
                continue
            if told:
                self._logger.info("the Prefect server is back after %s", duration_for_people(away))
            answered, told = time.monotonic(), 0.0
            if self._lost:
                self._logger.error("%s", self._lost)
                _thread.interrupt_main()
                return

    def _renew(self) -> None:
        with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
            try:
                client.renew_concurrency_lease(self._lease_id, LEASE_SECONDS)
                return
            except PrefectHTTPStatusError as error:
                if error.response.status_code != httpx.codes.GONE:
                    raise
        lease_id = _request_slot(self._name, self._holder)
        if lease_id is None:
            self._lost = (
                f"the Prefect server forgot that this run holds the host {self._name}, and another run has"
                " taken it since; this run stops so that the two do not meet"
            )
        else:
            self._lease_id = lease_id
            self._logger.warning("the Prefect server forgot this run's hold on %s; taken again", self._name)

    def _release(self) -> None:
        """Give the slot back. Waits for a server that is away: the run's end can only be noted there."""
        deadline = time.monotonic() + RELEASE_PATIENCE_SECONDS
        told = False
        while True:
            try:
                with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
                    client.release_concurrency_slots_with_lease(self._lease_id)
                return
            except httpx.HTTPError as error:
                if not _worth_waiting(error) or time.monotonic() > deadline:
                    self._logger.warning("the slot of %s frees itself soon: %r", self._name, error)
                    return
                if not told:
                    self._logger.warning("waiting for the Prefect server to note this run's end: %r", error)
                    told = True
            time.sleep(POLL_SECONDS)


def _worth_waiting(error: httpx.HTTPError) -> bool:
    return not isinstance(error, httpx.HTTPStatusError) or error.response.status_code >= 500


def _request_slot(name: str, holder: UUID) -> UUID | None:
    with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
        try:
            response = client.increment_concurrency_slots_with_lease(
                [name], 1, "concurrency", LEASE_SECONDS, ConcurrencyLeaseHolder(type="flow_run", id=holder)
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                return None
            raise
    answer = response.json()
    if not answer["limits"]:  # Prefect grants what it does not know
        raise BackupError(f"the concurrency limit {name} was removed", "run make deploy")
    return UUID(answer["lease_id"])
