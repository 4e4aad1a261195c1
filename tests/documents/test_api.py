"""Calls of Alfresco's REST API: each error is a sentence with its fix; memory does not grow with a file."""

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.documents.api import ROOT, AlfrescoApi, ApiLost, ApiRefused, api_of
from alfresco_backup.errors import Refused
from alfresco_backup.settings.model import Settings
from tests.support.alfresco_api import PASSWORD, USER, FakeAlfresco, Fault, fake_alfresco


@pytest.fixture
def site() -> Iterator[FakeAlfresco]:
    with fake_alfresco() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "sentence", "fix"),
    [
        (401, f"does not accept ALF_API_USER={USER}", "ALF_API_PASSWORD="),
        (403, f"{USER} has no right to", "ALF_API_USER="),
        (404, "is not there", "curl -sS -u restorer http://127.0.0.1"),
        (409, "the name is taken there, or the node is locked", "rename or unlock it"),
        (413, "larger than Alfresco allows", "system.content.maximumFileSizeLimit="),
        (422, "contradicts Alfresco's content model", "alfresco.log"),
        (500, "failed with status 500", "alfresco.log"),
        (507, "quota", "raise the quota"),
        (302, "is not that of its REST API", "ALF_API_URL="),
    ],
)
def test_a_refusal_is_a_sentence_with_its_fix(
    site: FakeAlfresco, status: int, sentence: str, fix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site.faults = [Fault("POST", status)]
    with site.api() as api, pytest.raises(ApiRefused) as refused:
        api.create_folder(ROOT, "Reports")
    assert refused.value.status == status
    assert refused.value.message.startswith("Alfresco did not create the folder Reports: ")
    assert sentence in refused.value.message
    assert f'it said: "{status} on demand"' in refused.value.message
    assert fix in refused.value.hint
    assert PASSWORD not in f"{refused.value}{caplog.text}{vars(refused.value)}"
    assert site.at("Reports") is None


def test_a_wrong_password_is_told_without_it(site: FakeAlfresco, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with site.api("wrong and secret") as api, pytest.raises(ApiRefused, match="does not accept") as refused:
        api.node(ROOT)
    assert refused.value.status == 401
    assert "wrong and secret" not in f"{refused.value}{caplog.text}{api!r}"


def test_a_page_that_is_not_the_api_is_refused(site: FakeAlfresco) -> None:
    site.root.content = b"<html>Share</html>"
    with site.api() as api, pytest.raises(ApiRefused, match="is not that of its REST API"):
        api._ask("GET", f"/nodes/{ROOT}/content", "read a page")


@pytest.mark.parametrize(
    ("kind", "words"), [("cut", "ended the connection"), ("cut answer", "ended the connection")]
)
def test_a_connection_that_is_lost_is_told(site: FakeAlfresco, tmp_path: Path, kind: str, words: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 3_000_000)
    site.faults = [Fault("POST .*/children", kind)]
    with site.api() as api, pytest.raises(ApiLost, match=words) as lost:
        api.create_file(ROOT, "a.bin", "cm:content", tmp_path / "a.bin")
    assert "it was to create a.bin" in lost.value.message
    assert "curl -sS -u restorer" in lost.value.hint
    assert (site.at("a.bin") is not None) is (kind == "cut answer")


def test_a_server_that_does_not_answer_is_left_after_the_time_limit(site: FakeAlfresco) -> None:
    site.faults = [Fault("GET", "slow")]
    with site.api(idle_seconds=0.3) as api, pytest.raises(ApiLost, match=r"did not answer within 0\.3 s"):
        api.node(ROOT)


def test_a_server_that_is_not_there_is_told() -> None:
    with fake_alfresco() as site:
        api = site.api()
    with api, pytest.raises(ApiLost, match="cannot be reached"):
        api.node(ROOT)


def test_without_an_address_it_is_refused_with_the_settings_to_edit(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"pghost": "/run", "pguser": "backup", "backup_dir": tmp_path, "alf_base_dir": tmp_path}
    )
    with pytest.raises(Refused, match="ALF_API_URL is empty") as refused:
        api_of(settings)
    assert "ALF_API_PASSWORD=" in refused.value.hint


def test_names_and_contents_of_any_kind_arrive_as_they_are(site: FakeAlfresco, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40 + b"\r\n--boundary\r\n\r\n\n\r"
    (tmp_path / "file").write_bytes(content)
    name = "Übersicht 'Q1' & 50% #1;ü=ß €.tar.gz"
    with site.api() as api:
        made = api.create_file(ROOT, name, "cm:content", tmp_path / "file")
        assert made.name == name
        assert made.size == len(content)
        found = api.node(ROOT, name)
        assert found and found.uuid == made.uuid
        assert api.has_content(made.uuid, tmp_path / "file")
        (tmp_path / "longer").write_bytes(content + b"x")
        (tmp_path / "shorter").write_bytes(content[:-1])
        (tmp_path / "other").write_bytes(content[:-1] + b"x")
        for name in ("longer", "shorter", "other"):
            assert not api.has_content(made.uuid, tmp_path / name)
    assert site.nodes[made.uuid].content == content


def test_memory_does_not_grow_with_the_file(site: FakeAlfresco, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(96 << 20)
    node = site.add("large.bin", b"", aspects={"cm:versionable"})
    site.discards = True

    def peak(call: str, api: AlfrescoApi) -> int:
        tracemalloc.start()
        if call == "POST":
            with pytest.raises(ApiRefused):  # the discarded form has no name
                api.create_file(ROOT, "large.bin", "cm:content", large)
        else:
            api.new_version(node.id, large, "large")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    site.faults = [Fault("POST", 409)]
    with site.api() as api:
        assert peak("PUT", api) < 8 << 20
        assert peak("POST", api) < 8 << 20
