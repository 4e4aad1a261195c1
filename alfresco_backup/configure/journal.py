"""The journal of one `configure`: on disk before each change, so that whatever a kill left can be undone.

BACKUP_DIR/configure/ID/journal.json, with copies of replaced files beside it; mode 0700, outside the data
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
from alfresco_backup.system.files import fsync_directory, read_json, write_bytes, write_json
from alfresco_backup.system.folders import make_folder
from alfresco_backup.times import parse_stamp

JOURNAL = "journal.json"
State = Literal["planned", "begun", "done", "undone", "left"]
"""`left`: it could not or need not be undone; said to the person who asked."""


@dataclass
class Entry:
    """One change and how far it is. `became`: digest of an installed program; `access`: of the one before."""

    change: Change
    state: State = "planned"
    became: str = ""
    access: tuple[int, int, int] | None = None


@dataclass
class Journal:
    """What one `configure` does. `restart`: empty, `begun` or `done`; `alfresco`: it ran before that.

    `server_log`: the file to which the server wrote its messages before a restart by pg_ctl.
    """

    directory: Path
    entries: list[Entry]
    restart: str = ""
    alfresco: bool = False
    undone: bool = False
    server_log: str = ""

    @property
    def stamp(self) -> str:
        return self.directory.name

    @property
    def log(self) -> Path:
        """Output of what stops and starts services."""
        return self.directory / "output.log"

    def copy_of(self, entry: Entry) -> Path:
        """Where the copy of a file is that the change replaced."""
        name = Path(getattr(entry.change, "path", "")).name
        return self.directory / f"{self.entries.index(entry) + 1}-{name}"

    def keep(self, entry: Entry, content: bytes) -> None:
        """Copy what a change is about to replace."""
        write_bytes(self.copy_of(entry), content, 0o600)

    def note(self, entry: Entry, state: State) -> None:
        """Say how far a change is; on disk when this returns."""
        entry.state = state
        self.write()

    def write(self) -> None:
        """The whole journal, durably."""
        names = ("stamp", "restart", "alfresco", "undone", "server_log")
        document = {name: getattr(self, name) for name in names}
        document["changes"] = [
            change_document(item.change) | {"state": item.state, "became": item.became, "access": item.access}
            for item in self.entries
        ]
        write_json(self.directory / JOURNAL, document, mode=0o600)


def begin_journal(repository: Repository, stamp: str, changes: Iterable[Change]) -> Journal:
    """A journal on disk for changes none of which has begun. Raises BackupError."""
    directory = repository.configures / stamp
    try:
        make_folder(repository.configures, 0o700, exist_ok=True)
        make_folder(directory, 0o700)
        journal = Journal(directory, [Entry(change) for change in changes])
        journal.write()
        fsync_directory(repository.configures)
        fsync_directory(repository.root)
    except OSError as error:
        raise BackupError(
            f"the journal {directory} cannot be made, so nothing is changed: {error.strerror}",
            f"ls -ld {repository.root} {repository.configures}",
        ) from error
    return journal


def stamps_of(repository: Repository) -> list[str]:
    """The IDs of all journals, oldest first. Raises BackupError where they cannot be listed."""
    try:
        if not is_there(repository.configures):
            return []
        return sorted(item.parent.name for item in repository.configures.glob(f"*/{JOURNAL}"))
    except OSError as error:
        raise BackupError(
            f"{repository.configures} cannot be listed: {error.strerror}", "run it as root"
        ) from error


def read_journal(repository: Repository, stamp: str) -> Journal:
    """The journal of an ID. Raises Refused where there is none, BackupError for one that is damaged."""
    file = repository.configures / stamp / JOURNAL
    try:
        parse_stamp(stamp)
        return _journal(file.parent, read_json(file))
    except (FileNotFoundError, ValueError) as error:
        if file.is_file():
            said = "no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise BackupError(
                f"{file} is damaged: {said}", f"ls -l {file.parent}  # copies are beside it"
            ) from error
        named = ", ".join(stamps_of(repository)) or "none"
        raise Refused(
            f"there is no configure run {stamp!r} to undo; there are: {named}", f"ls {repository.configures}"
        ) from error
    except (OSError, KeyError) as error:
        raise BackupError(f"{file} cannot be read: {error}", "run it as root") from error


def _journal(directory: Path, document: dict[str, Any]) -> Journal:
    entries = [
        Entry(
            change_of(item), item["state"], item["became"], tuple(item["access"]) if item["access"] else None
        )
        for item in document["changes"]
    ]
    flags = (document[name] for name in ("restart", "alfresco", "undone", "server_log"))
    return Journal(directory, entries, *flags)
