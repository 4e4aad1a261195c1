"""Progress for people: a log line and a progress artifact every few seconds, never one for every file."""

import re
import time
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from alfresco_backup.stamps import duration_for_people, size_for_people

EVERY_SECONDS = 3.0


class Progress:
    """Reports how far a long step is. Call it as often as you like with what is done and the total.

    The first report comes after a few seconds, so short steps leave no trace. Only for use in a task or flow.
    """

    def __init__(self, what: str, unit: str = "bytes") -> None:
        self._what = what
        self._unit = unit
        self._started = time.monotonic()
        self._reported = self._started
        self._artifact: UUID | None = None
        self._logger = get_run_logger()

    def __call__(self, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._reported < EVERY_SECONDS or total <= 0:
            return
        self._reported = now
        sentence = self._sentence(done, total, now - self._started)
        self._logger.info(sentence)
        self._publish(min(100.0, 100.0 * done / total), sentence)

    def finish(self) -> None:
        """Set the artifact to 100 %, if there is one."""
        if self._artifact is not None:
            seconds = duration_for_people(time.monotonic() - self._started)
            self._publish(100.0, f"{self._what}: done in {seconds}")

    def _sentence(self, done: float, total: float, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0
        left = duration_for_people((total - done) / rate) if rate > 0 and total > done else "unknown"
        if self._unit == "bytes":
            amount = f"{size_for_people(done)} of {size_for_people(total)}, {size_for_people(rate)}/s"
        else:
            amount = f"{done:,.0f} of {total:,.0f} {self._unit}, {rate:,.0f}/s"
        return f"{self._what}: {min(100.0, 100 * done / total):.0f} %, {amount}, time left {left}"

    def _publish(self, percent: float, sentence: str) -> None:
        """Set the artifact. A Prefect server that is away must not end the copy it would tell of."""
        try:
            self._set_artifact(percent, sentence)
        except httpx.HTTPError as error:
            self._logger.warning("progress could not be published: %s", error)

    def _set_artifact(self, percent: float, sentence: str) -> None:
        if self._artifact is None:
            key = "progress-" + re.sub(r"[^a-z0-9]+", "-", self._what.lower()).strip("-")
            created = create_progress_artifact(percent, key=key, description=sentence)
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent, description=sentence)
