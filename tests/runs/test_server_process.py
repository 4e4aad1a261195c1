"""The server of a run by hand starts before Prefect is imported, where the run will need one of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.system.processes import Child, Command
from tasks.runs import server_process
from tasks.runs.server_process import ServerProcess, server_ahead, take_server


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ServerProcess]]:
    """What was started in place of servers, for a home without Prefect's profiles."""
    servers: list[ServerProcess] = []

    def start(home: Path) -> ServerProcess:
        child = Child(Command(("sleep", "600"), 600))
        servers.append(ServerProcess(child, "http://127.0.0.1:9/api", "admin:word", home))
        return servers[-1]

    monkeypatch.setattr(server_process, "start_server", start)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in server_process.ANOTHER_SERVER:
        monkeypatch.delenv(name, raising=False)
    yield servers
    for server in servers:
        server.child.stop()


def test_the_server_that_was_started_ahead_is_the_runs(started: list[ServerProcess], tmp_path: Path) -> None:
    with server_ahead():
        assert len(started) == 1
        taken = take_server(tmp_path)
        assert taken is started[0]
    assert len(started) == 1 and taken.child.process.poll() is None


def test_a_server_that_nobody_took_is_stopped(started: list[ServerProcess]) -> None:
    with pytest.raises(KeyboardInterrupt), server_ahead():
        raise KeyboardInterrupt
    assert started[0].child.process.poll() is not None


def test_a_server_for_another_home_is_not_taken(started: list[ServerProcess], tmp_path: Path) -> None:
    with server_ahead():
        taken = take_server(tmp_path / "named by a profile")
        assert taken is started[1] and started[0].child.process.poll() is not None


def test_a_server_that_ended_meanwhile_is_not_taken(started: list[ServerProcess], tmp_path: Path) -> None:
    with server_ahead():
        started[0].child.stop()
        assert take_server(tmp_path) is started[1]


@pytest.mark.parametrize("how", ["PREFECT_API_URL", "PREFECT_PROFILE", "profiles.toml"])
def test_where_another_server_is_named_none_is_started_ahead(
    how: str, started: list[ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "profiles.toml":
        (tmp_path / how).write_text('active = "site"\n')
    else:
        monkeypatch.setenv(how, "http://prefect.example:4200/api")
    with server_ahead():
        assert not started


def test_it_starts_before_prefect_is_imported() -> None:
    code = "import sys, alfresco_backup.__main__; print('prefect' in sys.modules, 'tasks' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"
