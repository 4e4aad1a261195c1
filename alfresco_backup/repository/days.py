"""The days of a snapshot: which version of each it holds, in memory and in its metadata file."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alfresco_backup.system.files import read_json
from alfresco_backup.system.json_fields import Document, Fields, plain


@dataclass(frozen=True, slots=True)
class DayVersion:
    """The version of one day tree that a snapshot holds: the run that copied it and what it saw."""

    version: str
    fingerprint: str | None
    directories: int
    files: int
    bytes: int

    def to_metadata(self) -> dict[str, Any]:
        return plain(self, "version fingerprint directories files bytes")

    @classmethod
    def from_metadata(cls, document: Document) -> "DayVersion":
        take = Fields(document)
        fingerprint = document.get("fingerprint")
        if fingerprint is not None and not isinstance(fingerprint, str):
            raise ValueError(f"fingerprint: text or null is expected, not {fingerprint!r}")
        counts = (take.whole("directories"), take.whole("files"), take.whole("bytes"))
        return cls(take.text("version"), fingerprint, *counts)


Days = Mapping[str, DayVersion]


class DaysInFile(Mapping[str, DayVersion]):
    """The days of a snapshot, read from its metadata file when first needed; raises OSError or ValueError."""

    def __init__(self, file: Path, name: str) -> None:
        self._file, self._name = file, name

    @cached_property
    def _content(self) -> dict[str, DayVersion]:
        return days_from(Fields(read_json(self._file)).table(self._name))

    def __getitem__(self, path: str) -> DayVersion:
        return self._content[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._content == dict(other)

    __hash__ = None  # type: ignore[assignment]


def days_from(table: Mapping[str, Any]) -> dict[str, DayVersion]:
    """The days of a metadata document. Raises ValueError."""
    return {as_here(path): DayVersion.from_metadata(entry) for path, entry in table.items()}


def days_to_metadata(days: Days) -> dict[str, Any]:
    """Days as a metadata document holds them."""
    return {as_written(path): day.to_metadata() for path, day in days.items()}


def as_written(path: str) -> str:
    """A path as metadata holds it: its bytes read as UTF-8, whatever this process's locale makes of them."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def as_here(path: str) -> str:
    """A path of metadata as this process's locale names the file."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))
