"""Backups, restores and direct runs on one host: never two at once, and nothing is left running."""

import itertools
import os
import re
import signal
from datetime import datetime
from uuid import UUID

from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.times import utc_now
from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, alive
from tests.support.prefect_site import NAME, Site


def busy_times(site: Site, run: UUID) -> tuple[datetime, datetime]:
    """From when to when the tasks of a run were at work."""
    wanted = {"flow_runs": {"id": {"any_": [str(run)]}}}
    tasks = site.lab.post("/task_runs/filter", wanted)
    starts = [datetime.fromisoformat(task["start_time"]) for task in tasks if task["start_time"]]
    ends = [datetime.fromisoformat(task["end_time"]) for task in tasks if task["end_time"]]
    assert starts and len(starts) == len(ends) == len(tasks)
    return min(starts), max(ends)


def test_backups_restores_and_direct_runs_wait_for_each_other_and_say_for_whom(site: Site) -> None:
    lab = site.lab
    site.require_set()
    holder = site.begin_to_hold()
    backups = [lab.start_run(f"backup/{NAME}") for _ in range(2)]
    patient = {"BUSY_WAIT_MINUTES": "20"}
    restore = lab.start_run(f"restore-contentstore/{NAME}", patient, mode="execute", confirm=NAME)
    hourly = lab.start_run(f"backup/{NAME}-contentstore")
    direct = lab.run_python("backup.py", str(site.host.env_file))

    skipped = lab.await_state(hourly, "Skipped")
    assert skipped.state and skipped.state.message
    assert skipped.state.message.startswith(f"skipped: the host {NAME} is locked by {holder.name}, since ")
    for run in (*backups, restore):
        waiting = lab.await_state(run, "WaitingForHost")
        assert waiting.state and (waiting.state.message or "").startswith(f"waits for {holder.name}, since ")
        lab.await_log(run, f"waiting for host {NAME}, for at most ")
    by_hand = site.await_waiting_by_hand("backup")

    holder.stop()
    lab.await_state(holder.run, "Completed")
    for run in (*backups, restore):
        lab.await_state(run, "Completed")
    output, _ = direct.communicate(timeout=RUN_SECONDS)
    assert direct.returncode == 0, output
    assert re.search(rf"waiting for host {NAME}, for at most [\w ]+ more: it is locked by ", output)
    times = sorted(busy_times(site, run) for run in (holder.run, *backups, restore, by_hand))
    for before, after in itertools.pairwise(times):
        assert before[1] <= after[0]
    assert len(read_catalogue(Repository(site.host.backup_dir)).complete_sets) >= 3


def test_a_killed_backup_is_crashed_and_mailed_and_the_next_one_completes(site: Site) -> None:
    lab = site.lab
    site.require_set()
    copying = site.begin_slow_backup()
    run = copying.run
    left = [path for path in site.partials if "base-" in path.name]
    os.kill(copying.pid, signal.SIGKILL)
    lab.await_state(run, "Crashed")
    next_run = lab.start_run(f"backup/{NAME}")
    text = site.await_mail(f"{NAME} (Demo): backup crashed at base backup; last good backup ")
    assert "SIGKILL" in text and lab.read(run).name in text
    assert f"{lab.address.removesuffix('/api')}/runs/flow-run/{run}" in text
    assert "Restorable:       restorable from " in text
    wait_until(lambda: not any(alive(child) for child in copying.children), "its children are gone")
    assert left

    lab.await_state(next_run, "Completed")
    told = [line for line in lab.log(next_run) if line.startswith(f"waiting for host {NAME}")]
    assert all("(Crashed; its lock expires soon)" in line for line in told)
    assert not set(left) & set(site.partials)
    recovery = site.await_mail(": backup works again; ")
    assert f'Before: run "{lab.read(run).name}" crashed' in recovery


def test_a_moment_is_planned_and_then_restored_from_the_command_line(site: Site) -> None:
    lab, host = site.lab, site.host
    site.wait_until_free()
    site.require_set()
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
