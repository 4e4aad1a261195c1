"""Runs by hand without a Prefect server: each brings its own, and they still meet at the host's lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.cli.entry import PREFECT_DEFAULTS
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.common import wait_until
from tests.support.prefect_database import give_database
from tests.support.prefect_lab import alive, descendants
from tests.support.prefect_site import direct_run_code

LIMIT_SECONDS = 600


class Hand:
    """Starts flows by hand with a Prefect home of their own and no server."""

    def __init__(self, home: Path) -> None:
        self.home = give_database(home)
        self.env_file = home / ".env"
        values = {"PGHOST": "localhost", "PGUSER": "x", "BACKUP_DIR": home, "ALF_BASE_DIR": home}
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        self.env_file.chmod(0o600)

    def start(self, flow: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A running flow and the file with its output."""
        output = self.home / f"{flow}-{len(list(self.home.glob('*.out')))}.out"
        environment = {
            **PREFECT_DEFAULTS,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PREFECT_HOME": str(self.home),
            "ALFRESCO_BACKUP_ENV": str(self.env_file),
            "ALF_HOST_NAME": "alone",
        }
        with output.open("wb") as file:
            argv = [sys.executable, "-c", direct_run_code("alone"), flow, *arguments]
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=PROJECT_DIRECTORY,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return process, output


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)


def await_words(output: Path, words: str) -> None:
    wait_until(lambda: words in output.read_text(), f"{words!r} in {output.name}", LIMIT_SECONDS)


def test_runs_wait_for_each_other_and_a_killed_one_blocks_nobody(hand: Hand) -> None:
    first, said_first = hand.start("hold", str(hand.home / "never"))
    await_words(said_first, "Beginning flow run")
    wait_until(lambda: len(descendants(first.pid)) >= 2, "its server and its program run", LIMIT_SECONDS)
    children = descendants(first.pid)
    second, said = hand.start("hold", "/", "300")
    await_words(said, "more: it is locked by hold ")
    assert "waiting for host alone, for at most " in said.read_text()
    third, said_third = hand.start("hourly")
    assert third.wait(LIMIT_SECONDS) == 0
    assert "skipped: the host alone is locked by hold " in said_third.read_text()

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not any(alive(child) for child in children), "its server and its program are gone")
    assert second.wait(LIMIT_SECONDS) == 0, said.read_text()
    assert "host alone is no longer locked; waited " in said.read_text()
    assert said.read_text().endswith("held\n")


def test_an_interrupted_run_ends_at_once_and_frees_the_host(hand: Hand) -> None:
    run, said = hand.start("hold", str(hand.home / "never"))
    await_words(said, "Beginning flow run")
    wait_until(lambda: len(descendants(run.pid)) >= 2, "its server and its program run", LIMIT_SECONDS)
    children = descendants(run.pid)
    run.send_signal(signal.SIGTERM)
    assert run.wait(LIMIT_SECONDS) != 0
    assert "Crashed" in said.read_text()
    assert not any(alive(child) for child in children)
    after, said_after = hand.start("hold", "/")
    assert after.wait(LIMIT_SECONDS) == 0
    assert "waiting for host" not in said_after.read_text()
