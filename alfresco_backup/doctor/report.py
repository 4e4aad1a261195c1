"""What doctor found, as frozen values, for people and as JSON; docs/reference/doctor-json.md describes it.

Fields are only added within a schema number. Times are ISO 8601 in UTC.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.errors import (
    EXIT_ATTENTION,
    EXIT_SUCCESS,
    EXIT_UNTOLD,
    EXIT_WARNINGS,
    BackupError,
)
from alfresco_backup.findings import Finding, Level
from alfresco_backup.system.json_fields import time_text

DOCTOR_SCHEMA = 1
Verdict = Level | Literal["unknown"]
State = Literal["good", "warnings", "errors", "unknown"]
EXIT_CODES: dict[State, int] = {
    "good": EXIT_SUCCESS,
    "warnings": EXIT_WARNINGS,
    "errors": EXIT_ATTENTION,
    "unknown": EXIT_UNTOLD,
}
ORDER: tuple[Verdict, ...] = ("error", "unknown", "warning", "ok")
MARKS: dict[Verdict, str] = {"error": "ERROR", "unknown": "UNKNOWN", "warning": "warning", "ok": "ok"}


@dataclass(frozen=True)
class Diagnosis:
    """One finding within its group. `unknown`: it could not be looked at to the end."""

    group: str
    level: Verdict
    subject: str
    what: str
    fix: str = ""

    @classmethod
    def of(cls, group: str, finding: Finding) -> "Diagnosis":
        return cls(group, finding.level, finding.subject, finding.what, finding.fix)

    @property
    def place(self) -> str:
        """Group and subject, for people."""
        return self.group if self.group == self.subject else f"{self.group}: {self.subject}"


@dataclass(frozen=True)
class DoctorReport:
    """Everything that was looked at, in groups in a fixed order."""

    host: str
    root: Path
    moment: datetime
    findings: tuple[Diagnosis, ...]

    @property
    def ordered(self) -> tuple[Diagnosis, ...]:
        """Errors first; within a level in the order of looking."""
        return tuple(sorted(self.findings, key=lambda item: ORDER.index(item.level)))

    def count(self, level: Verdict) -> int:
        return sum(item.level == level for item in self.findings)

    @property
    def state(self) -> State:
        """An error outweighs what could not be looked at, and that a warning."""
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
        names: tuple[tuple[Verdict, str], ...] = (
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
    lines = [f"{report.host}: {report.headline}", ""]
    for item in report.ordered:
        if item.level != "ok":
            lines.append(f"{MARKS[item.level]}: {item.place}: {item.what}")
            lines += [f"  next: {line}" for line in item.fix.splitlines()]
    lines += [] if report.state == "good" else [""]
    return "\n".join([*lines, *_good_lines(report, verbose)])


def _good_lines(report: DoctorReport, verbose: bool) -> Iterator[str]:
    good = [item for item in report.findings if item.level == "ok"]
    if verbose:
        yield from (f"ok: {item.place}: {item.what}" for item in good)
        return
    for group in dict.fromkeys(item.group for item in good):
        subjects = dict.fromkeys(item.subject for item in good if item.group == group)
        yield f"ok: {group}: {', '.join(subjects)}"


def doctor_json(report: DoctorReport) -> str:
    """The report as one JSON document."""
    return _written(
        {
            "state": report.state,
            "exit_code": report.exit_code,
            "host": report.host,
            "repository": str(report.root),
            "moment": time_text(report.moment),
            "headline": report.headline,
            "findings": [
                {
                    "group": item.group,
                    "level": item.level,
                    "subject": item.subject,
                    "what": item.what,
                    "next": item.fix,
                }
                for item in report.ordered
            ],
        }
    )


def doctor_error_json(error: BackupError) -> str:
    """The document where there are no settings to look with."""
    told = {"kind": type(error).__name__, "message": error.message, "next": error.hint}
    return _written({"state": "error", "exit_code": error.exit_code, "error": told})


def _written(document: dict[str, Any]) -> str:
    return json.dumps({"schema": DOCTOR_SCHEMA, **document}, indent=1)
