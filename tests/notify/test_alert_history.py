"""Which earlier runs a mail is about: only those that did the same work."""

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed
from pydantic import SecretStr

from alfresco_backup.host.host import Host, load_host
from alfresco_backup.notify.messages import Mail
from alfresco_backup.notify.smtp import AlertNotSent, block_name
from flows.backup import backup
from flows.restore_full import restore_full
from tasks.alerts import hooks
from tasks.alerts.facts import (
    MAILED,
    alarmed_before,
    already_mailed,
    defaults_of,
    find_log,
    gather_facts,
    mark_mailed,
    tail_of,
)
from tasks.alerts.hooks import credentials_without_password, load_mail_server
from tasks.runs.cancelling import RunCancelled
from tasks.runs.history import name_restore
from tests.support.mail_servers import mail_server
from tests.support.prefect_relay import relayed

pytestmark = pytest.mark.usefixtures("prefect_server")
LOGGER = logging.getLogger(__name__)
HOURLY = {"components": ["contentstore"]}
EVERYTHING = ["configuration", "contentstore", "postgres"]
FAILED: State[None] = Failed(message="it broke")


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    """A host of this test alone."""
    (tmp_path / "home/alf_data/postgresql").mkdir(parents=True)
    file = tmp_path / "host.env"
    file.write_text(
        f"PGHOST=localhost\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}/home\n"
        f"ALF_HOST_NAME=host-{abs(hash(request.node.name))}\n"
    )
    file.chmod(0o600)
    return load_host(file)


@flow(name="backup")
def written_down() -> None:
    """A flow whose runs are only written down."""


def deploy(name: str) -> UUID:
    with get_client(sync_client=True) as client:
        return client.create_deployment(client.create_flow_from_name("backup"), name)


def write_run(
    host: Host,
    state: State[None],
    *tags: str,
    deployment: UUID | None = None,
    name: str = "backup",
    **parameters: Any,
) -> FlowRun:
    """A run that began and ended just now."""
    with get_client(sync_client=True) as client:
        labels = [host.name, *tags]
        if deployment:
            run = client.create_flow_run_from_deployment(deployment, parameters=parameters, tags=labels)
        else:
            flow_of_that_name = written_down.with_options(name=name)
            run = client.create_flow_run(flow_of_that_name, parameters=parameters, tags=labels)
        client.set_flow_run_state(run.id, State(type="RUNNING"), force=True)
        client.set_flow_run_state(run.id, state, force=True)
        return client.read_flow_run(run.id)


def test_the_hourly_copy_does_not_end_the_alarm_of_the_nightly_set(host: Host) -> None:
    nightly, hourly = deploy(f"{host.name}"), deploy(f"{host.name}-contentstore")
    alarm = write_run(host, FAILED, MAILED, deployment=nightly)
    success = write_run(host, Completed(), deployment=hourly, **HOURLY)
    assert alarmed_before(host, success, "backup", defaults_of(backup)) == ""
    recovery = write_run(host, Completed(), deployment=nightly)
    assert alarmed_before(host, recovery, "backup", defaults_of(backup)) == f'run "{alarm.name}" failed'


def test_another_schedule_of_the_same_deployment_is_other_work(host: Host) -> None:
    nightly = deploy(host.name)
    alarm = write_run(host, FAILED, MAILED, deployment=nightly)
    weekly = write_run(host, Completed(), deployment=nightly, contentstore_mode="full", **HOURLY)
    assert alarmed_before(host, weekly, "backup", defaults_of(backup)) == ""
    spelt_out = write_run(host, Completed(), deployment=nightly, components=EVERYTHING)
    assert alarmed_before(host, spelt_out, "backup", defaults_of(backup)) == f'run "{alarm.name}" failed'


def test_runs_by_hand_are_compared_by_what_they_back_up(host: Host) -> None:
    alarm = write_run(host, FAILED, MAILED, components=EVERYTHING, contentstore_mode="quick")
    content = write_run(host, Completed(), contentstore_mode="quick", **HOURLY)
    assert alarmed_before(host, content, "backup", defaults_of(backup)) == ""
    deployed = write_run(host, Completed(), deployment=deploy(host.name))
    assert alarmed_before(host, deployed, "backup", defaults_of(backup)) == ""
    again = write_run(host, Completed(), components=EVERYTHING, contentstore_mode="quick")
    assert alarmed_before(host, again, "backup", defaults_of(backup)) == f'run "{alarm.name}" failed'


def test_a_plan_does_not_end_the_alarm_of_a_restore(host: Host) -> None:
    name, defaults = "restore-full", defaults_of(restore_full)
    alarm = write_run(host, FAILED, MAILED, name=name, mode="execute", confirm=host.name, backup="latest")
    plan = write_run(host, Completed(), name=name)
    assert alarmed_before(host, plan, name, defaults) == ""
    restored = write_run(host, Completed(), name=name, mode="execute", confirm=host.name, backup="2026")
    assert alarmed_before(host, restored, name, defaults) == f'run "{alarm.name}" failed'


def test_the_same_failure_of_other_work_is_mailed_too(host: Host) -> None:
    nightly, hourly = deploy(f"{host.name}"), deploy(f"{host.name}-contentstore")
    mailed = write_run(host, FAILED, MAILED, deployment=nightly)
    other = write_run(host, FAILED, deployment=hourly, **HOURLY)
    assert already_mailed(host, other, FAILED, "backup", defaults_of(backup)) == ""
    same = write_run(host, FAILED, deployment=nightly)
    assert already_mailed(host, same, FAILED, "backup", defaults_of(backup)) == f'"{mailed.name}"'


def test_the_log_of_a_restore_is_found_by_the_name_of_its_run(host: Host) -> None:
    set_stamp, stamp = "20261122T023000Z", "20261123T084100Z"

    @flow(name="restore-full")
    def restores() -> UUID:
        name_restore(f"the end of base backup {set_stamp}", stamp)
        context = FlowRunContext.get()
        assert context and context.flow_run
        return context.flow_run.id

    run = restores()
    host.repository.logs.mkdir()
    for name in (f"backup-{set_stamp}.log", f"restore-full-{stamp}.log"):
        (host.repository.logs / name).touch()
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(run).name
    assert name == f"restore-full: the end of base backup {set_stamp}, restore {stamp}"
    assert find_log(host, name) == host.repository.logs / f"restore-full-{stamp}.log"
    assert find_log(host, f"backup 2026-11-22 set {set_stamp}") == (
        host.repository.logs / f"backup-{set_stamp}.log"
    )


def test_a_mail_that_cannot_be_noted_was_sent_all_the_same(host: Host) -> None:
    run = write_run(host, FAILED)
    with relayed() as relay:
        relay.spoil = lambda _path, _forward: None
        assert mark_mailed(run).startswith("; that could not be noted in Prefect")
    assert mark_mailed(run) == ""
    with get_client(sync_client=True) as client:
        assert MAILED in client.read_flow_run(run.id).tags


@pytest.mark.parametrize(
    ("changed", "login"),
    [
        ({}, ("alfresco", "a secret")),
        ({"smtp_port": 2525}, ("alfresco", "a secret")),
        ({"smtp_server": "mail.elsewhere.example"}, ("", "")),
        ({"smtp_type": "INSECURE"}, ("", "")),
    ],
)
def test_the_password_goes_only_where_the_env_sends_it(
    host: Host, changed: dict[str, Any], login: tuple[str, str]
) -> None:
    mail = {"smtp_host": "mail.example", "smtp_user": "alfresco", "smtp_password": SecretStr("a secret")}
    settings = host.settings.model_copy(update=mail)
    block = credentials_without_password(settings).model_copy(update=changed)
    type(block)(**block.model_dump()).save(block_name(settings.alf_host_name), overwrite=True)
    server = load_mail_server(settings)
    assert (server.user, server.password.get_secret_value()) == login
    assert server.host == changed.get("smtp_server", "mail.example")


def test_a_mail_that_the_server_will_not_take_now_is_sent_a_moment_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "RETRY_PAUSES", (0.1, 0.1, 0.0))
    with mail_server() as mailbox:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": mailbox.port, "smtp_type": "INSECURE"}
        settings = host.settings.model_copy(update={**mail, "alert_email": ("ops@example.org",)})
        mailbox.busy = 2
        hooks.send_alert(Mail("it failed", "why"), settings, LOGGER)
        assert mailbox.subjects() == ["it failed"]
        mailbox.busy = 3
        with pytest.raises(AlertNotSent, match="busy, try again later"):
            hooks.send_alert(Mail("it failed again", "why"), settings, LOGGER)
        assert mailbox.subjects() == ["it failed"]


def test_a_mail_tells_what_is_known_while_the_prefect_server_is_away(host: Host) -> None:
    run = write_run(host, FAILED)
    with relayed() as relay:
        relay.spoil = lambda _path, _forward: None
        facts = gather_facts(host, run, FAILED, "backup")
    assert (facts.run, facts.outcome, facts.step, facts.message) == (run.name, "failed", "", "it broke")


def test_a_run_that_ended_itself_because_it_was_cancelled_is_told_of_as_cancelled(host: Host) -> None:
    state: State[None] = Failed(message=f"Flow run encountered an exception: RunCancelled: {RunCancelled()}")
    run = write_run(host, state)
    assert gather_facts(host, run, state, "backup").outcome == "was cancelled"
    assert gather_facts(host, run, FAILED, "backup").outcome == "failed"


def test_the_tail_of_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert tail_of(tmp_path) == (f"{tmp_path} cannot be read: it is no regular file",)


def test_an_outage_of_the_far_side_is_mailed_once_however_it_shows(host: Host) -> None:
    words = "Flow run encountered an exception: FarSideAway: the off-site repository s3:x "
    shapes = (
        "did not answer within 120 s",
        "cannot be reached: connection refused",
        "cannot be reached: EOF",
    )
    away = [Failed(message=words + shape) for shape in shapes]
    deployment = deploy(f"{host.name}-offsite")
    first = write_run(host, away[0], MAILED, deployment=deployment)
    for state in away[1:]:
        run = write_run(host, state, deployment=deployment)
        assert already_mailed(host, run, state, "backup") == f'"{first.name}"'
    other: State[None] = Failed(
        message="Flow run encountered an exception: FarSideDamaged: pack 1f is damaged"
    )
    run = write_run(host, other, deployment=deployment)
    assert already_mailed(host, run, other, "backup") == ""
    write_run(host, Completed(), deployment=deployment)
    again = write_run(host, away[0], deployment=deployment)
    assert already_mailed(host, again, away[0], "backup") == ""
