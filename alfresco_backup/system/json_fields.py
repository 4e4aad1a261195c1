"""Typed reading of metadata documents; a complaint names the field, the value and what is expected."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

Document = Mapping[str, Any]
T = TypeVar("T")
LARGEST = 2**63 - 1
YEARS = range(1970, 3000)
"""Times outside of these are damage, and would overflow where days are added to them."""


class Fields:
    """A document whose fields are taken by name and kind. Raises ValueError for what is not as expected."""

    def __init__(self, document: object) -> None:
        if not isinstance(document, Mapping):
            raise ValueError(f"an object is expected, not {_short(document)}")
        self._document: Document = document

    def text(self, name: str) -> str:
        return str(self._of(name, str, "text"))

    def whole(self, name: str, least: int = 0, most: int = LARGEST) -> int:
        value = int(self._of(name, int, "a whole number"))
        if not least <= value <= most:
            raise ValueError(f"{name}: {least} to {most} is expected, not {_short(value)}")
        return value

    def number(self, name: str) -> float:
        value = self._of(name, (int, float), "a number")
        if not 0 <= value <= LARGEST or not math.isfinite(value):
            raise ValueError(f"{name}: 0 to {LARGEST} is expected, not {_short(value)}")
        return float(value)

    def time(self, name: str) -> datetime:
        moment = self.converted(name, datetime.fromisoformat)
        if moment.tzinfo is None:
            raise ValueError(f"{name}: a time with its offset is expected, not {self._document[name]!r}")
        if moment.year not in YEARS:
            years = f"{YEARS[0]} to {YEARS[-1]}"
            raise ValueError(f"{name}: a time of the years {years} is expected, not {self._document[name]!r}")
        return moment.astimezone(UTC)

    def converted(self, name: str, convert: Callable[[str], T]) -> T:
        value = self.text(name)
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {value!r} is not understood: {error}") from error

    def table(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self._of(name, Mapping, "an object")
        return value

    def texts(self, name: str) -> list[str]:
        return [str(item) for item in self._of(name, list, "a list")]

    def items(self, name: str) -> list["Fields"]:
        return [Fields(item) for item in self._of(name, list, "a list")]

    def _of(self, name: str, kind: type | tuple[type, ...], expected: str) -> Any:
        if name not in self._document:
            raise ValueError(f"{name} is missing")
        value = self._document[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name}: {expected} is expected, not {_short(value)}")
        return value


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def plain(record: object, names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names.split()}


def time_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"metadata holds aware times only, got {moment!r}")
    return moment.astimezone(UTC).isoformat()
