"""The records of `python -m alfresco_backup status`: what a host's backups can do, as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from alfresco_backup.backup.proof import Proof
from alfresco_backup.errors import EXIT_ATTENTION, EXIT_NOTHING_RESTORABLE, EXIT_SUCCESS
from alfresco_backup.findings import Finding
from alfresco_backup.repository.pins import Pin
from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.retention.holds import Hold
from alfresco_backup.retention.policy import Verdict
from alfresco_backup.status.disk_trend import DiskFigures, Trend
from alfresco_backup.status.offsite import OffsiteReport
from alfresco_backup.streaming.report import StreamingReport
from alfresco_backup.wal.verified import Verification
from alfresco_backup.wal.window import Gap, Interval

State = Literal["good", "attention", "nothing-restorable"]
EXIT_CODES: dict[State, int] = {
    "good": EXIT_SUCCESS,
    "attention": EXIT_ATTENTION,
    "nothing-restorable": EXIT_NOTHING_RESTORABLE,
}
RunState = Literal["published", "unfinished", "failed", "gone", "restored", "undone"]


@dataclass(frozen=True)
class PartStatus:
    """One part of a set: `bytes` it restores, `new_bytes` its run wrote; None where never measured.

    `verdict` is retention's, None where that cannot be told; `until` the first moment at which retention
    would remove it if nothing new were backed up, None where it would stay for ever or is removed at once.
    """

    name: str
    path: Path
    bytes: int | None
    new_bytes: int | None
    verdict: Verdict | None
    until: datetime | None


@dataclass(frozen=True)
class SetStatus:
    """One set. `intervals`: the target times it can be restored to; `proof`: of its last restore drill.

    `end_only`: it is older than the recovery window and kept without later WAL: restorable as of its end.
    """

    item: BackupSet
    parts: tuple[PartStatus, ...]
    intervals: tuple[Interval, ...]
    proof: Proof | None
    pin: Pin | None
    end_only: bool = False

    @property
    def leading(self) -> PartStatus:
        """The part whose reason stands for the set: the database, else content, else configuration."""
        return self.parts[0]


@dataclass(frozen=True)
class SpaceStatus:
    """The disk of the repository. The bytes of content are those of the newest snapshot of each store: at
    least so much is on disk; older versions of changed days come on top.
    """

    disk: DiskFigures
    database: int
    wal: int
    content: int
    configuration: int
    trend: Trend


@dataclass(frozen=True)
class RunStatus:
    """A run by what is on disk, without Prefect. `ended_at` is None where that is not known."""

    flow: str
    stamp: str
    started_at: datetime
    ended_at: datetime | None
    state: RunState
    words: str


@dataclass(frozen=True)
class StatusReport:
    """Everything, sets and runs newest first, problems worst first.

    `gaps` are those within the window. `audited` is False where the WAL archive could not be listed: then it
    is not known what can be restored. `verification` tells how much of the WAL is verified; None without the
    archive. `holds`: what keeps retention from removing anything. `offsite` is None where there is no second
    copy, `streaming` where no WAL is streamed.
    """

    host: str
    root: Path
    moment: datetime
    headline: str
    audited: bool
    gaps: tuple[Gap, ...]
    sets: tuple[SetStatus, ...]
    space: SpaceStatus | None
    runs: tuple[RunStatus, ...]
    problems: tuple[Finding, ...]
    verification: Verification | None = None
    holds: tuple[Hold, ...] = ()
    offsite: OffsiteReport | None = None
    streaming: StreamingReport | None = None

    @property
    def intervals(self) -> tuple[Interval, ...]:
        return tuple(interval for item in self.sets for interval in item.intervals)

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The first and the last target time that can be restored, gaps left aside; None for none.

        Older sets that are restorable as of their end only are not of it, but where there are no others.
        """
        if not self.intervals:
            return None
        whole = [each for item in self.sets if not item.end_only for each in item.intervals]
        within = whole or self.intervals
        return min(item.start for item in within), max(item.end for item in within)

    @property
    def state(self) -> State:
        """Warnings alone leave it good."""
        if not self.intervals:
            return "nothing-restorable"
        return "attention" if any(item.level == "error" for item in self.problems) else "good"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]
