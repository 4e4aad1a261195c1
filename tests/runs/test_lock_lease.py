"""The lease of a host's lock against a real Prefect server, with the way there spoilt now and then."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Running
from prefect.variables import Variable

import tasks.runs.lock_lease as lease_module
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.runs.host_lock import _ensure_limit, _show_state
from tasks.runs.lock_lease import HostLockLost, Lease, _request_lock, holder_variable
from tests.support.common import wait_until
from tests.support.prefect_relay import Forward, Relay, pass_on, relayed

LOGGER = logging.getLogger("lease")
RUN, OTHER = uuid4(), uuid4()
GRANT = "/increment-with-lease"


@pytest.fixture
def relay(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The server behind a relay; renewals follow each other quickly, and a slow answer is waited for."""
    monkeypatch.setattr(lease_module, "OWN_CLIENT", {"timeout": 60.0})
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease_module, "POLL_SECONDS", 0.1)
    with relayed(retries=1) as relay:
        yield relay


@pytest.fixture
def limit(relay: Relay) -> str:
    """A limit of its own for each test."""
    name = f"host-{uuid4()}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
    return name


def release(lease: UUID) -> None:
    """What the server does with a lease that nobody renews."""
    with get_client(sync_client=True) as client:
        client.release_concurrency_slots_with_lease(lease)


def taken(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


def granted_unheard(relay: Relay) -> list[UUID]:
    """The next grant is given but not heard of; the lease that it made."""
    leases: list[UUID] = []

    def spoil(path: str, forward: Forward) -> httpx.Response | None:
        answer = forward()
        if path.endswith(GRANT) and answer.is_success and not leases:
            leases.append(UUID(answer.json()["lease_id"]))
            return None
        return answer

    relay.spoil = spoil
    return leases


def during(name: str, story: Callable[[Lease], None]) -> None:
    """A run that holds the lock while the story goes on. Raises HostLockLost when it has to stop."""
    lease = Lease.take(name, RUN, LOGGER)
    assert lease is not None
    with lease:
        story(lease)


def await_stop() -> None:
    """The work of a run that is to be stopped."""
    time.sleep(600)
    pytest.fail("the run was not stopped")


def test_a_slot_that_was_granted_unheard_is_taken_all_the_same(relay: Relay, limit: str) -> None:
    unheard = granted_unheard(relay)
    waiter = threading.Thread(
        target=lambda: (wait_until(lambda: relay.seen(GRANT) > 3, "it asks again"), release(unheard[0]))
    )
    waiter.start()
    lease = Lease.take(limit, RUN, LOGGER)
    waiter.join()
    assert lease is not None and lease._lease_id != unheard[0]
    assert taken(limit) == 1


def test_a_slot_that_another_run_has_noted_as_its_own_is_not_waited_for(relay: Relay, limit: str) -> None:
    Variable.set(holder_variable(limit), {"flow_run": str(OTHER)})
    unheard = granted_unheard(relay)
    assert Lease.take(limit, RUN, LOGGER) is None
    assert len(unheard) == 1 and relay.seen(GRANT) == 2


def test_a_slot_that_is_simply_taken_is_not_waited_for(relay: Relay, limit: str) -> None:
    assert _request_lock(limit, OTHER).lease_id
    assert Lease.take(limit, RUN, LOGGER) is None
    assert relay.seen(GRANT) == 2


def test_a_forgotten_slot_that_is_granted_again_unheard_does_not_stop_the_run(
    relay: Relay, limit: str
) -> None:
    def story(lease: Lease) -> None:
        unheard = granted_unheard(relay)
        release(lease._lease_id)
        wait_until(lambda: relay.seen(GRANT) > 4, "it asks again")
        release(unheard[0])
        wait_until(lambda: lease._unheard_until == 0.0, "the lock is taken again")
        renewals = relay.seen("/renew")
        wait_until(lambda: relay.seen("/renew") > renewals + 2, "it is renewed")
        assert taken(limit) == 1

    Variable.set(holder_variable(limit), {"flow_run": str(RUN)})
    during(limit, story)
    assert taken(limit) == 0


@pytest.mark.parametrize("unheard", [False, True])
def test_a_run_whose_slot_another_one_has_taken_is_stopped(relay: Relay, limit: str, unheard: bool) -> None:
    def story(lease: Lease) -> None:
        if unheard:
            Variable.set(holder_variable(limit), {"flow_run": str(OTHER)}, overwrite=True)
            granted_unheard(relay)
        else:
            relay.spoil = lambda path, forward: None if path.endswith("/renew") else forward()
        release(lease._lease_id)
        if not unheard:
            assert _request_lock(limit, OTHER).lease_id
            relay.spoil = pass_on
        await_stop()

    with pytest.raises(HostLockLost, match="gave it to another run"):
        during(limit, story)


def test_answers_that_no_server_should_give_do_not_end_the_renewing(
    relay: Relay, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [httpx.Response(200, json={}), httpx.Response(200, text="<html>"), httpx.Response(200, json=[])]

    def spoil(path: str, forward: Forward) -> httpx.Response:
        return odd.pop() if path.endswith(GRANT) and odd else forward()

    def story(lease: Lease) -> None:
        first = lease._lease_id
        relay.spoil = spoil
        release(first)
        wait_until(lambda: lease._lease_id != first, "the lock is taken again")
        assert taken(limit) == 1

    during(limit, story)
    assert odd == [] and taken(limit) == 0
    assert "the run continues: TypeError" in caplog.text


def test_a_run_whose_limit_was_removed_is_stopped(relay: Relay, limit: str) -> None:
    def story(lease: Lease) -> None:
        with get_client(sync_client=True) as client:
            client.delete_global_concurrency_limit_by_name(limit)
        release(lease._lease_id)
        await_stop()

    removed = f"the concurrency limit {limit} was removed; this run stops"
    with pytest.raises(HostLockLost, match=removed) as lost:
        during(limit, story)
    assert lost.value.hint == program_command("deploy")


LOSES_THE_HOST = """
import logging, signal, sys, time, uuid
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
from prefect.client.orchestration import SyncPrefectClient, get_client
import tasks.runs.lock_lease as lease_module
lease_module.RENEW_SECONDS = 0.2
with get_client(sync_client=True) as client, \\
        lease_module.Lease.take(sys.argv[1], uuid.uuid4(), logging.getLogger()) as lease:
    client.delete_global_concurrency_limit_by_name(sys.argv[1])
    client.release_concurrency_slots_with_lease(lease._lease_id)
    time.sleep(3600)
"""


def test_a_run_in_the_background_of_a_script_is_stopped_too(limit: str) -> None:
    """A shell without job control starts it with SIGINT ignored; so does deployments/worker."""
    done = subprocess.run(
        [sys.executable, "-c", LOSES_THE_HOST, limit],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        cwd=PROJECT_DIRECTORY,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "HostLockLost: the concurrency limit" in done.stderr


def test_two_first_runs_that_both_make_the_limit_have_it(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect looks for it and then makes it: the second run has looked before the first one made it."""
    read = SyncPrefectClient.read_global_concurrency_limit_by_name
    looks: list[str] = []

    def too_early(client: SyncPrefectClient, name: str) -> object:
        looks.append(name)
        if len(looks) == 1:
            raise ObjectNotFound(Exception())
        return read(client, name)

    monkeypatch.setattr(SyncPrefectClient, "read_global_concurrency_limit_by_name", too_early)
    _ensure_limit(limit)
    assert looks == [limit, limit]


@pytest.mark.usefixtures("prefect_server")
def test_a_run_that_is_being_cancelled_is_not_shown_as_running_again() -> None:
    @flow(name="waits")
    def waits() -> None:
        """A flow whose run is only written down."""

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(waits)
        client.set_flow_run_state(run.id, State(type="RUNNING"), force=True)
        _show_state(run.id, Running(name="WaitingForHost"))
        assert client.read_flow_run(run.id).state_name == "WaitingForHost"
        client.set_flow_run_state(run.id, State(type="CANCELLING"), force=True)
        _show_state(run.id, Running(message="waited"))
        assert client.read_flow_run(run.id).state_name == "Cancelling"


QUEUED = """
import signal, threading
from prefect._internal.concurrency.services import QueueService
from tasks.runs.lock_lease import _be_interruptible

class Service(QueueService):
    async def _handle(self, item):
        pass

def enter_interrupted(condition):
    entered = condition._lock.__enter__()
    signal.raise_signal(NUMBER)
    return entered

def terminate(number, frame):
    raise KeyboardInterrupt

signal.signal(NUMBER, terminate)
_be_interruptible()
_be_interruptible()
service, enter = Service(), threading.Condition.__enter__
threading.Condition.__enter__ = enter_interrupted
try:
    service.send("what it was about to tell")
    print("lost")
except KeyboardInterrupt:
    threading.Condition.__enter__ = enter
    print("interrupted", service._queue.mutex.locked())
service.send("its end")
print(service._queue.qsize(), signal.getsignal(NUMBER) is terminate)
"""


@pytest.mark.slow  # loads Prefect
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interruption_leaves_the_queues_of_events_and_log_lines_usable(number: str) -> None:
    """Where it met them just so, the run waited for its own queue for ever when it told its end."""
    done = subprocess.run(
        [sys.executable, "-c", QUEUED.replace("NUMBER", f"signal.{number}")],
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == ["interrupted False", "2 True"], done.stderr
