"""Every `prefect …` command of the documents, at a server and a worker of their own."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.schedules import CronSchedule

from alfresco_backup.host.host import load_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.host import DemoHost
from tests.support.common import temporary_demo_host
from tests.support.documents import Names, execute
from tests.support.how_to import HOW_TO, NAME, names_of
from tests.support.mail_servers import mail_server
from tests.support.prefect_lab import Lab, prefect_lab
from tests.support.prefect_site import run_bootstrap

OPERATIONS = PROJECT_DIRECTORY / "docs/operations.md"


@pytest.fixture(scope="module")
def deployed(slow: None) -> Iterator[tuple[DemoHost, Lab]]:
    """A host whose flows are deployed, with its worker; schedules are off, or one could hold the host."""
    with (
        tempfile.TemporaryDirectory(prefix="ab-docs-") as home,
        mail_server(),
        prefect_lab(Path(home)) as lab,
        temporary_demo_host(documents=60, name=NAME) as host,
    ):
        done = run_bootstrap(lab, host.env_file)
        assert done.returncode == 0, done.stderr
        with lab.client() as client:
            for deployment in client.read_deployments():
                for schedule in deployment.schedules:
                    client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        lab.start_worker(NAME, ALFRESCO_BACKUP_ENV=str(host.env_file))
        guide(host, lab, "back-up.md")
        yield host, lab


def guide(host: DemoHost, lab: Lab, document: str, **names: object) -> None:
    execute(HOW_TO / document, names_of(host, **names), lab.environment, {"server"}, only=True)  # type: ignore[arg-type]


def newest_set(host: DemoHost) -> str:
    return read_catalogue(load_host(host.env_file).repository).sets[-1].stamp


def operate(host: DemoHost, lab: Lab, word: str, **names: str) -> dict[str, str]:
    """Execute the blocks of operations.md that ask for a word; `prefect` is that of this project."""
    path = f"{Path(sys.executable).parent}:{lab.environment['PATH']}"
    table = Names({**names_of(host).table, **names})
    return execute(OPERATIONS, table, {**lab.environment, "PATH": path}, {word}, only=True)


def test_back_up(deployed: tuple[DemoHost, Lab]) -> None:
    before = newest_set(deployed[0])
    guide(*deployed, "back-up.md")
    assert newest_set(deployed[0]) > before


def test_drill(deployed: tuple[DemoHost, Lab]) -> None:
    host, lab = deployed
    guide(host, lab, "drill.md", stamp=newest_set(host))
    assert (load_host(host.env_file).repository.base(newest_set(host)) / "proven.json").is_file()


def test_recover_to_a_moment_and_restore(deployed: tuple[DemoHost, Lab]) -> None:
    """The moment first: the set's end lies before it."""
    host, lab = deployed
    guide(host, lab, "back-up.md")
    in_set = host.writer.state.copy()
    moment = host.writer.add().committed_at
    host.writer.delete()
    host.writer.close()
    expected = host.writer.state_at(moment)
    guide(host, lab, "recover-to-a-target-time.md", moment=moment)
    assert host.read_state().difference(expected) == []
    guide(host, lab, "restore.md")
    assert host.read_state().difference(in_set) == []
    assert host.answer()


def test_operations_restore_to_a_moment(deployed: tuple[DemoHost, Lab]) -> None:
    """The host of the document is the demo's."""
    host, lab = deployed
    host.writer.close()
    host.__dict__.pop("writer")  # after a restore it would know another life
    guide(host, lab, "back-up.md")
    moment = host.writer.add().committed_at
    host.writer.delete()
    host.writer.close()
    expected = host.writer.state_at(moment)
    operate(host, lab, "server", demo=host.name, **{"2026-11-23T09:22:10+01:00": moment.isoformat()})
    assert host.read_state().difference(expected) == []


def test_operations_cancel_a_run_that_waits_for_a_slot_and_free_it(deployed: tuple[DemoHost, Lab]) -> None:
    host, lab = deployed
    assert lab.run_prefect("gcl", "update", NAME, "--active-slots", "1").returncode == 0
    run = lab.start_run(f"backup/{NAME}")
    lab.await_state(run, "WaitingForHost")
    said = operate(host, lab, "cancel", ID=str(run))
    assert str(run)[:8] in "".join(said.values())
    lab.await_state(run, "Cancelled")
    operate(host, lab, "lock")
    assert lab.locks_taken(NAME) == 0


def test_operations_pause_and_resume(deployed: tuple[DemoHost, Lab]) -> None:
    host, lab = deployed
    with lab.client() as client:
        item = client.read_deployment_by_name(f"backup/{NAME}")
        schedule = item.schedules[0].id
        seldom = CronSchedule(cron="0 0 29 2 *")  # or it could hold the host of another test
        client.update_deployment_schedule(item.id, schedule, active=True, schedule=seldom)
        try:
            said = operate(host, lab, "pause", ID=str(schedule))
            (now,) = (entry for entry in client.read_deployment(item.id).schedules if entry.id == schedule)
            assert now.active and not client.read_work_pool(NAME).is_paused
        finally:
            client.update_deployment_schedule(item.id, schedule, active=False)
    assert "Paused" in said["prefect deployment schedule pause backup/alf1 ID"]
    assert "Paused" in said["prefect work-pool pause alf1"].title()
