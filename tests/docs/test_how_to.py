"""Every command of the guides and documents for one host does what it says there."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from flows.restore_full import restore_full
from tests.support.documents import Names, blocks_of, execute
from tests.support.far_sides import verb
from tests.support.how_to import EXECUTE, Scene, environment, names_of, running_scene
from tests.support.offsite_places import PASSWORD, folder_place, use
from tests.support.restoring import restores_of
from tests.support.streaming import receiving, set_settings
from tests.support.web_servers import web_server

DOCS = PROJECT_DIRECTORY / "docs"


@pytest.fixture(scope="module")
def shared_scene(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def scene(shared_scene: Scene) -> Scene:
    shared_scene.begin()
    return shared_scene


def lose_something(scene: Scene) -> None:
    """A new document, and some of the set that are deleted and purged: none that no snapshot holds."""
    scene.host.writer.add()
    for _ in range(4):
        scene.host.writer.delete(oldest=True)
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
    scene.execute("recover-to-a-target-time.md", moment=moment)
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


def test_restoring_as_the_reference_has_it_there_and_back(scene: Scene) -> None:
    moment = scene.host.writer.add().committed_at
    lose_something(scene)
    expected = scene.host.writer.state_at(moment)
    scene.execute(DOCS / "explanation/restores.md", moment=moment)
    assert scene.host.read_state().difference(expected) == []
    assert scene.host.missing_documents(expected) == []
    scene.execute(DOCS / "reference/restore.md", moment=moment)
    assert scene.host.read_state().difference(expected) == []
    assert [item.state for item in restores_of(scene.host)][-2:] == [
        RestoreState.COMPLETED,
        RestoreState.UNDONE,
    ]


def test_off_site_copy(scene: Scene) -> None:
    with folder_place() as place:
        document = DOCS / "how-to/off-site-copy.md"
        names = {**names_of(scene.host, scene.stamp).table, "/mnt/other/alf1": place.repository("alf1")}
        blocks = [block for block in blocks_of(document) if block.words & {"disk", "password"}]
        use(scene.host, settings_in("\n".join(Names(names).put_into(block.text) for block in blocks)))
        said = execute(document, Names(names), environment(scene.home))
        assert scene.stamp in said["python -m alfresco_backup offsite list"]
        assert PASSWORD not in str(said)
        with scene.host.env_file.open("a") as file:
            file.write("OFFSITE_CHECK_CYCLE=1\n")
        damaged = flip_a_byte(place.disk / "alf1")
        found = verb(scene.host, "offsite", "check")
        assert (
            found["exit_code"] == 1 and damaged in str(found["error"]) and scene.stamp in str(found["error"])
        )
        repaired = execute(document, Names(names), environment(scene.home), {"repair", "index"}, only=True)
        assert "WARNING" not in str(repaired)
        again = verb(scene.host, "offsite", "check")
        assert again["exit_code"] == 0 and not list((place.disk / "alf1/data").rglob(damaged)), again
    use(scene.host, {})


def test_stream_wal(scene: Scene) -> None:
    with receiving(scene.host):
        scene.execute("stream-wal.md")
    set_settings(scene.host, WAL_STREAMING="no")


def test_monitoring(scene: Scene, tmp_path: Path) -> None:
    names = Names({**names_of(scene.host).table, "/var/lib/prometheus/node-exporter": str(tmp_path)})
    with web_server() as service:
        urls = {"ALERT_URLS": f"json://{service.address}/told", "PING_URL": f"http://{service.address}/key"}
        urls["METRICS_FILE"] = str(tmp_path / "alfresco-backup.prom")
        set_settings(scene.host, **urls)
        execute(DOCS / "how-to/monitoring.md", names, environment(scene.home))
        set_settings(scene.host, **dict.fromkeys(urls, ""))
    assert {"/told", "/key/alf1-backup/log"} <= {*service.paths}


def flip_a_byte(repository: Path) -> str:
    """Change one byte in the middle of the largest pack; its name."""
    packs = [path for path in (repository / "data").rglob("*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    return largest.name


def settings_in(text: str) -> dict[str, str]:
    """The settings that a document names; what the reader fills in is the tests' password."""
    pairs = (line.partition("=") for line in text.splitlines() if line)
    return {name: value.strip("'").replace("...", PASSWORD) for name, _, value in pairs}


def test_operations(shared_scene: Scene, tmp_path: Path) -> None:
    if not shared_scene.stamp:
        shared_scene.begin()
    names = {
        **names_of(shared_scene.host).table,
        "/opt/alfresco-backup/.venv/bin/python": sys.executable,
        "/etc/alfresco-backup/prefect-server.env": str(tmp_path / "prefect-server.env"),
        "/etc/systemd/system": str(tmp_path),
    }
    execute(DOCS / "operations.md", Names(names), environment(shared_scene.home), {"units"})
    assert (tmp_path / "prefect-server.env").stat().st_mode & 0o777 == 0o600
    units = {path.name for path in (PROJECT_DIRECTORY / "deployments/systemd").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"prefect-server.env", *units}
