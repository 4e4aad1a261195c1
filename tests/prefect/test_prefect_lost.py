"""Runs that nobody is left to end, and alarms that nobody was left to raise: the next look settles them."""

import os
import signal
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import disable_run_logger

import tasks.alerts.lost_runs
from alfresco_backup.times import utc_now
from tasks.alerts.lost_runs import end_lost
from tasks.alerts.watch import PATIENCE_SECONDS, settle_runs
from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, alive, children_of
from tests.support.prefect_site import NAME, Site, history

AT_ONCE = timedelta(0)
NOTHING = "all runs are alive or have ended; every lost run was reported"
NEVER_STARTED = "its process was never started: its worker ended after accepting the run at "
KILLED = "its process was killed: no heartbeat since "


def look(site: Site, patience: float = 0.0) -> str:
    """What `notify` does every quarter of an hour, for runs that have just fallen silent."""
    with history(site) as host, disable_run_logger():
        return settle_runs(host, AT_ONCE, patience)


def never_started(site: Site, deployment: str, **parameters: Any) -> UUID:
    """A run whose worker was killed after it had taken it. Another program stands for its process."""
    lab = site.lab
    lab.revive_workers()
    with lab.client() as client:
        found = client.read_deployment_by_name(deployment)
        variables = {**found.job_variables, "command": "sleep 3600"}
        run = client.create_flow_run_from_deployment(
            found.id, parameters=parameters, job_variables=variables
        ).id
    lab.await_run(run, lambda: lab.read(run).infrastructure_pid, "process")
    worker, process = lab.workers[NAME], lab.process_of(run)
    [child] = children_of(worker.pid)
    worker.kill()
    worker.wait(timeout=RUN_SECONDS)
    wait_until(lambda: not alive(child), "the worker has died with its starter")
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not alive(process), "its process is gone")
    site.start_worker()
    return run


def killed_by_hand(site: Site) -> UUID:
    """A run by hand that was killed in the middle of its work."""
    lab, states = site.lab, {"state": {"name": {"any_": ["Running"]}}}
    wanted = {"flows": {"name": {"any_": ["linger"]}}, "flow_runs": states}
    before = {run["id"] for run in lab.post("/flow_runs/filter", wanted)}
    process = site.direct_run("linger")

    def begun() -> list[str]:
        return [run["id"] for run in lab.post("/flow_runs/filter", wanted) if run["id"] not in before]

    wait_until(begun, "the run by hand has begun", RUN_SECONDS)
    [run] = begun()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return UUID(run)


def test_a_run_whose_worker_was_killed_before_it_began_blocks_nobody_and_is_ended_and_mailed(
    site: Site,
) -> None:
    lab = site.lab
    run = never_started(site, f"hold/{NAME}")
    lab.await_state(lab.start_run(f"hold/{NAME}"), "Completed")
    found = lab.read(run)
    assert found.state and found.state.is_pending()
    said = look(site)
    assert said.startswith(f'"{found.name}": {NEVER_STARTED}') and said.endswith(
        "mail sent to ops@example.org"
    )
    assert lab.state(run) == "Crashed" and lab.message(run).startswith(NEVER_STARTED)
    assert NEVER_STARTED in site.await_mail(f"{NAME} (Demo): hold crashed; ")
    assert look(site) == NOTHING
    assert len(site.mailbox.subjects(": hold crashed; ")) == 1


def test_a_watch_that_never_started_lets_the_next_ones_through(site: Site) -> None:
    """Its deployment lets one run in at a time and cancels the others."""
    lab = site.lab
    site.require_set()
    lost = never_started(site, f"wal-audit/{NAME}")
    lab.await_state(lab.start_run(f"wal-audit/{NAME}"), "Cancelled")
    look(site)
    assert lab.state(lost) == "Crashed"
    lab.await_state(lab.start_run(f"wal-audit/{NAME}"), "Completed")


def test_a_silent_run_is_told_of_though_notify_was_killed_over_it_and_living_runs_stay(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    run = killed_by_hand(site)
    notify = lab.start_run(f"notify/{NAME}", reason="silent", run=str(run))
    lab.await_state(notify, "Running")
    os.kill(lab.process_of(notify), signal.SIGKILL)
    lab.await_state(notify, "Crashed")
    assert lab.state(run) == "Running"
    said = look(site, PATIENCE_SECONDS)
    assert said.startswith(f'"{lab.read(run).name}": {KILLED}')
    assert (lab.state(run), lab.state(held.run)) == ("Crashed", "Running")
    assert KILLED in site.await_mail(f"{NAME} (Demo): linger crashed")
    held.stop()
    lab.await_state(held.run, "Completed")
    again = lab.start_run(f"notify/{NAME}", reason="silent", run=str(run))
    lab.await_state(again, "Completed")
    assert lab.message(again).endswith(" has ended: Crashed")
    assert len(site.mailbox.subjects(": linger crashed")) == 1


@flow(name="ended")
def ended() -> None:
    """A flow whose run these tests only write down."""


def ended_run(site: Site) -> FlowRun:
    """A run that was shown as lost, and nobody was told."""
    with site.lab.client() as client:
        created = client.create_flow_run(ended, tags=[NAME])
        client.set_flow_run_state(created.id, State(type="RUNNING"), force=True)
        run = client.read_flow_run(created.id)
        assert end_lost(client, run, utc_now())
        assert end_lost(client, run, utc_now()) is None, "the server takes the end of a run once"
    return run


def test_a_run_that_was_ended_by_a_look_that_could_not_mail_is_mailed_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_run(site)
    assert look(site) == NOTHING, "a look that is still telling must not be doubled"
    monkeypatch.setattr(tasks.alerts.lost_runs, "TELLING", AT_ONCE)
    assert look(site).endswith("mail sent to ops@example.org")
    site.await_mail(f"{NAME} (Demo): ended crashed; ")
    assert look(site) == NOTHING
    assert len(site.mailbox.subjects(": ended crashed; ")) == 1


def test_where_no_mail_is_wanted_a_lost_run_is_named_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.alerts.lost_runs, "TELLING", AT_ONCE)
    monkeypatch.setenv("EMAIL_ALERT_MODE", "none")
    run = ended_run(site)
    said = look(site)
    assert said.startswith(f'"{run.name}": {KILLED}') and said.endswith("; e-mail alerts are disabled")
    assert look(site) == NOTHING


def test_a_run_that_was_cancelled_after_its_process_had_gone_is_cancelled(site: Site) -> None:
    run = killed_by_hand(site)
    done = site.lab.run_prefect("flow-run", "cancel", str(run))
    assert done.returncode == 0, done.stderr
    look(site)
    assert site.lab.state(run) == "Cancelled"
    assert site.lab.message(run).startswith("it was cancelled and its process is gone: ")
    site.await_mail(f"{NAME} (Demo): linger was cancelled")


def test_an_overdue_alarm_that_notify_never_raised_is_raised_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.require_set()
    lost = never_started(site, f"notify/{NAME}", reason="overdue")
    monkeypatch.setenv("BACKUP_MAX_AGE_HOURS", "0.00001")
    assert "; mail sent to ops@example.org" in look(site)
    assert site.lab.state(lost) == "Crashed"
    site.await_mail(": backup is overdue; ")
    monkeypatch.setattr(tasks.alerts.lost_runs, "TELLING", AT_ONCE)
    assert look(site) == NOTHING
    assert len(site.mailbox.subjects(": backup is overdue; ")) == 1
    assert site.mailbox.subjects(": notify ") == []


def test_the_look_itself_is_run_by_the_worker(site: Site) -> None:
    run = site.lab.start_run(f"notify/{NAME}", reason="runs")
    site.lab.await_state(run, "Completed")
    assert site.lab.message(run) == NOTHING
