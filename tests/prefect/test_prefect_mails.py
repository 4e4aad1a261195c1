"""Mails about runs of a real worker: one for a failure, one for the recovery, none that changes a run."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed

from tasks.alerts.facts import FREQUENT, MAILED, alarmed_before, already_mailed
from tasks.runs.host_lock import SKIPPED
from tests.support.mail_servers import LOGIN, PASSWORD, refusing_port, silent_mail_server, tls_mail_server
from tests.support.prefect_site import NAME, Site, history


def test_a_failing_flow_sends_exactly_one_mail_and_its_next_success_another(site: Site) -> None:
    site.run_moody("no space left on device", "mail sent to ops@example.org")
    text = site.await_mail(": moody failed at hopeless-step; ")
    assert "sh: sh ended with exit code 3; it said:\n  what the tool said\n  no space left on device" in text
    assert "  HINT: df -h\n" in text
    assert re.search(r"Run: +moody \d{4}-\d\d-\d\d \d\d:\d\d, ", text)
    site.run_moody("", "mail sent to ops@example.org")
    text = site.await_mail(": moody works again; ")
    assert 'Before: run "moody ' in text and '" failed\n' in text
    site.lab.await_state(site.lab.start_run(f"moody/{NAME}"), "Completed")
    assert len(site.mailbox.subjects(": moody ")) == 2


def test_the_mode_decides_about_mails_of_successes_and_of_anything(site: Site) -> None:
    told = site.start_moody("", EMAIL_ALERT_MODE="both")
    untold = site.start_moody("silence", EMAIL_ALERT_MODE="none")
    site.await_moody(told, "", "mail sent to ops@example.org")
    site.await_moody(untold, "silence", "Finished in state Failed")
    assert not [line for line in site.lab.log(untold) if "mail" in line]
    text = site.await_mail(": moody completed; ")
    assert site.lab.read(told).name in text and "  all is well\n" in text
    assert not any("silence" in mail.as_string() for mail in site.mailbox.mails)


def test_a_run_that_takes_too_long_is_mailed_as_timed_out(site: Site) -> None:
    site.lab.await_state(site.lab.start_run(f"late/{NAME}"), "TimedOut")
    site.await_mail(": late timed out at long-step; ")


def test_a_mail_server_that_is_down_or_hangs_changes_no_run_and_shows_in_its_log(site: Site) -> None:
    with silent_mail_server() as silent:
        servers = ((refusing_port(), "Connection refused"), (silent, "timed out"))
        # A host without a mail block: its mail server is that of the settings alone.
        elsewhere = {"ALF_HOST_NAME": "elsewhere", "SMTP_TIMEOUT_SECONDS": "5"}
        runs = [site.start_moody(words, SMTP_PORT=str(port), **elsewhere) for port, words in servers]
        for run, (port, words) in zip(runs, servers, strict=True):
            line = site.await_moody(run, words, "no alert was sent about this run")
            assert f"the mail server 127.0.0.1:{port} did not take the mail" in line and words in line


def test_a_mail_server_that_wants_encryption_and_a_login_gets_both(site: Site, tmp_path: Path) -> None:
    with tls_mail_server(tmp_path) as mailbox:
        values = {"SMTP_PORT": str(mailbox.port), "SMTP_TYPE": "STARTTLS", "SMTP_USER": LOGIN}
        settings = tmp_path / ".env"
        given = {**dotenv_values(site.host.env_file), **values, "ALF_HOST_NAME": "elsewhere"}
        settings.touch(mode=0o600)
        settings.write_text("".join(f'{name}="{value}"\n' for name, value in given.items()))
        trust = {"SSL_CERT_FILE": str(tmp_path / "certificate.pem")}
        site.run_moody("no space left", "mail sent to", ALFRESCO_BACKUP_ENV=str(settings), **trust)
        mail = mailbox.mail("elsewhere (Demo): moody failed at hopeless-step; ")
        assert mailbox.sessions[0].ssl is not None and mailbox.sessions[0].authenticated
        assert (mail["From"], mail["To"]) == (LOGIN, "ops@example.org")
        assert "  no space left" in mail.get_content() and PASSWORD not in mail.as_string()
    assert site.mailbox.mails == []


@flow(name="past")
def past() -> None:
    """A flow whose runs these tests only write down."""


def write_run(site: Site, flow_name: str, state: State[None], *tags: str) -> FlowRun:
    """A run of this host that began and ended just now."""
    flow_of_that_name = past.with_options(name=flow_name)
    with site.lab.client() as client:
        run = client.create_flow_run(flow_of_that_name, tags=[NAME, *tags])
        client.set_flow_run_state(run.id, State(type="RUNNING"), force=True)
        client.set_flow_run_state(run.id, state, force=True)
        return client.read_flow_run(run.id)


def test_the_same_failure_of_a_frequent_run_is_mailed_once_in_hours(site: Site) -> None:
    first = Failed(message="Flow run encountered an exception: ArchivingBroken: 3 segments wait")
    again = Failed(message="Flow run encountered an exception: ArchivingBroken: 4 segments wait")
    other = Failed(message="Flow run encountered an exception: ArchivingBroken: a gap")
    with history(site) as host:
        mailed = write_run(site, "frequent-flow", first, FREQUENT, MAILED)
        write_run(site, "frequent-flow", again, FREQUENT)
        run = write_run(site, "frequent-flow", again, FREQUENT)
        assert already_mailed(host, run, again, "frequent-flow") == f'"{mailed.name}"'
        assert already_mailed(host, run, other, "frequent-flow") == ""
        write_run(site, "frequent-flow", Completed(), FREQUENT)
        run = write_run(site, "frequent-flow", again, FREQUENT)
        assert already_mailed(host, run, again, "frequent-flow") == ""


def test_a_mail_that_was_never_sent_is_tried_again(site: Site) -> None:
    failure = Failed(message="it broke")
    with history(site) as host:
        write_run(site, "unheard-flow", failure, FREQUENT)
        run = write_run(site, "unheard-flow", failure, FREQUENT)
        assert already_mailed(host, run, failure, "unheard-flow") == ""
        run = write_run(site, "unheard-flow", Completed(), FREQUENT)
        assert alarmed_before(host, run, "unheard-flow") == ""


@pytest.mark.parametrize("between", [Completed(name=SKIPPED), Failed(message="again, not mailed")])
def test_a_success_ends_the_alarm_whatever_lies_between(site: Site, between: State[None]) -> None:
    name = f"alarmed-flow-{between.name}"
    with history(site) as host:
        alarm = write_run(site, name, Failed(message="it broke"), MAILED)
        write_run(site, name, between)
        run = write_run(site, name, Completed())
        assert alarmed_before(host, run, name) == f'run "{alarm.name}" failed'
        run = write_run(site, name, Completed())
        assert alarmed_before(host, run, name) == ""
