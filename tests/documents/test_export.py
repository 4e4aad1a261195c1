"""Documents come back byte for byte, with their names, paths, properties and permissions of that time."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.documents.export import require_target
from alfresco_backup.documents.export_records import Exported
from alfresco_backup.documents.nodes import NodeDetails
from alfresco_backup.errors import DocumentsMissing, Refused, SettingsError
from alfresco_backup.host.host import load_host
from alfresco_backup.host.lock import lock_file
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.locks import open_lock_file, take_lock
from demo.documents import is_stored
from demo.host import DemoHost
from demo.library import Library, content_of
from flows.backup import backup
from flows.documents import restore_document
from tests.support.common import temporary_demo_host, wait_until
from tests.support.documents import Names, execute
from tests.support.how_to import HOW_TO, environment, names_of
from tests.support.restoring import differences, state_of_running

CHOSEN = 100


@dataclass(frozen=True)
class Scene:
    """A host whose library was backed up, then worked on until `time`, then half of it deleted."""

    host: DemoHost
    library: Library
    time: datetime

    @property
    def then(self) -> dict[str, NodeDetails]:
        return self.library.state_at(self.time)

    def named(self, name: str) -> str:
        return next(node for node, details in self.then.items() if details.node.name == name)


@pytest.fixture(scope="module")
def scene(prefect_server: None) -> Iterator[Scene]:
    with temporary_demo_host(documents=10) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        library = Library(host.cluster, host.layout.contentstore)
        hr = library.make_site("hr")
        guide = library.add(hr, "holidays.xlsx")
        folder = library.make_folder(library.make_site("sales"), "Quarter 1")
        library.add_odd(folder)
        for number in range(80):
            library.add(folder, f"report {number}.txt", size=1000 + number)
        library.work(20)
        backup()
        library.work(20)
        backup(components=["contentstore"])
        time = datetime.now(UTC)
        library.delete(library.add(hr, "budget.xlsx"))
        library.delete(guide)
        library.purge(guide)
        destroy(library)
        name = host.cluster.current_segment()
        host.cluster.switch_segment()
        wait_until(lambda: list(host.wal_archive.glob(f"{name}*")), f"{name} is archived")
        yield Scene(host, library, time)
        library.close()


def destroy(library: Library) -> None:
    """Delete, purge and overwrite documents; the files of what has no row any more are cleaned up."""
    documents = [one for one in library.state().values() if one.node.content and not one.node.in_trashcan]
    source = random.Random(15)
    source.shuffle(documents)
    for number, details in enumerate(documents):
        node = details.node.uuid
        if number % 3 == 0:
            library.overwrite(node)
        else:
            library.delete(node)
        if number % 3 == 1:
            library.purge(node)
    referenced = {
        content.url
        for details in library.state().values()
        for content in (details.node.content, *(version.content for version in details.versions))
        if content
    }
    for details in documents:
        content = details.node.content
        if content and is_stored(content.url) and content.url not in referenced:
            file_of(library, content.url).unlink(missing_ok=True)


def file_of(library: Library, url: str) -> Path:
    return library.store / url.removeprefix("store://")


def export(nodes: list[str], **parameters: Any) -> Exported:
    """The flow's result; its failure state is the result's own business."""
    result: Exported = restore_document(nodes, **parameters)
    return result


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of an export's list by node id."""
    lines = [json.loads(line) for line in (folder / "documents.jsonl").read_text().splitlines()]
    return {line["node"]: line for line in lines}


def test_a_hundred_deleted_or_overwritten_documents_come_back_as_they_were(scene: Scene) -> None:
    now = scene.library.state()
    gone = [
        details
        for node, details in sorted(scene.then.items())
        if details.node.content
        and is_stored(details.node.content.url)
        and not details.node.in_trashcan
        and (node not in now or now[node].node.content != details.node.content or now[node].node.in_trashcan)
    ]
    chosen = random.Random(1).sample(gone, CHOSEN)
    before = state_of_running(scene.host)

    result = export([one.node.uuid for one in chosen], as_of=scene.time)

    assert differences(before, state_of_running(scene.host)) == []
    assert result.folder.parent == scene.host.backup_dir / "exports"
    lines = listed(result.folder)
    assert lines.keys() == {one.node.uuid for one in chosen}
    renamed = {item[0] for item in result.renamed}
    for details in chosen:
        line = lines[details.node.uuid]
        document = json.loads((result.folder / line["description"]).read_text())
        assert document["path"] == details.node.path == line["path"]
        assert document["name"] == details.node.name
        assert document["properties"] == {
            one.name: {"type": one.type, "value": one.value} for one in details.properties
        }
        assert document["aspects"] == list(details.aspects)
        assert document["permissions"]["inherits"] == details.inherits_permissions
        assert [tuple(one.values()) for one in document["permissions"]["entries"]] == [
            (one.authority, one.role, one.allowed, one.inherited) for one in details.permissions
        ]
        assert [one["version"] for one in document["versions"]] == [one.label for one in details.versions]
        file = result.folder / line["file"]
        assert file.read_bytes() == content_of(details)
        assert details.node.modified
        assert file.stat().st_mtime_ns // 1_000_000 == round(details.node.modified.timestamp() * 1000)
        assert file.stat().st_mode & 0o777 == 0o600
        assert f"/{line['file']}" == details.node.path or details.node.path in renamed
    assert result.sentence.startswith(
        f"{CHOSEN} of {CHOSEN} documents exported, {CHOSEN} compared with recorded checksums"
    )
    assert result.failure() is None
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in result.folder.rglob("*/"))
    sums = ["sha1sum", "--check", "--quiet", "SHA1SUMS"]
    assert subprocess.run(sums, cwd=result.folder, capture_output=True, check=False).returncode == 0
    manifest = json.loads((result.folder / "export.json").read_text())
    assert (manifest["state"], manifest["documents"]) == ("done", CHOSEN)
    assert manifest["asked_by"]["flow_run"].startswith("restore-document ")


def trashed(scene: Scene) -> list[NodeDetails]:
    return [one for one in scene.library.state().values() if one.node.in_trashcan and one.node.content]


def test_as_of_latest_the_trashcan_is_exported_without_a_recovery_and_without_the_host_lock(
    scene: Scene, tmp_path: Path
) -> None:
    chosen = [one for one in trashed(scene) if one.node.name.startswith("report")][:5]
    assert len(chosen) == 5
    descriptor = open_lock_file(lock_file(load_host(scene.host.env_file)))
    assert take_lock(descriptor)
    try:
        result = export([one.node.uuid for one in chosen], to=str(tmp_path / "back"))
    finally:
        os.close(descriptor)
    assert result.sentence.startswith("5 of 5 documents exported, ")
    for details in chosen:
        line = listed(tmp_path / "back")[details.node.uuid]
        assert (tmp_path / "back" / line["file"]).read_bytes() == content_of(details)
        assert line["from"] == "live store"


def test_a_folder_comes_back_with_all_below_it_and_its_earlier_versions(scene: Scene, tmp_path: Path) -> None:
    folder = scene.then[scene.named("Quarter 1")].node
    below = {
        node: details
        for node, details in scene.then.items()
        if f"{details.node.path}/".startswith(f"{folder.path}/") and not details.node.in_trashcan
    }
    with pytest.raises(Refused, match=f"{len(below)} documents and folders are asked for") as refused:
        export([folder.uuid], as_of=scene.time, to=str(tmp_path / "few"), limit=10)
    assert f"--limit {len(below)}" in refused.value.hint
    assert list(tmp_path.iterdir()) == []

    result = export([folder.uuid], as_of=scene.time, to=str(tmp_path / "all"), versions=True)

    lines = listed(tmp_path / "all")
    assert lines.keys() == below.keys()
    assert result.tally.versions == sum(
        version.content is not None and is_stored(version.content.url)
        for details in below.values()
        for version in details.versions
    )
    assert f"{result.tally.versions_exported} of {result.tally.versions} earlier versions" in result.sentence
    for node, details in below.items():
        content = details.node.content
        stored = content is not None and is_stored(content.url)
        assert (lines[node]["file"] is not None) == stored
        if stored:
            assert (tmp_path / "all" / lines[node]["file"]).read_bytes() == content_of(details)


def test_what_did_not_exist_then_is_told_and_ends_with_4(scene: Scene, tmp_path: Path) -> None:
    there = scene.named("report 1.txt")
    nowhere = "00000000-0000-0000-0000-000000000000"
    result = export([there, nowhere], as_of=scene.time, to=str(tmp_path / "back"))
    assert f"1 not found: {nowhere}" in result.sentence
    failure = result.failure()
    assert isinstance(failure, DocumentsMissing) and failure.exit_code == 4
    with pytest.raises(DocumentsMissing, match=f"no node is {nowhere}"):
        export([nowhere], as_of=scene.time, to=str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_is_no_new_one_is_refused_before_anything_is_written(
    scene: Scene, tmp_path: Path
) -> None:
    host = scene.host
    loaded = load_host(host.env_file)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused = {
        tmp_path / "full": "exists and is not an empty folder",
        tmp_path / "link": "exists and is not an empty folder",
        tmp_path / "absent/new": "cannot be made: No such file",
        host.layout.contentstore / "new": "overlaps with",
        host.backup_dir / "postgres/new": "overlaps with",
        host.backup_dir / "new": "overlaps with",
        Path("relative"): "is not a path from the root",
    }
    with pytest.raises(Refused, match="is not an empty folder"):
        export([scene.named("report 1.txt")], as_of=scene.time, to=str(tmp_path / "full"))
    for target, words in refused.items():
        with pytest.raises(Refused, match=words):
            require_target(loaded, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_what_a_killed_export_left_in_the_repository_is_removed_by_the_next(scene: Scene) -> None:
    left = scene.host.backup_dir / "exports/20260101T000000Z.partial"
    (left / "Company Home").mkdir(parents=True)
    node = next(one for one in trashed(scene) if one.node.name.startswith("report"))
    result = export([node.node.uuid])
    assert not left.exists()
    assert result.folder.parent == left.parent
    assert left.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("nodes", "words"), [([], "no node id: expected"), (["17"], "node='17': expected: a node id")]
)
def test_what_is_no_node_id_is_refused(scene: Scene, nodes: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        export(nodes)


def test_the_guide_finds_and_exports_what_was_deleted(scene: Scene, tmp_path: Path) -> None:
    names = {
        **names_of(scene.host, moment=scene.time).table,
        "0f8fad5b-d9cb-469f-a165-70867728950e": scene.named("holidays.xlsx"),
        "/srv/holidays": str(tmp_path / "holidays"),
    }
    execute(HOW_TO / "restore-a-document.md", Names(names), environment(tmp_path))
    (file,) = (tmp_path / "holidays").rglob("holidays.xlsx")
    assert file.read_bytes() == content_of(scene.then[scene.named("holidays.xlsx")])
