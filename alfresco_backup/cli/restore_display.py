"""A restore on the terminal while it runs: its steps from the journal, its log lines, its progress."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from alfresco_backup.restore.journal.journal_record import JOURNAL, Record, read_journal
from alfresco_backup.times import STAMP_PATTERN, duration_for_people, utc_now

PROGRESS_MODULE = "progress"
REFRESH_PER_SECOND = 4
# What Prefect says of its own doing; errors with a traceback, and this program shows them at its end.
_PREFECTS_OWN = (
    "Beginning flow run",
    "Finished in state",
    "Encountered exception during execution",
    "Running hook",
    "Hook ",
)
_MARKDOWN = "# "  # plans and reports, shown before and after
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class RestoreDisplay(logging.Handler):
    """Shows log lines above a table of the restore's steps, which are read from this process's journal.

    A logging handler, so that whatever logs reaches the terminal in order and never through the live part.
    """

    def __init__(self, console: Console, restores: Path) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._restores = restores
        self._known = _stamps(restores)
        self._journal: Path | None = None
        self._status = ""
        self._started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, or show it beside the spinner when it only tells how far a step is."""
        message = record.getMessage()
        if message.startswith((*_PREFECTS_OWN, _MARKDOWN)):
            return
        if record.module == PROGRESS_MODULE:
            self._status = message
            return
        style = _STYLES.get(record.levelno, "")
        self._console.print(Text(message, style=style), soft_wrap=True)

    def __rich__(self) -> RenderableType:
        elapsed = duration_for_people(time.monotonic() - self._started)
        spinner = Spinner("line", text=Text(f"{elapsed}  {self._status}"))
        journal = self._find_journal()
        return Group(steps_table(read_journal(journal)), spinner) if journal else spinner

    def _find_journal(self) -> Path | None:
        """The journal that this process began; undo writes into the one it undoes, which has no new steps."""
        if self._journal is None:
            for stamp in sorted(_stamps(self._restores) - self._known):
                path = self._restores / stamp / JOURNAL
                if _is_begun(path) and read_journal(path).about.get("process") == os.getpid():
                    self._journal = path
        return self._journal


def steps_table(record: Record) -> Table:
    """The steps of a restore: done with their times, the one that runs, those to come."""
    table = Table(title=f"restore {record.restore_id} of {escape(record.host)}", title_justify="left")
    for heading in ("step", "state", "duration"):
        table.add_column(heading)
    times = {item.step: item for item in record.steps}
    for name in record.about.get("steps", list(times)):
        item = times.get(name)
        if item is None:
            table.add_row(name, "", "", style="dim")
        elif item.error:
            table.add_row(name, "failed", duration_for_people(item.seconds or 0), style="red")
        elif item.seconds is None:
            running = (utc_now() - item.started_at).total_seconds()
            table.add_row(name, "runs", duration_for_people(running), style="bold")
        else:
            table.add_row(name, "done", duration_for_people(item.seconds), style="green")
    return table


@contextmanager
def shown_live(console: Console, restores: Path) -> Iterator[None]:
    """Show what is logged while the block runs, in place of every handler that writes to the terminal."""
    root = logging.getLogger()
    display = RestoreDisplay(console, restores)
    replaced = root.handlers[:]
    root.handlers = [display]
    try:
        with Live(display, console=console, refresh_per_second=REFRESH_PER_SECOND):
            yield
    finally:
        root.handlers = replaced


def _stamps(restores: Path) -> set[str]:
    return {path.name for path in restores.glob("*Z") if STAMP_PATTERN.fullmatch(path.name)}


def _is_begun(path: Path) -> bool:
    return path.is_file() and b"\n" in path.read_bytes()
