"""What happens by itself, what no hook can see, and what must be seen nowhere."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.common import wait_until
from tests.support.prefect_lab import API_LOGIN, RUN_SECONDS
from tests.support.prefect_site import NAME, Site
from tests.support.prefect_stories import Stories, begun

WORKSPACE = "prefect-workspace-attempt-"


@pytest.fixture(scope="module", autouse=True)
def stories(shared_site: Site) -> Iterator[Stories]:
    """What goes on while the first tests of this file run, and is looked at by the last ones."""
    with begun(shared_site) as stories:
        yield stories


def test_an_overdue_alarm_is_looked_up_before_anybody_is_woken(site: Site) -> None:
    site.require_set()
    run = site.lab.start_run(f"notify/{NAME}", reason="overdue")
    site.lab.await_state(run, "Completed")
    assert site.lab.message(run).startswith("all is well: the newest complete set ")
    strict = site.lab.start_run(f"notify/{NAME}", env={"BACKUP_MAX_AGE_HOURS": "0.00001"}, reason="overdue")
    site.lab.await_state(strict, "Completed")
    assert site.lab.message(strict).endswith("; mail sent to ops@example.org")
    assert "Last good backup: set " in site.await_mail(": backup is overdue; ")


def test_a_complete_set_announces_itself_to_the_dead_mans_switch(site: Site) -> None:
    site.require_set()
    wanted = {"filter": {"event": {"name": ["alfresco-backup.set.published"]}}}
    wait_until(
        lambda: site.lab.post("/events/filter", wanted)["events"], "the set has announced itself", RUN_SECONDS
    )
    found = site.lab.post("/events/filter", wanted)["events"]
    assert {event["resource"]["prefect.resource.id"] for event in found} == {f"alfresco-backup.host.{NAME}"}


def test_no_secret_is_in_the_database_logs_arguments_or_mails(site: Site, stories: Stories) -> None:
    run = site.lab.start_run(f"backup/{NAME}", env={"EMAIL_ALERT_MODE": "both"})
    site.lab.await_state(run, "Completed")
    restore = site.lab.start_run(f"restore-full/{NAME}", mode="execute", confirm=NAME)
    site.lab.await_state(restore, "Completed")
    site.run_moody("no space left", "mail sent to ops@example.org")
    with sqlite3.connect(site.lab.home / "prefect.db") as database:
        dump = "\n".join(database.iterdump())
    assert all(words in dump for words in (str(run), "backup-report", "restore-report"))
    mails = site.mailbox.mails
    assert len(mails) >= 2
    kept = [path for path in site.lab.home.rglob("*") if ".db" not in path.name]
    logs = [path for path in (*kept, *site.host.backup_dir.glob("logs/*.log")) if path.is_file()]
    texts = {
        "the Prefect database": dump,
        "command lines": "\n".join(stories.arguments),
        "mails": "\n".join(mail.as_string() for mail in mails),
        **{str(log): text_of(log) for log in logs},
    }
    assert any("pg_basebackup" in line for line in stories.arguments) and len(logs) >= 3
    assert any("pg_basebackup" in text_of(log) for log in logs)
    for place, text in texts.items():
        for secret in site.secrets:
            # Prefect's worker hands its environment on in a folder that is closed to others.
            if WORKSPACE not in place or secret not in API_LOGIN:
                assert secret not in text, f"a secret is in {place}"
    for folder in site.lab.home.glob(f"{WORKSPACE}*"):
        assert folder.stat().st_mode & 0o077 == 0


def text_of(file: Path) -> str:
    """What is in a file; one of a lease may be gone."""
    try:
        return file.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def test_a_cron_schedule_fires_and_its_run_completes(site: Site) -> None:
    wanted = {
        "flows": {"name": {"any_": ["scheduled"]}},
        "flow_runs": {"state": {"name": {"any_": ["Completed"]}}},
    }
    wait_until(
        lambda: site.lab.post("/flow_runs/filter", wanted), "the scheduled run has completed", RUN_SECONDS
    )
    [run] = site.lab.post("/flow_runs/filter", wanted)
    assert run["auto_scheduled"] is True
    assert run["created_by"]["type"] == "SCHEDULE"


def test_a_run_by_hand_that_was_killed_is_found_crashed_and_mailed(site: Site, stories: Stories) -> None:
    wait_until(lambda: stories.silent_run, "a run by hand was killed", RUN_SECONDS)
    run = stories.silent_run
    assert run
    wait_until(lambda: site.lab.state(run) == "Crashed", "the silent run is shown as crashed", RUN_SECONDS)
    assert site.lab.message(run).startswith("its process was killed: no heartbeat since ")
    site.mailbox.already_read = stories.mails_before
    text = site.await_mail(f"{NAME} (Demo): linger crashed at long-step; ")
    assert "its process was killed: no heartbeat since " in text
