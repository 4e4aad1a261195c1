"""Restoring and undoing where data directory or content store lie in an unusual place, or are absent."""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import HostNotReady, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import MANIFEST
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.obstacles import holds_configuration
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.content_check import content_check
from flows.restore_contentstore import restore_contentstore
from flows.restore_full import restore_full
from flows.restore_postgres import restore_postgres
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.restoring import forget_slot, killed_restore, loaded, restores_of

EXECUTE = {"mode": "execute", "confirm": "demo"}
REPLACE = {**EXECUTE, "contentstore": "replace"}


@contextmanager
def rewritten(path: Path, old: str, new: str) -> Iterator[None]:
    """A file with some of its text replaced."""
    original = path.read_text(encoding="latin-1")
    assert old in original
    path.write_text(original.replace(old, new), encoding="latin-1")
    try:
        yield
    finally:
        path.write_text(original, encoding="latin-1")


def store_of(host: DemoHost) -> Path:
    return host.directory / "mnt/content/contentstore"


def move_places(host: DemoHost) -> DemoHost:
    """The data directory one level down, as some hosts have it; the store on a disk of its own."""
    host.stop()
    usual, moving = host.layout.data_directory, host.layout.data_directory.with_name("moving")
    usual.rename(moving)
    usual.mkdir()
    data = moving.rename(usual / "data")
    store = store_of(host)
    store.parent.mkdir(parents=True)
    host.layout.contentstore.rename(store)
    for file, old, new in (
        (
            host.layout.control_script,
            'data="$home/alf_data/postgresql"',
            'data="$home/alf_data/postgresql/data"',
        ),
        (host.layout.properties, "dir.contentstore=${dir.root}/contentstore", f"dir.contentstore={store}"),
        (host.home / "tomcat/conf/stand-in.json", str(host.layout.contentstore), str(store)),
    ):
        text = file.read_text(encoding="latin-1")
        assert old in text
        file.write_text(text.replace(old, new), encoding="latin-1")
    host.start()
    return replace(host, cluster=replace(host.cluster, directory=data))


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    """A running host with one set. Each test leaves it as it was."""
    with temporary_demo_host(documents=40) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        moved = move_places(made)
        try:
            backup()
            yield moved
        finally:
            moved.stop("tomcat")
            moved.cluster.stop("immediate")


@pytest.mark.parametrize(
    ("step", "parameters"), [(Step.SET_ASIDE_DATABASE, EXECUTE), (Step.SET_ASIDE_CONTENT, REPLACE)]
)
def test_undoing_finds_the_places_that_were_set_aside_when_it_began(
    host: DemoHost, step: Step, parameters: dict[str, object]
) -> None:
    before, places = host.answer(), loaded(host).installation
    assert (places.data_directory, places.store) == (host.cluster.directory, store_of(host))
    assert killed_restore(host, "restore_full", {"entry": "step-end", "step": step.value}, 1, parameters)
    forget_slot(host)
    assert loaded(host).installation != places
    assert "all are there" in undo_restore(**EXECUTE)
    assert restores_of(host)[-1].state is RestoreState.UNDONE
    assert host.answer() == before
    assert loaded(host).installation == places


def test_a_store_that_is_named_but_absent_is_not_restored_to_another_place(host: DemoHost) -> None:
    """The disk is not mounted, or the host is new. What the refusal names makes the place, and it works."""
    store, away = store_of(host), host.directory / "away"
    mode, owner = store.stat().st_mode, store.stat().st_uid
    store.parent.rename(away)
    try:
        for flow in (restore_full, restore_contentstore, restore_postgres):
            with pytest.raises(Refused, match=f"dir.contentstore: is {store} in .*, which is not") as refusal:
                flow(**EXECUTE)
        mount, make, setting = refusal.value.hint.splitlines()
        assert mount == f"mount {shlex.quote(str(store))}  # if its file system is not mounted"
        assert setting == f"{edit_setting('CONTENTSTORE_DIR')}  # if that line is wrong"
        with pytest.raises(
            HostNotReady, match=f"is {store}, which is not a directory; documents are not checked"
        ):
            content_check()
        assert not host.layout.contentstore.exists()
        subprocess.run(shlex.split(make, comments=True), check=True)
        assert (store.stat().st_mode, store.stat().st_uid) == (mode, owner)
        assert "all are there" in restore_full(**EXECUTE)
        assert host.answer() == "40 documents"
        undo_restore(discard=True, **EXECUTE)
    finally:
        shutil.rmtree(store.parent, ignore_errors=True)
        away.rename(store.parent)


def test_a_data_directory_belongs_in_a_root_that_is_absent_unless_the_backup_says_otherwise(
    host: DemoHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, absent = host.directory / "told.env", host.directory / "mnt/absent"
    env.touch(0o600)
    env.write_text(f'{host.env_file.read_text()}CONTENTSTORE_DIR="{store_of(host)}"\n')
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(env))
    complaint = f"dir.root: is {absent} in alfresco-global.properties, which is not a directory"
    base = read_catalogue(loaded(host).repository).bases[-1].path / "backup.json"
    with rewritten(host.layout.properties, "dir.root=", f"dir.root={absent}\nwas="):
        assert complaint not in restore_full()
        with rewritten(base, str(host.cluster.directory), f"{absent}/postgresql"):
            plan = restore_full()
            assert complaint in plan and edit_setting("PG_DATA_DIR") in plan
            assert complaint not in restore_contentstore()
            env.write_text(f'{env.read_text()}PG_DATA_DIR="{host.cluster.directory}"\n')
            assert complaint not in restore_full()


def test_whether_a_backup_holds_postgresql_conf_is_told_by_itself(tmp_path: Path) -> None:
    base, kept, data = tmp_path / "base", tmp_path / "configuration", tmp_path / "data"
    for folder in (base, kept):
        folder.mkdir()
    assert holds_configuration(base, kept, data)
    data.mkdir()
    assert not holds_configuration(base, None, data)
    (data / "postgresql.conf").touch()
    assert holds_configuration(base, kept, data)
    (kept / "postgresql").mkdir()  # as with Debian before 13
    assert not holds_configuration(base, kept, data)
    lines = ['{ "Path": "postgresql.auto.conf", "Size": 88 },', '{ "Path": "x/postgresql.conf", "Size": 9 },']
    (base / MANIFEST).write_text("\n".join(lines))
    assert not holds_configuration(base, None, data)
    (base / MANIFEST).write_text("\n".join([*lines, '{ "Path": "postgresql.conf", "Size": 23040 },']))
    assert holds_configuration(base, kept, data)
