"""The days of a snapshot: which version of each it contains, in memory and in its metadata file."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from alfresco_backup.system.files import read_json
from alfresco_backup.system.json_fields import Text, Whole, adapter_of


@dataclass(frozen=True, slots=True)
class DayVersion:
    """The version of one day tree in a snapshot: the run that copied it and what it saw."""

    version: Text
    fingerprint: Text | None
    directories: Whole
    files: Whole
    bytes: Whole


Days = Mapping[str, DayVersion]


class DaysInFile(Mapping[str, DayVersion]):
    """The days of a snapshot, read from its metadata file when first needed; raises OSError or ValueError."""

    def __init__(self, file: Path, name: str) -> None:
        self._file, self._name = file, name

    @cached_property
    def _content(self) -> dict[str, DayVersion]:
        return days_from(read_json(self._file).get(self._name))

    def __getitem__(self, path: str) -> DayVersion:
        return self._content[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._content == dict(other)

    __hash__ = None  # type: ignore[assignment]


def days_from(table: object) -> dict[str, DayVersion]:
    """The days of a metadata document. Raises ValueError."""
    days: dict[str, DayVersion] = adapter_of(dict[Text, DayVersion]).validate_python(table)
    return {as_here(path): day for path, day in days.items()}


def days_to_metadata(days: Days) -> dict[str, Any]:
    """Days as a metadata document has them."""
    return {as_written(path): adapter_of(DayVersion).dump_python(day) for path, day in days.items()}


StoredDays = Annotated[
    Days,
    PlainValidator(lambda value: value if isinstance(value, DaysInFile) else days_from(value)),
    PlainSerializer(days_to_metadata),
]
"""The days of a snapshot as a field of its record."""


def as_written(path: str) -> str:
    """A path as metadata has it: its bytes read as UTF-8, whatever this process's locale makes of them."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def as_here(path: str) -> str:
    """A path of metadata as this process's locale names the file."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


StoredPath = Annotated[Text, AfterValidator(as_here), PlainSerializer(as_written)]
"""A path as a field of a record."""
