"""Sends what the far side lacks: backup IDs, small ones together as one restic snapshot, and WAL."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TypeVar

from alfresco_backup.errors import BackupUnsound, HostNotReady, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.identity import read_machine_id
from alfresco_backup.offsite.engine import RESTIC, UNREAD, Engine, OnProgress
from alfresco_backup.offsite.far import (
    FarSide,
    FarSnapshot,
    read_far,
    require_own,
    tags_of,
    versions_of,
    without_unfinished,
)
from alfresco_backup.offsite.shipments import (
    Batch,
    Shipment,
    lost_days,
    metadata_paths,
    paths_of,
    plan_copy,
)
from alfresco_backup.postgres.wal_files import list_archive
from alfresco_backup.repository.catalogue import MAIN_STORE, read_catalogue
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.repository.marker import read_marker
from alfresco_backup.repository.sending import WAL, make_offsite_folder, noted_sending, read_notes
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import read_json, write_bytes, write_json
from alfresco_backup.system.folders import unlink
from alfresco_backup.times import utc_now

T = TypeVar("T")
CACHE = "cache"
TAKEN_OVER = "taken-over.json"


@dataclass(frozen=True)
class Watching:
    """Who watches what is being sent: a log file of restic's own output, and whom progress is told."""

    log: Path | None = None
    on_progress: OnProgress | None = None


@dataclass(frozen=True)
class Sent:
    """What has arrived: its IDs, the restic snapshot, the bytes that really were sent.

    `partly`: days of it that sets refer to were not here, so it does not count.
    """

    stamps: tuple[str, ...]
    snapshot: str
    added_bytes: int
    partly: bool = False


class _SentPartly(Exception):
    """Leaves the note of what is being sent: what is there does not count, and is sent again."""

    def __init__(self, sent: Sent) -> None:
        super().__init__(*sent.stamps)
        self.sent = sent


def engine_of(host: Host) -> Engine:
    """The host's engine, its cache in BACKUP_DIR/offsite. Raises SettingsError and HostNotReady."""
    return Engine.of(host.settings, offsite_folder(host.repository) / CACHE)


def offsite_folder(repository: Repository) -> Path:
    """What the off-site copy notes and caches here; it is not part of the repository and is never sent."""
    return repository.offsite


def init(engine: Engine) -> bool:
    """Make the off-site repository where there is none; whether it was made. Raises as Engine.run."""
    try:
        engine.run("cat", "config", "--no-lock")
        return False
    except HostNotReady:
        engine.run("init")
        return True


def begin(host: Host, engine: Engine) -> tuple[FarSide, tuple[Shipment, ...]]:
    """What is there, and what is to be sent. Raises Refused where another machine has this host's name."""
    far = read_own(host, engine)
    catalogue = read_catalogue(host.repository)
    lost = {stamp for of_set in lost_days(host.repository, catalogue, far).values() for stamp in of_set}
    planned = plan_copy(catalogue, far)
    return far, tuple(replace(item, partly=item.stamp in lost) for item in planned)


def read_own(host: Host, engine: Engine) -> FarSide:
    """What of this host is there and counts. Raises Refused where another machine has this host's name."""
    return without_unfinished(read_there(host, engine), read_notes(host.repository))


def read_there(host: Host, engine: Engine) -> FarSide:
    """All that is there of this host, what does not count as well. Raises Refused as `read_own`."""
    far = read_far(engine, host.name)
    require_sender(host, far)
    return far


def require_sender(host: Host, far: FarSide) -> None:
    """Raise Refused where another machine sends its copies under this host's name."""
    repositories, machines = (_taken_over(host.repository, what) for what in ("repositories", "machines"))
    require_own(far, (read_marker(host.repository), *repositories), (this_machine(), *machines))


def this_machine() -> str:
    """What the copies of this machine are marked with; its ID itself is to be kept secret (machine-id(5))."""
    machine = read_machine_id()
    return sha256(f"alfresco-backup {machine}".encode()).hexdigest()[:16] if machine else ""


def _taken_over(repository: Repository, what: str) -> tuple[str, ...]:
    """The repositories or machines whose copies under this host's name somebody said are its own."""
    try:
        return tuple(map(str, read_json(repository.offsite / TAKEN_OVER)[what]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def take_over(host: Host, engine: Engine) -> tuple[str, ...]:
    """Let this host go on from the copies that another BACKUP_DIR or machine sent under its name; which those
    are. The machine that sent them is refused from this host's next copy on.
    """
    far = read_far(engine, host.name)
    others = sorted(far.identities - {read_marker(host.repository)})
    machines = sorted(far.machines - {this_machine()})
    make_offsite_folder(host.repository)
    write_json(host.repository.offsite / TAKEN_OVER, {"repositories": others, "machines": machines})
    return (*others, *(f"machine {name}" for name in machines))


def with_sent(host: Host, far: FarSide, sent: Iterable[Sent]) -> FarSide:
    """What is there once these sets have arrived, without asking again."""
    identity = read_marker(host.repository)
    new = (
        FarSnapshot(item.snapshot, utc_now(), host.name, "set", stamp, identity)
        for item in sent
        if not item.partly
        for stamp in item.stamps
    )
    return FarSide(far.host, (*far.snapshots, *new))


def require_whole(host: Host, far: FarSide) -> None:
    """Raise BackupUnsound where a set here refers to days that are neither here nor there.

    To be called once everything was sent: such a set can be restored from nowhere.
    """
    lost = lost_days(host.repository, read_catalogue(host.repository), far)
    if not lost:
        return
    days = sorted({day for of_set in lost.values() for paths in of_set.values() for day in paths})
    more = f" and {len(days) - 3} more" if len(days) > 3 else ""
    raise BackupUnsound(
        f"{len(lost)} sets cannot be made whole off-site, all else was sent: {', '.join(sorted(lost))} "
        f"refer to {', '.join(days[:3])}{more}, which are neither in {host.repository.root} nor there",
        f"ls -ld {shlex.quote(str(host.repository.root / days[0]))}  # where it can be brought back\n"
        f"{program_command('backup', '--full')}  # copies these days again, for the sets from then on",
    )


def stores_in(repository: Repository) -> tuple[str, ...]:
    """The content stores that the repository has copies of."""
    others = sorted(path.name for path in (repository.root / "stores").glob("*") if path.is_dir())
    return (MAIN_STORE, *others)


def send_together(host: Host, engine: Engine, batch: Batch, watching: Watching) -> Iterator[Sent]:
    """Send what runs made as one restic snapshot, with the metadata of all sets; yields what has arrived.

    What nothing needs any more, or is not here, is left out. Retention keeps it meanwhile. A file that
    vanished all the same is looked at once more. Where something of several IDs cannot be read each is sent
    alone, so that one does not keep the others here. Raises what Engine.send raises, of those the first.
    """
    try:
        sent = _send_noted(host, engine, batch, watching)
    except ToolFailed as error:
        if error.returncode != UNREAD or len(batch) == 1:
            raise
        yield from _send_each(host, engine, batch, watching)
        return
    if sent:
        yield sent


def _send_each(host: Host, engine: Engine, batch: Batch, watching: Watching) -> Iterator[Sent]:
    unread: list[ToolFailed] = []
    for shipment in batch:
        try:
            yield from send_together(host, engine, (shipment,), watching)
        except ToolFailed as error:
            if error.returncode != UNREAD:
                raise
            unread.append(error)
    if unread:
        raise unread[0]


def _send_noted(host: Host, engine: Engine, batch: Batch, watching: Watching) -> Sent | None:
    try:
        with ExitStack() as notes:
            for item in batch:
                stamps = {item.stamp, *item.needed_by}
                notes.enter_context(noted_sending(host.repository, item.stamp, stamps, utc_now()))
            needed = _needed(host.repository, batch)
            sent = _twice(lambda: _send_sets(host, engine, needed, watching))
            if sent and any(item.partly for item in batch):
                raise _SentPartly(replace(sent, partly=True))
            return sent
    except _SentPartly as partly:
        return partly.sent


def _needed(repository: Repository, batch: Batch) -> Batch:
    """Those that a set still needs. The sets of the plan are asked first: days are read from their files."""
    sets = read_catalogue(repository).sets

    def is_needed(shipment: Shipment) -> bool:
        likely = [item for item in sets if item.stamp in shipment.needed_by]
        return any(shipment.stamp in versions_of(item) for item in (*likely, *sets))

    return tuple(filter(is_needed, batch))


def _send_sets(host: Host, engine: Engine, batch: Batch, watching: Watching) -> Sent | None:
    stores = stores_in(host.repository)
    found = {item.stamp: paths_of(host.repository, item.stamp, stores) for item in batch}
    own = {stamp: paths for stamp, paths in found.items() if paths}
    if not own:  # a snapshot of nothing would count
        return None
    paths = dict.fromkeys((*chain(*own.values()), *metadata_paths(host.repository, stores)))
    tags = tags_of("set", read_marker(host.repository), own, machine=this_machine())
    sent = _send(host, engine, Sending((*own,), tags, list(paths)), watching)
    left = {path for stamp in own for path in paths_of(host.repository, stamp, stores)}
    vanished = set(chain(*own.values())) - left
    if vanished:  # restic passes over names that are gone when it starts, and says nothing
        raise ToolFailed(RESTIC, UNREAD, "\n".join(f"{path} vanished" for path in sorted(vanished)))
    return sent


def _twice(send: Callable[[], T]) -> T:
    """Send again what could not be read at first: retention may have removed a file meanwhile."""
    try:
        return send()
    except ToolFailed as error:
        if error.returncode != UNREAD:
            raise
    return send()


def send_wal(host: Host, engine: Engine, watching: Watching) -> Sent:
    """Send the WAL archive as it is now.

    Raises HostNotReady where there is none, what Engine.send raises, and Refused as `begin`.
    """
    read_own(host, engine)
    with noted_sending(host.repository, WAL, (), utc_now()):
        return _twice(lambda: _send_wal(host, engine, watching))


def _send_wal(host: Host, engine: Engine, watching: Watching) -> Sent:
    if not is_there(host.repository.wal):  # a snapshot without it would pass for one of it
        raise HostNotReady(
            f"there is no WAL archive at {host.repository.wal}; its disk may not be mounted",
            f"namei -l {shlex.quote(str(host.repository.wal))}",
        )
    paths = [host.repository.wal, host.repository.timelines, host.repository.marker]
    there = [path.relative_to(host.repository.root) for path in paths if path.exists()]
    files = list_archive(host.repository.wal)
    first = min((file.wal_name[8:24] for file in files if file.kind == "segment"), default="")
    identity = read_marker(host.repository)
    tags = tags_of(
        "wal",
        identity,
        first_wal=first,
        wal_files=str(len(files)),
        older_wal=older_wal([file.wal_name for file in files if file.kind == "segment"]),
        machine=this_machine(),
    )
    return _send(host, engine, Sending((WAL,), tags, there), watching)


def older_wal(segments: Iterable[str]) -> str:
    """A short name of all segments up to the first one of the newest unbroken run; empty without any.

    Two archives of the same one have these segments in common; the newest run only grows.
    """
    names = sorted(set(segments))
    begin = len(names) - 1
    while begin > 0 and _follows(names[begin - 1], names[begin]):
        begin -= 1
    return sha256("\n".join(names[: begin + 1]).encode()).hexdigest()[:16] if names else ""


def _follows(before: str, name: str) -> bool:
    """Whether a segment is the next one, whatever the size of segments."""
    one, other = (int(each[8:], 16) for each in (before, name))
    wrapped = name[16:] == "00000000" and int(name[8:16], 16) == int(before[8:16], 16) + 1
    return before[:8] == name[:8] and (other == one + 1 or wrapped)


@dataclass(frozen=True)
class Sending:
    """What becomes one restic snapshot: paths relative to BACKUP_DIR, and its tags."""

    names: tuple[str, ...]
    tags: str
    paths: list[Path]


def _send(host: Host, engine: Engine, sending: Sending, watching: Watching) -> Sent:
    make_offsite_folder(host.repository)
    folder = offsite_folder(host.repository)
    listed = folder / f"{sending.names[0]}.list"
    write_bytes(listed, b"".join(bytes(path) + b"\n" for path in sending.paths), 0o600)
    try:
        summary = engine.send(
            *("--host", host.name, "--tag", sending.tags, "--exclude", "*.partial"),
            *("--files-from-verbatim", str(listed)),
            directory=host.repository.root,
            timeout_seconds=host.settings.contentstore_limit_hours * 3600,
            log=watching.log,
            on_progress=watching.on_progress,
        )
    finally:
        unlink(listed, missing_ok=True)
    return Sent(sending.names, str(summary["snapshot_id"]), int(summary["data_added"]))
