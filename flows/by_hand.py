"""Flows started by hand or cron, in this process: what the verbs of `python -m alfresco_backup` do.

The program imports this module when a verb needs it (alfresco_backup/__main__.py).
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

import fastapi.encoders  # noqa: F401 - Prefect imports it when a run begins: here, while its server starts
from prefect.settings import PREFECT_API_URL
from rich.console import Console

from alfresco_backup.cli.commands import Typed, answer_with_page
from alfresco_backup.cli.entry import Answer, answer_of, end_if_interrupted, say_unwrapped, show
from alfresco_backup.cli.flow_arguments import FlowCall
from alfresco_backup.cli.restore_arguments import Order, RestoreMode
from alfresco_backup.cli.restore_prompts import Dialogue
from alfresco_backup.documents.results import Told
from alfresco_backup.errors import Refused, SettingsError
from alfresco_backup.fleet.show import fleet_json, fleet_page, fleet_text
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.system.signals import interrupt_at_termination
from tasks.restore.session import RestoreSession
from tasks.runs.embedded_server import direct_run, require_answer
from tasks.runs.fleet import read_fleet
from tasks.runs.history import report_of

DOCUMENTS = {
    "documents find": "flows.documents:find_document",
    "documents restore": "flows.documents:restore_document",
}
"""Flows that return a Told, by verb."""
FLOWS = {
    "backup": "flows.backup:backup",
    "content-check": "flows.content_check:content_check",
    "drill": "flows.restore_drill:restore_drill",
    "offsite check": "flows.offsite:offsite_check",
    "offsite copy": "flows.offsite:offsite_copy",
    "offsite prune": "flows.offsite:offsite_prune",
    "offsite wal": "flows.offsite:offsite_wal",
    "retention": "flows.retention:retention",
    "wal-audit": "flows.wal_audit:wal_audit",
}
"""By verb. Where they are, not the flows themselves: all of them take half a second more than one."""
RESTORES: Mapping[RestoreMode, str] = {
    "full": "flows.restore_full:restore_full",
    "pitr": "flows.restore_pitr:restore_pitr",
    "postgres": "flows.restore_postgres:restore_postgres",
    "contentstore": "flows.restore_contentstore:restore_contentstore",
    "undo": "flows.undo_restore:undo_restore",
}


def show_fleet(typed: Typed) -> Answer:
    """All hosts of the Prefect server. Needs no host's settings: only the server's address and password."""
    if not PREFECT_API_URL.value():
        raise SettingsError(
            ["PREFECT_API_URL is missing: the fleet is what hosts have published at their Prefect server"],
            edit_setting("PREFECT_API_URL", "http://127.0.0.1:4200/api"),
        )
    require_answer(str(PREFECT_API_URL.value()))
    report = read_fleet()
    answer = Answer(fleet_text(report), fleet_json(report), report.exit_code)
    return answer_with_page(typed, answer, lambda: fleet_page(report))


def load_flow(verb: str) -> Callable[..., Any]:
    """The flow that stands behind a verb; imported now."""
    flow: Callable[..., Any] = resolve_name({**DOCUMENTS, **FLOWS}[verb])
    return flow


def run_flow(flow: Callable[..., Any], call: FlowCall, *, as_json: bool) -> Answer:
    """Run a verb's flow and tell its report. Raises what the flow raises."""
    host = load_settings().alf_host_name
    end_if_interrupted(KeyboardInterrupt, as_json=as_json)
    with direct_run(host):
        if call.verb in DOCUMENTS:
            told: Told = flow(**call.parameters)
            answer = answer_of(told.text(), told.failure(), host=host, **told.document())
            return replace(answer, plain=True)
        return answer_of(report_of(flow, **call.parameters), host=host)


def restore(order: Order | None, *, as_json: bool) -> Answer:
    """Plan or carry out an order, live on a terminal; ask for everything where there is none.

    Raises BackupError for what is refused or wrong before it begins.
    """
    interrupt_at_termination()
    if order is None:
        return converse()
    session = RestoreSession(load_host(), Console() if sys.stdout.isatty() and not as_json else None)
    return execute(session, order, as_json=as_json) if order.execute else session.plan(order)


def execute(session: RestoreSession, order: Order, *, as_json: bool) -> Answer:
    """Carry out an order. Raises Refused where it is not confirmed."""
    end_if_interrupted(lambda: session.interrupted(order), as_json=as_json)
    return session.execute(order, resolve_name(RESTORES[order.mode]))


def converse() -> Answer:
    """Ask for everything, show the plan, carry it out once the host's name was typed. Raises BackupError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError(
            ["there is no terminal to ask on, so --mode is needed"],
            program_command("restore", "--help"),
            "argument",
        )
    console = Console()
    session = RestoreSession(load_host(), console)
    dialogue = Dialogue(console, session.offer())
    try:
        order = dialogue.ask_order()
        show(session.plan(order))
        say_unwrapped(console, f"The same without questions: {order.command()}")
        order = dialogue.ask_confirmation(order)
    except (EOFError, KeyboardInterrupt) as error:
        raise Refused("the dialogue was ended before it was confirmed; nothing was changed") from error
    return execute(session, order, as_json=False)
