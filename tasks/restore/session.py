"""Restores that are started by hand: plans, which change nothing, at once; restores as runs of their flow."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from prefect.client.schemas.objects import State
from rich.console import Console

from alfresco_backup.cli.entry import Answer, answer_of
from alfresco_backup.cli.restore_arguments import Order
from alfresco_backup.cli.restore_display import shown_live
from alfresco_backup.cli.restore_prompts import Offer
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.journal.journal_record import Record, list_restores
from alfresco_backup.restore.planning.plan_text import plan_document, plan_markdown
from alfresco_backup.restore.planning.request import require_confirmed
from alfresco_backup.restore.planning.window import find_reachable
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.restore.recovery.report import REPORT, REPORT_TEXT, printed_report
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.system.files import read_json
from alfresco_backup.system.signals import was_interrupted
from tasks.restore.plan import make_plan, read_far_sets_of
from tasks.restore.undo import find_restore, undo_text
from tasks.runs.embedded_server import direct_run
from tasks.runs.history import report_of


@dataclass(frozen=True)
class RestoreSession:
    """Orders for one host. `console` shows a restore live; None leaves that to Prefect's log lines."""

    host: Host
    console: Console | None = None

    def offer(self) -> Offer:
        """What there is to choose from. Raises HostNotReady where BACKUP_DIR does not exist."""
        self.host.require_repository()
        catalogue = read_catalogue(self.host.repository)
        facts = inspect_host(self.host, catalogue)
        restores = list_restores(self.host.repository.restores(self.host.name))
        reachable = find_reachable(facts, catalogue.bases).sentence
        far = self.host.settings.offsite_repository
        read_far = partial(read_far_sets_of, self.host) if far else None
        return Offer(self.host.name, catalogue, reachable, tuple(restores), read_far)

    def plan(self, order: Order) -> Answer:
        """The plan of an order, shown as text and as details. Needs no Prefect server. Raises Refused."""
        request = order.request
        if request is not None:
            plan = make_plan(self.host, request)
            return self._answer(order, plan_markdown(plan), plan_document(plan))
        restore = order.parameters["restore"]
        record = find_restore(self.host, restore, discard=order.discard, accept=order.accept)
        text = undo_text(record, discard=order.discard, accept=order.accept)
        details = {"restore_id": record.restore_id, "state": record.state.value}
        return self._answer(order, text, details)

    def execute(self, order: Order, flow: Callable[..., State[str]]) -> Answer:
        """Run the order's flow in this process. What it raises is in the answer, with the report it left."""
        request = order.request
        require_confirmed("a restore" if request else "an undo", order.confirm, self.host.name)
        with direct_run(self.host.name):
            error, text = None, ""
            try:
                with self._shown():
                    text = report_of(flow, **order.parameters)
            except BackupError as failure:
                error = failure
            except BaseException as failure:
                if was_interrupted(failure):
                    raise self.interrupted(order) from failure
                raise
        record = self._own_restore() if request is not None else None
        if record is None or not (record.folder / REPORT).is_file():
            return self._answer(order, text, error=error)
        text = (record.folder / REPORT_TEXT).read_text(encoding="utf-8")
        return self._answer(order, text, printed_report(read_json(record.folder / REPORT)), error)

    def _answer(
        self,
        order: Order,
        text: str,
        details: Mapping[str, Any] | None = None,
        error: BackupError | None = None,
    ) -> Answer:
        undo = (details or {}).get("undo")
        return answer_of(
            text,
            error,
            last_line=f"To undo it: {undo}" if undo else "",
            host=self.host.name,
            mode=order.mode,
            execute=order.execute,
            details=details,
            **({} if order.execute else {"state": "planned"}),
        )

    @contextmanager
    def _shown(self) -> Iterator[None]:
        restores = self.host.repository.restores(self.host.name)
        with shown_live(self.console, restores) if self.console else nullcontext():
            yield

    def interrupted(self, order: Order) -> BackupError:
        """What an interrupted order ends with: how far it came, and what to type."""
        if order.request is None:
            return BackupError("interrupted; the same command continues where it stopped", order.command())
        record = self._own_restore()
        if record is None:
            return BackupError("interrupted before the restore began; nothing was changed")
        left = "it is complete, but Alfresco was not started" if record.completed else "it is unfinished"
        return BackupError(
            f"restore {record.restore_id} was interrupted; {left}",
            undo_command(record.restore_id, record.host),
        )

    def _own_restore(self) -> Record | None:
        """The restore that this process began; None when it began none."""
        restores = list_restores(self.host.repository.restores(self.host.name))
        own = [record for record in restores if record.about.get("process") == os.getpid()]
        return own[-1] if own else None
