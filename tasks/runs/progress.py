"""Progress for people: a log line and a progress artifact every few seconds, never one for every file."""

import re
import time
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.context import get_task_and_flow_run_ids

from alfresco_backup.times import duration_for_people, size_for_people
from tasks.runs.history import not_essential, of_host

EVERY_SECONDS = 3.0
SERVER_SECONDS = 5.0  # how long a step waits for the Prefect server to take its progress
PAUSE_SECONDS = 60.0  # how long it does not ask a server again that was away


class Progress:
    """Reports how far a long step is. Call it as often as you like with what is done and the total.

    The first report comes after a few seconds, so short steps leave no trace. It never goes back: what begins
    to count again, as a second replay of the same WAL, is not reported until it is further than before. Only
    for use in a task or flow.
    """

    def __init__(self, host_name: str, what: str, unit: str = "bytes") -> None:
        self._host_name = host_name
        self._what = what
        self._unit = unit
        self._started = time.monotonic()
        self._reported = self._started
        self._furthest = 0.0
        self._artifact: UUID | None = None
        self._server_away_until = 0.0
        self._logger = get_run_logger()

    def __call__(self, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._reported < EVERY_SECONDS or total <= 0 or done / total < self._furthest:
            return
        self._reported, self._furthest = now, done / total
        sentence = self._sentence(done, total, now - self._started)
        self._logger.info(sentence)
        self._publish(min(100.0, 100.0 * done / total), sentence)

    def finish(self) -> None:
        """Set the artifact to 100 %, if there is one."""
        if self._artifact is not None:
            self._server_away_until = 0.0
            seconds = duration_for_people(time.monotonic() - self._started)
            self._publish(100.0, f"{self._what}: done in {seconds}")

    def _sentence(self, done: float, total: float, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0
        left = duration_for_people((total - done) / rate) if rate > 0 and total > done else "unknown"
        if self._unit == "bytes":
            amount = f"{size_for_people(done)} of {size_for_people(total)}, {size_for_people(rate)}/s"
        else:
            amount = f"{done:,.0f} of {total:,.0f} {self._unit}, {_rate_for_people(rate)}"
        return f"{self._what}: {min(100.0, 100 * done / total):.0f} %, {amount}, time left {left}"

    def _publish(self, percent: float, sentence: str) -> None:
        """Set the artifact. A Prefect server that is away neither ends the step nor keeps it waiting.

        Prefect's own client would try for over a minute, again and again, while the copy stands still.
        """
        if time.monotonic() < self._server_away_until:
            return
        self._server_away_until = time.monotonic() + PAUSE_SECONDS
        options = {"timeout": SERVER_SECONDS}
        with (
            not_essential("progress"),
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings=options, sync_client=True) as client,
        ):
            self._set_artifact(client, percent, sentence)
            self._server_away_until = 0.0

    def _set_artifact(self, client: SyncPrefectClient, percent: float, sentence: str) -> None:
        if self._artifact is not None:
            client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=sentence))
            return
        task_run, flow_run = get_task_and_flow_run_ids()
        made = ArtifactCreate(
            type="progress",
            key=of_host(f"progress-{re.sub(r'[^a-z0-9]+', '-', self._what.lower())}", self._host_name),
            data=percent,
            description=sentence,
            task_run_id=task_run,
            flow_run_id=flow_run,
        )
        self._artifact = client.create_artifact(made).id


def _rate_for_people(rate: float) -> str:
    """So many a second, or a minute: a WAL segment may take seconds to replay."""
    if rate >= 10 or rate == 0:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
