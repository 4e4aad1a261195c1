"""Undo, accept or discard a restore: carries out the plan made from its journal."""

import glob
import os
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.foreign_server import require_startable_here
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import NAMES, look_at
from alfresco_backup.host.services import Service
from alfresco_backup.pages import page
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import (
    DISCARDABLE,
    Record,
    Renamed,
    RestoreState,
    list_restores,
)
from alfresco_backup.restore.planning.plan_database import SAVED_WAL
from alfresco_backup.restore.undo.undo_actions import (
    carry_out_undo,
    is_set_aside,
    remove_tree,
    require_originals,
)
from alfresco_backup.restore.undo.undo_plan import (
    StartService,
    StopService,
    accept_lines,
    choose_accept,
    choose_discard,
    choose_undo,
    lost_by_undoing,
    make_undo_plan,
    matters_to_people,
    sentence_of,
    set_aside_by,
)
from alfresco_backup.settings.commands import discard_command, undo_command
from alfresco_backup.system.folders import appending, make_folder
from alfresco_backup.system.mounts import require_no_mounts
from alfresco_backup.times import utc_now
from tasks.runs.history import publish_markdown

CONTENT_FOLDER = "content"


@task(name="plan-undo", task_run_name="plan of the undo", cache_policy=NO_CACHE, retries=0)
def plan_undo(host: Host, restore: str, *, discard: bool, accept: bool = False) -> Record:
    """Find the restore and show what will be done with it. Changes nothing."""
    record = find_restore(host, restore, discard=discard, accept=accept)
    text = undo_text(record, discard=discard, accept=accept)
    publish_markdown(host.name, text, "undo-plan")
    get_run_logger().info("%s", text)
    return record


@task(name="undo", task_run_name="undo the restore", cache_policy=NO_CACHE, retries=0)
def undo_all(host: Host, record: Record) -> str:
    """Undo the restore; returns a sentence for the list of runs."""
    undo(host, record, get_run_logger().info)
    kept = [f"`{path}`" for path in leftovers(record) if f".undone-{record.restore_id}" in path.name]
    aside = f"; data of the restore is kept in {', '.join(kept)}" if kept else ""
    return f"the host {host.name} is as it was before the restore {record.restore_id}{aside}"


@task(name="discard", task_run_name="remove what the restore set aside", cache_policy=NO_CACHE, retries=0)
def discard_set_aside(host: Host, record: Record) -> str:
    """Remove what the restore set aside. It cannot be undone after that."""
    removed = discard(record)
    for path in removed:
        get_run_logger().info("removed %s", path)
    return f"removed {len(removed)} places set aside by restore {record.restore_id} of {host.name}"


def find_restore(host: Host, restore: str, *, discard: bool, accept: bool = False) -> Record:
    """The restore to undo, to discard or to accept. Raises Refused; see undo_plan.

    One whose set-aside data is not where it was put, or whose filled store is not mounted, cannot be undone;
    nothing has been changed then.
    """
    if discard and accept:
        raise Refused("discard and accept exclude each other")
    records = list_restores(host.repository.restores(host.name))
    if accept:
        return choose_accept(records, restore)
    if discard:
        return choose_discard(records, restore)
    record = choose_undo(records, restore)
    require_originals(record)
    return record


def undo_text(record: Record, *, discard: bool, accept: bool = False) -> str:
    """What will be done, as markdown."""
    asked = record.about.get("asked", "")
    head = f"Restore {record.restore_id} of {record.host}: {asked} ({record.state.value})"
    if accept:
        return page(f"Accept. {head}", ("What it means", accept_lines(record)))
    if discard:
        lines = [f"remove {path}" for path in leftovers(record)]
        return page(f"Discard. {head}", ("What is removed", lines or "Nothing is left."))
    lines = [sentence_of(action) for action in make_undo_plan(record) if matters_to_people(action)]
    lines.append("check the content file of every document, if PostgreSQL runs then")
    steps = (f"{number}. {line}" for number, line in enumerate(lines, 1))
    return page(f"Undo. {head}", lost_by_undoing(record), ("Steps", steps))


def undo(host: Host, record: Record, say: Callable[[str], object]) -> None:
    """Carry out the undo plan of a journal. Raises BackupError when something is not where it must be.

    Raises Refused, with nothing changed, where this host's programs must not start its server, and where
    something is not where it must be before the first action.
    """
    plan = make_undo_plan(record)
    services = {action.service for action in plan if isinstance(action, StartService | StopService)}
    if "postgresql" in services and not host.settings.pg_container:  # which its engine starts
        require_startable_here(host)
    require_originals(record)
    journal, again = Journal(record.path), undo_command(record.restore_id, record.host)
    journal.state(RestoreState.UNDOING, again)
    log = undo_log(host, record)
    for action in plan:
        if matters_to_people(action):
            say(sentence_of(action))
        if isinstance(action, StartService):  # until now the places that tell where they are were set aside
            host = host.looked_at_again()
        try:
            carry_out_undo(host, record, action, log)
        except BackupError as error:
            error.hint = "\n".join(dict.fromkeys((*error.hint.splitlines(), again)))
            if isinstance(error, Refused):  # which would tell that nothing was changed
                raise BackupError(f"{error.message}{_what_is_down(host, services)}", error.hint) from error
            raise
        except OSError as error:
            raise BackupError(
                f"{sentence_of(action)}: {error}; fix that, then undo again: it continues where it stopped",
                again,
            ) from error
    journal.state(RestoreState.UNDONE, again)


def _what_is_down(host: Host, services: Collection[Service]) -> str:
    """Which of the services that an undo stops are down when it breaks off, in words."""
    down = []
    for service in sorted(services):
        with suppress(BackupError):
            if look_at(host, service).down:
                down.append(NAMES[service])
    are = "are" if len(down) > 1 else "is"
    return f"; {' and '.join(down)} {are} down now" if down else ""


def undo_log(host: Host, record: Record) -> Path:
    """The file for the services' output; made if it does not exist."""
    log = host.repository.logs / f"undo-restore-{record.restore_id}.log"
    make_folder(log.parent, 0o750, exist_ok=True)
    appending(log).close()
    return log


def discard(record: Record) -> list[Path]:
    """Remove what a restore set aside and saved; only its journal and report stay.

    From the first removal on it cannot be undone any more. Repeating it is harmless. Raises BackupError.
    """
    again = discard_command(record.restore_id, record.host)
    there = [act for act in set_aside_by(record) if os.path.lexists(act.target)]
    for path in [act.target for act in there if not is_set_aside(act)]:
        raise BackupError(
            f"{path} is not what restore {record.restore_id} set aside there: its inode differs. Move or "
            "remove it by hand, then discard again",
            f"ls -ladi {shlex.quote(str(path))}\n{again}",
        )
    removed = list(leftovers(record))
    for path in removed:
        require_no_mounts(path)
    journal = Journal(record.path)
    journal.state(RestoreState.DISCARDING, again)
    for path in removed:
        try:
            remove_tree(path)
        except OSError as error:
            raise BackupError(
                f"{path}, set aside by restore {record.restore_id}, could not be removed: {error}", again
            ) from error
    journal.state(RestoreState.DISCARDED, again)
    return removed


@task(name="discard-expired", task_run_name="remove expired data set aside", cache_policy=NO_CACHE, retries=0)
def discard_old_restores(host: Host) -> str:
    """Remove what restores set aside, once it is older than SET_ASIDE_DAYS; never when that is 0.

    Returns a sentence for the report; empty when nothing was removed.
    """
    removed = discard_expired(host, get_run_logger().warning)
    age = f"set aside by a restore over {host.settings.set_aside_days} days ago (SET_ASIDE_DAYS)"
    for path in removed:
        get_run_logger().info("removed %s, %s", path, age)
    return f"Removed what was {age}: {', '.join(f'`{path}`' for path in removed)}." if removed else ""


def discard_expired(host: Host, warn: Callable[[str], object]) -> list[Path]:
    """Remove what restores set aside longer than SET_ASIDE_DAYS ago; nothing when that is 0.

    The days begin with the restore's end; with its undo where that came later, which set aside what had been
    written since. What cannot be removed is warned of and tried again by the next backup: this one is
    complete without it.
    """
    days = host.settings.set_aside_days
    if not days:
        return []
    records = list_restores(host.repository.restores(host.name))
    limit = utc_now() - timedelta(days=days)
    old = [
        record
        for record in records
        if record.state in DISCARDABLE and (record.settled_at or record.started_at) < limit
    ]
    removed = []
    for record in old:
        try:
            removed += discard(record)
        except BackupError as error:
            warn(str(error))
    return removed


def leftovers(record: Record) -> Iterator[Path]:
    """What a finished restore, or its undo, left beside the host's data and in its own folder."""
    for act in set_aside_by(record):
        if is_set_aside(act):
            yield act.target
    own = set_aside_by(record)
    placed = [act.target for act in record.acts if isinstance(act, Renamed) and act not in own]
    for path in sorted({*placed, *(act.source for act in own)}):
        yield from sorted(path.parent.glob(f"{glob.escape(path.name)}.undone-{record.restore_id}*"))
    for name in (SAVED_WAL, CONTENT_FOLDER):
        if os.path.lexists(record.folder / name):
            yield record.folder / name
