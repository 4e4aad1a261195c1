"""Two accounts with embedded Prefect servers of their own: still only one of them writes to a repository."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.host.lock import lock_file
from tests.support.common import temporary_demo_host, wait_until
from tests.support.prefect_database import give_database
from tests.support.prefect_site import direct_run_code

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
NAME = "demo"


def start(home: Path, env_file: Path, *arguments: object) -> subprocess.Popen[str]:
    """A stand-in flow as an account of that home would start it, with no server configured."""
    give_database(home / ".prefect")
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "ALFRESCO_BACKUP_ENV": str(env_file),
    }
    return subprocess.Popen(
        [sys.executable, "-c", direct_run_code(NAME), *map(str, arguments)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_a_run_of_another_home_is_refused_with_the_holders_process_until_that_one_is_gone(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    with temporary_demo_host(documents=5, name=NAME) as demo:
        lock = lock_file(load_host(demo.env_file))
        holder = start(tmp_path / "one", demo.env_file, "hold", tmp_path / "never")
        processes.append(holder)
        wait_until(lambda: lock.exists() and lock.read_text(), "the lock is held", 600)
        assert int(lock.read_text()) == holder.pid
        assert lock.stat().st_mode & 0o777 == 0o660
        second = start(tmp_path / "two", demo.env_file, "hourly")
        processes.append(second)
        output, _ = second.communicate(timeout=600)
        assert f"skipped: the host {NAME} is locked by process {holder.pid} of this machine" in output, output
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        third = start(tmp_path / "two", demo.env_file, "hourly")
        processes.append(third)
        output, _ = third.communicate(timeout=600)
        assert "had the host" in output and int(lock.read_text()) == third.pid, output
