"""The worker and runs by hand find the same Prefect server: the one of the host's `.env`."""

import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.prefect_database import give_database

ADDRESS = "http://127.0.0.1:4299/api"
SHOW = "import os; print(os.environ['PREFECT_API_URL'], os.environ.get('PREFECT_API_AUTH_STRING'))"


def prepared(env_file: Path, *program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the worker's program gets."""
    return subprocess.run(
        [sys.executable, "-m", "deployments.prepared", *(program or (sys.executable, "-c", SHOW))],
        cwd=PROJECT_DIRECTORY,
        env={"PATH": "/usr/bin:/bin", "ALFRESCO_BACKUP_ENV": str(env_file), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_worker_finds_its_server_in_the_env(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"PGPASSWORD=secret\nPREFECT_API_URL={ADDRESS}\nPREFECT_API_AUTH_STRING='a:b #1'\n")
    done = prepared(file)
    assert (done.stdout, done.stderr) == (f"{ADDRESS} a:b #1\n", "")
    assert "PGPASSWORD" not in prepared(file, "env").stdout


def test_another_server_than_that_of_runs_by_hand_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    for text, words in (
        ("", "has none"),
        ("PREFECT_API_URL=http://elsewhere/api\n", "has http://elsewhere/api"),
    ):
        file.write_text(text)
        done = prepared(file, PREFECT_API_URL=ADDRESS)
        assert done.stdout == f"{ADDRESS} None\n"
        assert done.stderr.startswith(f"warning: PREFECT_API_URL={ADDRESS} is set, but {file} {words}: ")


def test_the_worker_is_started_that_way() -> None:
    assert (
        "-m deployments.prepared .venv/bin/prefect worker start"
        in (PROJECT_DIRECTORY / "deployments/worker").read_text()
    )


@pytest.mark.slow
def test_a_server_that_is_down_is_said_with_the_way_around_it(tmp_path: Path) -> None:
    give_database(tmp_path / ".prefect")
    (tmp_path / "alfresco").mkdir()
    file = tmp_path / ".env"
    file.write_text(
        f"PGHOST=localhost\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}/alfresco\n"
        "PREFECT_API_URL=http://127.0.0.1:1/api\n"
    )
    file.chmod(0o600)
    program = (sys.executable, "backup.py", str(file), "--plan-retention")
    done = prepared(file, *program, HOME=str(tmp_path))
    assert done.returncode == 1
    assert "the Prefect server of PREFECT_API_URL=http://127.0.0.1:1/api does not answer" in done.stderr
    assert "then without the server: PREFECT_API_URL= and the same command" in done.stderr
    around = prepared(file, *program, HOME=str(tmp_path), PREFECT_API_URL="")
    assert (around.returncode, around.stdout[:18]) == (0, "Nothing to remove:"), around.stderr
