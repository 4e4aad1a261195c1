"""The rows that Alfresco writes for its documents."""

import itertools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from demo.documents import Document, url_key
from demo.state import Change, Row, made

SYSTEM_STORE, SPACES_STORE, ARCHIVE_STORE = 1, 2, 3
CONTENT, DESCRIPTOR, VERSION_PROPERTIES = 1, 2, 3
CONTENT_TYPE, CONTENT_DATA_TYPE = 21, 3
LIBRARY_FIRST = 1_000_000_000  # rows of demo.library have numbers from here on


@dataclass
class RowMaker:
    """Numbers rows and makes them. One for each host; numbers go on from `first`."""

    first: int = 1
    source: random.Random = field(default_factory=random.Random)
    numbers: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = itertools.count(self.first)

    def transaction(self, moment: datetime) -> tuple[int, Change]:
        """commit_time_ms is the application's clock, a moment before the real commit."""
        number = next(self.numbers)
        name = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
        milliseconds = int(moment.timestamp() * 1000)
        row: Row = {"id": number, "version": 1, "change_txn_id": name, "commit_time_ms": milliseconds}
        return number, made("alf_transaction", row)

    def url(self, document: Document, orphan_time: int | None = None) -> tuple[int, list[Change]]:
        """A row for the file, with one for its key when it is encrypted."""
        number = next(self.numbers)
        changes = [made("alf_content_url", url_row(number, document, orphan_time))]
        if document.encrypted:
            changes.append(made("alf_content_url_encryption", _encryption_row(number, document)))
        return number, changes

    def node(
        self,
        url_id: int,
        transaction: int,
        moment: datetime,
        store: int = SPACES_STORE,
        kind: tuple[int, int] = (CONTENT, CONTENT),
    ) -> tuple[int, int, list[Change]]:
        """A node with its content property; `kind` is the node's type and the property's name. Returns the
        numbers of node and content data."""
        data, node = next(self.numbers), next(self.numbers)
        name = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
        changes = [
            made(
                "alf_content_data",
                {"id": data, "version": 0, "content_url_id": url_id, "content_mimetype_id": 1},
            ),
            made(
                "alf_node",
                {
                    "id": node,
                    "version": 1,
                    "store_id": store,
                    "uuid": name,
                    "transaction_id": transaction,
                    "type_qname_id": kind[0],
                    "locale_id": 1,
                    "audit_created": moment.isoformat(timespec="milliseconds"),
                },
            ),
            made("alf_node_properties", property_row(node, kind[1], data)),
        ]
        return node, data, changes


def url_row(number: int, document: Document, orphan_time: int | None) -> Row:
    short, checksum = url_key(document.url)
    return {
        "id": number,
        "content_url": document.url,
        "content_url_short": short,
        "content_url_crc": checksum,
        "content_size": document.size,
        "orphan_time": orphan_time,
    }


def property_row(node: int, name: int, data: int) -> Row:
    """A content property: its long_value is the number in alf_content_data."""
    return {
        "node_id": node,
        "qname_id": name,
        "list_index": -1,
        "locale_id": 1,
        "actual_type_n": CONTENT_TYPE,
        "persisted_type_n": CONTENT_DATA_TYPE,
        "long_value": data,
        "string_value": None,
    }


def _encryption_row(url_id: int, document: Document) -> Row:
    return {
        "id": url_id,
        "content_url_id": url_id,
        "algorithm": "AES",
        "key_size": 128,
        "encrypted_key": "\\x00",
        "master_keystore_id": "master",
        "master_key_alias": "mkey1",
        "unencrypted_file_size": document.size,
    }
