"""The content check with a real database and real files."""

import csv
import json
import os
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.contentstore.check import ContentCheckResult, DeletedContent
from alfresco_backup.contentstore.check_queries import url_places
from alfresco_backup.errors import BackupError, DocumentsMissing, NotVerified, ToolFailed
from alfresco_backup.postgres.database import Database
from alfresco_backup.preflight.rules import judge_content_places
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.cluster import Cluster, default_bindir
from demo.documents import is_stored
from demo.host import DemoHost
from tasks.restore.content_check import report_of
from tests.support.alfresco_rows import Alfresco, prepare
from tests.support.common import every_version, temporary_cluster


@pytest.fixture(scope="module")
def server(slow: None) -> Iterator[Cluster]:
    with temporary_cluster(default_bindir()) as cluster:
        prepare(cluster)
        yield cluster


@pytest.fixture
def alfresco(server: Cluster, tmp_path: Path) -> Iterator[Alfresco]:
    name = f"a{zlib.crc32(str(tmp_path).encode())}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE model")
    yield Alfresco(server, name, tmp_path)
    server.sql(f"DROP DATABASE {name}")


def listed(result: ContentCheckResult) -> list[dict[str, str]]:
    assert result.csv is not None
    with result.csv.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
@every_version
def test_every_kind_of_row_is_judged_on_every_version(bindir: Path, tmp_path: Path) -> None:
    with temporary_cluster(bindir) as cluster:
        prepare(cluster)
        alfresco = Alfresco(cluster, "model", tmp_path)
        alfresco.add("store://2024/1/1/0/0/fine.bin")
        alfresco.add("store://2024/1/1/0/0/deleted.bin", file=None)
        alfresco.add("store://2024/1/1/0/0/truncated.bin", file=b"12")
        alfresco.encrypt(alfresco.add("store://2024/1/1/0/0/encrypted.bin", file=b"12345 and more"))
        alfresco.encrypt(alfresco.add("store://2024/1/1/0/0/encrypted-gone.bin", file=None))
        alfresco.add("store://2024/1/1/0/0/unset.bin", 0)
        alfresco.add("store://2024/1/1/0/0/empty.bin", 0, file=b"")
        alfresco.add("store://2024/1/1/0/0/orphan.bin", file=None, live=False, orphan="1700000000000")
        alfresco.add("store://2024/1/1/0/0/again.bin", file=None, orphan="1700000000000")
        alfresco.add("store://../../etc/passwd", file=None)
        alfresco.add("spoof://{seed=1}", file=None)
        alfresco.add("s3v2://bucket/key", file=None)
        alfresco.add("empty", file=None)
        alfresco.write("second", "store://2024/1/1/0/0/elsewhere.bin", b"12345")
        alfresco.add("store://2024/1/1/0/0/elsewhere.bin", file=None)
        result = alfresco.check()
    found = {(row["problem"], row["url"].rpartition("/")[2], row["size on disk"]) for row in listed(result)}
    assert found == {
        ("missing", "deleted.bin", ""),
        ("missing", "encrypted-gone.bin", ""),
        ("missing", "again.bin", ""),
        ("wrong size", "truncated.bin", "2"),
        ("size not recorded", "unset.bin", "5"),
        ("path outside the store", "passwd", ""),
    }
    assert (result.checked, result.missing, result.wrong_size, result.warnings) == (10, 3, 1, 1)
    assert (result.outside, result.lost) == (1, 5)
    assert result.skipped == {"spoof": 1, "s3v2": 1, "empty": 1}
    assert (result.not_checked, result.elsewhere) == (1, {"s3v2://bucket/": 1})
    assert result.found_in == {"contentstore": 5, "second": 1}


def test_a_whole_store_gives_no_list_and_no_failure(alfresco: Alfresco) -> None:
    for number in range(3):
        alfresco.add(f"store://2024/1/1/0/{number}/it's ö\tü.bin")
    result = alfresco.check()
    result.require_complete()
    assert (result.checked, result.lost, result.warnings, result.csv) == (3, 0, 0, None)
    assert list((alfresco.directory / "logs").iterdir()) == []
    assert result.sentence().startswith("3 documents checked in ")
    assert result.sentence().endswith(": all are there, with their size")


def test_a_file_that_is_only_among_deleted_content_is_not_there_and_its_command_brings_it_back(
    alfresco: Alfresco,
) -> None:
    folder, main = alfresco.stores["second"], alfresco.stores["contentstore"]
    deleted = DeletedContent("second", folder, main)
    alfresco.add("store://2024/1/1/0/0/fine.bin")
    for name, file in (("it's gone.bin", None), ("cut.bin", b"12")):
        alfresco.add(f"store://2024/1/1/0/1/{name}", file=file)
        alfresco.write("second", f"store://2024/1/1/0/1/{name}", b"12345")
    alfresco.add("store://2024/1/1/0/2/cut in both.bin", file=None)
    alfresco.write("second", "store://2024/1/1/0/2/cut in both.bin", b"1")
    alfresco.add("store://2024/1/1/0/2/unset.bin", 0, file=None)
    alfresco.write("second", "store://2024/1/1/0/2/unset.bin", b"1")
    result = alfresco.check(deleted=deleted)
    assert (result.checked, result.only_deleted, result.missing, result.lost) == (5, 3, 1, 4)
    assert "3 only among deleted content, which Alfresco does not read" in result.sentence()
    with pytest.raises(DocumentsMissing) as told:
        result.require_complete()
    fixes = [row["fix"] for row in listed(result) if row["problem"] == "only among deleted content"]
    assert told.value.hint.splitlines() == [f"less {result.csv}", *fixes]
    drilled = alfresco.check(deleted=replace(deleted, main=None))  # a drill changes no live store
    assert (drilled.lost, {row["fix"] for row in listed(drilled)}) == (4, {""})
    for fix in fixes:
        subprocess.run(["sh", "-c", fix], check=True)
    after = alfresco.check(deleted=deleted)
    assert (after.only_deleted, after.missing, after.lost) == (0, 1, 1)
    assert (main / "2024/1/1/0/1/it's gone.bin").read_bytes() == b"12345"


def test_what_is_in_other_places_is_told_with_the_number_of_all(alfresco: Alfresco) -> None:
    for number in range(5):
        alfresco.add(f"store://2024/1/1/0/{number}/a.bin")
    for number in range(3):
        alfresco.add(f"s3v2://bucket/{number}.bin", file=None)
    alfresco.add("azure://x.bin", file=None)
    alfresco.add("spoof://{seed=1}", file=None)
    result = alfresco.check()
    result.require_complete()
    said = result.sentence()
    assert said.startswith("5 of 9 documents checked in ")
    assert said.endswith(
        ": those that were checked are there; 4 not checked (3 in s3v2://bucket/, 1 in azure://)"
    )
    report = report_of(result)
    assert "3 documents in `s3v2://bucket/` were not checked" in report
    assert "1 `spoof` URLs have no file to check" in report


@pytest.mark.parametrize("urls", [(), ("s3v2://bucket/a.bin",), ("empty", "spoof://{seed=1}")])
def test_a_check_of_no_document_is_no_pass(alfresco: Alfresco, urls: tuple[str, ...]) -> None:
    for url in urls:
        alfresco.add(url, file=None)
    result = alfresco.check()
    assert "all are there" not in result.sentence()
    with pytest.raises(NotVerified, match="no document was checked"):
        result.require_complete()


def test_a_url_that_leads_out_of_its_store_is_an_error_though_the_file_exists(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/fine.bin")
    alfresco.add("store://2024/../../keystore", file=None)
    (alfresco.directory / "keystore").write_bytes(b"12345")
    result = alfresco.check()
    with pytest.raises(DocumentsMissing, match="1 whose URL leads out of the store"):
        result.require_complete()
    assert [row["problem"] for row in listed(result)] == ["path outside the store"]


def test_preflight_names_the_places_that_the_backup_does_not_contain(alfresco: Alfresco) -> None:
    for url in ("store://2024/1/a.bin", "store://2024/2/b.bin", "store://flat.bin"):
        alfresco.add(url)
    for url in ("store://volume7/1/a.bin", "s3v2://bucket/a", "s3v2://b.bin", "store://../x", "empty"):
        alfresco.add(url, file=None)
    alfresco.add("s3v2://bucket/gone", file=None, live=False)
    rows = alfresco.database.query(url_places())
    places = {(protocol, first): int(count) for protocol, first, count in rows}
    assert places == {
        ("store", "2024"): 2,
        ("store", ""): 1,
        ("store", "volume7"): 1,
        ("s3v2", "bucket"): 1,
        ("s3v2", ""): 1,
        ("store", ".."): 1,
        ("empty", ""): 1,
    }
    elsewhere, outside = judge_content_places(places, {"2024", "flat.bin"})
    assert elsewhere.sentence.startswith("3 of 7 documents are in places that no backup contains: ")
    assert all(place in elsewhere.sentence for place in ("store://volume7/", "s3v2://bucket/", "s3v2://"))
    assert outside.sentence.startswith("1 of 7 content URLs lead out of their store")
    assert {elsewhere.level, outside.level} == {"warning"}
    (good,) = judge_content_places({("store", "2024"): 2, ("spoof", ""): 1}, {"2024"})
    assert (good.level, good.sentence) == ("ok", "lead to stores that are backed up (2 documents)")


def test_warnings_alone_are_listed_but_no_failure(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/unset.bin", 0)
    result = alfresco.check()
    result.require_complete()
    assert [row["problem"] for row in listed(result)] == ["size not recorded"]
    assert result.sentence().endswith(": all are there; 1 warning")


def test_missing_documents_are_counted_in_the_error_with_their_list(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/gone.bin", file=None)
    alfresco.add("store://2024/short.bin", file=b"1")
    result = alfresco.check()
    with pytest.raises(
        DocumentsMissing, match=r"^2 documents missing \(2 documents checked in .*: 1 missing"
    ) as caught:
        result.require_complete()
    assert caught.value.hint == f"less {alfresco.directory}/logs/found.csv"
    assert caught.value.exit_code == 4


def test_missing_documents_are_named_by_node_and_path(alfresco: Alfresco) -> None:
    shared, filed, other, _ = (
        alfresco.add(f"store://2024/{name}.bin", file=None) for name in ("shared", "filed", "other", "unused")
    )
    alfresco.add_node(10)
    alfresco.add_node(11, name="Company Home")
    alfresco.add_node(12, name="Invoices")
    alfresco.add_node(13, filed, name="March.pdf")
    alfresco.add_node(14, shared, name="in the trash", store=3)
    alfresco.add_node(15, shared, name="copy.doc")
    alfresco.add_node(16, other, kind=3)
    alfresco.sql(
        "INSERT INTO alf_child_assoc SELECT child * 10 + parent, 1, parent, 4, parent, child, child, 2, "
        "name, 0, is_primary, -1 FROM (VALUES (10, 11, 'company_home', true), (11, 12, 'old name', true), "
        "(12, 13, 'x', true), (11, 13, 'link', false)) AS assoc (parent, child, name, is_primary)"
    )
    rows = {row["url"].removeprefix("store://2024/"): row for row in listed(alfresco.check())}
    what = {name: (row["node"], row["nodes"], row["document"], row["file"]) for name, row in rows.items()}
    spaces = "workspace://SpacesStore"
    assert what == {
        "filed.bin": (f"{spaces}/uuid-13", "1", "/Company Home/Invoices/March.pdf", "2024/filed.bin"),
        "shared.bin": (f"{spaces}/uuid-15", "2", "copy.doc", "2024/shared.bin"),
        "other.bin": (f"{spaces}/uuid-16", "1", "", "2024/other.bin"),
        "unused.bin": ("", "0", "", "2024/unused.bin"),
    }


def test_content_without_a_node_is_still_live(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/1/1/0/0/a.bin", file=None)
    assert alfresco.check().missing == 1


def test_more_findings_than_one_lookup_takes_are_all_listed(alfresco: Alfresco) -> None:
    alfresco.sql(
        "INSERT INTO alf_content_url SELECT n, 'store://2024/1/' || n || '.bin', n, n, 5, NULL "
        "FROM generate_series(1, 2500) n;"
        "INSERT INTO alf_content_data SELECT id, 0, id FROM alf_content_url"
    )
    result = alfresco.check()
    assert (result.checked, result.missing, len(result.examples)) == (2500, 2500, 100)
    assert {row["url"] for row in listed(result)} == {f"store://2024/1/{n}.bin" for n in range(1, 2501)}


class DeletesMeanwhile(Database):
    """A database in which a document is deleted for good between the look at the files and the lookup."""

    def query(self, sql: str) -> list[tuple[str, ...]]:
        if "alf_node_properties" in sql:
            super().query("DELETE FROM alf_content_data WHERE id = 1")
        return super().query(sql)


def test_a_document_deleted_meanwhile_is_not_missing(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/purged.bin", file=None)
    alfresco.add("store://2024/gone.bin", file=None)
    usual = alfresco.database
    result = alfresco.check(DeletesMeanwhile(usual.programs, usual.environment))
    assert (result.missing, result.removed_meanwhile) == (1, 1)
    assert [row["url"] for row in listed(result)] == ["store://2024/gone.bin"]


def test_a_directory_in_the_place_of_a_file_is_a_missing_document(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/a.bin", 4096, file=None)
    (alfresco.directory / "main/2024/a.bin").mkdir(parents=True)
    assert [row["problem"] for row in listed(alfresco.check())] == ["missing"]


def test_volumes_may_be_symlinks(alfresco: Alfresco) -> None:
    volume = alfresco.directory / "volume"
    volume.mkdir()
    (alfresco.directory / "main/v1").symlink_to(volume)
    alfresco.add("store://v1/2024/a.bin")
    assert (volume / "2024/a.bin").read_bytes() == b"12345"
    assert alfresco.check().lost == 0


def test_databases_without_the_tables_of_keys_and_of_paths_are_checked(alfresco: Alfresco) -> None:
    alfresco.sql("DROP TABLE alf_content_url_encryption, alf_child_assoc")
    alfresco.add("store://2024/a.bin")
    alfresco.add("store://2024/b.bin", file=None)
    assert (alfresco.check().checked, alfresco.check().missing) == (2, 1)


def test_a_store_that_is_not_mounted_is_an_error_not_a_loss(alfresco: Alfresco) -> None:
    (alfresco.directory / "second").rmdir()
    with pytest.raises(BackupError, match=r"the content store second, .*, does not exist") as caught:
        alfresco.check()
    assert not isinstance(caught.value, DocumentsMissing)


def test_a_database_that_is_not_alfrescos_is_an_error(alfresco: Alfresco) -> None:
    alfresco.sql("DROP TABLE alf_content_url CASCADE")
    with pytest.raises(BackupError, match="has no table alf_content_url") as caught:
        alfresco.check()
    assert "PGDATABASE" in caught.value.hint


def test_a_failing_query_leaves_no_list(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/b.bin", file=None)
    alfresco.sql("DROP TABLE alf_node_properties")
    with pytest.raises(ToolFailed, match="alf_node_properties"):
        alfresco.check()
    assert list((alfresco.directory / "logs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search every folder")
def test_a_folder_that_may_not_be_searched_is_an_error_not_a_loss(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/1/a.bin")
    closed = alfresco.directory / "main/2024"
    closed.chmod(0)
    try:
        with pytest.raises(BackupError, match="cannot be searched") as caught:
            alfresco.check()
    finally:
        closed.chmod(0o755)
    assert not isinstance(caught.value, DocumentsMissing)


def test_the_flow_fails_with_a_table_of_the_missing(
    demo_host: DemoHost, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.content_check import content_check  # noqa: PLC0415 - the test's Prefect server comes first

    monkeypatch.setenv(ENV_FILE_VARIABLE, str(demo_host.env_file))
    assert content_check().endswith(": all are there, with their size")
    gone = [document for document in demo_host.read_state().live_documents() if is_stored(document.url)][:3]
    for document in gone:
        (demo_host.layout.contentstore / document.path).unlink()
    with pytest.raises(DocumentsMissing, match=r"^3 documents missing"):
        content_check()
    with get_client(sync_client=True) as client:
        tables = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["documents-missing-demo"]))
        )
    rows = json.loads(str(max(tables, key=lambda table: str(table.created)).data))
    assert {row["url"] for row in rows} == {document.url for document in gone}
    nodes = {f"/{uuid}" for _, _, _, uuid, *_ in demo_host.read_state().tables["alf_node"].values()}
    assert all("/" + row["node"].rpartition("/")[2] in nodes for row in rows)
    (file,) = (demo_host.backup_dir / "logs").glob("content-check-*.csv")
    assert file.stat().st_mode & 0o777 == 0o640
