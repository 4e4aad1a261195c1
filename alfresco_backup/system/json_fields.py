"""Records as JSON documents and back; a complaint names the field, the value and what is expected.

A record is a frozen dataclass whose fields have the types below where a document has them. Fields that a
newer writer adds are ignored; there is no conversion of kinds: "1" is no whole number, and true is none.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
)

Document = Mapping[str, Any]
T = TypeVar("T")
LARGEST = 2**63 - 1
YEARS = range(1970, 3000)
"""Times outside of these are damage, and would overflow where days are added to them."""


def plain(record: object, names: str) -> dict[str, Any]:
    """Some fields of a record as they are; `names` has spaces between."""
    return {name: getattr(record, name) for name in names.split()}


def time_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"metadata has aware times only, got {moment!r}")
    return moment.astimezone(UTC).isoformat()


def parsed(convert: Callable[[str], object]) -> BeforeValidator:
    """A field whose text is converted; what is converted already stays as it is."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is not understood: {error}") from error

    return BeforeValidator(read)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"a time with its offset is expected, not {moment.isoformat()!r}")
    if moment.year not in YEARS:
        years = f"{YEARS[0]} to {YEARS[-1]}"
        raise ValueError(f"a time of the years {years} is expected, not {moment.isoformat()!r}")
    return moment.astimezone(UTC)


Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict(), Field(ge=0, le=LARGEST)]
Number = Annotated[float, Strict(), Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Time = Annotated[
    datetime, Strict(), parsed(datetime.fromisoformat), AfterValidator(_in_utc), PlainSerializer(time_text)
]

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "datetime_type": "a time",
    "tuple_type": "a list",
    "mapping_type": "an object",
    "dict_type": "an object",
    "dataclass_type": "an object",
}


def read_record(kind: type[T], document: object, **known: object) -> T:
    """The record that a document describes; `known` are fields that it does not have. Raises ValueError."""
    if not isinstance(document, Mapping):
        raise ValueError(f"an object is expected, not {_short(document)}")
    try:
        record: T = adapter_of(kind).validate_python({**document, **known})
    except ValidationError as error:
        raise ValueError(_complaint(error)) from error
    return record


def document_of(record: object, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The document that describes a record, without some of its fields."""
    document: dict[str, Any] = adapter_of(type(record)).dump_python(record, exclude=set(leave_out))
    return document


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """What reads and writes a type; made once, which takes milliseconds."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _complaint(error: ValidationError) -> str:
    """The first complaint: the field's place in the document, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        return f"{place} is missing"
    expected = _EXPECTED.get(first["type"])
    if expected:
        return f"{place}: {expected} is expected, not {_short(first['input'])}"
    said = (
        first["msg"]
        .removeprefix("Value error, ")
        .replace("Input should be", f"{_short(first['input'])} is not")
    )
    return f"{place}: {said}"


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
