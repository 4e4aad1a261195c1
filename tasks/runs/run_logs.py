"""What Prefect writes into a run's log when a run fails."""

import logging
import re

from alfresco_backup.errors import BackupError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
HOOK = re.compile(r"Running hook '|Hook '.*' finished running successfully")
"""Prefect's two lines about each hook: of a mail, too, that nobody wants."""


class KnownErrorsInWords(logging.Filter):
    """Shows an error of ours by its words alone, and once; hooks that went well not at all.

    Prefect adds a traceback of its own engine for the task and another for the flow, some fifty lines
    before the sentence that says what to do. Errors that nobody foresaw keep theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: BackupError | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.INFO and HOOK.match(record.getMessage()):
            return False
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BackupError):
            record.exc_info = record.exc_text = None
            kind = type(error).__name__
            if error is self.shown:
                record.msg, record.args = "ended by the %s above", (kind,)
            else:
                record.msg, record.args = "%s: %s", (kind, error)
            self.shown = error
        return True


def show_known_errors_in_words() -> None:
    """Make Prefect's run logs do so in this process. Repeating it is harmless."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for earlier in [item for item in logger.filters if isinstance(item, KnownErrorsInWords)]:
            logger.removeFilter(earlier)
    one = KnownErrorsInWords()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(one)
