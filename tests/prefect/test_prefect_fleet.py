"""Two hosts at one Prefect server, seen together: silence, a lie, a backup; the guide for many hosts."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import ArtifactCreate

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.host import DemoHost
from tasks.runs.fleet import read_keys
from tests.status.test_status_page import Page
from tests.support.common import temporary_demo_host
from tests.support.documents import Names, execute
from tests.support.how_to import HOW_TO, SOFTWARE
from tests.support.prefect_lab import RUN_SECONDS, Lab, prefect_lab
from tests.support.prefect_site import run_bootstrap

pytestmark = pytest.mark.slow
HOSTS = ("alf1", "alf2")


@dataclass
class Zone:
    """A server with two hosts, and the settings of the fleet on the server's machine."""

    lab: Lab
    hosts: dict[str, DemoHost]
    env: Path
    page: Path

    def verb(self, *words: str, env: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "alfresco_backup", *words, "--env", str(env or self.env)],
            env=self.lab.environment,
            cwd=PROJECT_DIRECTORY,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def run(self, host: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.verb(*words, env=self.hosts[host].env_file)

    def fleet(self) -> dict[str, Any]:
        done = self.verb("fleet", "--json")
        document: dict[str, Any] = json.loads(done.stdout)
        assert document["exit_code"] == done.returncode, done.stderr
        return document


@pytest.fixture(scope="module")
def zone(slow: None) -> Iterator[Zone]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ab-fleet-")))
        lab = stack.enter_context(prefect_lab(home))
        hosts = {name: stack.enter_context(temporary_demo_host(documents=40, name=name)) for name in HOSTS}
        for host in hosts.values():
            done = run_bootstrap(lab, host.env_file)
            assert done.returncode == 0, done.stderr
        env = home / "fleet.env"
        env.write_text(f"PREFECT_API_URL={lab.address}\n")
        yield Zone(lab, hosts, env, home / "fleet.html")


def subjects(host: dict[str, Any]) -> list[str]:
    return [item["subject"] for item in host["findings"] if item["level"] == "error"]


def test_a_fleet_from_silence_to_a_host_in_trouble_beside_one_that_is_well(zone: Zone) -> None:
    silent = zone.fleet()
    assert silent["sentence"].startswith("0 of 2 hosts have reported in the last 26 hours")
    assert [item["host"] for item in silent["hosts"]] == list(HOSTS) and silent["exit_code"] == 5
    assert all(
        "none of its runs has ever published" in item["findings"][0]["sentence"] for item in silent["hosts"]
    )

    assert zone.run("alf1", "backup").returncode == 0
    assert zone.run("alf2", "wal-audit").returncode in (0, 1)  # there is no backup of it
    both = zone.fleet()
    assert both["sentence"] == "2 of 2 hosts have reported in the last 26 hours; in trouble: alf2"
    trouble, well = both["hosts"]
    assert (trouble["host"], well["host"]) == HOSTS[::-1]
    assert "restorable window" in subjects(trouble) and subjects(well) == []
    assert well["record"]["run"] == "backup" and len(well["record"]["history"]) == 1

    for _ in range(2):
        zone.run("alf1", "wal-audit")
    with zone.lab.client() as client:
        assert len(read_keys(client, ["host-status-alf1"])) == 1  # the last one only
        (record,) = read_keys(client, ["host-status-alf1"])
        lie = ArtifactCreate(key="host-status-alf2", type="markdown", data=record.data)
        client.create_artifact(lie)
    lied = zone.fleet()
    assert "it says that it is of host 'alf1'" in lied["hosts"][0]["findings"][0]["sentence"]
    assert lied["sentence"] == "1 of 2 hosts have reported in the last 26 hours; in trouble: alf2"
    assert zone.run("alf2", "backup").returncode == 0
    guide(zone)
    page = Page(zone.page.read_text())
    assert "2 of 2 hosts have reported in the last 26 hours; in trouble: none" in page.words
    assert all(host in page.words for host in HOSTS) and len(page.all("svg")) == 6
    zone.page.unlink()

    with zone.lab.client() as client:
        client.create_artifact(lie)
    zone.lab.start_worker("fleet", ALFRESCO_BACKUP_ENV=str(zone.env))
    run = zone.lab.start_run("fleet-status/fleet")
    zone.lab.await_state(run, "Failed")
    assert zone.lab.message(run) == lied["sentence"]
    assert "it says that it is of host" in zone.page.read_text()


def guide(zone: Zone) -> None:
    names = {**SOFTWARE, "/etc/alfresco-backup/fleet.env": str(zone.env)}
    names |= {"/var/lib/alfresco-backup/fleet.html": str(zone.page)}
    execute(HOW_TO / "fleet.md", Names(names), zone.lab.environment, {"fleet"}, only=True)
