"""Pins: sets that retention never removes, each with the reason somebody gave.

A pin is a file of its own, `pins/ID.json`, so that two pins never overwrite each other. One whose text cannot
be read counts as a pin: its name says which set it is for.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import fsync_directory, read_json, write_json
from alfresco_backup.system.folders import make_folder, unlink
from alfresco_backup.system.json_fields import Text, Time, read_record, time_text
from alfresco_backup.times import for_people

SETS_NAMED = 10


@dataclass(frozen=True)
class Pin:
    """That the set `stamp` is to stay. `defect`: why its file could not be read, empty when it could."""

    stamp: Text
    path: Path
    reason: Text
    pinned_at: Time | None = None
    defect: str = ""


Pins = Mapping[str, Pin]


def pin_file(repository: Repository, stamp: str) -> Path:
    return repository.pins / f"{stamp}.json"


def read_pins(repository: Repository) -> dict[str, Pin]:
    """All pins by backup ID. Raises OSError when they cannot be listed: an unseen one would not count."""
    if not is_there(repository.pins):
        return {}
    files = sorted(path for path in repository.pins.iterdir() if path.suffix == ".json")
    return {path.stem: _read_pin(path) for path in files}


def pins_of(repository: Repository) -> dict[str, Pin]:
    """The pins. Raises BackupError when they cannot be listed."""
    try:
        return read_pins(repository)
    except OSError as error:
        raise BackupError(
            f"the pins in {repository.pins} cannot be listed: {error.strerror}",
            f"ls -ld {shlex.quote(str(repository.pins))}",
        ) from error


def _read_pin(path: Path) -> Pin:
    try:
        pin = read_record(Pin, read_json(path), path=path, defect="")
        if pin.stamp != path.stem:
            raise ValueError(f"it names the set {pin.stamp!r}")
        return pin
    except (OSError, ValueError) as error:
        said = "it is damaged" if isinstance(error, json.JSONDecodeError) else str(error)
        return Pin(path.stem, path, f"for a reason that cannot be read ({path.name})", defect=said)


def pin_set(repository: Repository, stamp: str, reason: str, now: datetime) -> Pin:
    """Pin a set; one that is pinned already gets the new reason. On disk when this returns.

    Raises Refused without a reason and for a set that is not there, naming those that are; BackupError when
    the pin cannot be written, or retention removed the set at the same time.
    """
    words = " ".join(reason.split())
    found = _find(read_catalogue(repository, now=now), stamp)
    if not words:
        raise Refused(
            "pin needs a reason: --reason 'before the upgrade'",
            program_command("pin", stamp, "--reason", "before the upgrade"),
        )
    file = pin_file(repository, stamp)
    with _writing(file):
        if not is_there(repository.pins):
            make_folder(repository.pins)
            fsync_directory(repository.root)
        write_json(file, {"stamp": stamp, "reason": words, "pinned_at": time_text(now)})
    left = {item.stamp: item for item in read_catalogue(repository, now=now).sets}.get(stamp)
    if left is None or _parts(left) != _parts(found):
        raise BackupError(f"set {stamp} was removed by retention while it was pinned", _status())
    return _read_pin(file)


def unpin_set(repository: Repository, stamp: str) -> Pin:
    """Remove a pin and return it. Raises Refused when there is none, naming those that are."""
    pins = pins_of(repository)
    if stamp not in pins:
        named = f"pinned are: {', '.join(sorted(pins))}" if pins else "nothing is pinned"
        raise Refused(f"set {stamp} is not pinned; {named}", _status())
    with _writing(pins[stamp].path):
        unlink(pins[stamp].path, missing_ok=True)
        fsync_directory(repository.pins)
    return pins[stamp]


def pin_words(pin: Pin) -> str:
    """`before the upgrade (since 2026-11-22 03:00:00 +01:00)`."""
    return f"{pin.reason} (since {for_people(pin.pinned_at)})" if pin.pinned_at else pin.reason


def _find(catalogue: Catalogue, stamp: str) -> BackupSet:
    for item in catalogue.sets:
        if item.stamp == stamp:
            return item
    damaged = next((item for item in catalogue.problems if item.path.name.endswith(f"-{stamp}")), None)
    if damaged:
        raise Refused(f"set {stamp} cannot be pinned: {damaged.path}: {damaged.reason}", _status())
    raise Refused(f"there is no set {stamp!r}; there are: {_newest(catalogue.sets)}", _status())


def _status() -> str:
    return program_command("status")


def _newest(sets: Iterable[BackupSet]) -> str:
    names = [item.stamp for item in sets][::-1]
    more = f" and {len(names) - SETS_NAMED:,} older" if len(names) > SETS_NAMED else ""
    return f"{', '.join(names[:SETS_NAMED])}{more}" if names else "none"


def _parts(item: BackupSet) -> set[Path]:
    return {part.path for part in item.parts}


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Around changes of a pin: OSError becomes a BackupError."""
    try:
        yield
    except OSError as error:
        raise BackupError(
            f"{file} cannot be changed: {error.strerror}; only root and the owner of BACKUP_DIR may",
            f"ls -ld {shlex.join((str(file.parent.parent), str(file.parent)))}",
        ) from error
