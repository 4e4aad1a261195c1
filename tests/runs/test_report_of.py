"""What a run by hand prints when the way back from the server is bad, and the server that is embedded."""

import os
import subprocess
import sys

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingResult
from prefect.settings import PREFECT_API_URL

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.runs.history import REPORT_LOST, finished, report_of
from tests.support.prefect_relay import Forward, Relay, relayed


@flow(name="told")
def told(words: str) -> State[str]:
    return finished("a sentence", words)


@flow(name="failing")
def failing() -> State[str]:
    raise BackupUnsound("half of it is missing", "look")


def lose_the_last_word(relay: Relay) -> list[str]:
    """The server hears that a run has completed; its answer is lost, once a run. Gives the paths of those."""
    lost: list[str] = []

    def lose(path: str, forward: Forward) -> httpx.Response | None:
        answer = forward()
        if path.endswith("/set_state") and answer.json()["state"]["type"] == "COMPLETED" and path not in lost:
            lost.append(path)
            return None
        return answer

    relay.spoil = lose
    return lost


def test_a_run_gives_the_report_it_returned(prefect_server: None) -> None:
    assert report_of(told, words="a report") == "a report"


def test_a_run_whose_last_answer_was_lost_is_completed_all_the_same(prefect_server: None) -> None:
    with relayed(retries=3) as relay:
        lost = lose_the_last_word(relay)
        assert report_of(told, words="a report") == REPORT_LOST
        assert len(lost) == 1
        with pytest.raises(MissingResult):
            told("a report")


def test_a_run_that_fails_raises_its_own_error(prefect_server: None) -> None:
    with pytest.raises(BackupUnsound, match="half of it is missing"):
        report_of(failing)


MUCH_TO_TELL = """
from prefect.events import emit_event
from alfresco_backup.cli.entry import run_to_exit_code
from alfresco_backup.errors import BackupError
from tasks.runs.embedded_server import direct_run

def work():
    with direct_run("demo"):
        for number in range(200):
            emit_event("much", {"prefect.resource.id": f"much.{number}"})
        raise BackupError("half of it is missing", "what to type")

raise SystemExit(run_to_exit_code(work))
"""


def test_the_last_line_is_what_to_type_however_much_a_run_has_still_to_tell_the_server(
    prefect_server: None,
) -> None:
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    argv = [sys.executable, "-c", MUCH_TO_TELL]
    done = subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "HINT: what to type", done.stderr
