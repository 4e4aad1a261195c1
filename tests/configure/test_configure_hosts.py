"""`configure --apply --restart` alone makes hosts ready: doctor finds the server well, a set is published."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.host.host import Run, load_host
from alfresco_backup.preflight.host import inspect_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.times import make_stamp, utc_now
from tests.backup.test_backup_command import backup
from tests.support.common import every_version
from tests.support.unconfigured_hosts import PlainHost, plain_host

pytestmark = pytest.mark.slow


def errors_of(host: PlainHost) -> dict[str, str]:
    """What preflight calls an error."""
    loaded = load_host(host.env_file)
    loaded.repository.logs.mkdir(exist_ok=True)
    run_ = Run(loaded, make_stamp(utc_now()), loaded.repository.logs / "test.log")
    found = inspect_host(run_, ("postgres", "contentstore"), read_catalogue(loaded.repository))
    return {item.subject: item.sentence for item in found if item.level == "error"}


def doctor_of_postgresql(host: PlainHost) -> dict[str, str]:
    """Doctor's level of each look at the database server; the host has neither schedule nor mail."""
    argv = [sys.executable, "-m", "alfresco_backup", "doctor", "--json", str(host.env_file)]
    done = subprocess.run(argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=False)
    findings = [item for item in json.loads(done.stdout)["findings"] if item["group"] == "PostgreSQL"]
    return {item["subject"]: item["level"] for item in findings}


@every_version
def test_a_package_server_with_its_configuration_elsewhere_becomes_ready_by_configure_alone(
    bindir: Path, tmp_path: Path, prefect_server: None
) -> None:
    with plain_host(bindir, outside=True) as host:
        shown = host.configure()
        assert shown.returncode == 5, shown.stderr
        assert "archive_mode: off (default) -> on" in shown.stdout and "Nothing was changed." in shown.stdout
        before = host.state()
        assert "error" in doctor_of_postgresql(host).values()
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert errors_of(host) == {}
        well = doctor_of_postgresql(host)
        assert set(well.values()) == {"ok"}
        assert {"archive_mode", "archive_command", "replication"} <= set(well)
        made = backup(host.env_file, home=tmp_path, PREFECT_API_URL=str(PREFECT_API_URL.value()))
        assert made.returncode == 0, made.stderr
        (item,) = read_catalogue(load_host(host.env_file).repository).sets
        assert item.complete
        again = host.configure("--apply", "--restart")
        assert again.returncode == 0, again.stdout + again.stderr
        assert again.stdout.startswith("configure of plain: nothing to change\nverified: WAL segment ")
        undone = host.configure("--undo", "--restart")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert f"kept: WAL archive: {host.backup_dir}/pg_wal stays, it is not empty" in undone.stdout
        assert host.state() == before
        assert host.setting("archive_mode") == "off"
