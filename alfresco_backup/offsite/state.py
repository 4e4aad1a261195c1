"""What runs note of the off-site copy, in BACKUP_DIR/offsite/state.json, for those who only look.

`status`, `doctor` and the alarm outside Prefect read it: they ask the far side nothing.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.errors import BackupError, HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.engine import shown
from alfresco_backup.offsite.far import FarSide
from alfresco_backup.offsite.locks import Action
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.json_fields import Text, Time, Whole, document_of, read_record
from alfresco_backup.system.locks import open_lock_file, take_lock
from alfresco_backup.times import utc_now
from alfresco_backup.wal.audit import audit
from alfresco_backup.wal.contents import INDEX, read_contents, read_index
from alfresco_backup.wal.timelines import read_timelines
from alfresco_backup.wal.window import Interval

STATE = "state.json"
LOCK = ".state.lock"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastRun:
    """An action's last success, in words, with the bytes it sent; and what has failed since then.

    `failing_since` is the first failure after the last success, `failed_at` the last one; both None for none.
    """

    succeeded_at: Time | None = None
    sentence: Text = ""
    sent_bytes: Whole = 0
    failing_since: Time | None = None
    failed_at: Time | None = None
    error: Text = ""
    fix: Text = ""


@dataclass(frozen=True)
class OffsiteState:
    """What is known of the copy in `repository`, which began to be used at `begun_at`.

    `whole` are the sets that are there with all they refer to, of `sets` that were here; `newest_complete` is
    the newest complete one of them, which was first seen to be there at `newest_complete_at`. `wal_segment`
    is the last segment that recovery can read there, `wal_until` the time up to which commits are safe. All
    as of the last run that asked. `stored_bytes` is what all snapshots there took when it was checked, at
    `measured_at`. `runs` goes by action.
    """

    repository: Text
    begun_at: Time
    whole: tuple[Text, ...] = ()
    sets: Whole = 0
    newest_complete: Text = ""
    newest_complete_at: Time | None = None
    wal_segment: Text = ""
    wal_until: Time | None = None
    runs: Mapping[Text, LastRun] = field(default_factory=dict)
    stored_bytes: Whole = 0
    measured_at: Time | None = None

    def run(self, action: Action) -> LastRun:
        return self.runs.get(action, LastRun())


@dataclass
class Noting:
    """What a run says of itself: a sentence and the bytes it sent."""

    sentence: str = ""
    sent_bytes: int = 0


def read_state(repository: Repository) -> OffsiteState | None:
    """What was noted; None where nothing was. Raises OSError, and ValueError for what is no state."""
    try:
        document = read_json(repository.offsite / STATE)
    except FileNotFoundError:
        return None
    return read_record(OffsiteState, document)


@contextmanager
def noted(host: Host, action: Action) -> Iterator[Noting]:
    """Note how an action ends. What the block raises goes on; a HostBusy is no failure and is not noted."""
    noting = Noting()
    try:
        yield noting
    except HostBusy:
        raise
    except BackupError as error:
        failure = error
        _note(host, lambda state, now: _with_run(state, action, _failed(state.run(action), failure, now)))
        raise
    done = LastRun(utc_now(), noting.sentence, noting.sent_bytes)
    _note(host, lambda state, _: _with_run(state, action, done))


def note_sets(host: Host, far: FarSide) -> None:
    """Note which sets are there with all they refer to."""
    catalogue = read_catalogue(host.repository)
    whole = tuple(item.stamp for item in catalogue.sets if far.has(item))
    newest = next((item.stamp for item in reversed(catalogue.complete_sets) if item.stamp in whole), "")

    def change(state: OffsiteState, now: datetime) -> OffsiteState:
        since = state.newest_complete_at if newest == state.newest_complete else now
        known = replace(state, whole=whole, sets=len(catalogue.sets))
        return replace(known, newest_complete=newest, newest_complete_at=since if newest else None)

    _note(host, change)


def note_wal(host: Host, reached: Interval | None) -> None:
    """Note how far the WAL archive reaches that was sent."""
    segment, until = (reached.last_segment, reached.end) if reached else ("", None)
    _note(host, lambda state, _: replace(state, wal_segment=segment, wal_until=until))


def note_size(host: Host, stored_bytes: int) -> None:
    """Note what the snapshots there take."""
    _note(host, lambda state, now: replace(state, stored_bytes=stored_bytes, measured_at=now))


def reach_of_wal(host: Host) -> Interval | None:
    """Up to when the archive can be restored as it is now; None where no base backup can be.

    To be asked before the archive is sent: what arrives meanwhile is then there too, and not told. Raises
    OSError where the archive cannot be listed.
    """
    repository, now = host.repository, utc_now()
    if not is_there(repository.wal):
        return None
    known = read_index(repository.logs / INDEX, repository.wal)
    contents = replace(
        read_contents(repository.wal, known, deep_seconds=0), timelines=read_timelines(repository)
    )
    wait = timedelta(minutes=host.settings.archive_wait_minutes)
    found = audit(contents, read_catalogue(repository).bases, None, now, wait)
    intervals = [interval for base in found.bases for interval in base.intervals]
    return max(intervals, key=lambda interval: interval.end, default=None)


def log_of(host: Host, action: Action) -> Path:
    """The log of restic's own output: one file an action and day, which goes when other logs go."""
    return host.repository.logs / f"offsite-{action}-{utc_now():%Y%m%d}.log"


def _failed(before: LastRun, error: BackupError, now: datetime) -> LastRun:
    since = before.failing_since or now
    return replace(before, failing_since=since, failed_at=now, error=error.message, fix=error.hint)


def _with_run(state: OffsiteState, action: Action, run: LastRun) -> OffsiteState:
    return replace(state, runs={**state.runs, action: run})


def _note(host: Host, change: Callable[[OffsiteState, datetime], OffsiteState]) -> None:
    """Change the state, alone. A disk that takes no note costs a warning, not the copy it would tell of.

    Another repository in the settings begins a state of its own.
    """
    repository, now = host.repository, utc_now()
    named = shown(host.settings.offsite_repository)
    if not named or not is_there(repository.root):
        return
    try:
        descriptor = open_lock_file(repository.offsite / LOCK)
        try:
            with suppress(OSError):  # a file system without locks: two runs at once may lose a note
                take_lock(descriptor, wait=True)
            before = _state_or_new(repository, named, now)
            write_json(repository.offsite / STATE, document_of(change(before, now)), 0o640)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.warning("what is off-site could not be noted: %s", error)


def _state_or_new(repository: Repository, named: str, now: datetime) -> OffsiteState:
    new = OffsiteState(named, now)
    try:
        state = read_state(repository)
    except ValueError:
        return new
    return state if state and state.repository == named else new
