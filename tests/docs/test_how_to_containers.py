"""docs/how-to/containers.md, executed on the services of its compose file, which the engine starts here."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from flows.backup import backup
from tasks.backup.base_backup import make_base_backup
from tests.support import container_engine as engine
from tests.support.common import wait_until
from tests.support.container_host import PASSWORD, PLACES, ContainerHost, container_host
from tests.support.documents import Names, blocks_of, execute
from tests.support.how_to import HOW_TO, SOFTWARE, environment
from tests.support.restoring import loaded
from tests.support.streaming import is_active, set_settings

pytestmark = pytest.mark.slow

DOCUMENT = HOW_TO / "containers.md"
SYSTEMCTL = """#!/bin/sh
# wal-receiver@alf1 without systemd
case $1 in
    stop) kill "$(cat {pid})"; while kill -0 "$(cat {pid})" 2>/dev/null; do sleep 0.1; done ;;
    *) cd {project} && {python} -m alfresco_backup wal-receiver --env {env} >>{log} 2>&1 & echo $! >{pid} ;;
esac
"""


class Machine:
    """The container host, and the commands of the guide that a machine has and this one has not."""

    def __init__(self, host: ContainerHost, home: Path) -> None:
        self.host, self.home = host, home
        self.folder = home / "bin"
        self.folder.mkdir()
        (self.folder / "docker").symlink_to(engine.program())
        self.pid = home / "receiver.pid"
        self._program(
            "systemctl",
            SYSTEMCTL.format(
                pid=self.pid,
                project=PROJECT_DIRECTORY,
                python=sys.executable,
                env=host.env_file,
                log=home / "receiver.log",
            ),
        )
        settings = home / "as filled in"
        (written,) = [block.text for block in blocks_of(DOCUMENT) if block.language == "text"]
        own = [f"PGPORT={host.cluster.port}", f"TOMCAT_PORT={host.tomcat_port}", "ARCHIVE_WAIT_MINUTES=1", ""]
        filled = self.names().put_into(written).replace("PGPASSWORD=...", f'PGPASSWORD="{PASSWORD}"')
        settings.write_text("\n".join([filled, *own]))
        self._program("editor", f'#!/bin/sh\ncp "{settings}" "$1"\n')

    def _program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def names(self, moment: datetime | None = None) -> Names:
        catalogue = read_catalogue(loaded(self.host).repository)
        stamps = [item.stamp for item in catalogue.snapshots[-2:]] if moment else ["", ""]
        return Names(
            {
                **SOFTWARE,
                "2026-11-22T09:15:00+01:00": moment.isoformat() if moment else "",
                "/etc/alfresco-backup/alf1.env": str(self.host.env_file),
                "/backup": str(self.host.backup_dir),
                PLACES: str(self.host.home),
                "20261122T023000Z": stamps[0],
                "20261122T071000Z": stamps[0],
                "20261122T081000Z": stamps[1],
                "recovery-by-hand": f"{self.host.prefix}-recovery-by-hand",
                "-d --name": f"-d {' '.join(engine.label())} --name",
                **{
                    f"alfresco-{service}-1": self.host.container(service)
                    for service in ("postgres", "share", "alfresco", "solr6")
                },
            }
        )

    def execute(self, *words: str, moment: datetime | None = None) -> dict[str, str]:
        self.host.writer.close()
        shell = {**environment(self.home), "PATH": f"{self.folder}:{os.environ['PATH']}"}
        return execute(DOCUMENT, self.names(moment), shell, words, only=bool(words))


@pytest.fixture(scope="module")
def machine(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """After the guide's first part: a configured host with a receiver and a set."""
    with container_host() as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        made = Machine(host, tmp_path_factory.mktemp("home"))
        try:
            made.execute()
            yield made
        finally:
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(made.pid.read_text()), signal.SIGTERM)


def test_from_nothing_to_a_restore_its_undo_and_one_by_hand(machine: Machine) -> None:
    host = machine.host
    assert read_catalogue(loaded(host).repository).sets[-1].complete
    moment = host.writer.add(3).committed_at + timedelta(milliseconds=1)
    host.writer.delete()
    expected = host.writer.state_at(moment)
    lived = host.writer.state.copy()
    host.writer.close()
    backup()
    machine.execute("restore", moment=moment)
    host.wait_for_alfresco()
    assert host.read_state().difference(expected) == []
    machine.execute("undo", moment=moment)
    host.wait_for_alfresco()
    assert host.read_state().difference(lived) == []
    for document in expected.live_documents()[:5]:
        (host.layout.contentstore / document.path).unlink()
    machine.execute("by-hand", moment=moment)
    del host.__dict__["writer"]  # it knows the life that was given up
    host.wait_for_alfresco()
    assert host.read_state().difference(expected) == []
    assert host.missing_documents(expected) == []
    assert host.answer() == f"{len(expected.tables['alf_content_data'])} documents"
    assert {path.stat().st_uid for path in host.cluster.directory.iterdir()} == {engine.UID}
    assert {path.stat().st_uid for path in host.layout.contentstore.rglob("*")} == {engine.ALFRESCO_UID}
    assert [name for name in host.containers if "by-hand" in name] == []


def test_a_container_that_is_restarted_in_the_middle_of_a_backup_costs_one_attempt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = machine.host
    before = len(read_catalogue(loaded(host).repository).sets)
    set_settings(host, BANDWIDTH_LIMIT_MIB="4")  # seconds of copying
    monkeypatch.setattr(make_base_backup, "retry_delay_seconds", 15)  # of 30; it is up again by then
    wait_until(lambda: is_active(host), "the receiver receives")
    with ThreadPoolExecutor(1) as beside:
        restarted = beside.submit(restart_during_the_copy, host)
        report = str(backup())
        (attempt,) = restarted.result()
    set_settings(host, BANDWIDTH_LIMIT_MIB="0")
    assert "(no gaps)" in report
    made = read_catalogue(loaded(host).repository).sets
    assert made[-1].complete and len(made) == before + 1
    assert not attempt.exists() and not list(host.backup_dir.glob("postgres/*.partial"))
    assert "terminating connection due to administrator command" in (
        host.backup_dir / f"logs/backup-{made[-1].stamp}.log"
    ).read_text(errors="replace")
    wait_until(lambda: is_active(host), "the receiver is back")


def restart_during_the_copy(host: ContainerHost) -> list[Path]:
    """The folder of the base backup that was being made meanwhile."""
    found = wait_until(
        lambda: [path.parent for path in host.backup_dir.glob("postgres/*.partial/base.tar*")],
        "the base backup is being copied",
    )
    engine.podman("restart", "-t", "60", host.postgres)
    return found
