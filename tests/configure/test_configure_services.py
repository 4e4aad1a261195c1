"""`configure` on an installer's host: Alfresco around a restart, other runs, how PGUSER comes in."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.host.lock import writing_lock
from demo.host import DemoHost
from tests.support.common import temporary_demo_host
from tests.support.unconfigured_hosts import READY_FROM, configure

ORDINARY = "local all all md5\nhost all all 127.0.0.1/32 md5\n"
REMOVED = ("wal_level", "archive_mode", "archive_command", "archive_timeout", "max_wal_senders")


@pytest.fixture(scope="module")
def demo(slow: None) -> Iterator[DemoHost]:
    """A demo host from which everything was taken that makes it ready for backups."""
    with temporary_demo_host(documents=30) as host:
        conf = host.cluster.directory / "postgresql.conf"
        lines = conf.read_text().splitlines(keepends=True)
        host.cluster._write("postgresql.conf", "".join(x for x in lines if not x.startswith(REMOVED)))
        host.cluster._write("pg_hba.conf", ORDINARY)
        host.cluster.sql("ALTER ROLE alfresco NOREPLICATION")
        host.stop()
        host.start()
        host.wal_archive.rename(host.directory / "old-archive")
        yield host


def typed(demo: DemoHost, *arguments: object, env: Path | None = None) -> tuple[int, str]:
    place = () if "--undo" in arguments else ("--wal-commands", demo.directory / "commands")
    done = configure(env or demo.env_file, *arguments, *place)
    return done.returncode, done.stdout + done.stderr


def with_env(demo: DemoHost, **changed: object) -> Path:
    file = demo.directory / "changed.env"
    file.touch(0o600)
    lines = [line for line in demo.env_file.read_text().splitlines() if line.split("=")[0] not in changed]
    file.write_text("\n".join([*lines, *(f'{name}="{value}"' for name, value in changed.items())]) + "\n")
    return file


def settings(demo: DemoHost) -> list[str]:
    text = (demo.cluster.directory / "postgresql.auto.conf").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_alfresco_that_could_not_be_proven_down_refuses_the_restart_before_anything_is_changed(
    demo: DemoHost,
) -> None:
    env = with_env(demo, TOMCAT_PID_FILE="/nonexistent/catalina.pid")
    code, said = typed(demo, "--apply", "--restart", env=env)
    assert code == 3
    assert "Refused: PostgreSQL cannot be restarted: Alfresco (Tomcat): 127.0.0.1:" in said
    assert settings(demo) == [] and not demo.wal_archive.exists()


def test_while_another_run_holds_the_repository_nothing_is_changed(demo: DemoHost) -> None:
    with writing_lock(load_host(demo.env_file), 0, logging.getLogger(__name__)):
        code, said = typed(demo, "--apply")
    assert code == 3 and "HostBusy: the host demo is locked by process" in said
    assert settings(demo) == [] and not demo.wal_archive.exists()


def test_by_its_socket_pguser_gets_a_local_line(demo: DemoHost) -> None:
    demo.cluster._write("pg_hba.conf", ORDINARY + "local replication all peer\n")
    demo.cluster.reload()
    env = with_env(demo, PGHOST=demo.cluster.socket_directory)
    try:
        code, said = typed(demo, "--apply", env=env)
        assert code == 5, said
        assert "pg_hba.conf: no line for that -> local    replication    alfresco    " in said
        replicates = demo.cluster.version >= READY_FROM  # else max_wal_senders waits for a restart
        assert ("verified: alfresco replicates" in said) == replicates
        code, said = typed(demo, "--undo", env=env)
        assert code == 0, said
    finally:
        demo.cluster._write("pg_hba.conf", ORDINARY)
        demo.cluster.reload()


def test_alfresco_is_stopped_before_and_started_after_a_restart(demo: DemoHost) -> None:
    before = demo.layout.pid_file.read_text()
    code, said = typed(demo, "--apply", "--restart")
    assert code == 0, said
    assert "restarting PostgreSQL" in said and "arrived in the archive" in said
    assert demo.answer() and demo.layout.pid_file.read_text() != before
    assert demo.cluster.sql("SHOW archive_mode") == [("on",)]
    code, said = typed(demo, "--undo", "--restart")
    assert code == 0, said
    assert demo.answer() and demo.cluster.sql("SHOW archive_mode") == [("off",)]
    assert (demo.cluster.directory / "pg_hba.conf").read_text() == ORDINARY
    assert not (demo.directory / "commands").exists()
