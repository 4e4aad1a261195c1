"""One thing that was checked: how it is, and what fixes it; and how findings are sorted and shown.

Preflight, doctor, status, the WAL audit, `configure` and the checks before a restore all say what they found
as a `Finding`. Text, markdown, rows of a table and JSON are made of them here and nowhere else.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from alfresco_backup.errors import BackupError, exit_code_of

JSON_SCHEMA = 2
"""Of every document that a verb prints with --json. Fields are only added within a number."""
Level = Literal["ok", "warning", "unknown", "error"]
DOCTOR_SECONDS = 120.0
"""How long all checks of doctor may take together, unless somebody types another limit."""
WORST_FIRST: tuple[Level, ...] = ("error", "unknown", "warning", "ok")
MARKS: dict[Level, str] = {"error": "ERROR", "unknown": "UNKNOWN", "warning": "warning", "ok": "ok"}
HEADINGS: dict[Level, str] = {
    "error": "Errors",
    "unknown": "Unknown",
    "warning": "Warnings",
    "ok": "In order",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. `unknown`: the check could not be finished.

    `fix` is what to type or change, one command a line; empty where nothing is wrong. `group` is the part of
    the host it belongs to, where there are parts.
    """

    level: Level
    subject: str
    sentence: str
    fix: str = ""
    group: str = ""

    @property
    def line(self) -> str:
        """Group, subject and sentence."""
        group = f"{self.group}: " if self.group not in ("", self.subject) else ""
        return f"{group}{self.subject}: {self.sentence}"

    @property
    def with_hint(self) -> str:
        """All of it in one line, for a log."""
        return "; ".join([self.line, *(f"HINT: {line}" for line in self.fix.splitlines())])


def ok(subject: str, sentence: str) -> Finding:
    return Finding("ok", subject, sentence)


def warning(subject: str, sentence: str, fix: str) -> Finding:
    return Finding("warning", subject, sentence, fix)


def error(subject: str, sentence: str, fix: str) -> Finding:
    return Finding("error", subject, sentence, fix)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted by level; within a level as they were given."""
    return tuple(sorted(findings, key=lambda item: WORST_FIRST.index(item.level)))


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """For a terminal: a line each, below it how it is fixed. They are not sorted."""
    lines = []
    for item in findings:
        lines.append(f"{MARKS[item.level]}: {item.line}")
        lines += [f"  HINT: {line}" for line in item.fix.splitlines()]
    return lines


def findings_markdown(findings: Iterable[Finding]) -> list[str]:
    """Lines of markdown that read well as plain text too, under a heading for each level, worst first."""
    listed, lines = list(findings), []
    for level in WORST_FIRST:
        found = [item for item in listed if item.level == level]
        lines += ["", f"## {HEADINGS[level]}", ""] if found else []
        for item in found:
            lines.append(f"- {item.line}")
            lines += [f"  - HINT: `{line}`" for line in item.fix.splitlines()]
    return lines


def findings_rows(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Rows for a table artifact, worst first."""
    return [
        {"level": item.level, "subject": item.subject, "finding": item.sentence, "fix": item.fix}
        for item in worst_first(findings)
    ]


def finding_documents(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """What JSON says of them, in the order given; `group` only where there is one."""
    return [
        ({"group": item.group} if item.group else {})
        | {"level": item.level, "subject": item.subject, "sentence": item.sentence, "fix": item.fix}
        for item in findings
    ]


def error_document(failure: BaseException) -> dict[str, str]:
    """What JSON says of an error; `fix` is empty where there is none."""
    told = (failure.message, failure.hint) if isinstance(failure, BackupError) else (str(failure), "")
    return {"kind": type(failure).__name__, "message": told[0], "fix": told[1]}


def error_json(failure: BaseException) -> str:
    """The whole document of a verb that has nothing to tell but its error."""
    document: dict[str, Any] = {"schema": JSON_SCHEMA, "state": "error", "exit_code": exit_code_of(failure)}
    return json.dumps(document | {"error": error_document(failure)}, indent=1)
