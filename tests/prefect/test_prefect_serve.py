"""`make serve`: server and worker in the foreground, kept up together and ended together."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.__main__ import keep_history
from tests.support.common import temporary_demo_host, wait_until
from tests.support.prefect_lab import RUN_SECONDS, alive, descendants, program_of
from tests.support.prefect_serving import Serving, serving
from tests.support.prefect_site import Site


@pytest.fixture(name="serving")
def running(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path) as it:
        yield it


def test_a_worker_that_ends_is_started_again_and_without_its_server_all_ends(serving: Serving) -> None:
    os.kill(serving.program("prefect worker start"), signal.SIGKILL)
    serving.await_words("the worker has ended by itself; starting it again in 5 s")
    serving.await_words("Worker 'ProcessWorker", times=2)
    programs = descendants(serving.process.pid)
    os.kill(serving.program("uvicorn"), signal.SIGKILL)
    assert serving.process.wait(RUN_SECONDS) == 1
    again = f"cd {PROJECT_DIRECTORY} && .venv/bin/python -m alfresco_backup serve --env {serving.env_file}\n"
    assert serving.said(f"BackupError: the server has ended by itself, see above\nHINT: {again}") == 1
    wait_until(lambda: not any(alive(pid) for pid in programs), "its programs are gone")


def test_the_server_has_a_password_that_worker_and_runs_by_hand_find_in_the_env(serving: Serving) -> None:
    login = serving.login
    assert re.fullmatch(r"admin:\S{32}", login)
    assert serving.env_file.stat().st_mode & 0o777 == 0o600
    assert serving.said(login) == 1  # printed once
    api, body = f"{serving.address}/api", {"work_pools": {"name": {"any_": ["alf1"]}}}
    refused = httpx.post(f"{api}/work_pools/filter", json=body, timeout=60)
    assert refused.status_code == httpx.codes.UNAUTHORIZED
    user, _, password = login.partition(":")
    pools = httpx.post(f"{api}/work_pools/filter", json=body, auth=(user, password), timeout=60)
    assert [pool["name"] for pool in pools.json()] == ["alf1"]  # made by deploy, which had the password, too
    again = serving.verb("deploy", PREFECT_API_URL=api)
    assert (again.returncode, again.stderr) == (0, "")
    wrong = serving.verb("deploy", PREFECT_API_URL=api, PREFECT_API_AUTH_STRING="admin:guessed")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        f"BackupError: the Prefect server of PREFECT_API_URL={api} does not accept the value of "
        f"PREFECT_API_AUTH_STRING\nHINT: edit {serving.env_file}: PREFECT_API_AUTH_STRING=...\n",
    )


def test_the_server_shows_the_web_interface(serving: Serving) -> None:
    page = httpx.get(serving.address, follow_redirects=True, timeout=60)
    assert page.headers["content-type"].startswith("text/html") and '<div id="app"' in page.text
    scripts = re.findall(r'src="([^"]+\.js)"', page.text)
    assert scripts
    for script in scripts:
        assert httpx.get(f"{serving.address}{script}", timeout=60).status_code == httpx.codes.OK
    told = httpx.get(f"{serving.address}/ui-settings", timeout=60).json()
    assert (told["api_url"], told["auth"]) == (f"{serving.address}/api", "BASIC")


def test_told_to_stop_it_ends_worker_and_server(serving: Serving) -> None:
    programs = descendants(serving.process.pid)
    assert any("tasks.runs.server_app:create_app" in program_of(pid) for pid in programs)
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(RUN_SECONDS) == 0
    assert serving.said("stopping the worker\nstopping the server\n") == 1
    wait_until(lambda: not any(alive(pid) for pid in programs), "its programs are gone")


def test_after_the_demo_it_shows_the_first_backup_with_what_that_has_published(tmp_path: Path) -> None:
    with temporary_demo_host(documents=20) as host:
        keep_history(host)
        keep_history(host)  # a second `make demo`
        assert host.env_file.read_text().count("PREFECT_HOME=") == 1
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        program = [sys.executable, "-m", "alfresco_backup", "backup", "--env", str(host.env_file)]
        done = subprocess.run(
            program, env=environment, cwd=PROJECT_DIRECTORY, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / ".prefect").exists()
        with serving(tmp_path, demo=host.directory) as it:
            user, _, password = it.login.partition(":")

            def found(what: str) -> list[dict[str, Any]]:
                api = f"{it.address}/api/{what}/filter"
                return list(httpx.post(api, json={}, auth=(user, password), timeout=60).json())

            [run] = [item for item in found("flow_runs") if item["state_type"] == "COMPLETED"]
            assert run["name"].startswith("backup ") and run["deployment_id"] is None
            keys = {item["key"] for item in found("artifacts") if item["flow_run_id"] == run["id"]}
            assert {"backup-report-demo", "backup-sets-demo"} <= keys


def test_it_deploys_nothing_to_a_server_that_is_there_already(site: Site, tmp_path: Path) -> None:
    refused = Serving(tmp_path, site.lab.port)
    assert refused.process.wait(RUN_SECONDS) == 1
    address = site.lab.address.removesuffix("/api")
    assert refused.output.read_text() == (
        f"BackupError: a Prefect server is at {address} already\n"
        f"HINT: cd {PROJECT_DIRECTORY} && PREFECT_SERVER_API_PORT=4201 "
        f".venv/bin/python -m alfresco_backup serve --env {tmp_path}/.env\n"
    )
    with site.lab.client() as client:
        assert "alf1" not in {pool.name for pool in client.read_work_pools()}
