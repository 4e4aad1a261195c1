"""Stopping and starting the services of a host: proven by pid file and port, within a limit."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.host.service_control import (
    look_at,
    require_down,
    server_programs,
    start_service,
    stop_service,
    why_not_controllable,
)
from alfresco_backup.host.services import Endpoint, control_command, running_process
from alfresco_backup.settings.commands import as_account
from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.system.processes import Command, run_starter
from demo.cluster import default_bindir
from demo.host import DemoHost
from tests.support.common import temporary_demo_host, wait_until

SERVER = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"


@pytest.fixture(scope="module")
def demo(slow: None) -> Iterator[DemoHost]:
    with temporary_demo_host(documents=30) as host:
        yield host


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "services.log"


def with_settings(demo: DemoHost, **settings: object) -> Host:
    """The host with some settings of its .env changed."""
    changed = demo.directory / "changed.env"
    lines = [line for line in demo.env_file.read_text().splitlines() if line.split("=")[0] not in settings]
    lines += [f'{name}="{value}"' for name, value in settings.items()]
    changed.touch(0o600)
    changed.write_text("\n".join(lines))
    return load_host(changed)


def test_services_go_down_and_come_up_proven_by_process_and_port(demo, log):
    host = load_host(demo.env_file)
    for service in ("alfresco", "postgresql"):
        assert look_at(host, service).pid and look_at(host, service).answers
        stop_service(host, service, log)
        assert look_at(host, service).down
        stop_service(host, service, log)  # again: nothing to do
    for service in ("postgresql", "alfresco"):
        start_service(host, service, log)
        assert look_at(host, service).pid and look_at(host, service).answers
    assert demo.answer().endswith(" documents")


def test_without_a_control_script_pg_ctl_stops_and_starts_postgresql_as_its_owner(demo, log):
    loaded = load_host(demo.env_file)
    host = replace(loaded, installation=replace(loaded.installation, control_script=None))
    assert control_command("postgresql", "stop", host.settings, host.installation) == ()
    stop_service(host, "postgresql", log)
    assert look_at(host, "postgresql").down
    start_service(host, "postgresql", log)
    pid = look_at(host, "postgresql").pid
    assert pid and Path(f"/proc/{pid}").stat().st_uid == demo.cluster.directory.stat().st_uid


def test_postgresql_whose_port_is_open_before_its_startup_is_over_is_up_only_then(demo, log):
    """As after the start of a container, and after a crash. `pg_ctl -W` waits as little as an engine does."""
    directory, account = demo.cluster.directory, owner_of(demo.cluster.directory)
    start = f"{default_bindir()}/pg_ctl start -W -D {directory} -l {directory}/own.log"
    host = with_settings(demo, PG_START_COMMAND=as_account(None if os.geteuid() else account, start))
    stop_service(host, "postgresql", log)
    for name, text in {
        "recovery.signal": "",
        "postgresql.auto.conf": "restore_command = 'sleep 3; false'\nhot_standby = 'off'\n",
    }.items():
        with acting_as(account), (directory / name).open("a") as stream:
            stream.write(text)
    start_service(host, "postgresql", log)
    assert host.database.value("SELECT pg_is_in_recovery()") == "f"
    for name in ("restore_command", "hot_standby"):
        demo.cluster.sql(f"ALTER SYSTEM RESET {name}")
    assert "database system is ready" in (directory / "own.log").read_text()
    demo.stop("postgresql")
    demo.start("postgresql")


def test_configured_commands_come_before_the_script(demo):
    host = with_settings(demo, ALF_STOP_COMMAND="systemctl stop 'my alfresco'")
    command = control_command("alfresco", "stop", host.settings, host.installation)
    assert command == ("systemctl", "stop", "my alfresco")


def test_a_stop_that_hangs_ends_in_an_error_within_its_limit_and_nothing_is_killed(demo, log):
    host = with_settings(demo, ALF_STOP_COMMAND="sleep 600", SERVICE_STOP_MINUTES="0.02")
    with pytest.raises(BackupError) as failure:
        stop_service(host, "alfresco", log)
    assert "Alfresco (Tomcat) did not stop within 1.2 s" in failure.value.message
    assert "did not end within its limit" in failure.value.message
    assert "SERVICE_STOP_MINUTES" in failure.value.hint
    assert demo.answer()


def test_a_stop_that_ends_well_but_stops_nothing_is_an_error(demo, log):
    host = with_settings(demo, ALF_STOP_COMMAND="true", SERVICE_STOP_MINUTES="0.02")
    with pytest.raises(BackupError, match=r"did not stop within 1\.2 s: process \d+ .*answers"):
        stop_service(host, "alfresco", log)


def test_a_stop_script_that_fails_after_it_has_begun_to_stop_is_waited_for(demo, log):
    script, stopped = demo.directory / "stops-late", demo.directory / "stopped"
    late = f"sleep 3; '{demo.layout.control_script}' stop tomcat; touch '{stopped}'"
    script.write_text(f"#!/bin/sh\n({late}) & exit 1\n")
    script.chmod(0o755)
    host = with_settings(demo, ALF_STOP_COMMAND=script)
    try:
        stop_service(host, "alfresco", log)
        assert look_at(host, "alfresco").down
    finally:
        wait_until(stopped.exists, "the late stop has ended, and so takes no new process for its own")
        demo.start("tomcat")


def test_a_service_that_is_up_again_is_an_error_that_names_what_started_it(demo):
    host = load_host(demo.env_file)
    demo.stop("tomcat")
    require_down(host, "alfresco")
    pid_file = host.installation.tomcat_pid_file
    with subprocess.Popen(["sleep", "600"]) as child:
        pid_file.write_text(f"{child.pid}\n")
        try:
            with pytest.raises(BackupError, match="was stopped and is up again, started by ") as failure:
                require_down(host, "alfresco")
        finally:
            child.kill()
            pid_file.unlink()
    demo.start("tomcat")
    assert Path("/proc/self/comm").read_text().strip() in failure.value.message
    assert f"process {child.pid} " in failure.value.message
    assert "a systemd unit with Restart=, monit" in failure.value.hint


def test_programs_that_are_gone_in_the_middle_are_no_refusal_that_leaves_the_host_untouched(demo):
    with pytest.raises(BackupError, match=r"no programs of PostgreSQL 9\.5 are on this host") as failure:
        server_programs(load_host(demo.env_file), 90500)
    assert failure.value.exit_code == 1


def test_a_start_that_brings_nothing_up_is_an_error(demo, log):
    host = with_settings(demo, ALF_START_COMMAND="true", SERVICE_STOP_MINUTES="0.02", TOMCAT_PORT="1")
    with pytest.raises(BackupError, match=r"did not come up within 1\.2 s"):
        start_service(host, "alfresco", log)


def test_a_port_that_answers_without_a_process_of_ours_is_refused_before_anything_is_stopped(demo):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        demo.stop("tomcat")
        host = with_settings(demo, TOMCAT_PORT=port)
        try:
            reason = why_not_controllable(host, "alfresco")
        finally:
            demo.start("tomcat")
    assert f"127.0.0.1:{port} answers" in reason.sentence
    assert ": TOMCAT_PORT=" in reason.fix and ": TOMCAT_PID_FILE=" in reason.fix
    assert why_not_controllable(load_host(demo.env_file), "alfresco") is None


def test_a_pid_file_that_names_another_process_names_none(tmp_path):
    pid_file = tmp_path / "catalina.pid"
    assert running_process(pid_file) is None
    pid_file.write_text("not a number\n")
    assert running_process(pid_file) is None
    pid_file.write_text(f"{os.getpid()}\n")
    assert running_process(pid_file) == os.getpid()
    os.utime(pid_file, (1_000_000_000, 1_000_000_000))  # older than this process: it cannot have written it
    assert running_process(pid_file) is None


def test_a_process_that_ended_but_is_not_collected_does_not_run(tmp_path):
    child = subprocess.Popen(["true"])
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(child.pid))
    wait_until(lambda: running_process(pid_file) is None, "the zombie counts as ended")
    child.wait()


def test_an_endpoint_is_a_port_or_a_socket_file(tmp_path):
    assert str(Endpoint("/run/postgresql", 5433)) == "/run/postgresql/.s.PGSQL.5433"
    assert not Endpoint(str(tmp_path), 5433).answers()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / ".s.PGSQL.5433"))
        server.listen()
        assert Endpoint(str(tmp_path), 5433).answers()


STARTER = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from alfresco_backup.system.processes import Command, run_starter
run_starter(Command(("sh", "-c", {script!r}), 60), Path({log!r}))
print("started", flush=True)
sys.stdin.read()
"""


def test_a_server_that_a_command_leaves_behind_outlives_the_kill_of_this_process(tmp_path, unused_port):
    """And its open output does not keep the start from returning."""
    pid_file = tmp_path / "pid"
    server = SERVER.format(port=unused_port)
    script = f'{sys.executable} -c "{server}" & echo $! > {pid_file}; echo begun'
    project = str(Path(__file__).parents[3])
    program = STARTER.format(project=project, script=script, log=str(tmp_path / "log"))
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"started\n"
        wait_until(Endpoint("127.0.0.1", unused_port).answers, "the server listens")
        child.kill()
        child.wait()
        assert running_process(pid_file) is not None
        assert Endpoint("127.0.0.1", unused_port).answers()
        assert (tmp_path / "log").read_text() == "begun\n"
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        child.communicate()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_words_of_a_command_that_fails_to_start_a_server_are_in_its_error(log):
    with pytest.raises(BackupError, match="no such webapp"):
        run_starter(Command(("sh", "-c", "echo no such webapp; exit 3"), 60), log)
