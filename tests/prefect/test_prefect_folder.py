"""Hosts of a directory at one server: deployed in one command, at times of their own; one removed."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Running

from alfresco_backup.errors import Refused, SettingsError
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, Lab, prefect_lab

pytestmark = pytest.mark.slow


@dataclass
class Zone:
    """A server, and the directory of its hosts' settings. The hosts are elsewhere."""

    lab: Lab
    folder: Path

    def write(self, name: str, **values: object) -> Path:
        given = {"PGHOST": "localhost", "PGUSER": "alfresco", "ALF_BASE_DIR": "/opt/alfresco"}
        given |= {"ALF_HOST_NAME": name, "BACKUP_DIR": str(self.folder / "backup"), **values}
        file = self.folder / f"{name}.env"
        file.touch(0o600)
        file.write_text("".join(f"{key}={value}\n" for key, value in given.items()))
        return file

    def deploy(
        self, *words: str, env: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "alfresco_backup", "deploy", *words, "--env", str(env or self.folder)],
            env={**self.lab.environment, "BACKUP_TIMEZONE": "Europe/Berlin", **variables},
            cwd=PROJECT_DIRECTORY,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def remove(self, *words: str, env: Path | None = None) -> dict[str, Any]:
        done = self.deploy("--remove", *words, "--json", env=env)
        document: dict[str, Any] = json.loads(done.stdout)
        assert document["exit_code"] == done.returncode, done.stderr
        return document

    def nightly(self, host: str) -> str:
        with self.lab.client() as client:
            [entry] = self._nightly(client.read_deployment_by_name(f"backup/{host}"))
        assert isinstance(entry.schedule, CronSchedule)
        return f"{entry.schedule.cron} {entry.schedule.timezone}"

    def move_nightly(self, host: str, cron: str) -> None:
        with self.lab.client() as client:
            deployment = client.read_deployment_by_name(f"backup/{host}")
            [entry] = self._nightly(deployment)
            moved = CronSchedule(cron=cron, timezone="Europe/Berlin")
            client.update_deployment_schedule(deployment.id, entry.id, schedule=moved)

    @staticmethod
    def _nightly(deployment: Any) -> list[Any]:
        return [entry for entry in deployment.schedules if entry.slug == "nightly"]

    def everything(self) -> dict[str, list[str]]:
        """Names of all that a server has and that `deploy` and runs make."""
        with self.lab.client() as client:
            deployments = client.read_deployments()
            return {
                "deployments": sorted(f"{item.name} {item.entrypoint}" for item in deployments),
                "pools": sorted(item.name for item in client.read_work_pools()),
                "limits": sorted(
                    item.name for item in client.read_global_concurrency_limits(limit=200, offset=0)
                ),
                "automations": sorted(item.name for item in client.read_automations()),
                "variables": sorted(item["name"] for item in self.lab.post("/variables/filter", {})),
                "artifacts": sorted(str(item.key) for item in client.read_artifacts()),
                "runs": sorted(str(item.deployment_id) for item in client.read_flow_runs(limit=200)),
            }


@pytest.fixture(scope="module")
def zone(slow: None) -> Iterator[Zone]:
    with tempfile.TemporaryDirectory(prefix="ab-folder-") as home, prefect_lab(Path(home) / "lab") as lab:
        folder = Path(home) / "etc"
        (folder / "backup").mkdir(parents=True)
        (folder / "backup/kept").write_text("a backup")
        (folder / "fleet.env").write_text("PREFECT_LOGGING_LEVEL=WARNING\n")
        yield Zone(lab, folder)


def test_prefect_deploy_by_hand_says_what_to_type_and_deploys_nothing(zone: Zone) -> None:
    for words in (("deploy", "--all"), ("--no-prompt", "deploy", "--all")):
        done = zone.lab.run_prefect(*words)
        said = " ".join((done.stdout + done.stderr).split())
        assert (
            done.returncode == 1 and f"Nothing was deployed. HINT: make -C {PROJECT_DIRECTORY} deploy" in said
        )
        assert "Traceback" not in said
    assert zone.everything()["deployments"] == []


def test_hosts_are_deployed_together_none_beside_a_bad_file_and_a_new_one_moves_no_other(zone: Zone) -> None:
    zone.write("alf1")
    alone = zone.deploy()
    assert alone.returncode == 0, alone.stderr
    assert "nightly at 02:30, times in Europe/Berlin" in alone.stdout
    assert zone.nightly("alf1") == "30 2 * * * Europe/Berlin"
    before = zone.everything()

    zone.write("alf2")
    zone.write("alf3", NIGHTLY_TIME="23:05")
    bad = zone.write("alf4", PGPORT="none")
    refused = zone.deploy()
    assert (refused.returncode, refused.stdout) == (SettingsError.exit_code, "")
    assert "alf4.env: PGPORT='none'" in refused.stderr and zone.everything() == before
    bad.unlink()

    together = zone.deploy()
    assert together.returncode == 0, together.stderr
    assert "unchanged; nightly at 02:30" in together.stdout  # of alf1
    times = {host: zone.nightly(host) for host in ("alf1", "alf2", "alf3")}
    assert {host: time.removesuffix(" * * * Europe/Berlin") for host, time in times.items()} == {
        "alf1": "30 2",
        "alf2": "41 2",
        "alf3": "5 23",
    }
    now = zone.everything()
    assert {"alf1", "alf2", "alf3"} <= set(now["pools"]) & set(now["limits"])
    assert {f"no backup of alf{number}" for number in (1, 2, 3)} <= set(now["automations"])
    with zone.lab.client() as client:
        variables = client.read_deployment_by_name("backup/alf2").job_variables["env"]
    assert variables["ALFRESCO_BACKUP_ENV"] == str(zone.folder / "alf2.env")

    zone.move_nightly("alf2", "15 1 * * *")
    again = zone.deploy()
    kept = "kept: backup/alf2: schedule nightly 15 1 * * * Europe/Berlin, prefect.yaml has 41 2 * * *"
    assert kept in again.stdout and zone.nightly("alf2") == "15 1 * * * Europe/Berlin"


def test_a_host_is_removed_once_nothing_of_it_runs_and_all_others_stay_as_they_are(zone: Zone) -> None:
    for host in ("alf1", "alf2", "x-alf2"):
        zone.lab.post("/artifacts/", {"key": f"host-status-{host}", "type": "markdown", "data": "{}"})
    with zone.lab.client() as client:
        backup = client.read_deployment_by_name("backup/alf2")
    before = zone.everything()

    assert zone.remove("alf2", "--execute")["error"]["kind"] == "Refused"  # not confirmed
    for name in ("backup", "alf"):  # a tag of all hosts' deployments; the beginning of a name
        nothing = zone.remove(name, "--execute", "--confirm", name)
        assert nothing["items"] == [] and "its hosts: alf1, alf2, alf3" in nothing["text"]
    with zone.lab.client() as client:
        client.send_worker_heartbeat("alf2", "worker-of-alf2", heartbeat_interval_seconds=600)
    online = zone.remove("alf2", "--execute", "--confirm", "alf2")
    assert online["exit_code"] == Refused.exit_code
    assert online["error"]["message"] == "alf2 is in service: the worker worker-of-alf2 is online"
    assert "systemctl disable --now prefect-worker@alf2" in online["error"]["fix"]
    with zone.lab.client() as client:
        client.send_worker_heartbeat("alf2", "worker-of-alf2", heartbeat_interval_seconds=1)
        run = client.create_flow_run_from_deployment(backup.id, state=Running(), name="a nightly set").id
    wait_until(
        lambda: "is online" not in zone.remove("alf2")["text"], "a worker that is offline", 600, every=2
    )
    planned = zone.remove("alf2", env=zone.folder / "alf2.env")
    assert "not now: the run a nightly set is Running" in planned["text"] and not planned["removed"]
    assert f"rm -f {zone.folder}/alf2.env {zone.folder}/alf2.env.repository" in planned["text"]
    running = zone.remove("alf2", "--execute", "--confirm", "alf2")
    assert running["exit_code"] == Refused.exit_code
    assert f"flow-run delete {run}" in running["error"]["fix"]
    with zone.lab.client() as client:
        assert not client.read_work_pool("alf2").is_paused
        client.delete_flow_run(run)
    now = zone.everything()
    assert {**now, "runs": []} == {**before, "runs": []}

    done = zone.remove("alf2", "--execute", "--confirm", "alf2")
    assert done["exit_code"] == 0 and done["items"] == planned["items"]
    after = zone.everything()
    with zone.lab.client() as client:
        states = {
            item.state.type for item in client.read_flow_runs() if item.state and not item.deployment_id
        }
    assert StateType.SCHEDULED not in states
    for kind in ("deployments", "pools", "automations", "variables"):
        assert after[kind] == [name for name in before[kind] if "alf2" not in name.split(" flows/")[0]], kind
    assert after["limits"] == [
        name for name in before["limits"] if name != "alf2" and name in after["limits"]
    ]
    assert not any(str(backup.id) in name for name in after["limits"])
    assert after["artifacts"] == [name for name in before["artifacts"] if name != "host-status-alf2"]
    assert {"alf1", "alf3"} <= set(after["limits"]) and (
        zone.folder / "backup/kept"
    ).read_text() == "a backup"

    again = zone.remove("alf2", "--execute", "--confirm", "alf2")
    assert (again["exit_code"], again["items"]) == (0, [])
    assert again["text"] == "nothing of alf2 is at this Prefect server; its hosts: alf1, alf3"
    away = zone.deploy("--remove", "alf1", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert away.returncode == 1 and "http://127.0.0.1:9/api does not answer" in away.stderr
    assert zone.everything() == after
