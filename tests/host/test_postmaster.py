"""No server is started on a data directory that another one may use, whatever postmaster.pid says."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import load_host
from alfresco_backup.host.postmaster import Worker, postmaster, workers_in
from alfresco_backup.host.service_control import (
    look_at,
    start_by_pg_ctl,
    start_service,
    stop_service,
    why_not_controllable,
)
from demo.cluster import default_bindir
from tests.support.common import wait_until
from tests.support.containers import contained, in_namespaces
from tests.support.unconfigured_hosts import PlainHost, plain_host


@pytest.fixture(scope="module")
def plain(slow: None) -> Iterator[PlainHost]:
    with plain_host(default_bindir()) as host:
        host.backup_dir.mkdir()
        yield host


@in_namespaces
def test_configure_restarts_no_server_that_runs_in_a_container(plain: PlainHost) -> None:
    with contained(plain, at_another_path=False) as pid:
        assert (plain.data / "postmaster.pid").read_text().split()[0] == "1"
        done = plain.configure("--apply", "--restart")
        assert done.returncode == 3, done.stdout + done.stderr
        said = f"process {pid} (postgres, of a container) works in {plain.data}"
        assert f"PostgreSQL cannot be restarted: PostgreSQL: {said}" in done.stderr
        assert f"HINT: ps -o pid,user,lstart,args -p {pid}," in done.stderr
        plain.sql("CREATE TABLE goes_on ()")
        assert [worker.program for worker in workers_in(plain.data) if worker.pid == pid] == ["postgres"]
        assert (plain.data / "postmaster.pid").read_text().split()[0] == "1"


@in_namespaces
def test_it_is_neither_stopped_by_pg_ctl_nor_is_a_second_one_started_beside_it(
    plain: PlainHost, tmp_path: Path
) -> None:
    with contained(plain) as pid:
        host = load_host(plain.env_file)
        refusal = why_not_controllable(host, "postgresql")
        assert (
            refusal is not None and "pg_ctl can neither stop it nor prove that it is down" in refusal.sentence
        )
        for act in (
            lambda: stop_service(host, "postgresql", tmp_path / "log"),
            lambda: start_service(host, "postgresql", tmp_path / "log"),
            lambda: start_by_pg_ctl(host, plain.directory / "run/started.log"),
        ):
            with pytest.raises(BackupError, match=rf"process {pid} \(postgres, of a container\)"):
                act()
        assert plain.sql("SELECT 1") == [("1",)]
        assert not look_at(host, "postgresql").down


def test_a_pid_file_that_a_crash_left_behind_keeps_no_server_from_being_started(
    plain: PlainHost, tmp_path: Path
) -> None:
    host = load_host(plain.env_file)
    pid = look_at(host, "postgresql").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its parent has taken note")
    for other in (str(os.getpid()), "1"):  # by now another process's
        left = plain.data / "postmaster.pid"
        left.write_text("\n".join([other, *left.read_text().splitlines()[1:]]) + "\n")
        assert postmaster(plain.data) is None and why_not_controllable(host, "postgresql") is None
    start_service(host, "postgresql", tmp_path / "log")
    assert plain.sql("SELECT 1") == [("1",)]


def test_children_that_outlive_their_server_keep_a_second_one_from_being_started(
    plain: PlainHost, tmp_path: Path
) -> None:
    host = load_host(plain.env_file)
    pid = look_at(host, "postgresql").pid
    assert pid is not None
    (backend,) = [
        int(row[0])
        for row in plain.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    ]
    os.kill(backend, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: look_at(host, "postgresql").pid is None, "the postmaster is gone")
        with pytest.raises(BackupError, match=rf"it is not proven .* process {backend} \(postgres\)"):
            start_service(host, "postgresql", tmp_path / "log")
    finally:
        os.kill(backend, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its parent has taken note")
    start_service(host, "postgresql", tmp_path / "log")
    assert plain.sql("SELECT 1") == [("1",)]


WRITES = "import sys; f = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"


def test_what_works_in_a_folder_or_writes_to_its_files_uses_it_and_a_reader_or_a_shell_does_not(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    (data / "base").mkdir(parents=True)
    (data / "base/1").touch()
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "hard").hardlink_to(data / "base/1")  # the same file, but not by a path into the folder
    in_it, elsewhere = {"cwd": tmp_path / "link"}, {"cwd": "/"}
    cases = {
        ("sleep", "600"): (in_it, True),
        ("sh", "-c", "read x"): (in_it, False),
        (sys.executable, "-c", WRITES, str(data / "base/1"), "a"): (elsewhere, True),
        (sys.executable, "-c", WRITES, str(data / "base/1"), "r"): (elsewhere, False),
        (sys.executable, "-c", WRITES, str(tmp_path / "hard"), "a"): (elsewhere, False),
    }
    for argv, (place, uses) in cases.items():
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **place)  # type: ignore[call-overload]
        try:
            if argv[0] == sys.executable:
                assert child.stdout.readline()
            found = workers_in(data)
            program = Path(f"/proc/{child.pid}/exe").readlink().name
        finally:
            child.kill()
            child.communicate()
        assert found == ((Worker(child.pid, program, elsewhere=False),) if uses else ()), argv
