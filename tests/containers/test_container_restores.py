"""Restores of a host in containers: recovered in a one-off container of the server's own image."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.host.one_off_server import one_off_name
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.library import Library
from demo.state import State
from flows.backup import backup
from flows.documents import find_document
from flows.restore_contentstore import restore_contentstore
from flows.restore_drill import restore_drill
from flows.restore_pitr import restore_pitr
from flows.undo_restore import undo_restore
from tests.support import container_engine as engine
from tests.support.common import wait_until
from tests.support.container_host import NEWER_DATA, ContainerHost, container_host
from tests.support.restoring import interrupted_restore, loaded, restores_of
from tests.support.streaming import Receiver, receiving

pytestmark = pytest.mark.slow

EXECUTE = {"mode": "execute", "confirm": "alf1"}


@dataclass
class Life:
    """A container host with a set from before, and one from after, the target time of its restores."""

    host: ContainerHost
    receiver: Receiver
    target: datetime
    expected: State
    lived: State

    @property
    def containers(self) -> dict[str, str]:
        """The state of each container of the host, those of an image of its own included."""
        return {
            name: engine.podman("container", "inspect", "-f", "{{.State.Status}}", name)
            for name in self.host.containers
        }


@pytest.fixture(scope="module")
def life(prefect_server: None) -> Iterator[Life]:
    with container_host(documents=20) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        configured(host)
        with receiving(host) as receiver:
            backup()
            target = host.writer.add(3).committed_at + timedelta(milliseconds=1)
            expected = host.writer.state_at(target)
            host.writer.add(2)
            host.writer.delete()
            host.writer.delete()
            host.writer.close()
            backup()
            yield Life(host, receiver, target, expected, host.read_state())


def test_a_data_directory_deep_in_its_volume_as_of_postgresql_18_is_restored_and_undone(
    prefect_server: None,
) -> None:
    with (
        container_host(documents=5, data_inside=NEWER_DATA) as host,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        configured(host)
        with receiving(host):
            assert loaded(host).installation.data_directory == host.cluster.directory
            backup()
            target = host.writer.add(3).committed_at + timedelta(milliseconds=1)
            expected = host.writer.state_at(target)
            host.writer.add(2)
            host.writer.close()
            lived = host.read_state()
            backup()
            restore_pitr(target_time=target, **EXECUTE)
            host.wait_for_alfresco()
            assert host.read_state().difference(expected) == []
            undo_restore(restore="latest", **EXECUTE)
            host.wait_for_alfresco()
            assert host.read_state().difference(lived) == []
            assert len(host.containers) == 4


def configured(host: ContainerHost) -> None:
    argv = (sys.executable, "-m", "alfresco_backup", "configure", "--apply", "--env", str(host.env_file))
    subprocess.run(argv, cwd=PROJECT_DIRECTORY, check=True, timeout=300, capture_output=True)


def test_database_and_documents_are_restored_to_a_time_and_undone(life: Life) -> None:
    host = life.host
    deleted = set(life.expected.live_documents()) - set(life.lived.live_documents())
    for document in deleted:  # as Alfresco's cleaner does in the end
        (host.layout.contentstore / document.path).unlink()
    assert len(deleted) == 2
    restore_pitr(target_time=life.target, **EXECUTE)
    host.wait_for_alfresco()
    assert host.read_state().difference(life.expected) == []
    assert host.missing_documents(life.expected) == []
    assert host.answer() == f"{len(life.expected.tables['alf_content_data'])} documents"
    assert {path.stat().st_uid for path in host.cluster.directory.iterdir()} == {engine.UID}
    assert set(life.containers.values()) == {"running"} and len(life.containers) == 4
    undo_restore(restore="latest", **EXECUTE)
    host.wait_for_alfresco()
    assert host.read_state().difference(life.lived) == []
    assert set(life.containers.values()) == {"running"} and len(life.containers) == 4


def test_a_restore_killed_in_the_middle_of_its_recovery_leaves_no_container_and_is_undone(
    life: Life, tmp_path: Path
) -> None:
    host = life.host
    slow = tmp_path / "restore-wal"
    slow.write_text("#!/bin/sh\ncase $1 in *.history) exit 1;; esac\nwhile :; do sleep 1; done\n")
    name = one_off_name(loaded(host))

    def recovers() -> bool:
        logs = host.backup_dir.glob("restores/*/*/wal/recovery.log")
        return life.containers.get(name) == "running" and any(
            "starting" in path.read_text(errors="replace") for path in logs
        )

    interrupted_restore(
        host,
        "restore_pitr",
        {"target_time": life.target.isoformat(), **EXECUTE},
        recovers,
        programs=tmp_path,
        restore_wal=slow,
    )
    wait_until(lambda: name not in life.containers, "the one-off container has gone")
    assert set(life.containers.values()) == {"exited"}
    assert restores_of(host)[-1].state is RestoreState.UNFINISHED
    undo_restore(restore="latest", **EXECUTE)
    host.wait_for_alfresco()
    assert host.read_state().difference(life.lived) == []
    assert len(life.containers) == 4


def test_a_lost_document_is_filled_in_with_the_database_running(life: Life) -> None:
    document = life.lived.live_documents()[-1]
    (life.host.layout.contentstore / document.path).unlink()
    restore_contentstore(**EXECUTE)
    life.host.wait_for_alfresco()
    assert life.host.missing_documents(life.lived) == []
    assert set(life.containers.values()) == {"running"} and len(life.containers) == 4


def test_a_drill_restores_the_set_beside_the_containers_and_touches_none_of_them(life: Life) -> None:
    before = life.containers
    started = {name: _started_at(name) for name in before}
    done = restore_drill(target_time=life.target, return_state=True)
    assert done.is_completed(), done.message
    proofs = [json.loads(path.read_text()) for path in life.host.backup_dir.glob("postgres/*/proven.json")]
    (proof,) = [item for item in proofs if item["findings"] == []]
    assert proof["missing"] == 0 and proof["documents"] == len(life.expected.live_documents())
    assert datetime.fromisoformat(proof["reached"]) == life.target
    assert {name: _started_at(name) for name in life.containers} == started
    assert not list(life.host.backup_dir.glob("drill/drill-*"))


def test_a_document_is_found_as_of_a_time_in_a_database_that_ends_with_the_search(life: Life) -> None:
    """The last of these tests: it adds to the live database."""
    host = life.host
    library = Library(host.cluster, host.layout.contentstore, seed=3)
    node = library.add(library.make_site("hr"), "Salaries of 2026.xlsx")
    moment = datetime.now(UTC)
    library.delete(node)
    library.close()
    name = host.cluster.current_segment()
    host.cluster.switch_segment()
    wait_until(lambda: list(host.wal_archive.glob(f"{name}*")), f"{name} is archived")
    for _ in range(2):  # made, and opened again
        findings = find_document(as_of=moment, name="salaries*")
        assert [hit.node.name for hit in findings.hits] == ["Salaries of 2026.xlsx"]
        assert set(life.containers.values()) == {"running"} and len(life.containers) == 4


def _started_at(name: str) -> str:
    return engine.podman("container", "inspect", "-f", "{{.State.StartedAt}}", name)
