"""Every command of the guides for one host does what its guide says: docs/how-to."""

from collections.abc import Iterator

import pytest

from alfresco_backup.journal import RestoreState
from flows.restore_full import restore_full
from tests.how_to import EXECUTE, Scene, running_scene
from tests.restoring import restores_of


@pytest.fixture(scope="module")
def shared_scene(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def scene(shared_scene: Scene) -> Scene:
    shared_scene.begin()
    return shared_scene


def lose_something(scene: Scene) -> None:
    """A new document, and some that are deleted and purged."""
    scene.host.writer.add()
    for _ in range(4):
        scene.host.writer.delete()
    scene.host.writer.purge(100)


def test_back_up(scene: Scene) -> None:
    scene.execute("back-up.md")
    assert scene.newest_set() > scene.stamp


def test_restore(scene: Scene) -> None:
    lose_something(scene)
    scene.execute("restore.md")
    assert scene.host.read_state().difference(scene.in_set) == []
    assert scene.host.missing_documents(scene.in_set) == []
    assert scene.host.answer()


def test_recover_to_a_moment(scene: Scene) -> None:
    moment = scene.host.writer.add().committed_at
    lose_something(scene)
    expected = scene.host.writer.state_at(moment)
    scene.execute("recover-to-a-moment.md", moment=moment)
    assert scene.host.read_state().difference(expected) == []
    assert scene.host.missing_documents(expected) == []


def test_undo(scene: Scene) -> None:
    lose_something(scene)
    lived = scene.host.writer.state.copy()
    scene.host.writer.close()
    restore_full(**EXECUTE)
    assert scene.host.read_state().difference(lived)
    scene.execute("undo.md")
    assert scene.host.read_state().difference(lived) == []
    assert restores_of(scene.host)[-1].state is RestoreState.DISCARDED


def test_drill(scene: Scene) -> None:
    said = scene.execute("drill.md")
    assert scene.stamp in said["python -m alfresco_backup status"]
    assert scene.host.read_state().difference(scene.in_set) == []
