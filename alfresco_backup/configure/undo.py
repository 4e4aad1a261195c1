"""Undoing what a `configure` did, killed or not: by the present state, not by what was meant."""

import logging
import shlex
from dataclasses import dataclass, replace

from alfresco_backup.configure.apply import Say
from alfresco_backup.configure.changes import SettingChange
from alfresco_backup.configure.journal import Entry, Journal, read_journal, stamps_of
from alfresco_backup.configure.restart import finish, require_restartable, restart, resume
from alfresco_backup.configure.server import inspect_settings
from alfresco_backup.configure.steps import ChangeContext, Outcome, undo_change
from alfresco_backup.configure.superuser import find_superuser, wait_for_superuser
from alfresco_backup.errors import BackupError, Refused, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.lock import writing_lock
from alfresco_backup.host.service_control import look_at
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.settings.commands import configure_command

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Undone:
    """What came of it: how many changes were undone, what was not and why, what waits for a restart.

    `kept`: folders that stay since they contain WAL or the copies themselves.
    """

    stamp: str
    count: int
    left: tuple[str, ...]
    waiting: tuple[str, ...]
    kept: tuple[str, ...] = ()


def undo(host: Host, stamp: str, *, may_restart: bool, say: Say) -> Undone:
    """Undo the changes of one `configure`, last first; without an ID, of the newest with changes.

    One that is undone already is left as it is. Raises Refused where there is none, or where a restart that
    was asked for could not be done safely; BackupError, naming what to type, where it is interrupted.
    """
    require_finished(host.repository.restores(host.name), host.name)
    journal = read_journal(host.repository, stamp) if stamp else newest_journal(host)
    with writing_lock(host, 0, logger):
        if may_restart and not look_at(host, "postgresql").down:
            require_restartable(host)
        try:
            return _undo(host, journal, may_restart=may_restart, say=say)
        except KeyboardInterrupt as interrupt:
            again = configure_command("--undo", journal.stamp, *(["--restart"] if may_restart else []))
            what = "configure --undo was interrupted; it continues when it is repeated"
            raise BackupError(what, again) from interrupt


def _undo(host: Host, journal: Journal, *, may_restart: bool, say: Say) -> Undone:
    result = Undone(journal.stamp, 0, (), ())
    if not journal.undone:
        result = _undo_all(host, journal, say)
        journal.undone = not result.left
        journal.write()
    elif journal.restart == "begun":  # by an undo that was broken off
        say("starting what an undo had stopped")
        resume(host, journal)
    waiting = _waiting(host, journal)
    if waiting and may_restart:
        say("restarting PostgreSQL")
        restart(host, journal)
        waiting = ()
    return replace(result, waiting=waiting)


def newest_journal(host: Host) -> Journal:
    """The newest journal with a change in it; one without only restarted. Raises Refused."""
    journals = (read_journal(host.repository, stamp) for stamp in reversed(stamps_of(host.repository)))
    found = next((item for item in journals if item.entries), None)
    if found is None:
        raise Refused(
            "configure has changed nothing on this host that could be undone",
            f"ls {shlex.quote(str(host.repository.configures))}",
        )
    return found


def _undo_all(host: Host, journal: Journal, say: Say) -> Undone:
    """Settings first, since a server may not start with them; the rest needs a server that runs."""
    down = look_at(host, "postgresql").down
    context = ChangeContext(host, None if down else find_superuser(host), journal)
    begun = [item for item in reversed(journal.entries) if item.state in ("begun", "done", "left")]
    settings = [item for item in begun if isinstance(item.change, SettingChange)]
    first = _each(settings, context, say)
    if down and journal.restart != "begun":
        raise BackupError(
            "PostgreSQL is down; only its settings were undone",
            f"start PostgreSQL, then: {configure_command('--undo', journal.stamp)}",
        )
    if down:
        say("starting PostgreSQL, which configure had stopped")
        resume(host, journal)
        context = ChangeContext(host, wait_for_superuser(host), journal)
    elif journal.restart == "begun":
        finish(host, journal)
    _reload(context.superuser)
    rest = _each([item for item in begun if item not in settings], context, say)
    _reload(context.superuser)
    return Undone(journal.stamp, first.count + rest.count, first.left + rest.left, (), rest.kept)


def _each(entries: list[Entry], context: ChangeContext, say: Say) -> Undone:
    count, left, kept = 0, [], []
    for entry in entries:
        subject = entry.change.subject
        try:
            outcome = undo_change(entry, context)
        except ToolFailed as failure:
            outcome = Outcome(failure.tail or failure.message)
        except OSError as error:
            outcome = Outcome(str(error))
        if outcome.trouble:
            left.append(f"{subject}: {outcome.trouble}")
        elif outcome.kept:
            kept.append(f"{subject}: {outcome.kept}")
        else:
            count += 1
            say(f"undone: {subject}: {entry.change.new} -> {entry.change.old}")
        context.journal.note(entry, "left" if outcome.trouble else "undone")
    return Undone(context.journal.stamp, count, tuple(left), (), tuple(kept))


def _reload(superuser: Database | None) -> None:
    if superuser is not None:
        superuser.value("SELECT pg_reload_conf()")


def _waiting(host: Host, journal: Journal) -> tuple[str, ...]:
    """Settings that were undone and are still in force, until a restart."""
    superuser = find_superuser(host)
    facts = facts_of(int(superuser.value("SHOW server_version_num")))
    seen = inspect_settings(host, superuser, facts)
    changes = [item.change for item in journal.entries if item.state == "undone"]
    return tuple(
        item.name
        for item in changes
        if isinstance(item, SettingChange)
        and item.restart
        and seen[item.name].value == item.value != seen[item.name].written
    )
