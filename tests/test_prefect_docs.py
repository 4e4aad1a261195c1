"""Every `prefect …` command of the guides, at a server and a worker of their own: docs/how-to."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.catalogue import read_catalogue
from alfresco_backup.host import load_host
from demo.host import DemoHost
from tests.documents import execute, executed_documents
from tests.how_to import HOW_TO, NAME, names_of
from tests.mail_servers import mail_server
from tests.prefect_lab import Lab, prefect_lab
from tests.prefect_site import run_bootstrap
from tests.support import temporary_demo_host

WITH_SERVER = ["back-up.md", "drill.md", "recover-to-a-moment.md", "restore.md"]


@pytest.fixture(scope="module")
def deployed() -> Iterator[tuple[DemoHost, Lab]]:
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


def test_the_guides_with_such_commands_are_these() -> None:
    found = [path.name for path in executed_documents() if "```sh server" in path.read_text()]
    assert found == WITH_SERVER


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
    guide(host, lab, "recover-to-a-moment.md", moment=moment)
    assert host.read_state().difference(expected) == []
    guide(host, lab, "restore.md")
    assert host.read_state().difference(in_set) == []
    assert host.answer()
