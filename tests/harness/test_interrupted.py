"""Tests that are interrupted leave no server, no stand-in, no mount and no folder behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.common import wait_until
from tests.support.sweeper import is_postgres, mounts_below, processes, read, works_in

pytestmark = pytest.mark.slow

SECONDS = 300.0
HELD = Path(__file__).with_name("held.py")


@dataclass
class Run:
    """A pytest in the middle of its tests: its process, those that run tests, the folders they work in."""

    process: subprocess.Popen[bytes]
    workers: list[int]
    folders: list[Path]

    def programs(self) -> list[int]:
        return [pid for pid in processes() if works_in(pid, self.folders)]

    def has(self, words: bytes) -> bool:
        return any(words in read(pid, "cmdline") for pid in self.programs())


@contextmanager
def held(place: Path, count: int, *arguments: str) -> Iterator[Run]:
    """Run so many tests of held.py until they hold what they need."""
    told = place / "held"
    told.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "HELD": str(told), "PYTEST_DEBUG_TEMPROOT": str(place)}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=PROJECT_DIRECTORY, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(
            lambda: len([*told.glob("[0-9]*[0-9]")]) == count or process.poll() is not None,
            f"{count} tests hold",
            SECONDS,
        )
        files = sorted(told.glob("[0-9]*[0-9]"))
        assert len(files) == count and process.poll() is None, (place / "log").read_text()
        folders = [Path(line) for file in files for line in file.read_text().splitlines()]
        yield Run(process, [int(file.name) for file in files], folders)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def assert_nothing_left(run: Run) -> None:
    wait_until(lambda: not run.programs(), "no program of the tests runs", SECONDS)
    wait_until(lambda: not any(folder.exists() for folder in run.folders), "their folders are gone", SECONDS)
    assert not mounts_below(run.folders)


def test_a_killed_pytest_leaves_nothing(tmp_path: Path) -> None:
    with held(tmp_path, 3, "-n", "3", str(HELD)) as run:
        assert len([pid for pid in run.programs() if is_postgres(pid)]) == 2
        assert run.has(b"stand_in_tomcat.py") and run.has(b"uvicorn")
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        assert_nothing_left(run)
        wait_until(lambda: not any(read(pid, "cmdline") for pid in run.workers), "workers ended", SECONDS)
        assert not list(tmp_path.glob("pytest-of-*/pytest-[0-9]*"))


@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda run: os.killpg(run.process.pid, signal.SIGINT), id="Ctrl-C"),
        pytest.param(lambda run: os.kill(run.workers[0], signal.SIGKILL), id="a-worker-killed"),
    ],
)
def test_a_pytest_whose_tests_are_ended_leaves_nothing(
    interrupt: Callable[[Run], None], tmp_path: Path
) -> None:
    with held(tmp_path, 1, "-n", "1", "--max-worker-restart=0", f"{HELD}::test_holds_a_host") as run:
        assert [is_postgres(pid) for pid in run.programs()].count(True) == 1
        interrupt(run)
        assert run.process.wait(timeout=SECONDS) != 0
        assert_nothing_left(run)


def test_a_killed_pytest_without_workers_leaves_nothing(tmp_path: Path) -> None:
    with held(tmp_path, 1, f"{HELD}::test_holds_a_host") as run:
        assert [is_postgres(pid) for pid in run.programs()].count(True) == 1
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        assert_nothing_left(run)
