"""The report of a restore, for people and for programs. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from alfresco_backup.pages import page
from alfresco_backup.restore.journal.journal_record import Record
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.plan_text import set_aside_document
from alfresco_backup.settings.commands import discard_command, undo_command
from alfresco_backup.times import duration_for_people, for_people

REPORT = "restore.json"
REPORT_TEXT = "restore.md"


@dataclass(frozen=True)
class RestoreReport:
    """What a restore did. `reached` is empty for content only, `documents` where nothing was checked.

    `missing` counts documents without content file; `problem` is why the check could not be made.
    `record` is the journal as far as it was written. `not_started` says why Alfresco did not start, where
    it was to be started.
    """

    plan: RestorePlan
    record: Record
    asked: str
    reached: str
    content: tuple[str, ...]
    documents: str
    missing: int
    findings: Path | None
    problem: str
    notes: tuple[str, ...]
    finished_at: datetime
    content_bytes: int = 0
    content_compared: int = 0
    content_damaged: int = 0
    documents_checked: int = 0
    documents_not_checked: Mapping[str, int] = field(default_factory=dict)
    not_started: str = ""

    @property
    def seconds(self) -> float:
        """From the first step to the end: the longest that the host can have been down."""
        return (self.finished_at - self.record.started_at).total_seconds()

    @property
    def undo(self) -> str:
        return undo_command(self.plan.restore_id, self.plan.host)

    @property
    def discard(self) -> str:
        """The command that removes what was set aside."""
        return discard_command(self.plan.restore_id, self.plan.host)


def restore_markdown(report: RestoreReport) -> str:
    """The report as markdown that reads well as plain text too."""
    plan = report.plan
    return page(
        f"Restore {plan.restore_id} of {plan.host}: {plan.kind}",
        ("Result", _facts(report)),
        ("Steps", _steps(report)),
        ("To check", report.notes),
        ("What was set aside", (f"`{move.target}`" for move in plan.set_aside)),
        f"To undo this restore: `{report.undo}`",
        f"To remove what was set aside: `{report.discard}`" if plan.set_aside else "",
    )


def printed_report(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What `restore --json` prints of a kept report: its names are today's, those in the file stay."""
    renamed = {"stamp": "restore_id", "base": "backup_id"}
    return {renamed.get(name, name): value for name, value in kept.items()}


def report_document(report: RestoreReport) -> dict[str, Any]:
    """The report as it is kept beside the journal. Times in ISO 8601 with offset, durations in seconds."""
    plan = report.plan
    return {
        "stamp": plan.restore_id,
        "host": plan.host,
        "kind": plan.kind,
        "asked": report.asked,
        "reached": report.reached,
        "started_at": report.record.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "seconds": round(report.seconds, 1),
        "steps": {step.step: step.seconds for step in report.record.steps},
        "base": plan.database.base.stamp if plan.database else None,
        "database_bytes": plan.database.base.database_bytes if plan.database else 0,
        "wal_bytes": plan.database.segments * plan.database.base.segment_size if plan.database else 0,
        "content": list(report.content),
        "content_bytes": report.content_bytes,
        "content_compared": report.content_compared,
        "content_damaged": report.content_damaged,
        "documents": report.documents,
        "documents_checked": report.documents_checked,
        "documents_not_checked": dict(report.documents_not_checked),
        "documents_missing": report.missing,
        "findings": str(report.findings) if report.findings else None,
        "check_problem": report.problem,
        "not_started": report.not_started,
        "notes": list(report.notes),
        "set_aside": set_aside_document(plan),
        "undo": report.undo,
        "discard": report.discard,
    }


def _facts(report: RestoreReport) -> Iterator[str]:
    yield f"asked: {report.asked}"
    if report.reached:
        yield f"reached: {report.reached}"
    yield from report.content
    if report.documents:
        yield report.documents
    if report.problem:
        yield f"**the content check failed**: {report.problem}"
    if report.not_started:
        yield f"**Alfresco did not start**: {report.not_started}"
    if report.findings:
        yield f"list of the findings: `{report.findings}`"
    started, seconds = for_people(report.record.started_at), duration_for_people(report.seconds)
    yield f"started {started}, took {seconds}"
    yield f"lost: {report.plan.lost}"


def _steps(report: RestoreReport) -> Iterator[str]:
    for number, step in enumerate(report.record.steps, 1):
        yield f"{number}. **{step.step}** ({duration_for_people(step.seconds or 0)})"
