"""What the journals of restores say: how far each came, what it did to the host, which are unfinished."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from alfresco_backup.errors import BackupError
from alfresco_backup.host.services import Service
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.system.files import SCHEMA_VERSION
from alfresco_backup.system.folders import reading
from alfresco_backup.times import STAMP_PATTERN

# What a restore does to a host, as its journal notes it before it is done: all that an undo needs.


@dataclass(frozen=True)
class Stopped:
    """A service was stopped, or was down already (`running` false). An undo stops it again first of all."""

    service: Service
    running: bool


@dataclass(frozen=True)
class Renamed:
    """`source` became `target`, on one file system. Device and inode are those of what was renamed."""

    source: Path
    target: Path
    device: int
    inode: int


@dataclass(frozen=True)
class Created:
    """A new file or tree that only this restore can have made: the restore's ID is in its name."""

    path: Path


@dataclass(frozen=True)
class MadeDirectory:
    """A directory that was missing on the way to a place. An undo removes it when it is empty."""

    path: Path


@dataclass(frozen=True)
class Filled:
    """Files were added to a store. `folder` contains the lists of them and the files that were replaced."""

    store: Path
    folder: Path


@dataclass(frozen=True)
class Touched:
    """A folder in which names change; its time before that, in nanoseconds."""

    path: Path
    time_ns: int


Act = Stopped | Renamed | Created | MadeDirectory | Filled | Touched
ACTS: Mapping[str, type[Act]] = {
    kind.__name__: kind for kind in (Stopped, Renamed, Created, MadeDirectory, Filled, Touched)
}


JOURNAL = "journal.jsonl"


class RestoreState(StrEnum):
    """How far a restore has come. `unfinished` and `undoing` keep a new restore from starting."""

    UNFINISHED = "unfinished"
    COMPLETED = "completed"
    UNDOING = "undoing"
    UNDONE = "undone"
    DISCARDING = "partly discarded"
    DISCARDED = "discarded"


OVER = frozenset({RestoreState.UNDONE, RestoreState.DISCARDING, RestoreState.DISCARDED})
"""These cannot be undone."""
PENDING = frozenset({RestoreState.UNFINISHED, RestoreState.UNDOING})
"""The host is only partly restored."""
DISCARDABLE = frozenset({RestoreState.COMPLETED, RestoreState.UNDONE, RestoreState.DISCARDING})
"""What these set aside may be removed."""
SETTLED = frozenset({RestoreState.COMPLETED, RestoreState.UNDONE})
"""The host is whole. The age of what is set aside is counted from here, not from when discarding it began."""


@dataclass(frozen=True)
class StepTime:
    """A step of a restore as it went. `seconds` is None for one that did not end."""

    step: str
    started_at: datetime
    seconds: float | None
    error: str = ""


@dataclass(frozen=True)
class Record:
    """A journal as read. `about` is what its first line says of the restore, `acts` are in their order.

    `completed`: it was carried out to its end, whatever was done with it since. `settled_at`: when it was
    completed, accepted or undone the last time; what it set aside has been left alone since.
    """

    path: Path
    restore_id: str
    host: str
    state: RestoreState
    started_at: datetime
    about: Mapping[str, Any] = field(default_factory=dict)
    acts: tuple[Act, ...] = ()
    steps: tuple[StepTime, ...] = ()
    completed: bool = False
    settled_at: datetime | None = None

    @property
    def folder(self) -> Path:
        return self.path.parent

    def began(self, step: str) -> bool:
        """Whether a step was begun."""
        return any(item.step == step for item in self.steps)

    @property
    def done(self) -> frozenset[str]:
        """The steps that succeeded."""
        return frozenset(item.step for item in self.steps if item.seconds is not None and not item.error)

    @property
    def not_done(self) -> tuple[str, ...]:
        """The planned steps that did not succeed, in their order."""
        return tuple(step for step in self.about.get("steps", ()) if step not in self.done)

    @property
    def recovered(self) -> bool:
        """Whether the database was recovered and found to be at its target."""
        return Step.RECOVER_DATABASE in self.done


def read_journal(path: Path) -> Record:
    """Read a journal. Raises BackupError for a damaged one: what was done to a host is never guessed."""
    try:
        with reading(path) as stream:
            text = stream.read().decode()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return _record(path, lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        folder = shlex.quote(str(path.parent))
        raise BackupError(
            f"the restore journal {path} cannot be read: {error!r}; this host may be only partly restored. "
            "Inspect the journal and the folders beside the data directory first",
            f"less {shlex.quote(str(path))}\n"
            f"mv {folder} {folder}.unreadable  # only if that restore, or its undo, was completed",
        ) from error


def list_restores(folder: Path) -> list[Record]:
    """Every restore that has a journal in a host's folder of restores, oldest first.

    Raises BackupError for a damaged journal, unless its restore is known to be over: see unreadable_journals.
    """
    records, damaged = _read_all(folder)
    for path, error in damaged.items():
        if not _is_over(path, records):
            raise error
    return records


def unreadable_journals(folder: Path) -> list[Path]:
    """Damaged journals of restores that are over all the same, which list_restores leaves out.

    Such a journal was not written to since a later restore began, and no restore begins while another one, or
    its undo, is unfinished. The state of any other damaged journal is unknown, and stops every restore and
    backup.
    """
    records, damaged = _read_all(folder)
    return [path for path in damaged if _is_over(path, records)]


def find_unfinished(folder: Path) -> list[Record]:
    """The restores that were interrupted, or whose undo was."""
    return [record for record in list_restores(folder) if record.state in PENDING]


def _read_all(folder: Path) -> tuple[list[Record], dict[Path, BackupError]]:
    records, damaged = [], {}
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in [item / JOURNAL for item in found if STAMP_PATTERN.fullmatch(item.name)]:
        try:
            if _has_line(path):
                records.append(read_journal(path))
        except BackupError as error:
            damaged[path] = error
    return records, damaged


def _is_over(damaged: Path, records: Sequence[Record]) -> bool:
    try:
        last_written = damaged.stat().st_mtime
    except OSError:
        return False
    return any(record.started_at.timestamp() > last_written for record in records)


def _record(path: Path, lines: list[dict[str, Any]]) -> Record:
    first = lines[0]
    if first["schema"] > SCHEMA_VERSION:
        raise ValueError(f"schema {first['schema']} is newer than this program's {SCHEMA_VERSION}")
    known = {"schema", "entry", "stamp", "host", "at"}
    states = [RestoreState(line["state"]) for line in lines if line["entry"] == "state"]
    settled = [line["at"] for line in lines if line["entry"] == "state" and line["state"] in SETTLED]
    return Record(
        path,
        first["stamp"],
        first["host"],
        states[-1] if states else RestoreState.UNFINISHED,
        datetime.fromisoformat(first["at"]),
        {name: value for name, value in first.items() if name not in known},
        tuple(_act(line) for line in lines if line["entry"] == "act"),
        tuple(_steps(lines)),
        RestoreState.COMPLETED in states,
        datetime.fromisoformat(settled[-1]) if settled else None,
    )


def _act(line: Mapping[str, Any]) -> Act:
    kind = ACTS[line["act"]]
    paths = {"source", "target", "path", "store", "folder"}
    fields = {name: value for name, value in line.items() if name not in {"entry", "act", "at"}}
    values: dict[str, Any] = {name: Path(value) if name in paths else value for name, value in fields.items()}
    return kind(**values)


def _steps(lines: list[dict[str, Any]]) -> Iterator[StepTime]:
    ended = {line["step"]: line for line in lines if line["entry"] == "step-end"}
    for line in lines:
        if line["entry"] == "step":
            end = ended.get(line["step"], {})
            started_at = datetime.fromisoformat(line["at"])
            yield StepTime(line["step"], started_at, end.get("seconds"), end.get("error", ""))


def _has_line(path: Path) -> bool:
    try:
        return path.is_file() and b"\n" in path.read_bytes()
    except OSError:
        return True  # reading it tells what is wrong
