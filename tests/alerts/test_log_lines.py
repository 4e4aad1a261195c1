"""The lines of a run's log: what it will do, what it did, and none about a mail that nobody wants."""

import logging
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.errors import BackupError
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from tasks.alerts.hooks import HOOKS
from tasks.runs.history import finished
from tests.notify.test_services import settings
from tests.support.mail_servers import mail_server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@flow(name="weigh", **HOOKS)
def weigh(mode: str = "plan", store: str = "contentstore", fail: bool = False) -> State[str]:
    """Weigh the documents of a store, none of them twice: each by its file.

    Not for the log.
    """
    if fail:
        raise BackupError("the scales are broken")
    return finished("weighed 3 documents", "3")


def lines(caplog: pytest.LogCaptureFixture, **asked: Any) -> list[str]:
    """The log of a run."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        weigh(**asked, return_state=True)
    return [record.getMessage() for record in caplog.records if record.name == "prefect.flow_runs"]


def test_the_first_line_says_what_a_run_will_do_and_the_last_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(tmp_path / "host.env"))
    (tmp_path / "alf_data/postgresql").mkdir(parents=True)
    settings(tmp_path, EMAIL_ALERT_MODE="none")
    purpose = "weigh: Weigh the documents of a store, none of them twice; mode=plan"
    first, *_, last = lines(caplog)
    assert first == purpose
    assert last == "Finished in state Completed('weighed 3 documents')"
    assert lines(caplog, store="archive")[0] == f"{purpose}; store=archive"


def test_nothing_is_said_of_mails_where_none_are_wanted_or_nothing_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(tmp_path / "host.env"))
    (tmp_path / "alf_data/postgresql").mkdir(parents=True)
    with mail_server() as mailbox:
        reached = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "ALERT_EMAIL": "ops@example.org"}
        settings(tmp_path, EMAIL_ALERT_MODE="none", **reached)
        assert not [line for line in lines(caplog, fail=True) if "mail" in line]
        assert not mailbox.mails
    settings(tmp_path, SMTP_HOST="")
    assert not [line for line in lines(caplog) if "mail" in line]
    assert "e-mail alerts are disabled (SMTP_HOST is empty)" in lines(caplog, fail=True)
