"""offsite-check and offsite-prune as flows and verbs; a second run of an action is skipped, not failed."""

import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.offsite.copy import Watching, begin, engine_of, init, send_together, send_wal
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import read_state
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from flows.backup import backup
from flows.offsite import offsite_check, offsite_prune
from tests.support.common import temporary_demo_host
from tests.support.far_sides import PASSWORD
from tests.support.restore_command import PROJECT

pytestmark = pytest.mark.slow


def packs(folder: Path) -> list[int]:
    """The sizes of the packs there."""
    return [path.stat().st_size for path in (folder / "far/data").rglob("*") if path.is_file()]


def test_check_and_prune_run_as_flows_and_verbs_and_a_second_run_is_skipped(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as demo:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        with demo.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={tmp_path}/far\nOFFSITE_PASSWORD='{PASSWORD}'\n")
            file.write("OFFSITE_CHECK_CYCLE=1\n")
        backup()

        host = load_host(demo.env_file)
        engine = engine_of(host)
        init(engine)
        assert list(send_together(host, engine, begin(host, engine)[1], Watching()))
        send_wal(host, engine, Watching())
        argv = [sys.executable, "-m", "alfresco_backup", "offsite", "prune", "--execute"]
        done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 3
        assert "confirm is missing; to execute offsite prune it must be the host's name" in done.stderr
        assert str(offsite_check()).startswith("1 of 1 sets whole; share 1 of 1 of the packs read: ")
        state = read_state(host.repository)
        assert state and state.measured_at and 0 < state.stored_bytes <= sum(packs(tmp_path))
        assert "Nothing to remove off-site: 2 snapshots stay." in str(offsite_prune())
        assert "Nothing to remove off-site" in str(offsite_prune(mode="execute"))
        with action_lock(host, "check"):
            assert str(offsite_check()).startswith("skipped: another `offsite check` of demo is running")
        with action_lock(host, "prune"):
            assert str(offsite_prune()).startswith("skipped: another `offsite prune` of demo is running")
