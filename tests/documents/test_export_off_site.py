"""What this host has no sound copy of any more comes out of the off-site copy, or it is said why not."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.documents.content import FarFile, OffSite
from alfresco_backup.documents.export_records import Exported
from alfresco_backup.documents.nodes import NodeDetails
from alfresco_backup.errors import BackupError, DocumentsMissing
from alfresco_backup.host.host import load_host
from alfresco_backup.host.lock import lock_file
from alfresco_backup.offsite.copy import engine_of, init
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.locks import open_lock_file, take_lock
from demo.host import DemoHost
from demo.library import Library, content_of
from flows.backup import backup
from flows.documents import restore_document
from flows.offsite import offsite_copy
from tests.support.common import full_disk, temporary_demo_host

pytestmark = pytest.mark.slow
LARGE = 3_000_000
NAMES = ("gone", "damaged", "never sent", "lost there", "large", "sent")


@dataclass(frozen=True)
class Scene:
    """A host whose backups were sent, and documents of each kind: what happened to them is their name."""

    host: DemoHost
    documents: dict[str, NodeDetails]

    def copies(self, name: str) -> list[Path]:
        """All files of a document on this host; one that two snapshots share is there twice."""
        path = self.path(name)
        stores = [self.host.layout.contentstore, *self.host.backup_dir.glob("contentstore/contentstore-*Z")]
        return [file.resolve() for root in stores if (file := root / path).exists()]

    def path(self, name: str) -> str:
        content = self.documents[name].node.content
        assert content
        return content.url.removeprefix("store://")

    def lose(self, name: str) -> None:
        for file in self.copies(name):
            file.unlink(missing_ok=True)

    def export(self, target: Path, *names: str) -> Exported:
        nodes = [self.documents[name].node.uuid for name in names]
        result: Exported = restore_document(nodes, to=str(target))
        return result

    def failed(self, target: Path, name: str) -> str:
        failure = self.export(target, name).failure()
        assert isinstance(failure, DocumentsMissing)
        assert failure.exit_code == 4
        assert [path.name for path in (target / "Company Home").rglob("*") if path.is_file()] == [
            f"{name}.txt.json"
        ]
        return failure.message


def described(folder: Path, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / f"Company Home/{name}.txt.json").read_text())["content"]
    return content


@pytest.fixture(scope="module")
def scene(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with temporary_demo_host(documents=5) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        patch.setenv("OFFSITE_REPOSITORY", str(tmp_path_factory.mktemp("far")))
        patch.setenv("OFFSITE_PASSWORD", "correct horse battery")
        library = Library(host.cluster, host.layout.contentstore)
        home = library.company_home
        made = {
            name: library.add(home, f"{name}.txt", size=LARGE if name == "large" else 5000, versioned=False)
            for name in NAMES
        }
        state = library.state()
        found = Scene(host, {name: state[node] for name, node in made.items()})
        backup()
        found.lose("never sent")
        init(engine_of(load_host(host.env_file)))
        offsite_copy()
        library.close()
        yield found


def test_a_document_without_a_copy_here_is_exported_from_the_off_site_copy(
    scene: Scene, tmp_path: Path
) -> None:
    scene.lose("gone")
    (snapshot,) = scene.host.backup_dir.glob("contentstore/contentstore-*Z")
    stamp = snapshot.name.removeprefix("contentstore-")
    result = scene.export(tmp_path / "out", "gone")
    assert (tmp_path / "out/Company Home/gone.txt").read_bytes() == content_of(scene.documents["gone"])
    assert result.sentence.startswith(
        "1 of 1 documents exported, 1 compared with recorded checksums; as of now"
    )
    told = described(tmp_path / "out", "gone")
    assert (told["from"], told["state"], told["notes"]) == (f"off-site, backup ID {stamp}", "exported", [])


def test_a_document_that_is_damaged_in_every_copy_here_comes_from_the_off_site_copy(
    scene: Scene, tmp_path: Path
) -> None:
    for file in scene.copies("damaged"):
        file.write_bytes(b"X" * 5000)
    result = scene.export(tmp_path / "out", "damaged")
    assert (tmp_path / "out/Company Home/damaged.txt").read_bytes() == content_of(scene.documents["damaged"])
    assert [note.rpartition(": ")[2] for note in result.tally.refused] == [
        "differs from its recorded checksum"
    ] * 2
    assert str(described(tmp_path / "out", "damaged")["from"]).startswith("off-site, backup ID ")


def test_what_was_never_sent_is_lost_and_where_the_copy_does_not_answer_that_is_not_said(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "1 lost: /Company Home/never sent.txt: LOST, looked at: " in scene.failed(
        tmp_path / "out", "never sent"
    )
    monkeypatch.setenv("OFFSITE_PASSWORD", "another")
    said = scene.failed(tmp_path / "away", "never sent")
    assert "1 not found, 1 of them where it cannot be read, or lost: /Company Home/never sent.txt: " in said
    assert "not the off-site copy, which did not answer" in said
    assert described(tmp_path / "away", "never sent")["unread"] is True


def test_a_disk_that_fills_while_it_is_fetched_is_told_as_this_disk(scene: Scene, tmp_path: Path) -> None:
    scene.lose("large")
    with (
        full_disk(LARGE // 2),
        pytest.raises(BackupError, match="is full: nothing was exported") as failed,
    ):
        scene.export(tmp_path / "out", "large")
    assert "off-site" not in failed.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_goes_away_is_not_asked_for_each_document_again(scene: Scene, tmp_path: Path) -> None:
    host = load_host(scene.host.env_file)
    content, other = (scene.documents[name].node.content for name in ("gone", "large"))
    assert content and other
    off_site = OffSite(host)
    off_site.ask([content, other])
    found = off_site.find(content)
    assert found and off_site.find(other)
    far = Path(host.settings.offsite_repository)
    far.rename(f"{far}-away")
    try:
        with (tmp_path / "target").open("w+b") as target, pytest.raises(BackupError):
            off_site.write(found, target.fileno(), lambda: None)
    finally:
        Path(f"{far}-away").rename(far)
    assert off_site.away
    assert off_site.find(other) is None


def test_what_the_off_site_copy_alone_has_is_fetched_without_the_hosts_lock(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.lose("gone")
    host = load_host(scene.host.env_file)
    free: list[bool] = []
    write = OffSite.write

    def noted(self: OffSite, far: FarFile, target: int, go_on: Callable[[], None]) -> None:
        descriptor = open_lock_file(lock_file(host))
        free.append(take_lock(descriptor))
        os.close(descriptor)
        write(self, far, target, go_on)

    monkeypatch.setattr(OffSite, "write", noted)
    scene.export(tmp_path / "out", "gone", "sent")
    assert free == [True]
    assert (tmp_path / "out/Company Home/sent.txt").read_bytes() == content_of(scene.documents["sent"])


def test_what_is_damaged_there_too_is_named_with_what_restic_says_and_nothing_of_it_is_left(
    scene: Scene, tmp_path: Path
) -> None:
    scene.lose("lost there")
    far = Path(load_host(scene.host.env_file).settings.offsite_repository)
    kept = {pack: pack.read_bytes() for pack in far.glob("data/*/*")}
    for pack, content in kept.items():
        pack.chmod(0o600)
        with pack.open("r+b") as stream:
            stream.write(b"\0" * (len(content) // 2))
    try:
        said = scene.failed(tmp_path / "out", "lost there")
    finally:
        for pack, content in kept.items():
            pack.write_bytes(content)
    assert "off-site, backup ID" in said
    assert "damaged" in said
    assert "1 of them where it cannot be read, or lost" in said
