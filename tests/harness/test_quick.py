"""What is not quick cannot be among the tests that `make test-quick` runs."""

import subprocess
import time
from collections.abc import Callable

import pytest

from alfresco_backup.system.processes import Command, run
from demo.cluster import default_bindir
from demo.places import server_account
from tests.support import quick

PG_CTL, INITDB = str(default_bindir() / "pg_ctl"), str(default_bindir() / "initdb")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda: subprocess.run([PG_CTL, "start", "-D", "/nowhere"], check=False), "it starts pg_ctl"),
        (lambda: run(Command((INITDB, "-D", "/nowhere"), 60, account=server_account())), "it starts initdb"),
        (lambda: subprocess.run(["python", "-m", "uvicorn"], check=False), "it starts uvicorn"),
        (lambda: time.sleep(1), "it sleeps for 1 s"),
    ],
)
def test_a_quick_test_that_starts_a_server_or_sleeps_fails_at_once(act: Callable[[], object], why: str):
    told = f"not quick: {why}; mark it with @pytest.mark.slow"
    with pytest.raises(pytest.fail.Exception, match=told), quick.watched():
        act()


def test_a_quick_test_that_keeps_the_processor_busy_fails_at_its_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quick, "PROCESSOR_SECONDS", -1)
    with pytest.raises(pytest.fail.Exception, match="of the processor; mark it"), quick.watched():
        pass


def test_programs_that_only_tell_something_and_short_waits_are_quick():
    with quick.watched():
        subprocess.run([PG_CTL, "--version"], check=True)
        subprocess.run(["sh", "-c", "echo /usr/bin/prefect"], check=True)
        time.sleep(0.01)


def test_what_uses_a_slow_fixture_is_slow(request: pytest.FixtureRequest, slow: None):
    assert request.node.get_closest_marker("slow")
