"""From a deleted document to the document in Alfresco: found as of before, planned, confirmed, uploaded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alfresco_backup.documents.nodes import NodeDetails
from alfresco_backup.documents.scratch import searching
from alfresco_backup.documents.upload import Outcome, Uploaded
from alfresco_backup.errors import BackupError, DocumentsMissing, HostBusy, Refused
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.documents import is_stored
from demo.host import DemoHost
from demo.library import Library, content_of
from flows.backup import backup
from flows.documents import restore_document
from tests.support.alfresco_api import PASSWORD, USER, Answer, FakeAlfresco, Fault, fake_alfresco
from tests.support.common import temporary_demo_host, wait_until
from tests.support.documents import Names, execute
from tests.support.how_to import HOW_TO, environment, names_of
from tests.support.restoring import differences, state_of_running

DAMAGES = 4


@dataclass(frozen=True)
class Scene:
    """A host whose library was backed up; then documents were deleted, purged, overwritten or left."""

    host: DemoHost
    library: Library
    time: datetime
    nodes: tuple[str, ...]

    @property
    def then(self) -> dict[str, NodeDetails]:
        return self.library.state_at(self.time)


@pytest.fixture(scope="module")
def scene(prefect_server: None) -> Iterator[Scene]:
    with temporary_demo_host(documents=10) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        library = Library(host.cluster, host.layout.contentstore)
        site = library.make_site("sales")
        kept, lost = library.make_folder(site, "Kept"), library.make_folder(site, "Lost")
        nodes = [library.add(kept, f"report {number}.txt", size=1000 + number) for number in range(8)]
        title = {"cm:title": ("mltext", {"en": "Lost"})}
        nodes += [
            library.add(lost, f"lost {number}.txt", size=2000 + number, properties=title)
            for number in range(4)
        ]
        backup()
        time = datetime.now(UTC)
        for number, node in enumerate(nodes[:8]):
            _damage(library, node, number % DAMAGES)
        for node in nodes[8:]:
            library.delete(node)
            library.purge(node)
        library.delete(lost)
        library.purge(lost)
        name = host.cluster.current_segment()
        host.cluster.switch_segment()
        wait_until(lambda: list(host.wal_archive.glob(f"{name}*")), f"{name} is archived")
        yield Scene(host, library, time, tuple(nodes))
        library.close()


def _damage(library: Library, node: str, kind: int) -> None:
    if kind == 0:
        library.overwrite(node)
    if kind in (1, 2):
        library.delete(node)
    if kind == 2:
        library.purge(node)


@pytest.fixture
def site(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAlfresco]:
    """What Alfresco shows of the library now."""
    with fake_alfresco() as running:
        monkeypatch.setenv("ALF_API_URL", running.address)
        monkeypatch.setenv("ALF_API_USER", USER)
        monkeypatch.setenv("ALF_API_PASSWORD", PASSWORD)
        present = sorted(scene.library.state().values(), key=lambda one: len(one.node.path))
        for details in present:
            node = details.node
            path = "/".join(node.path.split("/")[2:])
            running.known_prefixes |= {one.name.partition(":")[0] for one in details.properties}
            running.known_prefixes |= {one.partition(":")[0] for one in details.aspects}
            running.authorities |= {one.authority for one in details.permissions}
            if node.is_folder and path and not running.at(path):
                running.add(path, id=node.uuid)
            elif node.content and is_stored(node.content.url):
                made = running.add(path, content_of(details), id=node.uuid)
                if node.in_trashcan:
                    running.delete(made)
        for details in scene.then.values():
            running.known_prefixes |= {one.name.partition(":")[0] for one in details.properties}
            running.known_prefixes |= {one.partition(":")[0] for one in details.aspects}
        yield running


def path_below(details: NodeDetails) -> str:
    return "/".join(details.node.path.split("/")[2:])


def exports(host: DemoHost) -> list[Path]:
    folder = host.backup_dir / "exports"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_what_was_lost_is_planned_uploaded_and_then_found(scene: Scene, site: FakeAlfresco) -> None:
    before = state_of_running(scene.host)
    nodes, upload = list(scene.nodes), {"as_of": scene.time, "action": "upload"}
    planned: Uploaded = restore_document(nodes, **upload)
    assert {call.partition(" ")[0] for call in site.calls} == {"GET"}
    assert planned.sentence.endswith("2 nothing, 2 restore from the trashcan, 2 new version, 6 new node."), (
        planned.text()
    )
    assert f"--upload --execute --confirm {scene.host.name}" in planned.text()
    assert exports(scene.host) == []

    done: Uploaded = restore_document(nodes, **upload, mode="execute", confirm=scene.host.name)
    assert done.sentence == "12 of 12 documents are back, compared byte for byte."
    for node in nodes:
        details = scene.then[node]
        back = site.at(path_below(details))
        assert back and back.content == content_of(details)
    assert site.at("Sites/sales/documentLibrary/Lost") or site.at("Sites/sales/Lost")
    assert exports(scene.host) == []
    assert differences(before, state_of_running(scene.host)) == []

    count = len(site.nodes)
    again: Uploaded = restore_document(nodes, **upload, mode="execute", confirm=scene.host.name)
    assert again.report and {item.outcome for item in again.report.results} == {Outcome.UNCHANGED}
    assert len(site.nodes) == count


def test_what_fails_is_raised_and_the_files_stay(scene: Scene, site: FakeAlfresco) -> None:
    site.faults = [Fault("POST .*/children", 413, times=1)]
    with pytest.raises(DocumentsMissing, match="11 of 12 documents are back") as missing:
        restore_document(
            list(scene.nodes), as_of=scene.time, action="upload", mode="execute", confirm=scene.host.name
        )
    assert "larger than Alfresco allows" in missing.value.message
    (folder,) = exports(scene.host)
    lines = (folder / "documents.jsonl").read_text().splitlines()
    assert {json.loads(line)["node"] for line in lines} == set(scene.nodes)


def test_what_alfresco_refused_of_a_document_stays_in_the_exported_files(
    scene: Scene, site: FakeAlfresco
) -> None:
    lost = scene.nodes[-1]
    before = exports(scene.host)
    site.faults = [Fault(r"PUT /nodes/[^/]+\?", 422)]
    done: Uploaded = restore_document(
        [lost], as_of=scene.time, action="upload", mode="execute", confirm=scene.host.name
    )
    assert "1 of them without all properties, aspects and permissions" in done.sentence
    (folder,) = [path for path in exports(scene.host) if path not in before]
    assert done.folder == str(folder)
    assert f"The files are in `{folder}`." in done.text()
    assert list(folder.rglob("*.json"))


def test_a_plan_that_alfresco_does_not_answer_to_leaves_no_export(scene: Scene, site: FakeAlfresco) -> None:
    before = exports(scene.host)
    site.faults = [Fault("GET", "cut", after=1)]
    with pytest.raises(BackupError, match="ended the connection"):
        restore_document(list(scene.nodes), as_of=scene.time, action="upload")
    assert exports(scene.host) == before


def test_while_documents_are_uploaded_no_second_upload_plans_the_same(
    scene: Scene, site: FakeAlfresco, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def refused(*_: object) -> dict[str, object]:
        with pytest.raises(HostBusy) as busy, searching(load_host(scene.host.env_file)):
            pass
        seen.append(busy.value.message)
        raise Answer(413, "enough was seen")

    monkeypatch.setattr(site, "create", refused)
    with pytest.raises(DocumentsMissing):
        restore_document(
            [scene.nodes[-1]], as_of=scene.time, action="upload", mode="execute", confirm=scene.host.name
        )
    assert len(seen) == 1


def test_nothing_is_recovered_for_an_upload_that_is_not_confirmed_or_has_no_login(
    scene: Scene, site: FakeAlfresco, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"as_of": scene.time, "action": "upload", "mode": "execute"}
    with pytest.raises(Refused, match=f"must be the host's name, {scene.host.name}"):
        restore_document(list(scene.nodes), **asked, confirm="another")
    assert site.calls == []
    monkeypatch.setenv("ALF_API_URL", "")
    with pytest.raises(Refused, match="ALF_API_URL is empty"):
        restore_document(list(scene.nodes), **asked, confirm=scene.host.name)


def test_the_guide_brings_a_document_back_into_alfresco(
    scene: Scene, site: FakeAlfresco, tmp_path: Path
) -> None:
    lost = scene.nodes[-1]
    names = {
        **names_of(scene.host, moment=scene.time).table,
        "0f8fad5b-d9cb-469f-a165-70867728950e": lost,
    }
    login = {"ALF_API_URL": site.address, "ALF_API_USER": USER, "ALF_API_PASSWORD": PASSWORD}
    guide = HOW_TO / "restore-a-document.md"
    execute(guide, Names(names), environment(tmp_path) | login, {"upload"}, only=True)
    back = site.at(path_below(scene.then[lost]))
    assert back and back.content == content_of(scene.then[lost])
