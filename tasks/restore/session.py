"""One use of restore.py: plans, which touch nothing, at once; restores as runs of their flow."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from rich.console import Console

from alfresco_backup.cli.restore_arguments import Order, Outcome
from alfresco_backup.cli.restore_display import shown_live
from alfresco_backup.cli.restore_prompts import Offer
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.journal.journal_record import Record, list_restores
from alfresco_backup.restore.planning.plan_text import SCHEMA, plan_document, plan_markdown
from alfresco_backup.restore.planning.request import require_confirmed
from alfresco_backup.restore.planning.window import find_reachable
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.restore.recovery.report import REPORT, REPORT_TEXT, printed_report
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.system.files import read_json
from alfresco_backup.system.signals import was_interrupted
from tasks.restore.plan import make_plan
from tasks.restore.undo import find_restore, undo_text
from tasks.runs.embedded_server import direct_run
from tasks.runs.history import report_of


@dataclass(frozen=True)
class RestoreSession:
    """Orders for one host. `console` shows a restore live; None leaves that to Prefect's log lines."""

    host: Host
    console: Console | None = None

    def offer(self) -> Offer:
        """What there is to choose from. Raises HostNotReady where BACKUP_DIR is not there."""
        self.host.require_repository()
        catalogue = read_catalogue(self.host.repository)
        facts = inspect_host(self.host, catalogue)
        restores = list_restores(self.host.repository.restores(self.host.name))
        reachable = find_reachable(facts, catalogue.bases).sentence
        return Offer(self.host.name, catalogue, reachable, tuple(restores))

    def plan(self, order: Order) -> Outcome:
        """The plan of an order, shown as text and as details. Needs no Prefect server. Raises Refused."""
        request = order.request
        if request is not None:
            plan = make_plan(self.host, request)
            return Outcome(order, self.host.name, plan_markdown(plan), plan_document(plan))
        restore = order.parameters["restore"]
        record = find_restore(self.host, restore, discard=order.discard, accept=order.accept)
        text = undo_text(record, discard=order.discard, accept=order.accept)
        details = {"schema": SCHEMA, "restore_id": record.stamp, "state": record.state.value}
        return Outcome(order, self.host.name, text, details)

    def execute(self, order: Order) -> Outcome:
        """Run the order's flow in this process. What it raises is in the outcome, with the report it left."""
        request = order.request
        require_confirmed("a restore" if request else "an undo", order.confirm, self.host.name)
        with direct_run(self.host.name):
            module = importlib.import_module(f"flows.{order.flow}")
            error, text = None, ""
            try:
                with self._shown():
                    text = report_of(getattr(module, order.flow), **order.parameters)
            except BackupError as failure:
                error = failure
            except BaseException as failure:
                if was_interrupted(failure):
                    raise self._interrupted(order) from failure
                raise
        record = self._own_restore() if request is not None else None
        if record is None or not (record.folder / REPORT).is_file():
            return Outcome(order, self.host.name, text, error=error)
        folder = record.folder
        text = (folder / REPORT_TEXT).read_text(encoding="utf-8")
        return Outcome(order, self.host.name, text, printed_report(read_json(folder / REPORT)), error)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        restores = self.host.repository.restores(self.host.name)
        with shown_live(self.console, restores) if self.console else nullcontext():
            yield

    def _interrupted(self, order: Order) -> BackupError:
        if order.request is None:
            again = order.command(env_file_path())
            return BackupError("interrupted; the same command goes on where it stopped", again)
        record = self._own_restore()
        if record is None:
            return BackupError("interrupted; no restore was begun")
        state = "complete, but for Alfresco's start" if record.completed else "unfinished"
        return BackupError(
            f"interrupted: the restore {record.stamp} is {state}", undo_command(record.stamp, record.host)
        )

    def _own_restore(self) -> Record | None:
        """The restore that this process began; None when it did not come that far."""
        restores = list_restores(self.host.repository.restores(self.host.name))
        own = [record for record in restores if record.about.get("process") == os.getpid()]
        return own[-1] if own else None
