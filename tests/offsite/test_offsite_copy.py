"""A second copy in a folder of another place: sent, listed, sent again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.offsite_copy import offsite_copy
from flows.offsite_wal import offsite_wal
from tests.support.common import temporary_demo_host
from tests.support.restore_command import PROJECT

PASSWORD = "correct horse battery"


def verb(host: DemoHost, *words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "alfresco_backup", *words, "--env", host.env_file, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_sets_and_wal_are_sent_once_and_listed(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        with host.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={tmp_path}/far\nOFFSITE_PASSWORD='{PASSWORD}'\n")
        backup()
        assert verb(host, "offsite", "init")["made"] is True
        again = verb(host, "offsite", "init")
        assert again["made"] is False
        assert "RECOVERY SHEET" in str(again["text"]) and PASSWORD not in str(again)
        assert offsite_copy() == "1 backup IDs sent, all are off-site now"
        assert offsite_copy() == "all backup IDs are off-site"
        host.writer.work(5)
        backup(components=["contentstore"])
        assert offsite_copy() == "1 backup IDs sent, all are off-site now"
        offsite_wal()
        listed = verb(host, "offsite", "list")
        assert len(listed["sets"]) == 2 and listed["wal"]  # type: ignore[arg-type]
