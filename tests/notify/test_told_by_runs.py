"""What runs tell by themselves: signals to PING_URL and alerts to ALERT_URLS; neither changes a run."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.notify.ping import KINDS, ping, ping_address
from alfresco_backup.retention.holds import Hold, write_hold
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import make_stamp, utc_now
from tasks.alerts.hooks import HOOKS
from tasks.runs.host_lock import SKIPPED
from tests.notify.test_services import settings
from tests.support.mail_servers import refusing_port, silent_mail_server
from tests.support.repository_on_disk import sets_until_an_hour_ago
from tests.support.web_servers import WebServer, web_server

slow = pytest.mark.slow
runs = pytest.mark.usefixtures("prefect_server")
TOKEN = "t0p-secret-key"
ALL = ["postgres", "contentstore", "configuration"]


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings of a test's host are; `settings` writes them."""
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(tmp_path / "host.env"))
    (tmp_path / "alf_data/postgresql").mkdir(parents=True)
    return tmp_path


def run(name: str, message: str = "", **parameters: Any) -> State[Any]:
    """A run of a flow of that name which fails with a message, or completes without; its state."""

    @flow(name=name, **HOOKS)
    def work(components: list[str] = ALL, skip: bool = False) -> State[str]:
        if message:
            raise BackupError(f"{message}\nand more")
        return Completed(name=SKIPPED if skip else None, message="set 1 published", data="")

    return work(**parameters, return_state=True)


@slow
@runs
@pytest.mark.parametrize(("name", "kind"), sorted(KINDS.items()))
def test_each_kind_signals_its_start_and_success(name: str, kind: str, env: Path, server: WebServer) -> None:
    settings(env, PING_URL=f"http://{server.address}/{TOKEN}?create=1", ALF_HOST_NAME="Alf1.example")
    assert run(name).is_completed()
    place = f"/{TOKEN}/alf1-example-{kind}"
    assert server.paths == [f"{place}/start?create=1", f"{place}?create=1"]
    assert [request.body for request in server.requests] == ["", "set 1 published"]


@slow
@runs
def test_a_failure_signals_the_first_line_of_its_error_without_secrets(env: Path, server: WebServer) -> None:
    settings(env, PING_URL=f"http://{server.address}/{TOKEN}/", PGPASSWORD="pass#1word")
    assert run("backup", "psql: pass#1word is wrong").is_failed()
    assert server.paths == [f"/{TOKEN}/alf1-backup/start", f"/{TOKEN}/alf1-backup/fail"]
    assert server.requests[-1].body == "psql: *** is wrong"


@slow
@runs
def test_runs_that_make_no_set_signal_nothing_and_skipped_ones_no_success(
    env: Path, server: WebServer
) -> None:
    settings(env, PING_URL=f"http://{server.address}/{TOKEN}")
    assert run("backup", "content is gone", components=["contentstore"]).is_failed()
    assert run("wal-audit").is_completed()
    assert server.paths == []
    assert run("offsite-copy", skip=True).is_completed()
    assert server.paths == [f"/{TOKEN}/alf1-offsite/start"]


@slow
@runs
def test_what_hangs_or_refuses_changes_no_run_and_no_secret_is_logged(
    env: Path, server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with silent_mail_server() as silent:
        hanging = f"json://127.0.0.1:{silent}/{TOKEN}?rto=900"
        settings(
            env, PING_URL=f"http://127.0.0.1:{silent}/{TOKEN}", ALERT_URLS=hanging, SMTP_TIMEOUT_SECONDS="1"
        )
        began = time.monotonic()
        state = run("backup", "it broke")
        took = time.monotonic() - began
        refusing = f"json://127.0.0.1:{refusing_port()}/{TOKEN},json://me:{TOKEN}@{server.address}/"
        settings(env, PING_URL=f"http://127.0.0.1:{refusing_port()}/{TOKEN}", ALERT_URLS=refusing)
        again = run("backup", "it broke")
    assert state.is_failed() and again.is_failed() and "it broke" in f"{state.message}{again.message}"
    assert took < 90, "three limits of 5, 5 and 1 s; the rest is for a slow machine"
    for words in (
        "PING_URL did not take the signal start of backup: no answer within 5 s",
        "PING_URL did not take the signal fail of backup: [Errno 111] Connection refused",
        "ALERT_URLS 1 (json) did not take the alert: no answer within 1 s",
        "ALERT_URLS 1 (json) did not take the alert: A Connection error occurred",
        "alert sent by ALERT_URLS 2 (json)",
    ):
        assert words in caplog.text
    assert TOKEN not in caplog.text and len(server.requests) == 1


@slow
@runs
def test_a_run_that_puts_retention_on_hold_tells_so_once_with_what_ends_it(
    env: Path, server: WebServer
) -> None:
    """By default only failures are mailed. This run has completed, and yet somebody has to look at it."""
    repository = sets_until_an_hour_ago(env).repository
    settings(env, ALERT_URLS=f"json://{server.address}/", BACKUP_DIR=str(repository.root))
    found_by = make_stamp(utc_now())

    @flow(name="backup", **HOOKS)
    def finding() -> State[str]:
        write_hold(repository, Hold(found_by, "clock", "the clock was put forward", utc_now()))
        return Completed(message="set 1 published", data="")

    assert finding(return_state=True).is_completed()
    (request,) = server.requests
    sent = json.loads(request.body)
    assert "backup completed, retention is on hold" in sent["title"]
    assert "Nothing was removed:" in sent["message"] and "the clock was put forward" in sent["message"]
    assert f"accept {found_by} --reason" in sent["message"]
    assert run("backup").is_completed()
    assert len(server.requests) == 1, "a later run says nothing new"


@slow
@runs
def test_every_run_writes_the_metrics_and_one_that_cannot_is_as_it_was(
    env: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = sets_until_an_hour_ago(env).repository
    file = env / "alf1.prom"
    settings(env, METRICS_FILE=str(file), BACKUP_DIR=str(repository.root))
    assert run("wal-audit").is_completed()
    assert 'alfresco_backup_complete_sets{host="alf1"} 5.0\n' in file.read_text()
    file.unlink()
    assert run("backup", "it broke").is_failed() and file.exists()
    settings(env, METRICS_FILE=str(env / "missing/alf1.prom"), BACKUP_DIR=str(repository.root))
    assert run("backup").is_completed()
    assert "METRICS_FILE was not written: [Errno 2] No such file or directory: " in caplog.text


@slow
@pytest.mark.parametrize(("status", "said"), [(404, "it answered 404"), (200, "")])
def test_an_answer_that_is_no_success_is_told(tmp_path: Path, status: int, said: str) -> None:
    with web_server(status) as answering:
        asked = settings(tmp_path, PING_URL=f"http://{answering.address}/{TOKEN}")
        assert ping(asked, "drill", "fail", "no") == said


def test_a_wrong_address_is_refused_without_being_shown(tmp_path: Path) -> None:
    for wrong in (f"hc-ping.com/{TOKEN}", f"ftp://x/{TOKEN}", f"https:///{TOKEN}", f"http://x/{TOKEN}#a"):
        with pytest.raises(SettingsError, match=r"PING_URL=\*\*\*: expected http:// or https://") as caught:
            settings(tmp_path, PING_URL=wrong)
        assert TOKEN not in str(caught.value)
    asked = settings(tmp_path, PING_URL=f"https://x/{TOKEN}")
    assert TOKEN not in repr(asked)
    assert ping_address(asked, "drill", "success") == f"https://x/{TOKEN}/alf1-drill"
