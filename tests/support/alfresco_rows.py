"""A database with Alfresco's tables, filled row by row, and stores of its own."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.contentstore.check import ContentCheckResult, DeletedContent, Places
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from demo.cluster import Cluster, client_bindir
from tasks.restore.content_check import check_stores

SCHEMA = Path(__file__).parents[2] / "demo/schema.sql"
CONTENT, NAME = 1, 90


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

    def check(
        self, database: Database | None = None, deleted: DeletedContent | None = None
    ) -> ContentCheckResult:
        csv_file = self.directory / "logs/found.csv"
        places = Places(self.stores, deleted)
        return check_stores(database or self.database, places, csv_file, limit_seconds=60)


def prepare(cluster: Cluster) -> None:
    cluster.sql("CREATE DATABASE model")
    cluster.sql_file(SCHEMA, "model")
    cluster.sql("INSERT INTO alf_transaction VALUES (1, 1, 'x', 0)", "model")
    cluster.sql(f"INSERT INTO alf_qname VALUES ({NAME}, 0, 2, 'name')", "model")
