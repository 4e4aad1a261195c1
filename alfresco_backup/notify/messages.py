"""The words of a mail about a run: subject and body as plain text. No sending, no clock, no Prefect."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import duration_for_people, for_people

SUBJECT_LIMIT = 200
SECRET_MINIMUM = 4
MASK = "***"
_PREFECT_WORDS = re.compile(r"^(Flow run encountered an exception|Task run encountered an exception):?\s*")
_ERROR_TYPE = re.compile(r"^[A-Za-z_][\w.]*: ")


@dataclass(frozen=True)
class Mail:
    """What is sent: one line, and a text."""

    subject: str
    body: str


@dataclass(frozen=True)
class LastGood:
    """The newest complete set: its stamp and when its run started."""

    stamp: str
    moment: datetime


@dataclass(frozen=True)
class RunFacts:
    """What a mail says of a run. Times are aware. `link`, `log` and `step` may be empty."""

    host: str
    customer: str
    flow: str
    run: str
    outcome: str
    moment: datetime
    step: str = ""
    message: str = ""
    tail: tuple[str, ...] = ()
    last_good: LastGood | None = None
    window: str = ""
    streaming: str = ""
    link: str = ""
    log: str = ""


def failure_mail(facts: RunFacts) -> Mail:
    """The mail about a run that failed, crashed, timed out or was cancelled."""
    step = f" at {facts.step}" if facts.step else ""
    subject = f"{_head(facts)}: {facts.flow} {facts.outcome}{step}; {_last_good_words(facts)}"
    body = [
        f"{facts.flow} on {_where(facts)} {facts.outcome}{step}.",
        "",
        _indented(sentence_of(facts.message)) or "  Prefect has no error message of this run.",
        "",
        *_situation(facts),
    ]
    if facts.tail:
        body += ["", "Last lines of the tools' output:", *(f"  {line}" for line in facts.tail)]
    return Mail(_one_line(subject), "\n".join(body) + "\n")


def recovery_mail(facts: RunFacts, before: str) -> Mail:
    """The mail about the first success after failures. `before` says which run had failed, and how."""
    subject = f"{_head(facts)}: {facts.flow} works again; {_last_good_words(facts)}"
    body = [
        f"{facts.flow} on {_where(facts)} has completed again.",
        f"Before: {before}",
        "",
        _indented(sentence_of(facts.message)),
        "",
        *_situation(facts),
    ]
    return Mail(_one_line(subject), "\n".join(body) + "\n")


def hold_mail(facts: RunFacts, said: Iterable[tuple[str, str]]) -> Mail:
    """The mail about a completed run that put retention on hold. `said`: sentences, each with its fix."""
    subject = f"{_head(facts)}: {facts.flow} completed, retention is on hold; {_last_good_words(facts)}"
    body = [f"{facts.flow} on {_where(facts)} has completed. Nothing was removed:", ""]
    for sentence, fix in said:
        body += [_indented(sentence), _indented(f"HINT: {fix}"), ""]
    return Mail(_one_line(subject), "\n".join([*body, *_situation(facts)]) + "\n")


def success_mail(facts: RunFacts) -> Mail:
    """The mail about a success after no failure."""
    subject = f"{_head(facts)}: {facts.flow} completed; {_last_good_words(facts)}"
    body = [
        f"{facts.flow} on {_where(facts)} has completed.",
        "",
        _indented(sentence_of(facts.message)),
        "",
        *_situation(facts),
    ]
    return Mail(_one_line(subject), "\n".join(body) + "\n")


def overdue_mail(facts: RunFacts, limit_hours: float) -> Mail:
    """The mail of the check outside Prefect: no complete set is as young as it should be."""
    subject = f"{_head(facts)}: backup is overdue; {_last_good_words(facts)}"
    body = [
        f"The newest complete backup of {_where(facts)} is older than {limit_hours:g} hours.",
        _indented(facts.message),
        "",
        *_situation(facts),
        "",
        "The Prefect server or the worker may not run, or BACKUP_DIR may not be mounted:",
        f"  HINT: systemctl status prefect-server {shlex.quote(f'prefect-worker@{facts.host}')}",
        f"  HINT: {program_command('doctor')}",
    ]
    return Mail(_one_line(subject), "\n".join(body) + "\n")


def offsite_mail(facts: RunFacts, said: Iterable[tuple[str, str]]) -> Mail:
    """The mail of the check outside Prefect: the second copy is not as it should be, the first one is.

    `said`: sentences, each with its fix.
    """
    subject = f"{_head(facts)}: off-site copy needs attention; {_last_good_words(facts)}"
    body = [
        f"The backups of {_where(facts)} on its own disk are recent; their copy elsewhere is not well:",
        "",
    ]
    for sentence, fix in said:
        body += [_indented(sentence), *(_indented(f"HINT: {line}") for line in fix.splitlines()), ""]
    return Mail(_one_line(subject), "\n".join([*body, *_situation(facts)]) + "\n")


def streaming_mail(facts: RunFacts, said: Iterable[tuple[str, str]]) -> Mail:
    """The mail of the check outside Prefect: WAL streaming is not as it should be, the backups are.

    `said`: sentences, each with its fix.
    """
    subject = f"{_head(facts)}: WAL streaming needs attention; {_last_good_words(facts)}"
    body = [f"The backups of {_where(facts)} are recent; the newest commits are not streamed:", ""]
    for sentence, fix in said:
        body += [_indented(sentence), *(_indented(f"HINT: {line}") for line in fix.splitlines()), ""]
    return Mail(_one_line(subject), "\n".join([*body, *_situation(facts)]) + "\n")


def scrub(mail: Mail, secrets: Iterable[str]) -> Mail:
    """The mail without the secrets. Very short ones are left: masking them would mask ordinary words."""
    subject, body = mail.subject, mail.body
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SECRET_MINIMUM:
            subject, body = subject.replace(secret, MASK), body.replace(secret, MASK)
    return Mail(subject, body)


def headline(message: str) -> str:
    """What makes two failures the same: the first line of the message, without its numbers."""
    first = sentence_of(message).partition("\n")[0]
    return re.sub(r"\b[\w.:+/-]*\d[\w.:+/-]*", "#", first)


def sentence_of(message: str) -> str:
    """Our own words out of the message Prefect makes of an exception."""
    words = _PREFECT_WORDS.sub("", message.strip())
    return _ERROR_TYPE.sub("", words, count=1) if words != message.strip() else words


def _situation(facts: RunFacts) -> list[str]:
    if facts.last_good:
        good = f"set {facts.last_good.stamp}, {for_people(facts.last_good.moment)} ({_age(facts)} before)"
    else:
        good = "none"
    rows = {
        "Last good backup": good,
        "Restorable": facts.window or "unknown",
        "WAL streaming": facts.streaming,
        "Run": f"{facts.run}, {for_people(facts.moment)}",
        "": facts.link,
        "Raw output": facts.log,
        "What is wrong": program_command("status"),
    }
    return [f"{name + ':' if name else '':18}{value}" for name, value in rows.items() if value]


def _head(facts: RunFacts) -> str:
    return f"[alfresco-backup] {_where(facts)}"


def _where(facts: RunFacts) -> str:
    return f"{facts.host} ({facts.customer})" if facts.customer else facts.host


def _last_good_words(facts: RunFacts) -> str:
    if facts.last_good is None:
        return "there is no good backup"
    return f"last good backup {for_people(facts.last_good.moment)}, {_age(facts)} old"


def _age(facts: RunFacts) -> str:
    assert facts.last_good is not None
    return duration_for_people(max(0.0, (facts.moment - facts.last_good.moment).total_seconds()))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _one_line(subject: str) -> str:
    """A subject fit for a header: no line breaks, not endless."""
    return " ".join(subject.split())[:SUBJECT_LIMIT]
