"""The recovered database that is searched: its folder, how long it stays, its server.

It is made by the machinery of restore drills, in a folder of its own beside theirs, and answers on a Unix
socket only, read only. It stays DOCUMENTS_SCRATCH_HOURS after it was last used, so that a further search of
the same target time takes seconds; no server runs between two flows.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.drill.place import drill_folder
from alfresco_backup.drill.plan import Scratch
from alfresco_backup.drill.server import remove_drill, scratch_host
from alfresco_backup.errors import HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.host.postmaster import postmaster
from alfresco_backup.host.service_control import start_by_pg_ctl, stop_service
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.locks import holder_of, note_holder, open_lock_file, take_lock

PREFIX = "documents-"
STATE = "scratch.json"
LOCK = ".documents.lock"
SERVER_LOG = "server.log"
READ_ONLY = {"default_transaction_read_only": "on"}


@dataclass(frozen=True)
class ScratchDatabase:
    """A recovered database that is kept. `asked`: the target time or backup ID it was recovered for."""

    scratch: Scratch
    asked: str
    base: str
    reached: str
    used_at: datetime


@contextmanager
def searching(host: Host) -> Iterator[None]:
    """Keep other searches of this host out. Raises HostBusy where one is running."""
    descriptor = open_lock_file(drill_folder(host) / LOCK)
    try:
        if not take_lock(descriptor):
            raise HostBusy(
                f"another search for documents of {host.name} is running: {holder_of(descriptor)}",
                f"ps -fp {holder_of(descriptor).rpartition(' ')[2]}",
            )
        note_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


def kept_databases(host: Host) -> list[ScratchDatabase]:
    """The recovered databases that are complete, the one used last first."""
    found = []
    for root in _roots(host):
        with suppress(OSError, ValueError, KeyError):
            state = read_json(root / STATE)
            scratch = Scratch(root.parent, root.name.removeprefix(PREFIX), PREFIX)
            used_at = datetime.fromisoformat(state["used_at"])
            found.append(ScratchDatabase(scratch, state["asked"], state["base"], state["reached"], used_at))
    return sorted(found, key=lambda item: item.used_at, reverse=True)


def remove_old(host: Host, now: datetime, log: Path) -> list[str]:
    """Remove what was not used for DOCUMENTS_SCRATCH_HOURS, and what a killed search left; their names."""
    limit = timedelta(hours=host.settings.documents_scratch_hours)
    kept = {item.scratch.root for item in kept_databases(host) if now - item.used_at <= limit}
    gone = [root for root in _roots(host) if root not in kept]
    for root in gone:
        remove_drill(host, Scratch(root.parent, root.name.removeprefix(PREFIX), PREFIX), log)
    return [root.name for root in gone]


def note_used(kept: ScratchDatabase, now: datetime) -> ScratchDatabase:
    """Note that a recovered database is complete and was used now."""
    used = replace(kept, used_at=now)
    state = {"asked": used.asked, "base": used.base, "reached": used.reached, "used_at": now.isoformat()}
    write_json(used.scratch.root / STATE, {"schema": 1, **state})
    return used


@contextmanager
def serving(host: Host, scratch: Scratch, log: Path) -> Iterator[Host]:
    """Run the server of a recovered database while the block runs; gives the host whose server it is."""
    alone = scratch_host(host, scratch)
    if postmaster(scratch.data_directory) is None:
        limit = host.settings.service_stop_minutes * 60
        start_by_pg_ctl(alone, scratch.root / SERVER_LOG, wait_seconds=limit)
    try:
        yield alone
    finally:
        stop_service(alone, "postgresql", log)


def fitting(kept: Sequence[ScratchDatabase], asked: str) -> ScratchDatabase | None:
    """The recovered database that has just the state asked for."""
    return next((item for item in kept if item.asked == asked), None)


def _roots(host: Host) -> list[Path]:
    folder = drill_folder(host)
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir()) if folder.is_dir() else []
