"""`deployments/freshness`: without Prefect, an alarm when the newest complete set is too old."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.offsite.state import LastRun, OffsiteState
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.system.files import write_json
from alfresco_backup.system.json_fields import document_of
from alfresco_backup.times import utc_now
from tests.support.mail_servers import mail_server, refusing_port, silent_mail_server
from tests.support.repository_on_disk import DiskRepository
from tests.support.web_servers import web_server

pytestmark = pytest.mark.slow

PROGRAM = PROJECT_DIRECTORY / "deployments/freshness"
SECRET = "mail's #1 word"


def freshness(env_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: with next to nothing in the environment, from another folder."""
    return subprocess.run(
        [sys.executable, PROGRAM, env_file, *options],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> DiskRepository:
    return DiskRepository(tmp_path / "backup", utc_now())


def settings_file(tmp_path: Path, smtp_port: int = 0, smtp_timeout: float = 60) -> Path:
    mail = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_TIMEOUT_SECONDS": str(smtp_timeout),
        "ALERT_EMAIL": "ops@example.org,boss@example.org",
    }
    values = {
        "PGHOST": "localhost",
        "PGUSER": "alfresco",
        "BACKUP_DIR": str(tmp_path / "backup"),
        "ALF_BASE_DIR": str(tmp_path),
        "ALF_HOST_NAME": "alf1",
        "CUSTOMER_NAME": SECRET,
        "PGPASSWORD": SECRET,
        **(mail if smtp_port else {}),
    }
    file = tmp_path / ".env"
    file.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
    file.chmod(0o600)
    return file


def test_a_young_set_is_well(tmp_path: Path, repository: DiskRepository) -> None:
    repository.run("3d")
    stamp = repository.run("25h")
    with mail_server() as mailbox:
        done = freshness(settings_file(tmp_path, mailbox.port))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"OK: alf1: the newest complete set {stamp} was begun ")
    assert mailbox.mails == []


def test_an_old_set_is_printed_mailed_and_an_exit_code(tmp_path: Path, repository: DiskRepository) -> None:
    stamp = repository.run("27h")
    repository.snapshot(utc_now())  # a copy of content alone is no complete set
    with mail_server() as mailbox:
        done = freshness(settings_file(tmp_path, mailbox.port))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"OVERDUE: alf1: the newest complete set {stamp} was begun ")
    mail = mailbox.mail("backup is overdue; last good backup")
    assert mailbox.envelopes[0].rcpt_tos == ["ops@example.org", "boss@example.org"]
    assert f"Last good backup: set {stamp}, " in mail.get_content()
    assert SECRET not in mail.as_string() and "alf1 (***)" in mail["Subject"]


def test_an_old_copy_elsewhere_is_mailed_with_what_fails_and_no_password(
    tmp_path: Path, repository: DiskRepository
) -> None:
    stamp = repository.run("25h")
    begun, failed = repository.now - timedelta(days=3), repository.now - timedelta(hours=2)
    words = "the off-site repository cannot be reached: no route to host"
    runs = {"wal": LastRun(failed, "", 0, failed, repository.now, words, "ping -c 3 nas")}
    state = OffsiteState("rest:https://***@nas/alf1", begun, (stamp,), 1, stamp, begun, runs=runs)
    repository.repository.offsite.mkdir()
    write_json(repository.repository.offsite / "state.json", document_of(state))
    with mail_server() as mailbox:
        file = settings_file(tmp_path, mailbox.port)
        assert freshness(file).returncode == 0, "none is set up"
        with file.open("a") as settings:
            settings.write('OFFSITE_REPOSITORY="rest:https://me:a-secret@nas/alf1"\n')
            settings.write('OFFSITE_PASSWORD="another-secret"\n')
        done = freshness(file)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.startswith(f"OVERDUE: alf1: the newest complete set {stamp} was begun ")
        assert "; off-site WAL: was sent " in done.stdout and words in done.stdout
        mail = mailbox.mail("off-site copy needs attention; last good backup")
    text = mail.get_content()
    assert words in text and "HINT: ping -c 3 nas" in text and f"Last good backup: set {stamp}" in text
    assert "secret" not in mail.as_string() + done.stdout


def test_a_set_dated_in_the_future_does_not_silence_the_alarm(
    tmp_path: Path, repository: DiskRepository
) -> None:
    stamp = repository.run("27h")
    future = repository.run("-3d")
    with mail_server() as mailbox:
        done = freshness(settings_file(tmp_path, mailbox.port))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"OVERDUE: alf1: the newest complete set {stamp} was begun ")
    assert done.stdout.endswith(f"; {future} dated in the future; check the clock\n")
    assert f"Last good backup: set {stamp}, " in mailbox.mail("backup is overdue").get_content()


def test_no_set_at_all_is_overdue(tmp_path: Path) -> None:
    done = freshness(settings_file(tmp_path))
    assert done.returncode == 1
    assert done.stdout == f"OVERDUE: alf1: there is no complete backup in {tmp_path / 'backup'}\n"


def test_without_a_mail_server_the_alarm_is_an_error_that_cron_mails(tmp_path: Path) -> None:
    """Cron lines hide standard output, which would mail good news four times a day."""
    file = settings_file(tmp_path)
    said = "OVERDUE: alf1: there is no complete backup in "
    done = freshness(file)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.endswith("; no mail was sent: SMTP_HOST or ALERT_EMAIL is not set\n")
    assert freshness(file, "--no-mail").stderr == ""
    file.write_text(f'{file.read_text()}EMAIL_ALERT_MODE="none"\n')
    assert freshness(file).stderr == ""


def test_a_mail_is_not_sent_when_told_so(tmp_path: Path) -> None:
    with mail_server() as mailbox:
        assert freshness(settings_file(tmp_path, mailbox.port), "--no-mail").returncode == 1
    assert mailbox.mails == []


def test_a_mail_server_that_is_down_or_hangs_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    with silent_mail_server() as silent:
        for port in (refusing_port(), silent):
            done = freshness(settings_file(tmp_path, port, smtp_timeout=0.5))
            assert done.returncode == 4
            assert done.stdout.startswith("OVERDUE: ")
            assert f"the mail server 127.0.0.1:{port} did not take the mail" in done.stderr


def test_services_are_told_too_and_one_way_that_works_is_enough(
    tmp_path: Path, repository: DiskRepository
) -> None:
    stamp = repository.run("27h")
    file = settings_file(tmp_path, refusing_port())
    with web_server() as service:
        with file.open("a") as settings:
            settings.write(f'ALERT_URLS="json://user:a-token@{service.address}"\n')
        done = freshness(file)
    assert done.returncode == 1
    assert "the mail server 127.0.0.1:" in done.stderr and "a-token" not in done.stdout + done.stderr
    [request] = service.requests
    assert "backup is overdue; last good backup" in request.body and stamp in request.body
    assert SECRET not in request.body


def test_the_metrics_are_written_and_where_they_cannot_be_the_alarm_is_the_same(
    tmp_path: Path, repository: DiskRepository
) -> None:
    repository.run("25h")
    settings, folder = settings_file(tmp_path), tmp_path / "collector"
    with settings.open("a") as file:
        file.write(f"METRICS_FILE={folder / 'alf1.prom'}\n")
    done = freshness(settings)
    assert done.returncode == 0 and done.stderr.startswith("METRICS_FILE was not written: ")
    folder.mkdir()
    assert freshness(settings).stderr == ""
    assert 'alfresco_backup_complete_sets{host="alf1"} 1.0\n' in (folder / "alf1.prom").read_text()


def test_wrong_settings_have_an_exit_code_of_their_own(tmp_path: Path) -> None:
    done = freshness(tmp_path / "missing.env")
    assert done.returncode == 2
    assert "this settings file does not exist" in done.stderr


def test_it_needs_no_prefect() -> None:
    code = (
        "import runpy, sys; sys.argv = ['freshness', '/none']\n"
        f"try: runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
        "except SystemExit: print([name for name in sys.modules if name.startswith('prefect')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
