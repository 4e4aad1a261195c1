"""A property's value from its rows in alf_node_properties. Pure.

The column with the value follows from `persisted_type_n`, what it is from `actual_type_n` (Alfresco's
NodePropertyValue). The model itself is not in the database: d:date is shown as datetime, d:category as
noderef.
"""

import base64
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from alfresco_backup.documents.nodes import Property, Value
from alfresco_backup.documents.qnames import prefixed_name

DEFAULT_LOCALE = ".default"
ENDLESS = ("NaN", "Infinity", "-Infinity")
TYPES = {
    1: "boolean",
    2: "int",
    3: "long",
    4: "float",
    5: "double",
    6: "text",
    7: "datetime",
    9: "any",
    10: "mltext",
    11: "content",
    12: "noderef",
    13: "childassocref",
    14: "assocref",
    15: "qname",
    16: "path",
    17: "locale",
    18: "version",
    20: "period",
    21: "content",
    22: "encrypted",
}
NULL, BOOLEAN, LONG, FLOAT, DOUBLE, STRING, SERIALIZABLE, QNAME, COLLECTION = 0, 1, 3, 4, 5, 6, 9, 15, 19
_STREAM = b"\xac\xed\x00\x05"
_SHORT_STRING, _LONG_STRING, _OBJECT = 0x74, 0x7C, b"\x73\x72"
_EMPTY_LIST, _ARRAY_LIST = b"java.util.Collections$EmptyList", b"java.util.ArrayList"


@dataclass(frozen=True)
class Row:
    """A row of alf_node_properties. `value` is the column of the persisted type as text: bytes and floating
    point numbers as hexadecimal digits. `locale` is empty where a value belongs to none.
    """

    name: str
    actual: int
    persisted: int
    position: int
    locale: str
    value: str
    content: dict[str, str] | None = None


def property_of(rows: Sequence[Row]) -> Property:
    """The property that rows of one name make up: a value, a list, or a text in several languages."""
    by_position: dict[int, list[Row]] = {}
    for row in rows:
        by_position.setdefault(row.position, []).append(row)
    multilingual = any(row.locale and row.actual in (NULL, STRING) for row in rows)
    values = [_one(by_position[position]) for position in sorted(by_position)]
    listed = max(by_position) >= 0
    return Property(rows[0].name, "mltext" if multilingual else _type(rows), values if listed else values[0])


def parse_time(text: str) -> datetime | None:
    """A time as Alfresco writes it, 2012-08-24T11:42:31.000Z; None where there is none, or it has no zone."""
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else None
    return None


def _type(rows: Iterable[Row]) -> str:
    """By the first value that is one; `any` where all are empty."""
    for row in rows:
        if row.content is not None:
            return "content"
        if row.actual not in (NULL, COLLECTION):
            return TYPES.get(row.actual, "any")
    return "any"


def _one(rows: Sequence[Row]) -> Value:
    """The value of one position. Rows of several languages are one text."""
    if any(row.locale for row in rows):
        texts = {row.locale or DEFAULT_LOCALE: value_of(row) for row in rows if row.persisted != NULL}
        return {locale: str(text) for locale, text in texts.items()}
    return value_of(rows[0])


def value_of(row: Row) -> Value:  # noqa: PLR0911 - one line a type
    if row.content is not None:
        return dict(row.content)
    if row.persisted == NULL:
        return [] if row.actual == COLLECTION else None
    if row.persisted == BOOLEAN:
        return row.value == "true"
    if row.persisted == LONG:
        return int(row.value)
    if row.persisted == FLOAT:
        return _single(row.value)
    if row.persisted == DOUBLE:
        return _finite(struct.unpack(">d", bytes.fromhex(row.value))[0])
    if row.persisted == SERIALIZABLE:
        return _from_java(bytes.fromhex(row.value))
    return prefixed_name(row.value) if row.actual == QNAME else row.value


def _single(digits: str) -> float | str:
    """A number of 32 bits by the shortest digits that mean it."""
    raw = bytes.fromhex(digits)
    (number,) = struct.unpack(">f", raw)
    shortest = (float(f"{number:.{places}g}") for places in range(1, 10))
    return _finite(next((found for found in shortest if _packed(found) == raw), number))


def _packed(number: float) -> bytes:
    try:
        return struct.pack(">f", number)
    except OverflowError:
        return b""


def _finite(number: float) -> float | str:
    """JSON has no number that is endless or none: those are texts, as Alfresco stores them by now."""
    if number != number:  # noqa: PLR0124 - NaN
        return ENDLESS[0]
    return number if abs(number) != float("inf") else ENDLESS[1 if number > 0 else 2]


def _from_java(stored: bytes) -> Value:
    """A Java object: a text longer than 1024 characters, an empty list; any other as base64."""
    body = stored.removeprefix(_STREAM)
    if stored != body and body[:1] == bytes([_SHORT_STRING]):
        text = _java_text(body[3:], int.from_bytes(body[1:3]))
    elif stored != body and body[:1] == bytes([_LONG_STRING]):
        text = _java_text(body[9:], int.from_bytes(body[1:9]))
    else:
        text = None
    if text is not None:
        return text
    return [] if _is_empty_list(body) else base64.b64encode(stored).decode("ascii")


def _java_text(data: bytes, length: int) -> str | None:
    """Java's modified UTF-8: NUL as two bytes, characters beyond 16 bits as two surrogates."""
    if len(data) != length:
        return None
    try:
        units = data.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
        return units.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


def _is_empty_list(body: bytes) -> bool:
    if body[:2] != _OBJECT:
        return False
    name = body[4 : 4 + int.from_bytes(body[2:4])]
    size = body.partition(b"\x78\x70")[2][:4]
    return name == _EMPTY_LIST or (name == _ARRAY_LIST and size == bytes(4))
