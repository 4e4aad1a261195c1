"""Runs that are cancelled: by their worker, and by themselves where no worker knows of them."""

import signal

from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, alive
from tests.support.prefect_site import NAME, Site


def test_a_cancelled_backup_leaves_no_child_a_partial_and_one_mail(site: Site) -> None:
    lab = site.lab
    copying = site.begin_slow_backup()
    run = copying.run
    done = lab.run_prefect("flow-run", "cancel", str(run))
    assert done.returncode == 0, done.stderr
    lab.await_state(run, "Cancelled")
    wait_until(lambda: not any(alive(child) for child in copying.children), "its children are gone")
    assert any("base-" in path.name for path in site.partials)
    text = site.await_mail(": backup was cancelled at base backup; ")
    assert lab.read(run).name in text
    site.wait_until_free()


def test_runs_that_no_worker_would_end_end_themselves_and_are_mailed_as_cancelled(site: Site) -> None:
    """One was started by a worker that has been restarted since, the other by hand and waits for it."""
    lab = site.lab
    held = site.begin_to_hold()
    worker = lab.workers[NAME]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=RUN_SECONDS) == 0
    site.start_worker()
    process = site.direct_run("hold")
    by_hand = site.await_waiting_by_hand("hold")
    for run in (held.run, by_hand):
        done = lab.run_prefect("flow-run", "cancel", str(run))
        assert done.returncode == 0, done.stderr
    said, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 1
    words = "the run was cancelled in Prefect; no worker ended it, so it stopped by itself"
    assert words in said
    for run in (held.run, by_hand):
        lab.await_state(run, "Cancelled")
        lab.await_log(run, "mail sent to ops@example.org")
        assert lab.message(run) == words
    wait_until(lambda: not any(alive(child) for child in held.children), "its program is gone")
    wait_until(
        lambda: len(site.mailbox.subjects(": hold was cancelled")) == 2, "a mail about each", RUN_SECONDS
    )
    assert len(site.mailbox.subjects(": hold was cancelled at long-step; ")) == 1
    lab.await_state(lab.start_run(f"hold/{NAME}"), "Completed")
