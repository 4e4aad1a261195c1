"""Backups, restores and direct runs on one host: never two at once, and nothing is left running."""

import itertools
import os
import signal
import time
from datetime import datetime
from uuid import UUID

from alfresco_backup.catalogue import read_catalogue
from alfresco_backup.layout import Repository
from alfresco_backup.stamps import utc_now
from alfresco_backup.versions import facts_of
from tests.prefect_lab import alive, descendants
from tests.prefect_site import NAME, SLOW, Site
from tests.support import wait_until


def busy_times(site: Site, run: UUID) -> tuple[datetime, datetime]:
    """From when to when the tasks of a run were at work."""
    wanted = {"flow_runs": {"id": {"any_": [str(run)]}}}
    tasks = site.lab.post("/task_runs/filter", wanted)
    starts = [datetime.fromisoformat(task["start_time"]) for task in tasks if task["start_time"]]
    ends = [datetime.fromisoformat(task["end_time"]) for task in tasks if task["end_time"]]
    assert starts and len(starts) == len(ends) == len(tasks)
    return min(starts), max(ends)


def direct_run_id(site: Site) -> UUID:
    """The newest backup that was started by hand: it has no deployment."""
    wanted = {"flows": {"name": {"any_": ["backup"]}}}
    runs = site.lab.post("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 50, **wanted})
    return UUID(next(run["id"] for run in runs if run["deployment_id"] is None))


def test_backups_restores_and_direct_runs_wait_for_each_other_and_say_for_whom(site: Site) -> None:
    lab = site.lab
    if not read_catalogue(Repository(site.host.backup_dir)).complete_sets:  # the restore may come first
        lab.await_state(lab.start_run(f"backup/{NAME}"), "Completed", seconds=180)
    holder = site.begin_to_hold()
    backups = [lab.start_run(f"backup/{NAME}") for _ in range(2)]
    restore = lab.start_run(f"restore-contentstore/{NAME}", mode="execute", confirm=NAME)
    hourly = lab.start_run(f"backup/{NAME}-contentstore")
    direct = lab.run_python("backup.py", str(site.host.env_file))

    skipped = lab.await_state(hourly, "Skipped")
    assert skipped.state and skipped.state.message
    assert skipped.state.message.startswith(f"skipped: the host {NAME} is held by {holder.name}, since ")
    for run in (*backups, restore):
        waiting = lab.await_state(run, "WaitingForHost")
        assert waiting.state and (waiting.state.message or "").startswith(f"waits for {holder.name}, since ")
        lab.await_log(run, f"waiting for the host {NAME}, at most ")

    holder.stop()
    lab.await_state(holder.run, "Completed")
    for run in (*backups, restore):
        lab.await_state(run, "Completed", seconds=180)
    output, _ = direct.communicate(timeout=120)
    assert direct.returncode == 0, output
    assert f"waiting for the host {NAME}, at most 1 h 00 min more: it is held by " in output
    times = sorted(busy_times(site, run) for run in (holder.run, *backups, restore, direct_run_id(site)))
    for before, after in itertools.pairwise(times):
        assert before[1] <= after[0]
    assert len(read_catalogue(Repository(site.host.backup_dir)).complete_sets) >= 3


def test_a_killed_backup_is_crashed_and_mailed_and_the_next_one_completes(site: Site) -> None:
    lab = site.lab
    site.wait_until_free()
    run = lab.start_run(f"backup/{NAME}", env=SLOW)
    wait_until(lambda: any("base-" in path.name for path in site.partials), "a base backup is under way", 60)
    pid = lab.process_of(run)
    wait_until(lambda: descendants(pid), "pg_basebackup runs")
    children = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    lab.await_state(run, "Crashed", seconds=15)
    text = site.await_mail(f"{NAME} (Demo): backup crashed at base-backup; last good backup ", 15)
    assert "SIGKILL" in text and lab.read(run).name in text
    assert f"{lab.address.removesuffix('/api')}/runs/flow-run/{run}" in text
    assert "Restorable:       restorable from " in text
    wait_until(lambda: not any(alive(child) for child in children), "its children are gone", 5)
    left = site.partials
    assert any("base-" in path.name for path in left)

    next_run = lab.start_run(f"backup/{NAME}")
    lab.await_log(next_run, "its hold runs out)")
    site.wait_until_free(90 - (time.monotonic() - killed))
    lab.await_state(next_run, "Completed", seconds=60)
    assert not set(left) & set(site.partials)
    recovery = site.await_mail(": backup works again; ")
    assert f'Before: run "{lab.read(run).name}" crashed' in recovery


def test_a_cancelled_backup_leaves_no_child_a_partial_and_one_mail(site: Site) -> None:
    lab = site.lab
    site.wait_until_free()
    run = lab.start_run(f"backup/{NAME}", env=SLOW)
    wait_until(lambda: any("base-" in path.name for path in site.partials), "a base backup is under way", 60)
    pid = lab.process_of(run)
    wait_until(lambda: descendants(pid), "pg_basebackup runs")
    children = descendants(pid)
    done = lab.run_prefect("flow-run", "cancel", str(run))
    assert done.returncode == 0, done.stderr
    lab.await_state(run, "Cancelled", seconds=60)
    wait_until(lambda: not any(alive(child) for child in children), "its children are gone", 5)
    assert any("base-" in path.name for path in site.partials)
    text = site.await_mail(": backup was cancelled at base-backup; ")
    assert lab.read(run).name in text
    site.wait_until_free()


def test_a_moment_is_planned_and_then_restored_from_the_command_line(site: Site) -> None:
    lab, host = site.lab, site.host
    site.wait_until_free()
    if not read_catalogue(Repository(host.backup_dir)).complete_sets:
        lab.await_state(lab.start_run(f"backup/{NAME}"), "Completed")
    host.writer.work(3)
    before = host.read_state()
    moment = utc_now()
    host.writer.work(3)
    host.writer.close()
    host.cluster.sql(f"SELECT {facts_of(host.cluster.version).switch_wal}()")
    command = (
        "deployment",
        "run",
        f"restore-pitr/{NAME}",
        "-p",
        f"target_time={moment.isoformat()}",
        "--watch",
    )
    planned = lab.run_prefect(*command)
    assert planned.returncode == 0, planned.stdout
    assert host.read_state() != before
    done = lab.run_prefect(*command, "-p", "mode=execute", "-p", f"confirm={NAME}")
    assert done.returncode == 0, done.stdout
    assert host.read_state() == before
    assert host.missing_documents(before) == []
    assert host.answer()
