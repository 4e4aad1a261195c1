"""Restores of a whole set: into the host itself, a destroyed one, another one; replaced stores; undoing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import DocumentsMissing, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from demo.state import State
from flows.backup import backup
from flows.restore_contentstore import restore_contentstore
from flows.restore_full import restore_full
from flows.restore_postgres import restore_postgres
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.places import reachable_directory
from tests.support.restoring import details, differences, loaded, restores_of, state_of_running

EXECUTE = {"mode": "execute", "confirm": "demo"}


class Scene:
    """A host with one set, and what the set holds."""

    def __init__(self, host: DemoHost, patch: pytest.MonkeyPatch) -> None:
        self.host, self.patch = host, patch
        self.use(host)
        backup()
        self.set: str = read_catalogue(loaded(host).repository).sets[-1].stamp
        self.in_set: State = host.writer.state.copy()

    def use(self, host: DemoHost) -> None:
        self.patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))


@pytest.fixture(scope="module")
def scene(prefect_server: None) -> Iterator[Scene]:
    with temporary_demo_host(documents=100) as host, pytest.MonkeyPatch.context() as patch:
        yield Scene(host, patch)


def assert_as_in_set(scene: Scene, host: DemoHost) -> None:
    assert host.read_state().difference(scene.in_set) == []
    assert host.missing_documents(scene.in_set) == []
    assert host.answer() == f"{len(scene.in_set.tables['alf_content_data'])} documents"


def report_of(host: DemoHost) -> dict[str, object]:
    folder = restores_of(host)[-1].folder
    return json.loads((folder / "restore.json").read_text())  # type: ignore[no-any-return]


OTHERS = ("pg_wal", "logs/.running-demo.lock")
"""In a repository: what the server writes on its own, and the lock each run looks at."""


@pytest.mark.parametrize(
    ("flow", "parameters", "words"),
    [
        (restore_full, {"mode": "execute"}, "confirm is missing"),
        (restore_full, {"mode": "execute", "confirm": "other"}, "confirm is 'other'"),
        (restore_full, {"backup": "../20261122T020000Z", **EXECUTE}, "expected one like 20261122T020000Z"),
        (restore_full, {"backup": "20200101T000000Z", **EXECUTE}, "there is no backup 20200101T000000Z"),
        (
            restore_contentstore,
            {"backup": "20200101T000000Z", **EXECUTE},
            "there is no backup 20200101T000000Z",
        ),
        (restore_postgres, {"timeline": 7, **EXECUTE}, "a timeline needs a target time"),
        (undo_restore, {"mode": "execute", "confirm": ""}, "confirm is missing"),
        (
            undo_restore,
            EXECUTE,
            "there is no restore for which this is possible; restores of this host: none",
        ),
    ],
)
def test_a_refusal_leaves_host_and_repository_untouched(scene: Scene, flow, parameters, words) -> None:
    scene.host.writer.close()
    home, repository = state_of_running(scene.host), details(scene.host.backup_dir, without=OTHERS)
    with pytest.raises(Refused, match=words):
        flow(**parameters)
    assert differences(home, state_of_running(scene.host)) == []
    assert differences(repository, details(scene.host.backup_dir, without=OTHERS)) == []


def test_what_only_trying_can_tell_is_refused_with_all_complaints_before_anything_is_touched(
    scene: Scene,
) -> None:
    env = scene.host.directory / "broken.env"
    env.touch(0o600)
    env.write_text(scene.host.env_file.read_text() + "TOMCAT_PID_FILE=/nowhere/pid\n")
    scene.patch.setenv(ENV_FILE_VARIABLE, str(env))
    try:
        script = scene.host.layout.control_script
        script.rename(script.with_suffix(".away"))
        before = state_of_running(scene.host)
        with pytest.raises(Refused) as refusal:
            restore_full(**EXECUTE)
        assert differences(before, state_of_running(scene.host)) == []
    finally:
        script.with_suffix(".away").rename(script)
        scene.use(scene.host)
    assert "the restore cannot be carried out:" in refusal.value.message
    assert (
        f"there is no alfresco.sh to start Alfresco with\n  HINT: edit {env}: ALF_START_COMMAND=..."
        in refusal.value.message
    )
    assert (
        "/nowhere/pid names no running process: it cannot be verified that Alfresco" in refusal.value.message
    )
    assert restores_of(scene.host) == []


def test_a_destroyed_host_whose_store_lay_elsewhere_is_not_restored_to_a_guess(scene: Scene) -> None:
    """Its properties are gone, so nothing says where the store belongs; the backup knows where it was."""
    host = scene.host
    moved = host.directory / "store elsewhere"
    properties = host.layout.properties
    away = host.directory / "away"
    host.layout.contentstore.rename(moved)
    properties.rename(away)
    catalogue = read_catalogue(loaded(host).repository)
    metadata = metadata_of(catalogue.snapshots[-1].path)
    original = metadata.read_text()
    metadata.write_text(original.replace(str(host.layout.contentstore), str(moved)))
    try:
        with pytest.raises(
            Refused,
            match=r"backed up from .*store elsewhere; .*\n  HINT: edit .* CONTENTSTORE_DIR='.*elsewhere'",
        ):
            restore_contentstore(**EXECUTE)
    finally:
        metadata.write_text(original)
        away.rename(properties)
        moved.rename(host.layout.contentstore)


def test_a_plan_says_what_would_be_done_and_touches_nothing(scene: Scene) -> None:
    before = state_of_running(scene.host)
    text = restore_full()
    assert "restore-full of demo" in text and "Nothing has been changed yet" in text
    assert differences(before, state_of_running(scene.host)) == []
    assert restores_of(scene.host) == []


def test_a_set_is_restored_exactly_and_undone_later(scene: Scene) -> None:
    host = scene.host
    for _ in range(4):
        host.writer.add()
        host.writer.delete()
    host.writer.purge(100)
    host.writer.close()
    lived = host.writer.state
    text = restore_full(**EXECUTE)
    assert_as_in_set(scene, host)
    assert "all are there" in text and "reached: " in text
    assert report_of(host)["documents_missing"] == 0
    undo_restore(**EXECUTE)
    assert host.read_state().difference(lived) == []
    assert host.missing_documents(lived) == []
    undo_restore(discard=True, **EXECUTE)
    assert [record.state for record in restores_of(host)] == [RestoreState.DISCARDED]
    assert not list(host.home.rglob("*.before-restore-*")) and not list(host.home.rglob("*.undone-*"))


def test_a_store_is_replaced_by_a_copy_of_all_and_the_old_one_kept_beside(scene: Scene) -> None:
    store = scene.host.layout.contentstore
    backup(components=["contentstore"])
    (store / "stray.txt").write_text("not in the backup")
    mode, owner = store.stat().st_mode, store.stat().st_uid
    restore_contentstore(contentstore="replace", **EXECUTE)
    (aside,) = store.parent.glob("contentstore.before-restore-*")
    assert (aside / "stray.txt").exists() and not (store / "stray.txt").exists()
    assert scene.host.missing_documents(scene.host.writer.state) == []
    assert (store.stat().st_mode, store.stat().st_uid) == (mode, owner)
    assert {path.stat().st_nlink for path in store.rglob("*") if path.is_file()} == {1}
    undo_restore(**EXECUTE)
    assert (store / "stray.txt").exists() and not aside.exists()


def test_documents_that_no_backup_holds_are_named_and_fail_the_run_while_the_host_runs(scene: Scene) -> None:
    host = scene.host
    lost = host.writer.add(2)
    host.writer.close()
    for document in lost.documents:
        (host.layout.contentstore / document.path).unlink()
    with pytest.raises(DocumentsMissing, match="2 documents missing") as missing:
        restore_postgres(target_time="latest", **EXECUTE)
    assert missing.value.exit_code == 4
    assert host.answer().endswith(" documents")
    report = report_of(host)
    assert report["documents_missing"] == 2
    assert lost.documents[0].path in Path(str(report["findings"])).read_text()
    assert restores_of(host)[-1].state is RestoreState.COMPLETED
    with pytest.raises(DocumentsMissing, match="2 documents missing"):
        undo_restore(**EXECUTE)
    assert restores_of(host)[-1].state is RestoreState.UNDONE


def test_a_keystore_that_differs_is_named_before_alfresco_is_started(scene: Scene) -> None:
    keystore = scene.host.layout.keystore / "keystore"
    original = keystore.rename(scene.host.directory / "keystore")
    keystore.write_bytes(b"another keystore")
    try:
        text = restore_full(backup=scene.set, **EXECUTE)
    finally:
        original.rename(keystore)
    assert "the keystore differs from that of backup" in text
    assert "keystore/keystore" in text
    assert_as_in_set(scene, scene.host)


def test_a_destroyed_host_comes_back_with_its_configuration(scene: Scene) -> None:
    host = scene.host
    keystore = details(host.layout.keystore)
    owner = host.cluster.directory.stat()
    host.wipe()
    assert not host.layout.properties.exists()
    text = restore_full(**EXECUTE)
    assert_as_in_set(scene, host)
    assert "shared-classes, keystore was missing and was copied from backup" in text
    found = {name: detail[:4] + detail[5:] for name, detail in details(host.layout.keystore).items()}
    assert found == {name: detail[:4] + detail[5:] for name, detail in keystore.items()}
    data = host.cluster.directory.stat()
    assert (data.st_mode, data.st_uid, data.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)


def test_a_second_empty_host_takes_the_set_over(scene: Scene) -> None:
    scene.host.stop()
    with reachable_directory() as directory:
        second = DemoHost.install(directory / "second", like=scene.host, durable=False)
        scene.use(second)
        try:
            text = restore_full(**EXECUTE)
            assert_as_in_set(scene, second)
            assert (
                str(scene.host.cluster.directory)
                not in (second.cluster.directory / "postmaster.opts").read_text()
            )
            assert "keystore was missing and was copied from backup" in text
            assert not second.layout.properties.exists()  # it names the first host's places
            second.stop()
        finally:
            scene.use(scene.host)
            second.stop()
            shutil.rmtree(second.directory)
    scene.host.start()
    assert_as_in_set(scene, scene.host)
    assert loaded(scene.host).repository.wal.is_dir()


def test_a_host_of_another_name_takes_the_set_over_and_does_not_archive_into_the_first_ones_archive(
    scene: Scene,
) -> None:
    """As a copy for trying things out; its archiving would mix another life into the archive."""
    scene.host.stop()
    before = details(scene.host.wal_archive)
    with reachable_directory() as directory:
        second = DemoHost.install(directory / "second", like=scene.host, durable=False)
        text = second.env_file.read_text()
        assert 'ALF_HOST_NAME="demo"' in text
        second.env_file.write_text(text.replace('ALF_HOST_NAME="demo"', 'ALF_HOST_NAME="trial"'))
        scene.use(second)
        try:
            with pytest.raises(Refused, match="confirm is 'demo'"):
                restore_full(backup=scene.set, **EXECUTE)
            plan = restore_full(backup=scene.set)
            assert "The backup is of host demo: the restored server runs with archive_mode = off" in plan
            text = restore_full(backup=scene.set, mode="execute", confirm="trial")
            assert "archiving is off: the backup is of host demo, this is trial" in text
            assert_as_in_set(scene, second)
            second.cluster.switch_segment()
            assert second.cluster.sql("SHOW archive_mode") == [("off",)]
            second.stop()
            assert differences(before, details(scene.host.wal_archive)) == []
            assert (scene.host.backup_dir / "restores/trial").is_dir()
            undo_restore(mode="execute", confirm="trial")
            assert not second.cluster.directory.exists()
        finally:
            scene.use(scene.host)
            second.stop()
            shutil.rmtree(second.directory)
    scene.host.start()
    assert_as_in_set(scene, scene.host)
