"""What the database of a demo host must hold: rows by table, and their changes commit by commit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from demo.cluster import Cluster
from demo.documents import Document, is_stored

DATABASE = "alfresco"
Value = str | int | None
Row = Mapping[str, Value]
Key = tuple[Value, ...]

# The columns a state is compared by, and how many of them, from the left, are the key.
TABLES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "alf_transaction": (("id", "version", "change_txn_id", "commit_time_ms"), 1),
    "alf_content_url": (
        ("id", "content_url", "content_url_short", "content_url_crc", "content_size", "orphan_time"),
        1,
    ),
    "alf_content_url_encryption": (
        (
            "id",
            "content_url_id",
            "algorithm",
            "key_size",
            "encrypted_key",
            "master_keystore_id",
            "master_key_alias",
            "unencrypted_file_size",
        ),
        1,
    ),
    "alf_content_data": (("id", "version", "content_url_id", "content_mimetype_id"), 1),
    "alf_node": (
        (
            "id",
            "version",
            "store_id",
            "uuid",
            "transaction_id",
            "type_qname_id",
            "locale_id",
            "audit_created",
        ),
        1,
    ),
    "alf_node_properties": (
        (
            "node_id",
            "qname_id",
            "list_index",
            "locale_id",
            "actual_type_n",
            "persisted_type_n",
            "long_value",
            "string_value",
        ),
        4,
    ),
}


@dataclass(frozen=True)
class Change:
    """One row made, replaced or (None) removed."""

    table: str
    key: Key
    row: Row | None

    @property
    def key_text(self) -> Key:
        """The key as it stands in a State."""
        return tuple(_text(value) for value in self.key)


@dataclass
class State:
    """The rows of every table, by key. Two states are equal when every row is."""

    tables: dict[str, dict[Key, tuple[str, ...]]] = field(
        default_factory=lambda: {name: {} for name in TABLES}
    )

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            rows = self.tables[change.table]
            if change.row is None:
                del rows[change.key_text]
            else:
                columns = TABLES[change.table][0]
                rows[change.key_text] = tuple(_text(change.row[column]) for column in columns)

    def copy(self) -> "State":
        return State({name: dict(rows) for name, rows in self.tables.items()})

    def live_documents(self) -> list[Document]:
        """What must have its file: `store://` URLs that a row in alf_content_data refers to."""
        used = {row[2] for row in self.tables["alf_content_data"].values()}
        return self._documents(row for row in self.tables["alf_content_url"].values() if row[0] in used)

    def documents(self) -> list[Document]:
        """Every `store://` URL, orphans too."""
        return self._documents(self.tables["alf_content_url"].values())

    def _documents(self, rows: Iterable[tuple[str, ...]]) -> list[Document]:
        encrypted = {row[1] for row in self.tables["alf_content_url_encryption"].values()}
        return [Document(row[1], int(row[4]), row[0] in encrypted) for row in rows if is_stored(row[1])]

    def difference(self, other: "State") -> list[str]:
        """Sentences for people: rows that differ, at most ten a table. Empty when the states are equal."""
        lines = []
        for name, rows in self.tables.items():
            theirs = other.tables[name]
            differing = [key for key in {*rows, *theirs} if rows.get(key) != theirs.get(key)]
            lines += [
                f"{name} {key}: {rows.get(key)} here, {theirs.get(key)} there" for key in differing[:10]
            ]
        return lines


def read_state(cluster: Cluster) -> State:
    """The rows as they are in the database now."""
    state = State()
    for name, (columns, keys) in TABLES.items():
        rows = cluster.sql(f"SELECT {', '.join(columns)} FROM {name}", DATABASE)
        state.tables[name] = {row[:keys]: row for row in rows}
    return state


def made(table: str, row: Row) -> Change:
    """A row made or replaced; its key are its leftmost columns."""
    columns, keys = TABLES[table]
    return Change(table, tuple(row[column] for column in columns[:keys]), row)


def removed(table: str, *key: Value) -> Change:
    return Change(table, key, None)


def statement(change: Change, known: bool) -> str:
    """The SQL of one change. `known` says whether the row exists already and is to be updated."""
    columns, keys = TABLES[change.table]
    place = " AND ".join(
        f"{name} = {literal(value)}" for name, value in zip(columns, change.key, strict=False)
    )
    if change.row is None:
        return f"DELETE FROM {change.table} WHERE {place};"
    if known:
        values = ", ".join(f"{name} = {literal(change.row[name])}" for name in columns[keys:])
        return f"UPDATE {change.table} SET {values} WHERE {place};"
    names = ", ".join(columns)
    return f"INSERT INTO {change.table} ({names}) VALUES ({values_of(change.table, change.row)});"


def values_of(table: str, row: Row) -> str:
    return ", ".join(literal(row[column]) for column in TABLES[table][0])


def literal(value: Value) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _text(value: Value) -> str:
    """As psql shows it; NULL is an empty string."""
    return "" if value is None else str(value)
