"""The journal of one `configure`: on disk before each change, so that whatever a kill left can be taken back.

BACKUP_DIR/configure/STAMP/journal.json, with copies of replaced files beside it; mode 0700, outside the data
directory and PostgreSQL's configuration, where a stray file of root would do harm.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.configure.changes import Change, change_document, change_of
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.system.files import fsync_directory, fsync_file, read_json, write_json
from alfresco_backup.times import parse_stamp

JOURNAL = "journal.json"
State = Literal["planned", "begun", "done", "undone", "left"]
"""`left`: taking it back was not possible or not needed; said to the person who asked."""


@dataclass
class Entry:
    """One change and how far it is. `was` and `became`: digests of a file; `access`: its owner and mode."""

    change: Change
    state: State = "planned"
    was: str = ""
    became: str = ""
    access: tuple[int, int, int] | None = None


class Journal:
    """What one `configure` does. `restart`: empty, `begun` or `done`; `alfresco`: it ran before that.

    `server_log`: the file to which the server wrote its messages before a restart by pg_ctl.
    """

    def __init__(self, directory: Path, entries: list[Entry], restart: str = "", *, alfresco: bool = False):
        self.directory = directory
        self.entries = entries
        self.restart = restart
        self.alfresco = alfresco
        self.undone = False
        self.server_log = ""

    @property
    def stamp(self) -> str:
        return self.directory.name

    @property
    def log(self) -> Path:
        """Output of what stops and starts services."""
        return self.directory / "output.log"

    def copy_of(self, entry: Entry) -> Path:
        """Where the copy of a file lies that the change replaced."""
        return (
            self.directory / f"{self.entries.index(entry) + 1}-{Path(getattr(entry.change, 'path', '')).name}"
        )

    def keep(self, entry: Entry, content: bytes) -> None:
        """Copy what a change is about to replace."""
        copy = self.copy_of(entry)
        copy.touch(mode=0o600)
        copy.write_bytes(content)
        fsync_file(copy)

    def note(self, entry: Entry, state: State) -> None:
        """Say how far a change is; on disk when this returns."""
        entry.state = state
        self.write()

    def write(self) -> None:
        """The whole journal, durably."""
        document = {
            "stamp": self.stamp,
            "restart": self.restart,
            "alfresco": self.alfresco,
            "undone": self.undone,
            "server_log": self.server_log,
            "changes": [
                {
                    **change_document(item.change),
                    "state": item.state,
                    "was": item.was,
                    "became": item.became,
                    "access": item.access,
                }
                for item in self.entries
            ],
        }
        write_json(self.directory / JOURNAL, document, mode=0o600)


def begin_journal(repository: Repository, stamp: str, changes: Iterable[Change]) -> Journal:
    """A journal on disk for changes none of which has begun. Raises BackupError."""
    directory = repository.configures / stamp
    try:
        repository.configures.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
        journal = Journal(directory, [Entry(change) for change in changes])
        journal.write()
        fsync_directory(repository.configures)
        fsync_directory(repository.root)
    except OSError as error:
        raise BackupError(
            f"the journal {directory} cannot be made, so nothing is changed: {error.strerror}",
            f"ls -ld {repository.root} {repository.configures}; run this as the account that made it",
        ) from error
    return journal


def stamps_of(repository: Repository) -> list[str]:
    """The stamps of all journals, oldest first. Raises BackupError where they cannot be listed."""
    try:
        if not is_there(repository.configures):
            return []
        return sorted(item.parent.name for item in repository.configures.glob(f"*/{JOURNAL}"))
    except OSError as error:
        raise BackupError(
            f"{repository.configures} cannot be listed: {error.strerror}", "run this as root"
        ) from error


def read_journal(repository: Repository, stamp: str) -> Journal:
    """The journal of a stamp. Raises Refused where there is none, BackupError for one that is damaged."""
    file = repository.configures / stamp / JOURNAL
    try:
        parse_stamp(stamp)
        document = read_json(file)
        return _journal(file.parent, document)
    except (FileNotFoundError, ValueError) as error:
        if file.is_file():
            said = "no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise BackupError(f"{file} is damaged: {said}", f"less {file}; copies lie beside it") from error
        named = ", ".join(stamps_of(repository)) or "none"
        raise Refused(
            f"there is no configure {stamp!r} to undo; there are: {named}", f"ls {repository.configures}"
        ) from error
    except (OSError, KeyError) as error:
        raise BackupError(f"{file} cannot be read: {error}", "run this as root") from error


def _journal(directory: Path, document: dict[str, Any]) -> Journal:
    entries = [
        Entry(
            change_of(item),
            item["state"],
            item["was"],
            item["became"],
            tuple(item["access"]) if item["access"] else None,
        )
        for item in document["changes"]
    ]
    journal = Journal(directory, entries, document["restart"], alfresco=bool(document["alfresco"]))
    journal.undone = bool(document["undone"])
    journal.server_log = str(document["server_log"])
    return journal
