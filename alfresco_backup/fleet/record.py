"""What a host publishes of itself: its status in short, with who says so and as of when. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from alfresco_backup.findings import WORST_FIRST, Finding
from alfresco_backup.host.identity import HostIdentity
from alfresco_backup.repository.sets_table import new_bytes_of, size_of
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.status.report import SetStatus, StatusReport
from alfresco_backup.system.json_fields import Number, Text, Time, Whole, document_of, read_record

SCHEMA = 1
HISTORY = 30
"""Complete sets whose size and duration are published, the newest ones."""
PROBLEMS = 20
WORDS = 500
"""Characters of a sentence that are published: the host's own status has all of it."""


@dataclass(frozen=True)
class Problem:
    """A finding of the host's status, without its fix, which names folders of that host."""

    level: Literal["error", "unknown", "warning"]
    subject: Text
    sentence: Text


@dataclass(frozen=True)
class SetPoint:
    """One complete set: bytes it restores, bytes its run wrote, seconds it took. None: never measured."""

    backup_id: Text
    bytes: Whole | None
    new_bytes: Whole | None
    seconds: Number


@dataclass(frozen=True)
class LastDrill:
    """The newest restore drill of any set here."""

    backup_id: Text
    verified_at: Time
    rto_seconds: Number
    documents: Whole
    missing: Whole
    sound: bool
    sentence: Text


@dataclass(frozen=True)
class HostRecord:
    """A host's state as of `reported_at`, published by its flow `run`.

    `window_from`, `window_to`: the restorable window, None for none. `offsite_level` is the worst of its
    findings, None where no second copy is set up. `unfinished_restore` is empty where there is none; `holds`
    say what keeps retention from removing anything. Times of a clock that is wrong are told as they are.
    """

    schema: Whole
    host: Text
    machine_id: Text
    system_identifier: Text
    reported_at: Time
    run: Text
    state: Literal["good", "attention", "nothing-restorable"]
    headline: Text
    max_age_hours: Number
    newest_complete: Text | None
    newest_complete_at: Time | None
    window_from: Time | None
    window_to: Time | None
    drill: LastDrill | None
    offsite_level: Literal["ok", "warning", "unknown", "error"] | None
    offsite_newest_at: Time | None
    full_on: Time | None
    free_bytes: Whole | None
    unfinished_restore: Text
    holds: tuple[Text, ...]
    problems: tuple[Problem, ...]
    problem_count: Whole
    history: tuple[SetPoint, ...]

    @property
    def identity(self) -> HostIdentity:
        return HostIdentity(self.machine_id, self.system_identifier)

    @property
    def wal_lag(self) -> timedelta | None:
        """How far the end of the restorable window was behind when the record was made."""
        return max(timedelta(), self.reported_at - self.window_to) if self.window_to else None


def record_of(report: StatusReport, identity: HostIdentity, run: str, max_age_hours: float) -> HostRecord:
    """The record of a status."""
    newest, window, offsite = newest_complete(report), report.window, report.offsite
    restores = (it for it in report.runs if it.flow.startswith("restore-") and it.state == "unfinished")
    unfinished = next((f"{it.flow} {it.stamp}: {it.words}" for it in restores), "")
    whole = [item for item in report.sets if item.item.complete]
    levels = [item.level for item in offsite.findings] if offsite else []
    sent = offsite.state.newest_complete_at if offsite and offsite.state else None
    return HostRecord(
        schema=SCHEMA,
        host=report.host,
        machine_id=identity.machine_id,
        system_identifier=identity.system_identifier,
        reported_at=report.moment,
        run=run,
        state=report.state,
        headline=report.headline[:WORDS],
        max_age_hours=float(max_age_hours),
        newest_complete=newest.stamp if newest else None,
        newest_complete_at=newest.moment if newest else None,
        window_from=window[0] if window else None,
        window_to=window[1] if window else None,
        drill=_last_drill(report),
        offsite_level=min(levels, key=WORST_FIRST.index) if levels else None,
        offsite_newest_at=sent,
        full_on=report.space.trend.full_on if report.space else None,
        free_bytes=report.space.disk.free if report.space else None,
        unfinished_restore=unfinished[:WORDS],
        holds=tuple(hold.said[:WORDS] for hold in report.holds),
        problems=tuple(_problem(item) for item in report.problems[:PROBLEMS]),
        problem_count=len(report.problems),
        history=tuple(_point(item) for item in reversed(whole[:HISTORY])),
    )


def _last_drill(report: StatusReport) -> LastDrill | None:
    proofs = [item.proof for item in report.sets if item.proof]
    if not proofs:
        return None
    last = max(proofs, key=lambda proof: proof.proven_at)
    numbers = (last.rto_seconds, last.documents, last.missing, last.sound)
    return LastDrill(last.stamp, last.proven_at, *numbers, last.sentence[:WORDS])


def _problem(item: Finding) -> Problem:
    level = item.level if item.level != "ok" else "warning"
    return Problem(level, item.subject, item.sentence[:WORDS])


def _point(item: SetStatus) -> SetPoint:
    seconds = max(0.0, (item.item.ended_at - item.item.moment).total_seconds())
    return SetPoint(item.item.stamp, size_of(item.item), new_bytes_of(item.item), seconds)


def record_document(record: HostRecord) -> dict[str, Any]:
    """The record as JSON knows it."""
    return document_of(record)


def read_host_record(document: object, host: str, known: HostIdentity | None, now: datetime) -> HostRecord:
    """The record that a host published. Raises ValueError for one that cannot be read or believed.

    It must say of itself that it is of this host, and of the machine that the server knows as this host.
    """
    if isinstance(document, Mapping) and document.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {str(document.get('schema'))[:20]}; {SCHEMA} is expected")
    record = read_record(HostRecord, document)
    if record.host != host:
        raise ValueError(f"it says that it is of host {record.host[:60]!r}")
    if different := record.identity.differences(known) if known else []:
        raise ValueError(f"it is of another machine: {'; '.join(different)}")
    if record.reported_at > now + timedelta(minutes=10):
        raise ValueError(f"it is dated in the future: {record.reported_at.isoformat()}")
    return record
