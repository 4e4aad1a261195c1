"""Doing what a plan of `configure` says, and asking the server whether it is in force. It decides nothing."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure.access import HBA
from alfresco_backup.configure.changes import ConfigurePlan, FolderChange, SettingChange
from alfresco_backup.configure.journal import Journal, begin_journal, stamps_of
from alfresco_backup.configure.restart import require_restartable, restart
from alfresco_backup.configure.server import inspect_settings, replicates
from alfresco_backup.configure.settings import DISABLED, Setting, is_sufficient
from alfresco_backup.configure.steps import ChangeContext, do, make_folder, undo_words
from alfresco_backup.configure.superuser import find_superuser, wait_for_superuser
from alfresco_backup.errors import ArchivingBroken, BackupError, ToolFailed
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.host.lock import writing_lock
from alfresco_backup.postgres.database import identify_system
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.settings.commands import receiver_command
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.streaming.slot import read_slot
from alfresco_backup.system.waiting import POLL_SECONDS, wait_until
from alfresco_backup.times import make_stamp, next_stamp, utc_now
from alfresco_backup.wal.archive import prove_archiving

VERIFY_SECONDS = 15.0
PROOF_SECONDS = 60.0
logger = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Applied:
    """What was done: the ID to undo it by, the settings that still wait for a restart, what was verified."""

    stamp: str
    waiting: tuple[str, ...]
    verified: tuple[str, ...]


def apply_plan(host: Host, plan: ConfigurePlan, *, may_restart: bool, say: Say) -> Applied:
    """Make all changes, restart where asked, and ask the server whether they are in force.

    Raises Refused and HostBusy before anything is changed; BackupError afterwards, naming the undo, also
    where it is interrupted.
    """
    require_finished(host.repository.restores(host.name), host.name)
    restarts = may_restart and bool(plan.restart_for)
    if restarts:
        require_restartable(host)
    for item in plan.changes:
        if isinstance(item, FolderChange) and Path(item.path) == host.repository.root:
            make_folder(item)  # the journal lies in it
    with writing_lock(host, 0, logger):
        journal = begin_journal(host.repository, _new_stamp(host), plan.changes)
        try:
            return _apply(host, plan, journal, restarts=restarts, say=say)
        except KeyboardInterrupt as interrupt:
            raise _interrupted(journal) from interrupt


def _apply(host: Host, plan: ConfigurePlan, journal: Journal, *, restarts: bool, say: Say) -> Applied:
    context = ChangeContext(host, find_superuser(host), journal)
    for entry in journal.entries:
        if entry.change.subject == HBA and replicates(host)[0]:
            say(f"not needed: {HBA}: {host.settings.pguser} replicates without the line")
            continue
        do(entry, context)
        say(f"done: {entry.change.subject}")
    context.server.value("SELECT pg_reload_conf()")
    _verify_written(context, journal)
    if restarts:
        say("restarting PostgreSQL")
        restart(host, journal)
    waiting = () if restarts else plan.restart_for
    return Applied(journal.stamp, waiting, _prove(plan, journal, restarted=restarts))


def prove_present(host: Host) -> tuple[str, ...]:
    """What was verified of a host with nothing to change: that a WAL segment arrives in the archive.

    The settings being as they should be does not tell that archive_command works. Raises ArchivingBroken.
    """
    if _nobody_archives(host):
        return ()
    name = prove_archiving(host, make_stamp(utc_now()), PROOF_SECONDS)
    return (f"WAL segment {name} arrived in the archive",)


def _interrupted(journal: Journal) -> BackupError:
    """What a run says that was interrupted: how far it came, and what undoes it."""
    done, begun, planned = (
        [item.change.subject for item in journal.entries if item.state == state]
        for state in ("done", "begun", "planned")
    )
    parts = [f"changed so far: {', '.join(done) or 'nothing'}"]
    if begun:
        parts.append(f"half done: {', '.join(begun)}")
    if planned:
        parts.append(f"{len(planned)} more were not begun")
    if journal.restart == "begun":
        parts.append("the restart of PostgreSQL has begun, it may be down; undoing starts it")
    return BackupError(f"configure was interrupted; {'; '.join(parts)}", undo_words(journal))


def _new_stamp(host: Host) -> str:
    """The ID of this run; one that follows another within a second waits for the next."""
    stamps = stamps_of(host.repository)
    while stamps and make_stamp(utc_now()) == stamps[-1]:
        time.sleep(POLL_SECONDS)
    return next_stamp(utc_now(), stamps[-1] if stamps else None)


def _verify_written(context: ChangeContext, journal: Journal) -> None:
    """Wait until the server has taken what a reload brings, and has what a restart brings in its files."""
    changes = [item.change for item in journal.entries if isinstance(item.change, SettingChange)]
    facts = facts_of(int(context.server.value("SHOW server_version_num")))

    def all_taken() -> bool:
        seen = inspect_settings(context.host, context.server, facts)
        changes[:] = [item for item in changes if not _taken(item, seen[item.name], facts)]
        return not changes

    def late() -> str:
        return f"the server has not taken {', '.join(item.name for item in changes)}"

    wait_until(all_taken, VERIFY_SECONDS, late, hint=undo_words(journal))


def _taken(change: SettingChange, seen: Setting, facts: VersionFacts) -> bool:
    if seen.written != change.value:
        return False
    return (
        change.restart
        or seen.value == DISABLED
        or is_sufficient(change.name, seen.value, change.value, facts)
    )


def _prove(plan: ConfigurePlan, journal: Journal, *, restarted: bool) -> tuple[str, ...]:
    """What can be proven now: settings in force, a replication connection of the backup's, archiving."""
    host = load_host(env_file_path())
    superuser = wait_for_superuser(host)
    facts = facts_of(int(superuser.value("SHOW server_version_num")))
    seen = inspect_settings(host, superuser, facts)
    if restarted:
        _require_in_force(journal, seen, facts)
    left = {item.subject for item in plan.left}
    proven = []
    if seen["max_wal_senders"].value != "0" and not left & {
        "PGUSER",
        "PGDATABASE",
        "replication",
        "pg_hba.conf",
    }:
        _wait_for_replication(host, journal)
        proven.append(f"{host.settings.pguser} replicates")
    if not left and (restarted or not plan.restart_for) and not _nobody_archives(host):
        proven.append(f"WAL segment {_archived_segment(host, journal)} arrived in the archive")
    return tuple(proven)


def _nobody_archives(host: Host) -> bool:
    """Whether a container's WAL is received by nobody yet, which it needs this configuration for."""
    if not host.settings.pg_container:
        return False
    slot = read_slot(host)
    if slot and slot.active:
        return False
    logger.warning(
        "the WAL receiver does not run yet, so it was not verified that WAL arrives; HINT: %s",
        receiver_command(host.name),
    )
    return True


def _archived_segment(host: Host, journal: Journal) -> str:
    try:
        return prove_archiving(host, journal.stamp, PROOF_SECONDS)
    except ArchivingBroken as error:
        raise ArchivingBroken(
            error.message, f"{error.hint}\n{undo_words(journal)}  # undoes what configure did"
        ) from error


def _require_in_force(journal: Journal, seen: dict[str, Setting], facts: VersionFacts) -> None:
    changes = [item.change for item in journal.entries if isinstance(item.change, SettingChange)]
    wrong = [
        item for item in changes if not is_sufficient(item.name, seen[item.name].value, item.value, facts)
    ]
    if wrong:
        names = ", ".join(f"{item.name} is {seen[item.name].value}" for item in wrong)
        raise BackupError(f"after the restart {names}", undo_words(journal))


def _wait_for_replication(host: Host, journal: Journal) -> None:
    """A replication connection of PGUSER. The reload is on its way, so it is tried for a while."""
    late = f"{host.settings.pguser} still cannot replicate"
    try:
        wait_until(lambda: identify_system(host.database), VERIFY_SECONDS, late, failing=ToolFailed)
    except ToolFailed as failure:
        raise BackupError(f"{late}: {failure.tail or failure.message}", undo_words(journal)) from failure
