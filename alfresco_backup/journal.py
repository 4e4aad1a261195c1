"""The journal of a restore: what was done to the host, written down and on disk before it was done.

One JSON document a line. An *act* is written before the change it names and holds all that undoing needs;
`done` follows. Of an act without `done` nobody knows whether it happened, so undoing looks at the host: a
renamed directory is known by its device and inode wherever it is, a new one by the restore's stamp in its
name. A line that a crash cut off is no line: its act had not begun.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.durable import SCHEMA_VERSION, fsync_directory
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.stamps import STAMP_PATTERN, utc_now

JOURNAL = "journal.jsonl"
Service = Literal["alfresco", "postgresql"]


@dataclass(frozen=True)
class Stopped:
    """A service was stopped, or was down already (`running` false). Undo stops it again first of all."""

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
    """A new file or tree that only this restore can have made: its name bears the restore's stamp."""

    path: Path


@dataclass(frozen=True)
class MadeDirectory:
    """A directory that was missing on the way to a place. Undo removes it when it is empty."""

    path: Path


@dataclass(frozen=True)
class Filled:
    """Files were added to a store. `folder` holds the lists of them and the files that were replaced."""

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
"""The host is in the middle of these."""
DISCARDABLE = frozenset({RestoreState.COMPLETED, RestoreState.UNDONE, RestoreState.DISCARDING})
"""What these set aside may be removed."""


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

    `completed`: it came to its end, whatever was done with it since.
    """

    path: Path
    stamp: str
    host: str
    state: RestoreState
    started_at: datetime
    about: Mapping[str, Any] = field(default_factory=dict)
    acts: tuple[Act, ...] = ()
    steps: tuple[StepTime, ...] = ()
    completed: bool = False

    @property
    def folder(self) -> Path:
        return self.path.parent

    def began(self, step: str) -> bool:
        """Whether a step was begun."""
        return any(item.step == step for item in self.steps)

    @property
    def not_done(self) -> tuple[str, ...]:
        """The planned steps that did not come to a good end, in their order."""
        done = {item.step for item in self.steps if item.seconds is not None and not item.error}
        return tuple(step for step in self.about.get("steps", ()) if step not in done)


class Journal:
    """A journal to write to. Every line is on disk when its method returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._touched: set[Path] = set()

    @classmethod
    def begin(cls, folder: Path, stamp: str, host: str, about: Mapping[str, Any]) -> "Journal":
        """Start a restore's journal in its folder, which must exist and have none yet."""
        journal = cls(folder / JOURNAL)
        if journal.path.exists():
            raise Refused(f"{journal.path} exists already")
        journal._write({"schema": SCHEMA_VERSION, "entry": "begin", "stamp": stamp, "host": host, **about})
        for directory in (folder, folder.parent, folder.parent.parent):
            fsync_directory(directory)
        return journal

    def act(self, act: Act) -> None:
        """Write down an act. Carry it out only after this has returned."""
        fields = {
            name: os.fspath(value) if isinstance(value, Path) else value for name, value in vars(act).items()
        }
        self._write({"entry": "act", "act": type(act).__name__, **fields})

    def touch(self, folder: Path) -> None:
        """Write down a folder's time before something is made or renamed in it; once is enough."""
        if folder not in self._touched:
            self._touched.add(folder)
            self.act(Touched(folder, folder.stat().st_mtime_ns))

    def done(self, act: Act) -> None:
        """Write down that an act was carried out. For people: undo looks at the host instead."""
        self._write({"entry": "done", "act": type(act).__name__})

    def step_started(self, step: str) -> None:
        self._write({"entry": "step", "step": step})

    def step_ended(self, step: str, seconds: float, error: str = "") -> None:
        self._write({"entry": "step-end", "step": step, "seconds": round(seconds, 3), "error": error})

    def state(self, state: RestoreState) -> None:
        self._write({"entry": "state", "state": state.value})

    def accept(self, not_done: Sequence[str]) -> None:
        """Count the restore as complete, though these steps were not done: an administrator says so."""
        self._write({"entry": "accepted", "not_done": list(not_done)})
        self.state(RestoreState.COMPLETED)

    def _write(self, document: Mapping[str, Any]) -> None:
        line = json.dumps({**document, "at": utc_now().isoformat()}) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, _whole_lines(descriptor))
            os.lseek(descriptor, 0, os.SEEK_END)
            _write_all(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_journal(path: Path) -> Record:
    """Read a journal. Raises BackupError for a damaged one: nobody may guess what was done to a host."""
    try:
        text = path.read_bytes().decode()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return _record(path, lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"the restore journal {path} cannot be read: {error!r}",
            f"look at it (less {path}) and at what lies beside the data directory before anything else\n"
            f"  where that restore was finished, or undone to its end, move its folder out of the way: "
            f"mv {path.parent} {path.parent}.unreadable",
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
    """Damaged journals of restores that are over all the same, which list_restores passes over.

    Nobody wrote to such a journal since a later restore began, and none begins in the middle of another, or
    of its undo. A damaged journal that this cannot be said of is unknown, and keeps everything from starting.
    """
    records, damaged = _read_all(folder)
    return [path for path in damaged if _is_over(path, records)]


def find_unfinished(folder: Path) -> list[Record]:
    """The restores that ended in the middle, or whose undo did."""
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
        return True  # whoever reads it says what is wrong


def _whole_lines(descriptor: int) -> int:
    """Where the last whole line ends."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return content.rfind(b"\n") + 1


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
