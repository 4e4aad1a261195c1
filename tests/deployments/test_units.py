"""What is shipped for systemd and cron fits this project: programs exist, units are valid, order is right."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from alfresco_backup.cli.commands import parse
from alfresco_backup.settings.model import PROJECT_DIRECTORY

UNITS = sorted((PROJECT_DIRECTORY / "deployments/systemd").iterdir())
CRON = PROJECT_DIRECTORY / "deployments/cron.example"
PLACE = "/opt/alfresco-backup"


def installed(unit: Path) -> str:
    """The unit as if this checkout were installed; systemd looks whether programs exist."""
    return unit.read_text().replace(PLACE, str(PROJECT_DIRECTORY))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    names = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(installed(unit))
        names.append(str(copy).replace("@.", "@alf1."))
    for template, name in zip(UNITS, names, strict=True):
        if "@alf1." in name:
            shutil.copy(tmp_path / template.name, name)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "alfresco" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


def test_every_program_of_units_and_cron_exists() -> None:
    text = "\n".join([*(unit.read_text() for unit in UNITS), CRON.read_text().replace("$APP", PLACE)])
    named = {match for match in re.findall(rf"{PLACE}(/[\w./-]+)", text) if not match.startswith("/.venv")}
    named |= {f"/{match}" for match in re.findall(r"\.venv/bin/python (\w\S+)", text)}
    assert {"/deployments/worker", "/deployments/freshness"} <= named
    missing = [name for name in named if not (PROJECT_DIRECTORY / name.lstrip("/")).exists()]
    assert missing == []


def test_every_verb_of_cron_is_one_of_the_program_with_its_options() -> None:
    lines = re.findall(r" -m alfresco_backup (.*?) >", CRON.read_text())
    assert [parse(line.split())[0].name for line in lines] == [*["backup"] * 4, "drill", *["offsite"] * 3]
    assert [line.split()[1] for line in lines[-3:]] == ["wal", "copy", "check"]


def test_the_worker_stops_before_the_server_and_leaves_its_runs_alone() -> None:
    worker = (PROJECT_DIRECTORY / "deployments/systemd/prefect-worker@.service").read_text()
    assert re.search(r"^After=.*prefect-server\.service", worker, re.MULTILINE)
    assert "\nKillMode=process\n" in worker


def test_the_server_listens_on_loopback_and_keeps_leases_in_files() -> None:
    values = dotenv_values(PROJECT_DIRECTORY / "deployments/prefect-server.env")
    assert values["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert values["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == (
        "prefect.server.concurrency.lease_storage.filesystem"
    )
    assert values["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] == "events,flow_runs"


def test_cron_lines_have_five_times_and_an_account() -> None:
    text = CRON.read_text().splitlines()
    lines = [line.removeprefix("#") for line in text if re.match(r"#?[\d*]", line)]
    assert len(lines) == 9 and sum(line.startswith("#") and line[1:] in lines for line in text) == 3
    for line in lines:
        assert re.match(
            r"[\d*/]+ [\d*/]+ [\d*/]+ [\d*/]+ [\d*/]+  root  cd \$APP && \.venv/bin/python ", line
        ), line


def test_worker_and_cron_compare_every_byte_of_the_copy_once_a_month() -> None:
    """What rots in the copy is invisible to all other runs."""
    deployments = yaml.safe_load((PROJECT_DIRECTORY / "prefect.yaml").read_text())["deployments"]
    schedules = [item for each in deployments for item in each.get("schedules", ())]
    by_worker = [
        item["cron"]
        for item in schedules
        if item.get("active") and item.get("parameters", {}).get("contentstore_mode") == "checksum"
    ]
    by_cron = [
        line for line in CRON.read_text().splitlines() if not line.startswith("#") and " --checksum " in line
    ]
    assert len(by_worker) == len(by_cron) == 1
    for line in (*by_worker, *by_cron):
        assert re.match(r"\d+ \d+ \d+ \* \*", line)
