"""Making one change and undoing it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure.changes import (
    AccessChange,
    FolderChange,
    InstallChange,
    LinesChange,
    SettingChange,
    StatementChange,
)
from alfresco_backup.configure.journal import Entry, Journal
from alfresco_backup.configure.places import access_of
from alfresco_backup.configure.superuser import in_database
from alfresco_backup.errors import BackupError, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.conf_file import AUTO_CONF, quoted, read_setting, without
from alfresco_backup.postgres.database import Database, quoted_literal
from alfresco_backup.settings.commands import configure_command
from alfresco_backup.system import folders
from alfresco_backup.system.accounts import ROOT, Account
from alfresco_backup.system.files import fsync_directory
from alfresco_backup.system.folders import creating, open_file, reading, remove_folder, rename, unlink

# The files that `configure` writes, in place: owner, mode, links and inode stay.
#
# No temporary file is ever made beside PostgreSQL's files: one of root's, left by a kill, ruins every base
# backup of 9.4. What is overwritten was copied before.


def set_access(path: Path, access: tuple[int, int, int]) -> None:
    uid, gid, mode = access
    folders.set_access(path, uid, gid, mode, follow=True)


def overwrite(path: Path, content: bytes) -> None:
    """New content for a file that is there, in place and flushed.

    Raises OSError before anything is touched where there is no room for it: the space is taken first; and
    where a link of another account leads root to it.
    """
    with os.fdopen(open_file(path, os.O_RDWR, follow=True), "r+b") as stream:
        if content:
            os.posix_fallocate(stream.fileno(), 0, len(content))
        stream.write(content)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def replace_program(path: Path, content: bytes, access: tuple[int, int, int]) -> None:
    """A program put in place whole: it may be running."""
    uid, gid, mode = access
    partial = partial_of_program(path)
    unlink(partial, missing_ok=True)
    with creating(partial, 0o600) as stream:
        stream.write(content)
        stream.flush()
        if os.geteuid() == ROOT:
            os.fchown(stream.fileno(), uid, gid)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    rename(partial, path)
    fsync_directory(path.parent)


def partial_of_program(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def content_of(path: Path) -> bytes:
    with reading(path) as stream:
        return stream.read()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lines_of(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").split("\n")


def bytes_of(lines: list[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "surrogateescape")


PROGRAM_MODE = 0o755
ENV_SUBJECT = ".env"


@dataclass(frozen=True)
class ChangeContext:
    """What a change is made with. `superuser` is None while the server is down."""

    host: Host
    superuser: Database | None
    journal: Journal

    @property
    def server(self) -> Database:
        if self.superuser is None:
            raise BackupError("PostgreSQL is down; it must run for this", "start PostgreSQL, then undo again")
        return self.superuser


def do(entry: Entry, context: ChangeContext) -> None:
    """Make one change, journalled before and after. Raises BackupError; what began can be undone."""
    change = entry.change
    try:
        if isinstance(change, LinesChange):
            _do_lines(entry, change, context.journal)
        elif isinstance(change, InstallChange):
            _do_install(entry, change, context.journal)
        else:
            context.journal.note(entry, "begun")
        if isinstance(change, SettingChange):
            context.server.value(f"ALTER SYSTEM SET {change.name} = {quoted_literal(change.value)}")
        elif isinstance(change, StatementChange):
            _do_statement(change, context)
        elif isinstance(change, FolderChange):
            make_folder(change)
        elif isinstance(change, AccessChange):
            set_access(Path(change.path), change.after)
    except OSError as error:
        raise BackupError(
            f"{change.subject} could not be changed: {error}", undo_words(context.journal)
        ) from error
    except ToolFailed as failure:
        said = failure.tail or failure.message
        raise BackupError(
            f"{change.subject} could not be changed: {said}", undo_words(context.journal)
        ) from failure
    context.journal.note(entry, "done")


def undo_words(journal: Journal) -> str:
    return configure_command("--undo", journal.stamp)


def make_folder(change: FolderChange) -> None:
    """The folder, with owner and mode; one that is there already is left as it is."""
    path = Path(change.path)
    if path.is_dir():
        return
    folders.make_folder(path, change.mode, Account(change.uid, change.gid))
    fsync_directory(path.parent)


@dataclass(frozen=True)
class Outcome:
    """What undoing came to. `trouble`: why it could not be done; `kept`: why it is better not done."""

    trouble: str = ""
    kept: str = ""


def undo_change(entry: Entry, context: ChangeContext) -> Outcome:
    """Undo one change as far as the present state is the one it made."""
    if isinstance(entry.change, FolderChange):
        return Outcome(kept=_undo_folder(entry.change))
    return Outcome(_undo(entry, context))


def _undo(entry: Entry, context: ChangeContext) -> str:
    """Undo it; what could not be, in words."""
    change = entry.change
    if isinstance(change, SettingChange):
        return _undo_setting(change, context)
    if isinstance(change, StatementChange):
        in_database(context.server, change.database).value(change.undo)
        return ""
    if isinstance(change, LinesChange):
        return _undo_lines(entry, change, context.journal)
    if isinstance(change, InstallChange):
        return _undo_install(entry, change, context.journal)
    if isinstance(change, AccessChange):
        return _undo_access(change)
    raise BackupError(f"{change.subject}: unknown kind of change; it cannot be undone")


def _do_statement(change: StatementChange, context: ChangeContext) -> None:
    database = in_database(context.server, change.database)
    database.value(change.statement)
    if change.password_of:
        database.set_password(change.password_of, context.host.settings.pgpassword.get_secret_value())


def _undo_setting(change: SettingChange, context: ChangeContext) -> str:
    file = context.host.installation.data_directory / AUTO_CONF
    text = content_of(file).decode("utf-8", "surrogateescape")
    present = read_setting(text, change.name)
    if present == change.before:
        return ""
    if present != change.value:
        was = "not set" if change.before is None else change.before
        return f"it was changed since, to {present or 'not set'}; before it was {was}"
    if context.superuser is None:  # a server that its settings keep from starting cannot be asked
        line = "" if change.before is None else f"{change.name} = {quoted(change.before)}\n"
        overwrite(file, (without(text, {change.name}) + line).encode("utf-8", "surrogateescape"))
    elif change.before is None:
        context.superuser.value(f"ALTER SYSTEM RESET {change.name}")
    else:
        context.superuser.value(f"ALTER SYSTEM SET {change.name} = {quoted_literal(change.before)}")
    return ""


def _do_lines(entry: Entry, change: LinesChange, journal: Journal) -> None:
    path = Path(change.path)
    before = content_of(path)
    lines = lines_of(before)
    end = change.position + len(change.removed)
    if tuple(lines[change.position : end]) != change.removed:
        raise BackupError(f"{path} was changed while configure read it", configure_command("--apply"))
    if change.subject != ENV_SUBJECT:  # passwords are not copied about; the change itself says what was there
        journal.keep(entry, before)
    journal.note(entry, "begun")
    overwrite(path, bytes_of([*lines[: change.position], *change.added, *lines[end:]]))


def _undo_lines(entry: Entry, change: LinesChange, journal: Journal) -> str:
    """By what is there: the added lines together, wherever they are now, or else the ones before."""
    path = Path(change.path)
    lines = lines_of(content_of(path))
    at = _position(lines, change.added, change.position)
    if at is not None:
        overwrite(path, bytes_of([*lines[:at], *change.removed, *lines[at + len(change.added) :]]))
        return ""
    found = [f"line {index}: {line}" for index, line in enumerate(lines, 1) if line in change.added]
    if not found and (not change.removed or _position(lines, change.removed, 0) is not None):
        return ""
    words = [f"remove {'; '.join(found)}"] if found else []
    words += [f"insert {'; '.join(change.removed)}"] if change.removed else []
    copy = journal.copy_of(entry)
    kept = f" (as it was: {copy})" if copy.exists() else ""
    return f"{path} was changed since; by hand: {', and '.join(words)}{kept}"


def _position(lines: list[str], wanted: tuple[str, ...], expected: int) -> int | None:
    """Where these lines are, one after the other: where they are expected, else anywhere."""
    places = (expected, *range(len(lines)))
    return next((at for at in places if tuple(lines[at : at + len(wanted)]) == wanted), None)


def _do_install(entry: Entry, change: InstallChange, journal: Journal) -> None:
    path, content = Path(change.path), Path(change.source).read_bytes()
    if path.exists():
        journal.keep(entry, content_of(path))
        entry.access = access_of(path)
    entry.became = digest(content)
    journal.note(entry, "begun")
    replace_program(path, content, (os.geteuid(), os.getegid(), PROGRAM_MODE))


def _undo_install(entry: Entry, change: InstallChange, journal: Journal) -> str:
    path = Path(change.path)
    unlink(partial_of_program(path), missing_ok=True)
    before = content_of(journal.copy_of(entry)) if entry.access else None
    present = content_of(path) if path.exists() else None
    if present == before:
        return ""
    if present is None or digest(present) != entry.became:
        return f"{path} was changed since"
    if before is not None and entry.access:
        replace_program(path, before, entry.access)
    else:
        unlink(path)
        fsync_directory(path.parent)
    return ""


def _undo_folder(change: FolderChange) -> str:
    path = Path(change.path)
    try:
        remove_folder(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} stays, it is not empty ({error.strerror})"
    fsync_directory(path.parent)
    return ""


def _undo_access(change: AccessChange) -> str:
    path = Path(change.path)
    present = access_of(path)
    if present is None:
        return f"{path} is missing"
    if any(
        now not in pair
        for now, pair in zip(present, zip(change.before, change.after, strict=True), strict=True)
    ):
        return f"{path} was changed since; before it was {change.old.partition(': ')[2]}"
    set_access(path, change.before)
    return ""
