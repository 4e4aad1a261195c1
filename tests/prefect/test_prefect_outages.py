"""The Prefect server is killed, the worker is killed or told to stop, in the middle of runs."""

import signal
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import ConcurrencyLeaseHolder

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, Lab, alive, children_of
from tests.support.prefect_site import NAME, Site


def test_a_run_outlives_a_killed_server_and_keeps_the_host_until_its_end(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    lab.kill_server()
    lab.start_server()
    assert lab.locks_taken(NAME) == 1
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
    worker.wait(timeout=600)
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
    assert worker.wait(timeout=600) == 0
    site.start_worker()
    after = lab.start_run(f"hold/{NAME}")
    lab.await_state(after, "WaitingForHost")
    assert all(alive(child) for child in held.children)
    held.stop()
    lab.await_state(held.run, "Completed")
    lab.await_state(after, "Completed")


def test_a_backup_outlives_a_killed_server_and_its_set_is_complete(site: Site) -> None:
    lab, bases = site.lab, site.host.backup_dir / "postgres"
    site.wait_until_free()
    before = set(bases.glob("base-*"))
    run = lab.start_run(f"backup/{NAME}", env={"BANDWIDTH_LIMIT_MIB": "2"})
    wait_until(lambda: set(bases.glob("base-*.partial")) - before, "a base backup is under way", RUN_SECONDS)
    assert not lab.read(run).state.is_final()  # type: ignore[union-attr]
    lab.kill_server()
    wait_until(
        lambda: [path for path in set(bases.glob("base-*")) - before if path.suffix != ".partial"],
        "the base backup was published meanwhile",
        RUN_SECONDS,
    )
    lab.start_server()
    lab.await_state(run, "Completed")
    stamp = lab.message(run).split()[1]
    assert stamp in {item.stamp for item in read_catalogue(Repository(site.host.backup_dir)).complete_sets}
    site.wait_until_free()


def test_a_server_that_is_away_keeps_no_work_waiting_for_its_progress(site: Site, tmp_path: Path) -> None:
    lab, steps, until = site.lab, tmp_path / "steps", tmp_path / "until"
    run = lab.start_run(f"counted/{NAME}", steps=str(steps), until=str(until))
    wait_until(lambda: progress_of(lab, run), "progress is shown", RUN_SECONDS)
    lab.kill_server()
    done = steps.stat().st_size
    # Six seconds of work. Prefect's own client would keep it waiting for over a minute at the first report.
    wait_until(lambda: steps.stat().st_size >= done + 60, "the work goes on")
    lab.start_server()
    until.touch()
    lab.await_state(run, "Completed")
    assert progress_of(lab, run) == [100.0]
    lab.await_log(run, "progress could not be recorded in Prefect: ")


def progress_of(lab: Lab, run: UUID) -> list[float]:
    """What the progress artifacts of a run say, in percent."""
    wanted = {"flow_run_id": {"any_": [str(run)]}, "type": {"any_": ["progress"]}}
    return [artifact["data"] for artifact in lab.post("/artifacts/filter", {"artifacts": wanted})]


def test_a_run_that_waits_for_the_host_outlives_a_killed_server(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    waiting = lab.start_run(f"hold/{NAME}", wait=300)
    lab.await_state(waiting, "WaitingForHost")
    lab.kill_server()
    lab.start_server()
    held.stop()
    lab.await_state(held.run, "Completed")
    lab.await_state(waiting, "Completed")


def test_a_run_whose_slot_another_has_taken_ends_with_a_clear_state(site: Site) -> None:
    lab = site.lab
    held = site.begin_to_hold()
    lab.forget_leases()
    lab.await_log(held.run, f"the Prefect server lost this run's lock of {NAME}; it was locked again")
    assert lab.locks_taken(NAME) == 1

    other = take_slot(lab, held.run)
    lab.await_state(held.run, "Failed")
    words = "lost this run's lock of host demo and gave it to another run; this run stops"
    assert (
        f"HostLockLost: the Prefect server {words} so that two runs do not work on one host"
        in lab.message(held.run)
    )
    assert not any(alive(child) for child in held.children)
    assert words in site.await_mail(": hold failed at long-step; ")
    assert lab.locks_taken(NAME) == 1
    lab.post("/v2/concurrency_limits/decrement-with-lease", {"lease_id": other})
    lab.await_state(lab.start_run(f"hold/{NAME}"), "Completed")


def take_slot(lab: Lab, holder: UUID) -> str:
    """Take the host's lock from its holder, as another run does once the holder's lease has run out."""
    with lab.client() as client:
        lab.forget_leases()
        leased = client.increment_concurrency_slots_with_lease(
            [NAME], 1, "concurrency", 300.0, ConcurrencyLeaseHolder(type="flow_run", id=holder)
        )
    return str(leased.json()["lease_id"])
