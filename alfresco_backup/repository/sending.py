"""Notes of what is being sent off-site: retention keeps it meanwhile, and what was not finished never counts.

A note is a file of its own, `offsite/sending/NAME.json`, which the sender keeps locked as long as it lives
(system/locks.py): one without a lock was left by a run that failed or was killed. The sender writes its note
and reads the catalogue again; retention reads the notes again before it removes. While it does, it keeps new
notes from being written, so that one of the two always sees the other.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import make_folder, open_file, unlink
from alfresco_backup.system.locks import open_lock_file, take_lock

WAL = "wal"
LOCK = ".sending.lock"


@dataclass(frozen=True)
class SendingNote:
    """What is, or was, being sent: a backup ID or WAL, since when, and the IDs that must stay meanwhile."""

    name: str
    began_at: datetime
    stamps: frozenset[str]
    path: Path
    live: bool


def make_offsite_folder(repository: Repository) -> None:
    """Make the folder of notes, for BACKUP_DIR's owner: its runs read in it what is being sent."""
    make_folder(repository.offsite, 0o750, owner_of(repository.root), exist_ok=True)


@contextmanager
def noted_sending(repository: Repository, name: str, stamps: Iterable[str], now: datetime) -> Iterator[None]:
    """Note what is being sent while the block runs. Raises OSError.

    A block that raises leaves the note: what it may have left on the far side is not finished. A note that
    an earlier run left goes on from its time.
    """
    path = _folder(repository) / f"{name}.json"
    make_offsite_folder(repository)
    make_folder(path.parent, 0o750, owner_of(repository.root), exist_ok=True)
    left = [note for note in read_notes(repository) if note.name == name]
    began_at = min([now, *(note.began_at for note in left)])
    with no_new_notes(repository):
        with acting_as(owner_of(path.parent)):
            write_json(path, {"began_at": began_at.isoformat(), "backup_ids": sorted(stamps)})
        descriptor = open_lock_file(path)
        try:
            _lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield
        unlink(path, missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def no_new_notes(repository: Repository) -> Iterator[None]:
    """Keep notes from being written while the block runs.

    Where nothing was ever sent off-site, or the lock cannot be opened, there is nothing to keep out, or no
    way to: a file that vanishes while it is sent is looked at once more.
    """
    try:
        descriptor = open_lock_file(repository.offsite / LOCK) if is_there(repository.offsite) else None
    except OSError:
        descriptor = None
    if descriptor is None:
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def read_notes(repository: Repository) -> tuple[SendingNote, ...]:
    """All notes, left ones as well. Raises OSError when they cannot be listed."""
    folder = _folder(repository)
    if not is_there(folder):
        return ()
    found = (_read(path) for path in sorted(folder.iterdir()) if path.suffix == ".json")
    return tuple(note for note in found if note is not None)


def being_sent(repository: Repository) -> frozenset[str]:
    """The backup IDs that retention must not touch now. Raises OSError when notes cannot be listed."""
    return frozenset(stamp for note in read_notes(repository) if note.live for stamp in note.stamps)


def _folder(repository: Repository) -> Path:
    return repository.offsite / "sending"


def _read(path: Path) -> SendingNote | None:
    """None where the sender has finished meanwhile. What cannot be read is of the ID it is named after."""
    live = True
    try:
        live = _is_live(path)
        document = read_json(path)
        began_at = datetime.fromisoformat(str(document["began_at"]))
        stamps = frozenset(map(str, document["backup_ids"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        written = datetime.fromtimestamp(path.lstat().st_mtime).astimezone()
        return SendingNote(path.stem, written, frozenset({path.stem}), path, live)
    return SendingNote(path.stem, began_at, stamps, path, live)


def _is_live(path: Path) -> bool:
    descriptor = open_file(path, os.O_RDWR)
    try:
        return not take_lock(descriptor)
    except OSError:  # a file system without locks: a note counts until the next copy has sent it
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Wait for a lock that nobody holds for long; on a file system without locks go on."""
    try:
        take_lock(descriptor, wait=True)
    except OSError:
        return
