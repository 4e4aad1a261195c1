"""The verb `configure`: shows what is to change, changes it when told to, undoes it."""

import argparse
import sys

from alfresco_backup.cli.entry import Answer, say
from alfresco_backup.configure.apply import Applied, apply_plan, prove_present
from alfresco_backup.configure.as_text import (
    applied_text,
    exit_code_of,
    how_to_apply,
    plan_json,
    plan_text,
    undone_exit_code,
    undone_json,
    undone_text,
)
from alfresco_backup.configure.changes import ConfigurePlan
from alfresco_backup.configure.plan import ConfigureOptions, decide, inspect_host
from alfresco_backup.configure.undo import undo
from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.settings.commands import REPLACE, program_command
from alfresco_backup.system.signals import raised_once


def configure(typed: argparse.Namespace) -> Answer:
    """Show, apply or undo. What is about to be done is shown before it is asked for."""
    if typed.wal_commands and not typed.wal_commands.is_absolute():
        complaint = f"--wal-commands {typed.wal_commands}: an absolute path is expected"
        raise SettingsError([complaint], program_command("configure", "--help"), "argument")
    host = load_host()
    with raised_once():
        return _undo(host, typed) if typed.undo is not None else _configure(host, typed)


def _configure(host: Host, typed: argparse.Namespace) -> Answer:
    try:
        options = ConfigureOptions(typed.wal_commands, typed.replace_archive_command, typed.wal_streaming)
        plan = decide(inspect_host(host, options))
        say(plan_text(host.name, plan))
        to_do = plan.changes or (typed.restart and plan.restart_for)
        wanted = bool(to_do) and (typed.apply or _asked(plan, typed))
    except KeyboardInterrupt as interrupt:
        raise BackupError("configure was interrupted; nothing was changed") from interrupt
    applied: Applied | None = None
    if wanted:
        applied = apply_plan(host, plan, may_restart=typed.restart, say=say)
    verified = applied.verified if applied else prove_present(host) if plan.done else ()
    text = applied_text(plan, applied) if applied else how_to_apply(plan, _options(typed))
    if not applied:
        text = "\n".join(filter(None, (text, *(f"verified: {item}" for item in verified))))
    return Answer(text, plan_json(host.name, plan, applied, verified), exit_code_of(plan, applied))


def _undo(host: Host, typed: argparse.Namespace) -> Answer:
    undone = undo(host, typed.undo, may_restart=typed.restart, say=say)
    return Answer(undone_text(undone), undone_json(host.name, undone), undone_exit_code(undone))


def _asked(plan: ConfigurePlan, typed: argparse.Namespace) -> bool:
    """Whether a person at a terminal says yes."""
    if typed.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    restart = " and restart PostgreSQL" if typed.restart and plan.restart_for else ""
    sys.stdout.write(f"Do this{restart} now? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _options(typed: argparse.Namespace) -> list[str]:
    words = [REPLACE] if typed.replace_archive_command else []
    words += ["--wal-streaming"] if typed.wal_streaming else []
    return [*words, "--wal-commands", str(typed.wal_commands)] if typed.wal_commands else words
