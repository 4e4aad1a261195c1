"""What restore.py says at its end, as one JSON document for programs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alfresco_backup.entry import EXIT_FAILED
from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.restore_cli import Order

SCHEMA = 1
OUTCOMES = {0: "done", 1: "failed", 2: "wrong settings", 3: "refused", 4: "documents missing"}


@dataclass(frozen=True)
class Outcome:
    """The end of an order. `details` is a plan's document, or the report that a restore left.

    `order` is None and `host` empty where it failed before they were known.
    """

    order: Order | None = None
    host: str = ""
    text: str = ""
    details: Mapping[str, Any] | None = None
    error: BaseException | None = None

    @property
    def exit_code(self) -> int:
        if self.error is None:
            return EXIT_SUCCESS
        return self.error.exit_code if isinstance(self.error, BackupError) else EXIT_FAILED

    def document(self) -> dict[str, Any]:
        """The outcome for programs: what was asked, how it ended, the error with what to type next."""
        planned = self.error is None and self.order is not None and not self.order.execute
        return {
            "schema": SCHEMA,
            "host": self.host,
            "mode": self.order.mode if self.order else None,
            "execute": self.order.execute if self.order else False,
            "outcome": "planned" if planned else OUTCOMES[self.exit_code],
            "exit_code": self.exit_code,
            "error": _error_document(self.error) if self.error else None,
            "details": self.details,
            "text": self.text,
        }

    def json(self) -> str:
        """The document as it is printed."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False)


def _error_document(error: BaseException) -> dict[str, str]:
    message, hint = (error.message, error.hint) if isinstance(error, BackupError) else (str(error), "")
    return {"type": type(error).__name__, "message": message, "hint": hint}
