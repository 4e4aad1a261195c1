"""The Prefect server is killed, the worker is killed or told to stop, in the middle of runs."""

import signal

from tests.prefect_lab import alive, children_of
from tests.prefect_site import NAME, Site
from tests.support import wait_until


def test_a_run_outlives_a_killed_server_and_keeps_the_host_until_its_end(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    lab.kill_server()
    lab.start_server()
    assert lab.slots_taken(NAME) == 1
    hourly = lab.await_state(lab.start_run(f"hourly/{NAME}"), "Skipped")
    assert hourly.state and held.name in (hourly.state.message or "")
    after = lab.start_run(f"hold/{NAME}")
    lab.await_state(after, "WaitingForHost")
    held.stop()
    lab.await_state(held.run, "Completed")
    lab.await_state(after, "Completed")


def test_a_run_that_ends_while_the_server_is_away_waits_to_tell_its_end(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    lab.kill_server()
    held.stop()
    wait_until(lambda: not any(alive(child) for child in held.children), "the run's work is done")
    lab.start_server()
    lab.await_state(held.run, "Completed")
    assert lab.message(held.run) == "held the host"
    site.wait_until_free()


def test_a_run_outlives_its_killed_worker(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    worker = lab.workers[NAME]
    [child] = children_of(worker.pid)
    worker.kill()
    worker.wait(timeout=30)
    wait_until(lambda: not alive(child), "the worker has died with its starter")
    assert all(alive(child) for child in held.children)
    held.stop()
    lab.await_state(held.run, "Completed")
    site.start_worker()
    lab.await_state(lab.start_run(f"hold/{NAME}"), "Completed")


def test_a_worker_that_is_told_to_stop_leaves_its_run_alone(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    worker = lab.workers[NAME]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    site.start_worker()
    after = lab.start_run(f"hold/{NAME}")
    lab.await_state(after, "WaitingForHost")
    assert all(alive(child) for child in held.children)
    held.stop()
    lab.await_state(held.run, "Completed")
    lab.await_state(after, "Completed")
