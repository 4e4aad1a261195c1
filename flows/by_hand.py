"""Flows started by hand or cron, in this process: what the verbs of `python -m alfresco_backup` do.

The program imports this module when a verb needs it (alfresco_backup/__main__.py).
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from prefect.client.schemas.objects import State
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
from flows.backup import backup
from flows.content_check import content_check
from flows.documents import find_document, restore_document
from flows.offsite import offsite_check, offsite_copy, offsite_prune, offsite_wal
from flows.restore_contentstore import restore_contentstore
from flows.restore_drill import restore_drill
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.restore_postgres import restore_postgres
from flows.retention import retention
from flows.undo_restore import undo_restore
from flows.wal_audit import wal_audit
from tasks.restore.session import RestoreSession
from tasks.runs.embedded_server import direct_run, require_answer
from tasks.runs.fleet import read_fleet
from tasks.runs.history import report_of

AnyFlow = Callable[..., State[str]]
DOCUMENTS: Mapping[str, Callable[..., Any]] = {
    "documents find": find_document,
    "documents restore": restore_document,
}
"""Flows that return a Told, by verb."""
FLOWS: Mapping[str, AnyFlow] = {
    "backup": backup,
    "content-check": content_check,
    "drill": restore_drill,
    "offsite check": offsite_check,
    "offsite copy": offsite_copy,
    "offsite prune": offsite_prune,
    "offsite wal": offsite_wal,
    "retention": retention,
    "wal-audit": wal_audit,
}
"""By verb."""
RESTORES: Mapping[RestoreMode, AnyFlow] = {
    "full": restore_full,
    "pitr": restore_pitr,
    "postgres": restore_postgres,
    "contentstore": restore_contentstore,
    "undo": undo_restore,
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


def run_flow(call: FlowCall, *, as_json: bool) -> Answer:
    """Run a flow and tell its report. Raises what the flow raises."""
    host = load_settings().alf_host_name
    end_if_interrupted(KeyboardInterrupt, as_json=as_json)
    with direct_run(host):
        if call.verb in DOCUMENTS:
            told: Told = DOCUMENTS[call.verb](**call.parameters)
            return answer_of(told.text(), told.failure(), host=host, **told.document())
        return answer_of(report_of(FLOWS[call.verb], **call.parameters), host=host)


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
    return session.execute(order, RESTORES[order.mode])


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
