"""The service that receives WAL: keeps pg_receivewal running, and its finished segments going to the archive.

Every end of pg_receivewal is followed by another start a moment later, whatever the reason: a server that
restarts, a network that is down, a disk that is full. What only the server could resend and does not have any
more is noted as lost; the next base backup makes the archive whole again.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from alfresco_backup.errors import BackupError, HostBusy, HostNotReady, Refused, SettingsError, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import (
    Identity,
    connection_environment,
    identify_system,
    timeline_history,
)
from alfresco_backup.postgres.programs import Programs, find_programs
from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.postgres.versions import facts_of, label_of
from alfresco_backup.postgres.wal_files import Lsn, Segment, list_archive, read_segment_header
from alfresco_backup.repository.marker import require_known
from alfresco_backup.settings.commands import edit_setting, install_postgresql_command, program_command
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import Settings
from alfresco_backup.streaming.folder import FolderPlan, plan_folder
from alfresco_backup.streaming.slot import (
    Slot,
    drop_slot,
    guard_disk,
    make_slot,
    read_slot,
    room_is_scarce,
    slot_name,
)
from alfresco_backup.streaming.state import ReceiverState, read_receiver_state, write_receiver_state
from alfresco_backup.system.accounts import acting_as
from alfresco_backup.system.files import PARTIAL, fsync_directory
from alfresco_backup.system.folders import creating, make_folder, rename, unlink
from alfresco_backup.system.locks import holder_of, note_holder, open_lock_file, take_lock
from alfresco_backup.system.processes import Command, Watch, run
from alfresco_backup.times import utc_now
from alfresco_backup.wal.archive import archive_file, archived_path
from alfresco_backup.wal.archive_command import parse_archive_command
from alfresco_backup.wal.observe import SEGMENT_SIZE
from alfresco_backup.wal.timelines import read_timelines, write_timelines

FOREVER_SECONDS = 3650 * 86400.0
LOOK_SECONDS = 1.0
ASK_SECONDS = 10.0
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0
DEAF_SECONDS = 10.0
REFUSED_SECONDS = 5.0
EARLIER = "earlier"
"""Where files go that pg_receivewal must not see: of a timeline that was left, or of an odd size."""
LOCK = ".wal-receiver.lock"
_REMOVED = re.compile(r"(termination of replication|from WAL) stream: .*\b[0-9A-F]{24}\b")
_OTHER_WAY = re.compile(r"is not present in the server|\bSTART_REPLICATION\b.*\b[0-9A-F]+/[0-9A-F]+\b")


def cause_of(said: str) -> Literal["removed", "other way", ""]:
    """Why pg_receivewal ended, by its words, where it is to begin at another place; empty otherwise.

    "removed": the server has removed the segment; "other way": it was restored to an earlier time. Its words
    (walsender.c) are in any language, so what they name decides: a segment it no longer has; a position that
    is not in its history, or that it has not reached. Those before are receivelog.c's, run with LC_ALL=C.
    """
    if _REMOVED.search(said):
        return "removed"
    return "other way" if _OTHER_WAY.search(said) else ""


def receive(load: Callable[[], Host], tell: Callable[[str], None]) -> None:
    """Receive until it is interrupted. `load` gives the host as it is now, `tell` gets lines for the journal.

    Raises Refused where streaming is not wanted, or not any more, and HostBusy where another receiver runs,
    HostNotReady without a repository.
    """
    host = load()
    _require_wanted(host.settings)
    host.require_repository()
    require_known(host.repository)
    with _only_one(host):
        receiver = Receiver(host, tell)
        pause = PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                host = load()
                _require_wanted(host.settings)
                receiver.stream(host)
            except Refused:
                raise
            except (BackupError, OSError) as failure:
                receiver.note_failure(failure)
            pause = PAUSE_SECONDS if time.monotonic() - began > 60 else min(pause * 2, LONGEST_PAUSE_SECONDS)
            time.sleep(pause)


def _require_wanted(settings: Settings) -> None:
    """Raise Refused where no WAL is to be streamed, or not any more."""
    if not settings.wal_streaming:
        raise Refused("WAL streaming is not set up", edit_setting("WAL_STREAMING", "yes"))


@contextmanager
def _only_one(host: Host) -> Iterator[None]:
    """Hold the receiver's lock of the repository. Raises HostBusy with the process that holds it."""
    descriptor = open_lock_file(host.repository.logs / LOCK)
    try:
        if not take_lock(descriptor):
            holder = holder_of(descriptor)
            raise HostBusy(
                f"the WAL of {host.name} is received already, by {holder}",
                f"ps -fp {holder.rpartition(' ')[2]}",
            )
        note_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


def receiver_program(host: Host) -> Programs:
    """The folder whose pg_receivewal streams from the server. Raises HostNotReady naming those found."""
    server = host.server
    names = dict.fromkeys((server.receive_wal, "pg_receivewal"))
    found = [item for name in names for item in find_programs(host.settings, name)]
    for item in found:
        if server.receiver_suits(item.version):
            return item
    listed = ", ".join(f"{item.directory} ({label_of(item.version)})" for item in found) or "none"
    label = server.label.rpartition(".")[0]
    raise HostNotReady(
        f"no {server.receive_wal} works with the server {server.label}; it must be at least as new; "
        f"found: {listed}",
        f"{install_postgresql_command(label)}\n{edit_setting('PG_BINDIR')}  # or",
    )


def archive_options(host: Host) -> tuple[str, ...]:
    """How archive-wal is to write: as the server's own archive-wal does, or there would be both forms."""
    row = host.superuser_database.query(
        "SELECT current_setting('archive_mode'), current_setting('archive_command')"
    )[0]
    if row[0] == "off":
        return ("--zstd",)
    return ("--zstd",) if parse_archive_command(row[1]) and "--zstd" in row[1].split() else ()


@dataclass(frozen=True)
class Source:
    """The server as it was when pg_receivewal was started. `options`: see archive_options."""

    host: Host
    identity: Identity
    segment_size: int
    options: tuple[str, ...]

    @property
    def written(self) -> int:
        """The number of the segment that it was writing."""
        return Lsn.parse(self.identity.lsn).segment(self.segment_size)

    def fork(self) -> int:
        """The number of the segment in which its timeline began. Raises ToolFailed."""
        timeline = self.identity.timeline
        if timeline == 1:
            return 0
        text = timeline_history(self.host.database, timeline)
        return parse_history(timeline, text).fork.segment(self.segment_size)

    def kept_from(self) -> int:
        """The number of the segment from which on the slot keeps WAL. Raises ToolFailed."""
        slot = read_slot(self.host)
        return slot.restart.segment(self.segment_size) if slot and slot.restart else self.written

    def name(self, segment: Segment) -> str:
        return segment.name(self.segment_size)


def inspect_source(host: Host) -> Source:
    """Ask the server. Raises ToolFailed."""
    identity = identify_system(host.database)
    size = int(host.superuser_database.value(SEGMENT_SIZE))
    return Source(host, identity, size, archive_options(host))


class Receiver:
    """The work of one service, and what it knows from one start of pg_receivewal to the next."""

    def __init__(self, host: Host, tell: Callable[[str], None]) -> None:
        self.repository, self.tell = host.repository, tell
        self.folder = host.repository.wal_receiver
        self.slot = slot_name(host.name)
        try:
            known = read_receiver_state(self.repository)
        except (OSError, ValueError):
            known = None
        self.state = known or ReceiverState(self.slot)
        self.archived: set[str] = set()
        self.asked = self.refused = float("-inf")
        self.made = False
        self.deaf: float | None = None

    def stream(self, host: Host) -> None:
        """Run pg_receivewal once, to its end. Raises BackupError and OSError."""
        make_folder(self.folder, 0o700, host.account, exist_ok=True)
        source = inspect_source(host)
        self._require_cluster(source)
        self.made = self._require_slot(host)
        self.asked, self.deaf = float("-inf"), None
        self._note_timeline(source)
        began = self._prepare(source)
        try:
            run(
                self._command(host),
                on_line=self.tell,
                watch=Watch(LOOK_SECONDS, lambda: self._look(source)),
            )
        except ToolFailed as failure:
            if not self._begin_elsewhere(source, began, failure.tail):
                raise

    def note_failure(self, failure: BackupError | OSError) -> None:
        """Tell and note why nothing is received, or why the archive does not take it."""
        words = failure.message if isinstance(failure, BackupError) else str(failure)
        if words != self.state.error:
            self.tell(words)
        fix = failure.hint if isinstance(failure, BackupError) else ""
        since = self.state.failing_since or utc_now()
        fix = fix or program_command("doctor")
        self._note(replace(self.state, failing_since=since, error=words, fix=fix))

    def _note(self, state: ReceiverState) -> None:
        self.state = state
        try:
            write_receiver_state(self.repository, state)
        except OSError as problem:
            self.tell(f"{self.repository.receiver_state} cannot be written: {problem}")

    def _note_loss(self, words: str) -> None:
        self.tell(words)
        self._note(replace(self.state, lost_at=utc_now(), lost=words))

    def _command(self, host: Host) -> Command:
        program = receiver_program(host)
        name = host.server.receive_wal
        name = name if program.has(name) else "pg_receivewal"
        together = ("--synchronous",) if facts_of(program.version).synchronous_receive else ()
        argv = (program.path(name), "-D", str(self.folder), "-S", self.slot, *together, "-n", "-w")
        environment = connection_environment(host.settings) | {"PGAPPNAME": self.slot}
        return Command(argv, FOREVER_SECONDS, environment, host.account)

    def _require_cluster(self, source: Source) -> None:
        """Refuse the WAL of another cluster than that in the folder: pg_receivewal would go on with it."""
        own = source.identity.system_identifier
        with acting_as(source.host.account):
            for file in list_archive(self.folder):
                try:
                    theirs = read_segment_header(self.folder / file.name).system_identifier
                except (ValueError, OSError):
                    continue
                if theirs != own:
                    raise HostNotReady(
                        f"system identifier mismatch: server {own}, received WAL {theirs} in {self.folder}; "
                        "each cluster needs a folder of its own",
                        f"mv {self.folder} {self.folder}-{theirs}",
                    )

    def _require_slot(self, host: Host) -> bool:
        """Make a missing slot, and a new one in place of one that the server has given up. Whether it did."""
        slot = read_slot(host)
        if slot and slot.status == "lost":
            self._note_loss(f"the server has given up replication slot {self.slot}: max_slot_wal_keep_size")
            drop_slot(host)
            slot = None
        if slot is not None:
            return False
        if words := room_is_scarce(host):
            raise HostNotReady(f"replication slot {self.slot} is not made: {words}", "df -h")
        make_slot(host)
        self.tell(f"replication slot {self.slot} was made")
        return True

    def _note_timeline(self, source: Source) -> None:
        """Record which timeline the server is on: once it is gone, `latest` means that one."""
        known, identity = read_timelines(self.repository), source.identity
        live = known.with_live(identity.system_identifier, identity.timeline, utc_now())
        write_timelines(self.repository, live)

    def _prepare(self, source: Source) -> Segment:
        """Have pg_receivewal find where it is to go on; the segment it begins with."""
        self._file(source)
        plan = self._plan(source)
        self._move_away(source.host, plan.away)
        if plan.newest is None:
            start = Segment(source.identity.timeline, max(source.kept_from(), source.fork()))
            self._seed(source, start)
            return start
        return plan.newest.segment if plan.newest.partial else plan.newest.segment.next()

    def _begin_elsewhere(self, source: Source, began: Segment, said: str) -> bool:
        """Whether pg_receivewal ended because it cannot go on there, and is to begin at another place."""
        cause = cause_of(said)
        if cause == "other way":
            # A slot that was there knows where the receiver was; that of a restored server was made just now.
            number = source.fork() if self.made else max(source.fork(), source.kept_from())
            why = "the server is on another timeline, or back at an earlier time"
        elif cause == "removed":
            later = [each for each in (source.kept_from(), source.written) if each > began.number]
            if not later:
                return False
            number, why = later[0], "the server has removed the WAL before it"
        else:
            return False
        start = Segment(source.identity.timeline, number)
        self._file(source)
        self._leave_all(source)
        self._seed(source, start)
        self._note_loss(
            f"WAL is received from segment {source.name(start)} on, not from {source.name(began)}: {why}. "
            "The audit tells whether the archive has what is between; the next base backup needs none of it"
        )
        return True

    def _plan(self, source: Source) -> FolderPlan:
        with acting_as(source.host.account):
            return plan_folder(list_archive(self.folder), source.segment_size)

    def _file(self, source: Source) -> None:
        """Put finished segments into the archive. What it does not take is noted, and tried again later."""
        if time.monotonic() - self.refused < REFUSED_SECONDS:
            return
        plan = self._plan(source)
        for name in plan.finished:
            if name not in self.archived:
                try:
                    archive_file(source.host, self.folder / name, *source.options)
                except ToolFailed as failure:
                    self.refused = time.monotonic()
                    self.note_failure(failure)
                else:
                    self.archived.add(name)
        with acting_as(source.host.account):
            for name in plan.removable & self.archived:
                unlink(self.folder / name, missing_ok=True)
                self.archived.discard(name)

    def _look(self, source: Source) -> None:
        """What is done while pg_receivewal runs. Raises where it must be ended."""
        self._file(source)
        if time.monotonic() - self.asked < ASK_SECONDS:
            return
        with suppress(SettingsError):
            _require_wanted(load_settings())  # the slot can only be dropped once nobody receives
        try:
            slot = read_slot(source.host)
        except ToolFailed:
            self.asked = time.monotonic()
            return  # a server that is down ends pg_receivewal by itself
        dropped = guard_disk(source.host, slot) if slot else ""
        if dropped:
            self._note_loss(dropped)
            raise HostNotReady(dropped, program_command("doctor"))
        if slot and slot.flushed is not None:
            self.asked = time.monotonic()  # until then it is asked each time
            self._note_heard(slot, source)
        self._require_heard(slot)

    def _note_heard(self, slot: Slot, source: Source) -> None:
        """Note how far the commits are safe. One that is catching up has nothing to say of that yet."""
        state = self.state
        if not slot.catching_up:
            state = replace(
                state,
                system_identifier=source.identity.system_identifier,
                heard_at=utc_now() - timedelta(seconds=slot.heard_ago),
                flushed=str(slot.flushed),
                behind=slot.behind or 0,
                lag=slot.age,
            )
        if time.monotonic() - self.refused > 2 * REFUSED_SECONDS:
            state = replace(state, failing_since=None, error="", fix="")
        self._note(state)

    def _require_heard(self, slot: Slot | None) -> None:
        """End a pg_receivewal that waits for a server which has forgotten it: a connection can die unseen."""
        if slot and slot.active:
            self.deaf = None
        elif self.deaf is None:
            self.deaf = time.monotonic()
        elif time.monotonic() - self.deaf > DEAF_SECONDS:
            self.deaf = None
            raise HostNotReady(
                f"the server has no connection of the receiver since {DEAF_SECONDS:.0f} s; it connects again",
                program_command("doctor"),
            )

    def _leave_all(self, source: Source) -> None:
        """Empty the folder: what is in the archive is removed, the rest moved away."""
        with acting_as(source.host.account):
            names = [file.name for file in list_archive(self.folder) if file.kind != "history"]
            for name in self.archived.intersection(names):
                unlink(self.folder / name)
        self._move_away(source.host, [name for name in names if name not in self.archived])
        self.archived.difference_update(names)

    def _move_away(self, host: Host, names: Sequence[str]) -> None:
        """Move files into EARLIER, and remove there what the archive has whole by now, or is too old."""
        earlier = self.folder / EARLIER
        oldest = time.time() - host.settings.retention_days * 86400
        with acting_as(host.account):
            earlier.mkdir(0o700, exist_ok=True)
            for name in names:
                rename(self.folder / name, earlier / name)
                self.tell(f"{name} was moved to {earlier}")
            for file in list_archive(earlier):
                segment = file.wal_name.removesuffix(PARTIAL)
                if archived_path(host.repository.wal, segment) or file.modified.timestamp() < oldest:
                    unlink(earlier / file.name)
            fsync_directory(self.folder)

    def _seed(self, source: Source, start: Segment) -> None:
        """Choose where pg_receivewal begins."""
        path = self.folder / f"{source.name(start)}{PARTIAL}"
        with acting_as(source.host.account):
            creating(path, 0o600).close()
            fsync_directory(self.folder)
        self.tell(f"receiving from segment {source.name(start)} on")
