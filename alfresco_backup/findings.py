"""One thing looked at: how it is, and what puts it right."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is the command or edit that puts it right; empty when it is well."""

    level: Level
    subject: str
    what: str
    fix: str = ""


def ok(subject: str, what: str) -> Finding:
    return Finding("ok", subject, what)


def warning(subject: str, what: str, fix: str) -> Finding:
    return Finding("warning", subject, what, fix)


def error(subject: str, what: str, fix: str) -> Finding:
    return Finding("error", subject, what, fix)
