"""What doctor found, as frozen values, for people and as JSON; docs/reference/doctor-json.md describes it.

Fields are only added within a schema number. Times are ISO 8601 in UTC.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import (
    EXIT_ATTENTION,
    EXIT_SUCCESS,
    EXIT_UNTOLD,
    EXIT_WARNINGS,
)
from alfresco_backup.findings import (
    JSON_SCHEMA,
    Finding,
    Level,
    finding_documents,
    finding_lines,
    worst_first,
)
from alfresco_backup.system.json_fields import time_text

State = Literal["good", "warnings", "errors", "unknown"]
EXIT_CODES: dict[State, int] = {
    "good": EXIT_SUCCESS,
    "warnings": EXIT_WARNINGS,
    "errors": EXIT_ATTENTION,
    "unknown": EXIT_UNTOLD,
}


@dataclass(frozen=True)
class DoctorReport:
    """Everything that was checked, in groups in a fixed order."""

    host: str
    root: Path
    moment: datetime
    findings: tuple[Finding, ...]

    @property
    def ordered(self) -> tuple[Finding, ...]:
        """Errors first; within a level in the order of the checks."""
        return worst_first(self.findings)

    def count(self, level: Level) -> int:
        return sum(item.level == level for item in self.findings)

    @property
    def state(self) -> State:
        """An error outweighs a check that could not be finished, and that a warning."""
        if self.count("error"):
            return "errors"
        if self.count("unknown"):
            return "unknown"
        return "warnings" if self.count("warning") else "good"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]

    @property
    def headline(self) -> str:
        names: tuple[tuple[Level, str], ...] = (
            ("error", "error"),
            ("unknown", "unknown"),
            ("warning", "warning"),
        )
        counts = [(self.count(level), name) for level, name in names]
        told = [
            f"{count} {name}{'s' if count != 1 and name != 'unknown' else ''}"
            for count, name in counts
            if count
        ]
        good = f"{self.count('ok')} checks are good"
        return f"{', '.join(told)}; {good}" if told else f"all {good}"


def doctor_text(report: DoctorReport, *, verbose: bool = False) -> str:
    """The report for a terminal: what is wrong first; what is good by group, or with `verbose` one by one."""
    wrong = [item for item in report.ordered if item.level != "ok"]
    good = [item for item in report.findings if item.level == "ok"]
    lines = [f"{report.host}: {report.headline}", "", *finding_lines(wrong), *([""] if wrong else [])]
    return "\n".join([*lines, *(finding_lines(good) if verbose else _good_groups(good))])


def _good_groups(good: Sequence[Finding]) -> Iterator[str]:
    for group in dict.fromkeys(item.group for item in good):
        subjects = dict.fromkeys(item.subject for item in good if item.group == group)
        yield f"ok: {group}: {', '.join(subjects)}"


def doctor_json(report: DoctorReport) -> str:
    """The report as one JSON document."""
    document = {
        "schema": JSON_SCHEMA,
        "state": report.state,
        "exit_code": report.exit_code,
        "host": report.host,
        "repository": str(report.root),
        "checked_at": time_text(report.moment),
        "headline": report.headline,
        "findings": finding_documents(report.ordered),
    }
    return json.dumps(document, indent=1)
