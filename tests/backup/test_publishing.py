"""What a run publishes in Prefect never decides about the run."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.contentstore.check import ContentCheckResult
from alfresco_backup.host.host import Host
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.runs.history import publish_markdown, publish_table
from tests.support.prefect_relay import Forward, relayed

pytestmark = pytest.mark.usefixtures("prefect_server")


def no_artifacts(path: str, forward: Forward) -> httpx.Response | None:
    """A server that goes away whenever something is published."""
    return None if "/artifacts" in path else forward()


@flow(name="publish")
def publish(host_name: str = "alf1") -> str:
    """Publish a table and a text."""
    publish_table(host_name, [{"part": "database"}], "what-was-lost", f"a table of {host_name}")
    publish_markdown(host_name, f"# a text of {host_name}\n", "what-was-said")
    return "the work is done"


def published(key: str) -> int:
    with get_client(sync_client=True) as client:
        return len(client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))))


def test_a_server_that_is_away_costs_a_warning_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with relayed() as relay, caplog.at_level(logging.WARNING):
        relay.spoil = no_artifacts
        assert publish() == "the work is done"
    assert relay.seen("/artifacts") == 2
    assert "the table what-was-lost could not be recorded in Prefect" in caplog.text
    assert "the text what-was-said could not be recorded in Prefect" in caplog.text
    assert (published("what-was-lost-alf1"), published("what-was-said-alf1")) == (0, 0)
    publish()
    assert (published("what-was-lost-alf1"), published("what-was-said-alf1")) == (1, 1)


def test_hosts_on_one_server_do_not_overwrite_what_the_other_shows() -> None:
    """By key a server shows the newest artifact only: of whichever host came last, if the key named none."""
    hosts = ("left", "right.Example.org")
    for name in hosts:
        publish(name)
    with get_client(sync_client=True) as client:
        newest = {item.key: item.description for item in client.read_latest_artifacts()}
    assert newest["what-was-lost-left"] == "a table of left"
    assert newest["what-was-lost-right-example-org"] == "a table of right.Example.org"
    assert {"what-was-said-left", "what-was-said-right-example-org"} <= newest.keys()


def test_a_finished_content_check_is_not_lost_with_the_server(tmp_path: Path, monkeypatch) -> None:
    import tasks.restore.content_check as step  # noqa: PLC0415

    result = ContentCheckResult(5, 0, 0, 0, 0, {}, {"contentstore": 5}, 0.1, None, ())
    monkeypatch.setattr(step, "check_content", lambda *_: result)

    @flow(name="checks")
    def checks() -> ContentCheckResult:
        return step.check_documents(cast(Host, SimpleNamespace(name="alf1")), tmp_path / "findings.csv")

    with relayed() as relay:
        relay.spoil = no_artifacts
        assert checks() == result
    assert relay.seen("/artifacts") == 1


def test_every_step_publishes_that_way() -> None:
    """One that publishes by itself fails with its work done."""
    calls = ("create_table_artifact(", "create_markdown_artifact(")
    files = [*(PROJECT_DIRECTORY / "tasks").rglob("*.py"), *(PROJECT_DIRECTORY / "flows").glob("*.py")]
    direct = {file.name for file in files if any(call in file.read_text() for call in calls)}
    assert direct == {"history.py"}
