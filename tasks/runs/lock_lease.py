"""The lease of a host's lock: taken, kept alive while the Prefect server comes and goes, given back.

Prefect's own `concurrency()` ends the run when a renewal fails (3.9.1, measured: a server that was away for
165 s). A copy of many hours must outlive a server
that is restarted or away for a while, and must still never run beside another one, so this lease
- keeps trying to renew itself for as long as the run lives,
- takes the lock anew when the server forgot it and nobody else has it,
- stops the run when somebody else has it, or when the run was cancelled and nobody ends it.

A server under load may grant the lock and answer too late. Prefect's client then asks once more and is told
that the lock is taken: by this very run, under a lease whose name it never heard. The API does not tell who
holds a lock, so that is waited out, for as long as such a lease lives and no other run has left its note.
"""

import contextvars
import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect._internal.concurrency.services import QueueService
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from alfresco_backup.errors import BackupError
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.signals import held_back, keep_ignored
from alfresco_backup.times import duration_for_people
from tasks.runs.cancelling import Cancellation, RunCancelled
from tasks.runs.history import of_host

LEASE_SECONDS = 60.0  # the least that the server accepts; how long the lock of a killed run stays taken
RENEW_SECONDS = 15.0
TELL_SECONDS = 300.0
RELEASE_PATIENCE_SECONDS = 900.0
POLL_SECONDS = 2.0
UNHEARD_SECONDS = 90.0
"""More than a lease lives that nobody renews: the server looks for such every 15 s."""
OWN_CLIENT = {"timeout": 10.0}
"""Unlike the flow's, so that this module gets a client of its own: the flow's retries for a minute."""
RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]


ODD_ANSWERS = (BackupError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError)
"""What comes of answers that no Prefect server should give. None of them may end the renewing."""


class HostLockLost(BackupError):
    """Another run took the host's lock while the Prefect server was away; this run had to stop."""


class LimitRemoved(BackupError):
    """The host's limit is gone from the server; nothing keeps runs apart any more."""


@dataclass(frozen=True)
class Answer:
    """The server's answer: a lease, or None when the lock is taken. `repeated`: it was asked more than once,
    so an earlier request may have been granted unheard."""

    lease_id: UUID | None
    repeated: bool


class Lease:
    """One run's hold on a limit. Make it with `take`; use it as a context manager around the run's work."""

    def __init__(self, name: str, holder: UUID, lease_id: UUID, logger: RunLogger):
        self._name = name
        self._holder = holder
        self._lease_id = lease_id
        self._logger = logger
        self._ended = threading.Event()
        self._stop: BackupError | None = None
        self._cancellation = Cancellation(holder)
        self._unheard_until = self._away_since = 0.0
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._keep,), name=f"lock-{name}", daemon=True
        )

    @classmethod
    def take(cls, name: str, holder: UUID, logger: RunLogger) -> "Lease | None":
        """Take the limit's lock; None when it is taken. Raises httpx.HTTPError when no server answers."""
        unheard_until, told = 0.0, False
        while True:
            answer = _request_lock(name, holder)
            if answer.lease_id is not None:
                return cls(name, holder, answer.lease_id, logger)
            if answer.repeated:
                unheard_until = time.monotonic() + UNHEARD_SECONDS
            if time.monotonic() >= unheard_until or not _may_be_own(name, holder):
                return None
            if not told:
                logger.info("the answer of the Prefect server about %s was lost; asking again", name)
                told = True
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> "Lease":
        _be_interruptible()
        self._thread.start()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self._ended.set()
        self._thread.join(timeout=RENEW_SECONDS)
        if not isinstance(self._stop, HostLockLost):
            self._release()
        if self._stop is not None:
            raise self._stop from error

    def _keep(self) -> None:
        """Renew until the run ends. A server that is away is tried again without end.

        Every few seconds, and not by Prefect's client: that one waits up to a minute between its tries, and
        the lock of a run that was away for so long is another's.
        """
        answered = time.monotonic()
        told = 0.0
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while not self._ended.wait(self._pause()):
                away = time.monotonic() - answered
                try:
                    self._renew()
                except (httpx.HTTPError, *ODD_ANSWERS) as error:
                    self._away_since = self._away_since or time.monotonic()
                    if away - told > TELL_SECONDS or not told:
                        told = away
                        words = "the Prefect server has not answered for %s; the run continues: %r"
                        self._logger.warning(words, duration_for_people(away), error)
                    continue
                if told:
                    self._logger.info("the Prefect server answers again after %s", duration_for_people(away))
                answered, told, self._away_since = time.monotonic(), 0.0, 0.0
                if self._stop is None and self._cancellation.overdue():
                    self._stop = RunCancelled()
                if self._stop is not None:
                    self._interrupt(self._stop)
                    return

    def _interrupt(self, reason: BackupError) -> None:
        """Stop the work, unless it has just ended."""
        if not self._ended.is_set():
            self._logger.error("%s", reason.message)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _renew(self) -> None:
        with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
            try:
                client.renew_concurrency_lease(self._lease_id, LEASE_SECONDS)
                return
            except PrefectHTTPStatusError as error:
                if error.response.status_code != httpx.codes.GONE:
                    raise
        try:
            self._take_anew()
        except LimitRemoved as error:
            words = f"{error.message}; this run stops, because the host is no longer locked"
            self._stop = HostLockLost(words, error.hint)

    def _take_anew(self) -> None:
        try:
            answer = _request_lock(self._name, self._holder)
        except httpx.HTTPError:
            self._unheard_until = time.monotonic() + UNHEARD_SECONDS
            raise
        if answer.repeated:
            self._unheard_until = time.monotonic() + UNHEARD_SECONDS
        if answer.lease_id is not None:
            self._lease_id, self._unheard_until = answer.lease_id, 0.0
            self._logger.warning(
                "the Prefect server lost this run's lock of %s; it was locked again", self._name
            )
        elif time.monotonic() >= self._unheard_until or not _may_be_own(self._name, self._holder):
            self._stop = HostLockLost(
                f"the Prefect server lost this run's lock of host {self._name} and gave it to another run;"
                " this run stops so that two runs do not work on one host",
                "start this run again when the other has ended",
            )

    def _pause(self) -> float:
        """Seconds until the next renewal; few while the server is away or the lock held without a lease."""
        in_doubt = self._away_since or time.monotonic() < self._unheard_until
        return POLL_SECONDS if in_doubt else RENEW_SECONDS

    def _release(self) -> None:
        """Give the lock back. Waits for a server that is away: the run's end can only be noted there."""
        deadline = time.monotonic() + RELEASE_PATIENCE_SECONDS
        told = False
        while True:
            try:
                with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
                    client.release_concurrency_slots_with_lease(self._lease_id)
                return
            except httpx.HTTPError as error:
                if not worth_waiting(error) or time.monotonic() > deadline:
                    self._logger.warning(
                        "the lock of %s was not released; it expires soon: %r", self._name, error
                    )
                    return
                if not told:
                    self._logger.warning("waiting for the Prefect server to record this run's end: %r", error)
                    told = True
            time.sleep(POLL_SECONDS)


def _be_interruptible() -> None:
    """Let SIGINT end this process wherever it meets it, since a run that lost its host is stopped by it.

    A shell without job control starts what it puts into the background with it ignored: `backup.py &` in a
    script, the worker in deployments/worker.
    """
    keep_ignored()
    _send_uninterrupted()
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _send_uninterrupted() -> None:
    """Let an interruption that meets Prefect as it sends an event or a log line wait until that is done.

    Those go through a queue, whose lock (a Condition of Python's) an interruption can leave taken (Prefect
    3.8.8: seen twice in 930 terminations; 3.9.1 has the same lock). The event of the run's end then waits for
    it for ever.
    """
    send = QueueService.send
    if hasattr(send, "__wrapped__"):
        return

    @functools.wraps(send)
    def send_then_interrupt(service: QueueService[Any], item: Any) -> None:
        with held_back():
            send(service, item)

    QueueService.send = send_then_interrupt  # type: ignore[assignment, method-assign]


def worth_waiting(error: httpx.HTTPError) -> bool:
    """Whether the server is away or in trouble, rather than of another opinion."""
    return not isinstance(error, httpx.HTTPStatusError) or error.response.status_code >= 500


def holder_variable(name: str) -> str:
    """The Prefect variable in which the run that holds a limit leaves its note."""
    return of_host("holder-of", name)


def _may_be_own(name: str, holder: UUID) -> bool:
    """Whether a taken lock may be this run's: no other run has left its note."""
    with get_client(httpx_settings=OWN_CLIENT, sync_client=True) as client:
        variable = client.read_variable_by_name(holder_variable(name))
    note = variable.value if variable else None
    return not isinstance(note, dict) or note.get("flow_run", str(holder)) == str(holder)


def _request_lock(name: str, holder: UUID) -> Answer:
    sent: list[str] = []

    def count(request: httpx.Request) -> None:
        if request.url.path.endswith("increment-with-lease"):
            sent.append(request.url.path)

    hooks: dict[str, list[Callable[[httpx.Request], None]]] = {"request": [count]}
    with get_client(httpx_settings={**OWN_CLIENT, "event_hooks": hooks}, sync_client=True) as client:
        try:
            response = client.increment_concurrency_slots_with_lease(
                [name], 1, "concurrency", LEASE_SECONDS, ConcurrencyLeaseHolder(type="flow_run", id=holder)
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                return Answer(None, len(sent) > 1)
            raise
    answer = response.json()
    if not answer["limits"]:  # Prefect grants what it does not know
        raise LimitRemoved(f"the concurrency limit {name} was removed", program_command("deploy"))
    return Answer(UUID(answer["lease_id"]), len(sent) > 1)
