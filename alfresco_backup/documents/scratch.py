"""The recovered database that is searched: its folder, how long it stays, its server.

It is made by the machinery of restore drills, in a folder of its own beside theirs, and answers on a Unix
socket only, read only. It stays DOCUMENTS_SCRATCH_HOURS after it was last used: as a hot standby that is
paused at its target time where that is possible, so that a later time is reached from there. Its server is a
child of the run that searches, and dies with it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alfresco_backup.drill.place import drill_folder, recoveries_in
from alfresco_backup.drill.plan import DrillPlan, Scratch
from alfresco_backup.drill.server import remove_drill, scratch_host
from alfresco_backup.errors import BackupError, HostBusy, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import OneOff, start_one_off
from alfresco_backup.host.service_control import (
    require_server_down,
    server_programs,
    server_watch,
    stop_service,
)
from alfresco_backup.host.services import service_environment
from alfresco_backup.postgres.programs import data_directory_version
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.planning.plan_database import SAVED_WAL
from alfresco_backup.restore.recovery.recovery_files import RECOVERY_LOG, own_settings
from alfresco_backup.system.accounts import owner_of
from alfresco_backup.system.files import fsync_directory, read_json, write_json
from alfresco_backup.system.locks import holder_of, note_holder, open_lock_file, take_lock
from alfresco_backup.system.processes import Child, Command, start_with_parent
from alfresco_backup.system.waiting import wait_until
from alfresco_backup.times import make_stamp

PREFIX = "documents-"
STATE = "scratch.json"
LOCK = ".documents.lock"
SERVER_LOG = "server.log"
READ_ONLY = {"default_transaction_read_only": "on"}
ENDLESS_SECONDS = 365 * 24 * 3600.0
DISK_BLOCK = 512


@dataclass(frozen=True)
class ScratchDatabase:
    """A recovered database that is kept. `asked`: the target time or backup ID it was recovered for.

    `host`: whose it is, since hosts of one machine may share DRILL_DIR. `time`: nothing in it was committed
    later. `reached`: what was reached, in words. `paused`: replay can go on from there, along `timeline`.
    """

    scratch: Scratch
    host: str
    asked: str
    base: str
    reached: str
    used_at: datetime
    kind: str
    time: datetime
    timeline: int
    system_identifier: str
    paused: bool

    @property
    def target(self) -> Target:
        """Where its replay stops whenever its server is started."""
        return Target("immediate") if self.kind == "immediate" else Target("time", self.time)

    @property
    def recovery_log(self) -> Path:
        return self.scratch.restores / self.scratch.stamp / SAVED_WAL / RECOVERY_LOG

    def leads_to(self, decided: DrillPlan) -> bool:
        """Whether replay that goes on from here comes to what is decided, reading no more WAL than planned.

        It is on the way: of the same cluster and timeline, behind the base backup, not behind the target.
        """
        database = decided.database
        return (
            self.paused
            and database.target.kind == "time"
            and database.timeline == self.timeline
            and database.base.system_identifier == self.system_identifier
            and database.base.stopped_at <= self.time <= decided.target_time
        )


class ScratchServer:
    """The server of a recovered database, a child of this process: it dies with it, also by kill -9.

    Or a one-off container, which ends with it.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._host: Host | None = None
        self._child: Child | None = None
        self._alive: Callable[[], bool] = lambda: False

    def start(self, host: Host, output: Path) -> None:
        """Start it; does not wait until it answers. Raises BackupError where one may run there."""
        self._reap()
        require_server_down(host)
        if host.settings.pg_container:
            start_one_off(host, _one_off(host, output))
            self._host, self._alive = host, server_watch(host)
            return
        directory = host.installation.data_directory
        program = server_programs(host, data_directory_version(directory)).path("postgres")
        command = Command(
            (program, "-D", str(directory)), ENDLESS_SECONDS, service_environment(), owner_of(directory)
        )
        child = start_with_parent(command, output)
        self._host, self._child = host, child
        self._alive = lambda: child.process.poll() is None

    def wait(self) -> None:
        """Wait until it answers. Raises BackupError where it does not within SERVICE_STOP_MINUTES."""
        if self._host is None:
            raise BackupError("the server of the recovered database was not started")
        database = self._host.database
        said = ""

        def answers() -> bool:
            nonlocal said
            try:
                return database.value("SELECT 1") == "1"
            except ToolFailed as error:
                said = error.message
                if not self._alive():
                    raise BackupError(f"the server of the recovered database ended: {said}") from error
                return False

        limit = self._host.settings.service_stop_minutes * 60
        wait_until(answers, limit, lambda: f"the server of the recovered database does not answer: {said}")

    def stop(self) -> None:
        """Stop it; does nothing where it has ended."""
        try:
            if self._host is not None:
                stop_service(self._host, "postgresql", self.log)
        finally:
            self._host = None
            self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


def _one_off(host: Host, output: Path) -> OneOff:
    """What a one-off container needs for a database beside the host's: its folder, and the archive."""
    directory = host.installation.data_directory
    return OneOff(
        folder=directory.parent,
        sockets=Path(host.settings.pghost),
        log=output,
        writable=(directory.parent,),
        readable=(host.repository.wal,),
        settings=own_settings(directory, owner_of(directory)),
    )


@contextmanager
def scratch_server(log: Path) -> Iterator[ScratchServer]:
    """A server that is stopped in the end, whatever happened."""
    server = ScratchServer(log)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def searching(host: Host) -> Iterator[None]:
    """Keep other searches of this host out. Raises HostBusy where one is running."""
    descriptor = open_lock_file(drill_folder(host) / LOCK)
    try:
        if not take_lock(descriptor):
            raise HostBusy(
                f"another search for documents of {host.name}, or an upload, is running: "
                f"{holder_of(descriptor)}",
                f"ps -fp {holder_of(descriptor).rpartition(' ')[2]}",
            )
        note_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


def kept_databases(host: Host) -> list[ScratchDatabase]:
    """The recovered databases that are complete, the one used last first; also those of other hosts."""
    found = []
    for root in _roots(host):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_read(root))
    return sorted(found, key=lambda item: item.used_at, reverse=True)


def remove_old(host: Host, now: datetime, log: Path) -> list[str]:
    """Remove what was not used for DOCUMENTS_SCRATCH_HOURS, and what a killed search left; their names."""
    limit = timedelta(hours=host.settings.documents_scratch_hours)
    kept = {item.scratch.root for item in kept_databases(host) if now - item.used_at <= limit}
    gone = [root for root in _roots(host) if root not in kept]
    for root in gone:
        remove(host, _scratch(root), log)
    return [root.name for root in gone]


def remove_abandoned(host: Host, now: datetime, log: Path) -> list[str]:
    """The same for runs that search for nothing; while a search is running nothing is removed.

    Costs the listing of a folder where nothing is to be removed.
    """
    if not _roots(host):
        return []
    try:
        with searching(host):
            return remove_old(host, now, log)
    except HostBusy:
        return []


def remove_all(host: Host, log: Path) -> list[str]:
    """Remove every recovered database, to have room for another; their names."""
    gone = _roots(host)
    for root in gone:
        remove(host, _scratch(root), log)
    return [root.name for root in gone]


def remove(host: Host, scratch: Scratch, log: Path) -> None:
    """Stop its server, if it runs, and remove all of its folder; half removed it counts as incomplete."""
    (scratch.root / STATE).unlink(missing_ok=True)
    remove_drill(host, scratch, log)


def bytes_kept(host: Host) -> int:
    """The space that remove_all would free."""
    total = 0
    for root in _roots(host):
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(f"{folder}/{name}").st_blocks * DISK_BLOCK
    return total


def note_used(kept: ScratchDatabase, now: datetime) -> ScratchDatabase:
    """Note that a recovered database is complete and was used now."""
    used = replace(kept, used_at=now)
    state: dict[str, Any] = {name: value for name, value in vars(used).items() if name != "scratch"}
    for name in ("used_at", "time"):
        state[name] = state[name].isoformat()
    write_json(used.scratch.root / STATE, {"schema": 1, **state})
    return used


def note_unfinished(kept: ScratchDatabase) -> None:
    """Note that a database is about to be replayed further: until that is done it is of no known time."""
    (kept.scratch.root / STATE).unlink()
    fsync_directory(kept.scratch.root)


def is_current(host: Host, kept: ScratchDatabase) -> bool:
    """Whether it is of this host, and no restore of that has begun since.

    After one a time may mean another timeline.
    """
    if kept.host != host.name:
        return False
    restores = host.repository.restores(host.name)
    begun = [path.name for path in restores.iterdir()] if restores.is_dir() else []
    return all(name < make_stamp(kept.used_at) for name in begun)


def host_of(host: Host, kept: ScratchDatabase) -> Host:
    """The host whose server is that of a recovered database."""
    return scratch_host(host, kept.scratch)


def _read(root: Path) -> ScratchDatabase:
    state = {name: value for name, value in read_json(root / STATE).items() if name != "schema"}
    for name in ("used_at", "time"):
        state[name] = datetime.fromisoformat(state[name]).astimezone(UTC)
    return ScratchDatabase(_scratch(root), **state)


def _scratch(root: Path) -> Scratch:
    return Scratch(root.parent, root.name.removeprefix(PREFIX), PREFIX)


def _roots(host: Host) -> list[Path]:
    return recoveries_in(drill_folder(host), PREFIX)
