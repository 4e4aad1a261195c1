"""The content check: judgement by tables, then a real database and real files."""

import csv
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.content_check import (
    ContentCheckResult,
    ContentRow,
    FoundFile,
    Problem,
    judge,
    protocol_of,
    relative_path,
)
from alfresco_backup.database import Database
from alfresco_backup.errors import BackupError, DocumentsMissing, ToolFailed
from alfresco_backup.installation import Programs
from alfresco_backup.settings import ENV_FILE_VARIABLE
from demo.cluster import Cluster, client_bindir, default_bindir
from demo.documents import is_stored
from demo.host import DemoHost
from tasks.content_check import check_stores
from tests.support import every_version, temporary_cluster

SCHEMA = Path(__file__).parent.parent / "demo/schema.sql"
CONTENT, NAME = 1, 90
CHILD_ASSOC = """
CREATE TABLE alf_child_assoc (
    id serial PRIMARY KEY, parent_node_id int8 NOT NULL, child_node_id int8 NOT NULL,
    qname_localname varchar(255) NOT NULL, is_primary bool
)"""


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("store://2024/12/11/2/20/4e309e94.bin", "2024/12/11/2/20/4e309e94.bin"),
        ("store://volume7/2024/1/1/0/0/a.bin", "volume7/2024/1/1/0/0/a.bin"),
        ("store://2024/1/1/0/0/3/a.bin", "2024/1/1/0/0/3/a.bin"),
        ("store:///etc/passwd", "etc/passwd"),
        ("store://2024//1/a.bin", "2024/1/a.bin"),
        ("store://2024/./1/a.bin", "2024/1/a.bin"),
        ("store://2024/x/../1/a.bin", "2024/1/a.bin"),
        ("store://2024/a..b.bin", "2024/a..b.bin"),
        ("store://../keystore/keystore", None),
        ("store:///../keystore", None),
        ("store://2024/../../keystore", None),
        ("store://..", None),
        ("store://.", None),
        ("store://2024/..", None),
        ("store://", None),
    ],
)
def test_a_url_leads_to_a_path_inside_its_store_or_to_none(url: str, path: str | None) -> None:
    assert relative_path(url) == path


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("store://2024/1/1/0/0/a.bin", "store"),
        ("spoof://{seed=1}", "spoof"),
        ("s3v2://bucket/a://b", "s3v2"),
        ("empty", "empty"),
        ("", "empty"),
        ("garbage", "(no protocol)"),
        ("Store://2024/a.bin", "Store"),
    ],
)
def test_urls_are_grouped_by_protocol(url: str, protocol: str) -> None:
    assert protocol_of(url) == protocol


HERE = FoundFile("contentstore", 7)
ELSEWHERE = FoundFile("archive", 10)
BROKEN = FoundFile("contentstore", -1, "Input/output error")


@pytest.mark.parametrize(
    ("size", "encrypted", "path", "found", "expected"),
    [
        pytest.param(7, False, "a", [HERE], None, id="size as recorded"),
        pytest.param(7, False, "a", [], (Problem.MISSING, ""), id="no file"),
        pytest.param(8, False, "a", [HERE], (Problem.WRONG_SIZE, "7"), id="cut short"),
        pytest.param(10, False, "a", [HERE, ELSEWHERE], None, id="whole in another store"),
        pytest.param(9, False, "a", [HERE, ELSEWHERE], (Problem.WRONG_SIZE, "7"), id="wrong in both"),
        pytest.param(7, False, "a", [BROKEN], (Problem.MISSING, "Input/output error"), id="unreadable"),
        pytest.param(10, False, "a", [BROKEN, ELSEWHERE], None, id="unreadable, whole in another store"),
        pytest.param(3, True, "a", [HERE], None, id="encrypted: only there or not"),
        pytest.param(3, True, "a", [], (Problem.MISSING, ""), id="encrypted and gone"),
        pytest.param(
            3, True, "a", [BROKEN], (Problem.MISSING, "Input/output error"), id="encrypted, unreadable"
        ),
        pytest.param(0, False, "a", [FoundFile("contentstore", 0)], None, id="empty document"),
        pytest.param(0, False, "a", [HERE], (Problem.SIZE_NOT_RECORDED, "7"), id="size never recorded"),
        pytest.param(0, False, "a", [], (Problem.MISSING, ""), id="size never recorded and gone"),
        pytest.param(7, False, None, [], (Problem.OUTSIDE_STORE, ""), id="leads out of the store"),
    ],
)
def test_a_row_is_judged_by_the_files_found(
    size: int, encrypted: bool, path: str | None, found: list[FoundFile], expected: tuple[Problem, str] | None
) -> None:
    finding = judge(ContentRow("1", "store://a", size, encrypted), path, found)
    assert (finding and (finding.problem, finding.on_disk)) == expected


def test_only_missing_files_and_wrong_sizes_are_losses() -> None:
    assert {problem for problem in Problem if problem.is_loss} == {Problem.MISSING, Problem.WRONG_SIZE}


@dataclass
class Alfresco:
    """A database with Alfresco's tables, and stores of its own."""

    cluster: Cluster
    name: str
    directory: Path
    number: int = 0

    def __post_init__(self) -> None:
        for store in ("main", "second"):
            (self.directory / store).mkdir()

    @property
    def database(self) -> Database:
        programs = Programs(client_bindir(self.cluster.bindir), self.cluster.version)
        return Database(programs, self.cluster.environment() | {"PGDATABASE": self.name})

    @property
    def stores(self) -> dict[str, Path]:
        return {"contentstore": self.directory / "main", "second": self.directory / "second"}

    def sql(self, query: str) -> None:
        self.cluster.sql(query, self.name)

    def add(
        self,
        url: str,
        size: int | None = 5,
        *,
        file: bytes | None = b"12345",
        live: bool = True,
        orphan: str = "NULL",
    ) -> int:
        """A URL with its file (None: without), live or an orphan. Returns its number."""
        self.number += 1
        crc = zlib.crc32(url.encode())
        quoted = url.replace("'", "''")
        self.sql(
            "INSERT INTO alf_content_url VALUES "
            f"({self.number}, '{quoted}', '{self.number}', {crc}, {size}, {orphan})"
        )
        if live:
            self.sql(f"INSERT INTO alf_content_data VALUES ({self.number}, 0, {self.number})")
        if file is not None:
            self.write("main", url, file)
        return self.number

    def write(self, store: str, url: str, content: bytes) -> None:
        path = self.directory / store / url.removeprefix("store://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def encrypt(self, number: int) -> None:
        self.sql(
            f"INSERT INTO alf_content_url_encryption VALUES ({number}, {number}, 'AES', 128, '', 'm', 'k', 5)"
        )

    def add_node(
        self, number: int, content: int | None = None, *, name: str = "", store: int = 2, kind: int = CONTENT
    ) -> None:
        """A node, with its content property (type 21) and its cm:name."""
        self.sql(f"INSERT INTO alf_node VALUES ({number}, 1, {store}, 'uuid-{number}', 1, 1, 1)")
        columns = "(node_id, actual_type_n, persisted_type_n, qname_id, list_index, locale_id,"
        if content is not None:
            self.sql(
                f"INSERT INTO alf_node_properties {columns} long_value) "
                f"VALUES ({number}, 21, 3, {kind}, -1, 1, {content})"
            )
        if name:
            self.sql(
                f"INSERT INTO alf_node_properties {columns} string_value) "
                f"VALUES ({number}, 6, 6, {NAME}, -1, 1, '{name}')"
            )

    def check(self, database: Database | None = None) -> ContentCheckResult:
        return check_stores(
            database or self.database, self.stores, self.directory / "logs/found.csv", limit_seconds=60
        )


def prepare(cluster: Cluster) -> None:
    cluster.sql("CREATE DATABASE model")
    cluster.sql_file(SCHEMA, "model")
    cluster.sql("INSERT INTO alf_transaction VALUES (1, 1, 'x', 0)", "model")
    cluster.sql(f"INSERT INTO alf_qname VALUES ({NAME}, 0, 2, 'name')", "model")


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
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
    assert (result.checked, result.missing, result.wrong_size, result.warnings) == (10, 3, 1, 2)
    assert result.skipped == {"spoof": 1, "s3v2": 1, "empty": 1}
    assert result.found_in == {"contentstore": 5, "second": 1}


def test_a_whole_store_gives_no_list_and_no_failure(alfresco: Alfresco) -> None:
    for number in range(3):
        alfresco.add(f"store://2024/1/1/0/{number}/it's ö\tü.bin")
    result = alfresco.check()
    result.demand_complete()
    assert (result.checked, result.lost, result.warnings, result.csv) == (3, 0, 0, None)
    assert list((alfresco.directory / "logs").iterdir()) == []
    assert result.sentence().startswith("3 documents checked in ")
    assert result.sentence().endswith(": all are there")


def test_warnings_alone_are_listed_but_no_failure(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/unset.bin", 0)
    result = alfresco.check()
    result.demand_complete()
    assert [row["problem"] for row in listed(result)] == ["size not recorded"]
    assert result.sentence().endswith(": all are there; 1 warning")


def test_missing_documents_are_counted_in_the_error_with_their_list(alfresco: Alfresco) -> None:
    alfresco.add("store://2024/gone.bin", file=None)
    alfresco.add("store://2024/short.bin", file=b"1")
    result = alfresco.check()
    with pytest.raises(
        DocumentsMissing, match=r"^2 documents missing \(2 documents checked in .*: 1 missing"
    ) as caught:
        result.demand_complete()
    assert caught.value.hint == f"less {alfresco.directory}/logs/found.csv"
    assert caught.value.exit_code == 4


def test_missing_documents_are_named_by_node_and_path(alfresco: Alfresco) -> None:
    shared, filed, other, _ = (
        alfresco.add(f"store://2024/{name}.bin", file=None) for name in ("shared", "filed", "other", "unused")
    )
    alfresco.sql(CHILD_ASSOC)
    alfresco.sql(
        "INSERT INTO alf_child_assoc (parent_node_id, child_node_id, qname_localname, is_primary) VALUES "
        "(10, 11, 'company_home', true), (11, 12, 'old name', true), "
        "(12, 13, 'x', true), (11, 13, 'link', false)"
    )
    alfresco.add_node(10)
    alfresco.add_node(11, name="Company Home")
    alfresco.add_node(12, name="Invoices")
    alfresco.add_node(13, filed, name="March.pdf")
    alfresco.add_node(14, shared, name="in the trash", store=3)
    alfresco.add_node(15, shared, name="copy.doc")
    alfresco.add_node(16, other, kind=3)
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


def test_databases_without_the_encryption_table_are_checked(alfresco: Alfresco) -> None:
    alfresco.sql("DROP TABLE alf_content_url_encryption")
    alfresco.add("store://2024/a.bin")
    alfresco.add("store://2024/b.bin", file=None)
    assert (alfresco.check().checked, alfresco.check().missing) == (2, 1)


def test_a_store_that_is_not_mounted_is_an_error_not_a_loss(alfresco: Alfresco) -> None:
    (alfresco.directory / "second").rmdir()
    with pytest.raises(BackupError, match="the content store second is not there") as caught:
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
    assert content_check().endswith(": all are there")
    gone = [document for document in demo_host.read_state().live_documents() if is_stored(document.url)][:3]
    for document in gone:
        (demo_host.layout.contentstore / document.path).unlink()
    with pytest.raises(DocumentsMissing, match=r"^3 documents missing"):
        content_check()
    with get_client(sync_client=True) as client:
        tables = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["documents-missing"]))
        )
    rows = json.loads(str(max(tables, key=lambda table: str(table.created)).data))
    assert {row["url"] for row in rows} == {document.url for document in gone}
    nodes = {f"/{uuid}" for _, _, _, uuid, *_ in demo_host.read_state().tables["alf_node"].values()}
    assert all("/" + row["node"].rpartition("/")[2] in nodes for row in rows)
    (file,) = (demo_host.backup_dir / "logs").glob("content-check-*.csv")
    assert file.stat().st_mode & 0o777 == 0o640
