"""The journal of a restore: what was done to the host, written down and on disk before it was done.

One JSON document a line. An *act* is written before the change it names, with all that an undo needs; `done`
follows. Whether an act without `done` happened is unknown, so an undo inspects the host: a renamed directory
is recognised by its device and inode, a new one by the restore's ID in its name. A line that a crash cut off
does not count: its act had not begun. At the end of this file: the changes that an undo can reverse.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.restore.journal.journal_record import (
    JOURNAL,
    Act,
    Created,
    MadeDirectory,
    Renamed,
    RestoreState,
    Touched,
)
from alfresco_backup.system import folders
from alfresco_backup.system.accounts import Account, is_acting
from alfresco_backup.system.files import SCHEMA_VERSION, fsync_directory
from alfresco_backup.times import utc_now


class Journal:
    """A journal to write to. Every line is on disk when its method returns; raises BackupError otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._touched: set[Path] = set()

    @classmethod
    def begin(cls, folder: Path, stamp: str, host: str, about: Mapping[str, Any]) -> "Journal":
        """Start a restore's journal in its folder, which must exist and must not have one yet."""
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
        self._append({"entry": "act", "act": type(act).__name__, **fields})

    def touch(self, folder: Path) -> None:
        """Write down a folder's time before something is made or renamed in it; once is enough."""
        if folder not in self._touched:
            self._touched.add(folder)
            self.act(Touched(folder, folder.stat().st_mtime_ns))

    def done(self, act: Act) -> None:
        """Write down that an act was carried out. For people: an undo inspects the host instead."""
        self._append({"entry": "done", "act": type(act).__name__})

    def step_started(self, step: str) -> None:
        self._append({"entry": "step", "step": step})

    def step_ended(self, step: str, seconds: float, error: str = "") -> None:
        self._append({"entry": "step-end", "step": step, "seconds": round(seconds, 3), "error": error})

    def step_failed(self, step: str, seconds: float, error: str) -> None:
        """Note why a step failed, if that can be written: the error itself tells more than a full disk."""
        with suppress(BackupError):
            self.step_ended(step, seconds, error)

    def state(self, state: RestoreState, then: str = "") -> None:
        """`then` is the command to type after freeing space, where a full disk makes writing fail."""
        self._append({"entry": "state", "state": state.value}, then)

    def accept(self, not_done: Sequence[str], then: str = "") -> None:
        """Count the restore as complete, though these steps were not done: an administrator says so."""
        self._append({"entry": "accepted", "not_done": list(not_done)}, then)
        self.state(RestoreState.COMPLETED, then)

    def _append(self, document: Mapping[str, Any], then: str = "") -> None:
        try:
            self._write(document)
        except OSError as error:
            folder = shlex.quote(str(self.path.parent))
            raise BackupError(
                f"the restore's journal {self.path} cannot be written: {error}; free space on its file "
                "system",
                "\n".join(filter(None, (f"df -h {folder}; df -i {folder}", then))),
            ) from error

    def _write(self, document: Mapping[str, Any]) -> None:
        line = json.dumps({**document, "at": utc_now().isoformat()}) + "\n"
        descriptor = folders.open_file(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, _whole_lines(descriptor))
            os.lseek(descriptor, 0, os.SEEK_END)
            _write_all(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole_lines(descriptor: int) -> int:
    """Where the last whole line ends."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return content.rfind(b"\n") + 1


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


# Changes to the host that an undo can reverse: each is in the journal, on disk, before it is made.


def restoring_name(path: Path, stamp: str) -> Path:
    """Where a restore builds what will be at `path`: beside it, on the same file system."""
    return path.with_name(f"{path.name}.restoring-{stamp}")


def rename(journal: Journal, source: Path, target: Path) -> None:
    """Rename on one file system; `target` must be free. Used to set aside and to put in place."""
    if os.path.lexists(target):
        raise BackupError(
            f"{source} cannot be renamed to {target}, which already exists",
            f"ls -ld {shlex.quote(str(target))}",
        )
    journal.touch(source.parent)
    journal.touch(target.parent)
    status = source.lstat()
    act = Renamed(source, target, status.st_dev, status.st_ino)
    journal.act(act)
    folders.rename(source, target)
    for directory in {source.parent, target.parent}:
        fsync_directory(directory)
    journal.done(act)


def make_directory(journal: Journal, path: Path, mode: int, owner: Account) -> None:
    """Make a new directory, with the restore's ID in its name, and what is missing above it."""
    make_parents(journal, path.parent, owner)
    journal.touch(path.parent)
    act = Created(path)
    journal.act(act)
    folders.make_folder(path, mode, owner)
    fsync_directory(path.parent)
    journal.done(act)


def make_parents(journal: Journal, directory: Path, owner: Account) -> None:
    """Make the directories that are missing on the way to a place, from the top down."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        journal.touch(path.parent)
        act = MadeDirectory(path)
        journal.act(act)
        folders.make_folder(path, 0o755, owner)
        fsync_directory(path.parent)
        journal.done(act)


def give(path: Path, owner: Account) -> None:
    """Give what is in a folder of root's to an account; an ordinary user's has its only possible owner."""
    if os.geteuid() == 0 and not is_acting():
        with folders.parent_of(path) as (parent, name):
            os.chown(name, owner.uid, owner.gid, dir_fd=parent, follow_symlinks=False)
