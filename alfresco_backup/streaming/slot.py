"""The replication slot of this host on its server: made, asked, dropped. Slots of other names are left alone.

A slot keeps the WAL that was not received yet, on the server's own disk. From 13 on max_slot_wal_keep_size
can limit that; where nothing does, the slot has to go before that disk is full, or the server stops.
"""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import quoted_literal
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.system.waiting import wait_until

LONGEST = 63
"""NAMEDATALEN - 1: PostgreSQL refuses longer names of slots."""
PREFIX = "alfresco_backup_"
DROP_SECONDS = 10.0
SCARCE = 10
"""Percent of a disk; with less free than this the disk guard looks at what the slot keeps."""


@dataclass(frozen=True)
class Slot:
    """What the server says of the slot and of who receives from it, at `moment` (its own clock).

    `active`: somebody does. `restart` is where the WAL begins that it keeps; None where it keeps none yet.
    `status` is wal_status, empty before 13. `flushed`: up to where the receiver has it on disk; None while
    nobody receives. `lag` is how many seconds that was behind, as the server measured it last; None before
    10, and until it has measured. A server at rest, and one that gets no answer, go on saying the last
    one: `silence` is for how many seconds nothing was heard of the receiver; None before 12. `catching_up`:
    it has not been sent yet what was written before it connected, so that `lag` tells nothing. `current` is
    how far the server's WAL was written. `limited`: max_slot_wal_keep_size limits what it keeps.
    """

    moment: datetime
    current: Lsn
    active: bool = False
    restart: Lsn | None = None
    status: str = ""
    flushed: Lsn | None = None
    lag: float | None = None
    limited: bool = False
    catching_up: bool = False
    silence: float | None = None

    @property
    def kept(self) -> int:
        """The bytes of WAL that the server keeps for it."""
        return max(0, self.current - self.restart) if self.restart else 0

    @property
    def behind(self) -> int | None:
        """The bytes that are on the server's disk only; None while nobody receives."""
        return None if self.flushed is None else max(0, self.current - self.flushed)

    @property
    def age(self) -> float | None:
        """How many seconds old the oldest commit is at most that is on the server only; None if unknown.

        What was written since the receiver last answered may be as old as that answer. Before 12 that is not
        known: then it is the lag as it was measured last.
        """
        if self.behind is None or self.catching_up:
            return None
        if self.behind == 0:
            return 0.0
        return None if self.lag is None else self.lag + (self.silence or 0.0)

    @property
    def heard_ago(self) -> float:
        """How many seconds ago the receiver had on disk all that the server had written."""
        return (self.silence or 0.0) if self.behind else 0.0


def slot_name(host_name: str) -> str:
    """The name of a host's slot: letters, digits and underscores are all that PostgreSQL takes."""
    return (PREFIX + re.sub(r"[^a-z0-9]", "_", host_name.lower()))[:LONGEST]


def read_slot(host: Host) -> Slot | None:
    """Ask the server; None where it has no such slot. Raises ToolFailed."""
    facts, name = host.server, quoted_literal(slot_name(host.name))
    status = "s.wal_status" if facts.limits_slots else "''"
    silence = f"extract(epoch FROM clock_timestamp() - {facts.reply_time})"
    limit = "(SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size')"
    rows = host.superuser_database.query(
        f"SELECT clock_timestamp(), {facts.current_lsn}(), s.active, s.restart_lsn, {status},"
        f" r.{facts.flush_lsn}, extract(epoch FROM {facts.flush_lag}), {limit}, r.state, {silence}"
        f" FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.application_name = s.slot_name"
        f" WHERE s.slot_name = {name} ORDER BY r.{facts.flush_lsn} DESC NULLS LAST"
    )
    if not rows:
        return None
    moment, current, active, restart, wal_status, flushed, lag, keep, state, silent = rows[0]
    return Slot(
        datetime.fromisoformat(moment),
        Lsn.parse(current),
        active == "t",
        Lsn.parse(restart) if restart else None,
        wal_status,
        Lsn.parse(flushed) if flushed and active == "t" else None,
        float(lag) if lag else None,
        keep not in ("", "-1"),
        state != "streaming",
        float(silent) if silent else None,
    )


def make_slot(host: Host) -> None:
    """Make it, and have it keep WAL from now on, where the version can. Raises ToolFailed."""
    name = quoted_literal(slot_name(host.name))
    at_once = ", true" if host.server.reserves_slots else ""
    host.superuser_database.value(f"SELECT pg_create_physical_replication_slot({name}{at_once})")


def drop_slot(host: Host) -> None:
    """Drop it; who receives from it is disconnected first. Does nothing where there is none.

    Raises ToolFailed, and NotInTime where it goes on being used.
    """
    name, server = quoted_literal(slot_name(host.name)), host.superuser_database
    slot = f"FROM pg_replication_slots WHERE slot_name = {name}"

    def dropped() -> bool:
        server.query(f"SELECT pg_drop_replication_slot(slot_name) {slot} AND NOT active")
        return not server.query(f"SELECT 1 {slot}")

    server.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = {name}")
    wait_until(dropped, DROP_SECONDS, f"replication slot {slot_name(host.name)} is still in use")


def must_go(slot: Slot, free: int, total: int) -> bool:
    """Whether the slot must be dropped before the server's disk is full.

    Only where nothing limits what it keeps, and where that is more than what is left: then it is the reason.
    """
    return not slot.limited and free * 100 < total * SCARCE and slot.kept > free


def guard_disk(host: Host, slot: Slot) -> str:
    """Drop the slot where it must go; what was done and why, empty for nothing. Raises ToolFailed."""
    folder = host.installation.data_directory / host.server.wal_directory
    free, total = _room(folder)
    if not must_go(slot, free, total):
        return ""
    drop_slot(host)
    return (
        f"replication slot {slot_name(host.name)} was dropped: it kept {slot.kept >> 20:,} MiB of WAL in "
        f"{folder}, where {free >> 20:,} of {total >> 20:,} MiB were free; WAL after {slot.restart} that was "
        "not received is missing from the stream"
    )


def room_is_scarce(host: Host) -> str:
    """Why no slot should be made now, by the room on the server's disk; empty where there is enough."""
    folder = host.installation.data_directory / host.server.wal_directory
    free, total = _room(folder)
    if free * 100 >= total * SCARCE:
        return ""
    return f"only {free >> 20:,} of {total >> 20:,} MiB are free in {folder}"


def _room(folder: Path) -> tuple[int, int]:
    numbers = os.statvfs(folder)
    return numbers.f_bavail * numbers.f_frsize, numbers.f_blocks * numbers.f_frsize
