"""The documents a demo host starts with: several years of them, with every odd case real databases hold."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from demo.cluster import Cluster
from demo.documents import (
    Document,
    date_as_named,
    is_stored,
    new_url,
    random_moments,
    random_size,
    write_document,
)
from demo.rows import (
    ARCHIVE_STORE,
    DESCRIPTOR,
    SPACES_STORE,
    SYSTEM_STORE,
    VERSION_PROPERTIES,
    RowMaker,
)
from demo.state import DATABASE, TABLES, Change, values_of

YEARS = 4.0
ROWS_PER_INSERT = 1000


@dataclass
class Population:
    """Rows to be made and the files to be written, each with the moment it dates from."""

    rows: RowMaker
    source: random.Random
    changes: list[Change] = field(default_factory=list)
    files: list[tuple[Document, datetime]] = field(default_factory=list)

    def add(self, number: int, moment: datetime) -> None:
        """Document `number`: plain, or at its turn one of the odd cases."""
        document = self._document(number, moment)
        if is_stored(document.url):
            self.files.append((document, moment))
        if number % 80 == 79:  # a crash before the commit leaves a file without a row for ever
            return
        transaction, change = self.rows.transaction(moment)
        self.changes.append(change)
        if number % 35 == 17:
            self._add_orphan(number, document)
            return
        # a row may be referred to again while its orphan time still stands
        again = number % 90 == 89
        url, changes = self.rows.url(document, _milliseconds(moment) if again else None)
        self.changes += changes
        # the trashcan's nodes still refer to their content
        store = ARCHIVE_STORE if number % 40 == 39 else SPACES_STORE
        self.changes += self.rows.node(url, transaction, moment, store)[2]
        if number % 50 == 49:  # a copied node shares the content
            self.changes += self.rows.node(url, transaction, moment)[2]

    def add_descriptor(self, moment: datetime) -> None:
        """The system descriptor, whose content file Alfresco wants to see before it starts."""
        document = Document(new_url(moment, self.source), 1500)
        self.files.append((document, moment))
        transaction, change = self.rows.transaction(moment)
        url, changes = self.rows.url(document)
        kind = (DESCRIPTOR, VERSION_PROPERTIES)
        node = self.rows.node(url, transaction, moment, SYSTEM_STORE, kind)
        self.changes += [change, *changes, *node[2]]

    def _document(self, number: int, moment: datetime) -> Document:
        if number % 70 == 69:
            guid = uuid.UUID(int=self.source.getrandbits(128), version=4)
            return Document(f"spoof://{{seed={number},guid={guid}}}", 1000)
        size = 0 if number % 60 == 59 else random_size(self.source)
        return Document(new_url(moment, self.source), size, encrypted=number % 45 == 44)

    def _add_orphan(self, number: int, document: Document) -> None:
        """Nothing refers to it; 0 says that the cleaner failed to delete it and will not try again."""
        recently = datetime.now(UTC) - timedelta(days=number % 13)
        self.changes += self.rows.url(document, 0 if number % 210 == 17 else _milliseconds(recently))[1]


def make_population(count: int, seed: int) -> Population:
    """`count` documents besides the system descriptor. The same seed gives the same, relative to now."""
    source = random.Random(seed)
    population = Population(RowMaker(source=source), source)
    moments = random_moments(count, datetime.now(UTC), YEARS, source)
    population.add_descriptor(min([*moments, datetime.now(UTC)]) - timedelta(days=1))
    for number, moment in enumerate(moments):
        population.add(number, moment)
    return population


def write_files(population: Population, store: Path) -> None:
    """Write the content files, files and directories dated as their paths say."""
    for document, _ in population.files:
        write_document(store, document)
    date_as_named(store, population.files)


def load_rows(changes: Sequence[Change], cluster: Cluster, scratch: Path) -> None:
    """Insert all rows in one transaction."""
    script = scratch / "rows.sql"
    with script.open("w", encoding="utf-8") as stream:
        for table, (columns, _) in TABLES.items():
            rows = [
                values_of(table, change.row) for change in changes if change.table == table and change.row
            ]
            for start in range(0, len(rows), ROWS_PER_INSERT):
                values = ",\n".join(f"({row})" for row in rows[start : start + ROWS_PER_INSERT])
                stream.write(f"INSERT INTO {table} ({', '.join(columns)}) VALUES\n{values};\n")
    cluster.sql_file(script, DATABASE)
    script.unlink()


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
