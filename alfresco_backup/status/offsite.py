"""What is off-site, judged by what runs noted: the far side is not asked. Pure but for `read_offsite`."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alfresco_backup.backup.proof import PROOF, Proof, read_far_proof
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.offsite.engine import shown
from alfresco_backup.offsite.state import STATE, LastRun, OffsiteState, read_state
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import duration_for_people, for_people, parse_stamp, size_for_people

CHECK_AGE = timedelta(days=15)
"""The check is weekly; one that was missed is no reason yet."""
CLOCK_ERROR = timedelta(minutes=5)


@dataclass(frozen=True)
class OffsiteReport:
    """The off-site copy of a host that has one. `state` is None where nothing is noted of this repository.

    `findings` are all, good ones too; `repository` is the address without a password. `proof` is of the last
    drill from there, None where there was none since this repository is used.
    """

    repository: str
    state: OffsiteState | None
    findings: tuple[Finding, ...]
    proof: Proof | None = None

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.level != "ok")

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What a person is to be told of at once."""
        return tuple(item for item in self.findings if item.level == "error")


def read_offsite(repository: Repository, settings: Settings, now: datetime) -> OffsiteReport | None:
    """The report; None where no second copy is set up. Raises OSError for a note that cannot be read."""
    if not settings.offsite_repository:
        return None
    try:
        report = judge_offsite(read_state(repository), settings, now)
    except ValueError as damaged:
        named = shown(settings.offsite_repository)
        what = f"{repository.offsite / STATE} is damaged, so what is off-site is not known: {damaged}"
        return OffsiteReport(named, None, (error("off-site copy", what, program_command("offsite", "copy")),))
    return _with_proof(report, repository) if report.state else report


def _with_proof(report: OffsiteReport, repository: Repository) -> OffsiteReport:
    try:
        proof = read_far_proof(repository.offsite)
    except ValueError as damaged:
        what = f"{repository.offsite / PROOF} is damaged: {damaged}"
        return replace(report, findings=(*report.findings, warning("off-site drill", what, _drill())))
    if proof and report.state and proof.proven_at < report.state.begun_at:  # of another place
        proof = None
    return replace(report, findings=(*report.findings, judge_proof(proof)), proof=proof)


def _drill() -> str:
    return program_command("drill", "--source", "offsite")


def judge_proof(proof: Proof | None) -> Finding:
    """As status judges the drill of a set here: none yet is no problem."""
    subject = "off-site drill"
    if proof is None:
        return ok(subject, "the copy is not yet verified by a restore drill")
    words = f"{proof.sentence}; of set {proof.stamp}"
    if proof.damaged:
        return error(subject, f"the restore drill from there failed: {words}", _drill())
    if not proof.sound:
        what = f"the restore drill from there could not verify all of it: {words}"
        return Finding("unknown", subject, what, _drill())
    if proof.elsewhere:
        what = f"the restore drill from there verified it, but not all else: {words}"
        return warning(subject, what, _drill())
    if proof.later:
        what = f"the last restore drill from there had no result: {words}"
        return Finding("unknown", subject, what, _drill())
    return ok(subject, words)


def alarms_of(repository: Repository, settings: Settings, now: datetime) -> tuple[Finding, ...]:
    """What a person is to be told of at once; that it cannot be known is one of these."""
    try:
        report = read_offsite(repository, settings, now)
    except OSError as problem:
        look = f"ls -ld {shlex.quote(str(repository.offsite))}"
        return (error("off-site copy", f"what runs noted of it cannot be read: {problem}", look),)
    return report.alarms if report else ()


def judge_offsite(state: OffsiteState | None, settings: Settings, now: datetime) -> OffsiteReport:
    """Compare what is noted with OFFSITE_MAX_AGE_HOURS, OFFSITE_WAL_MAX_AGE_MINUTES and the weekly check."""
    named = shown(settings.offsite_repository)
    if state is None or state.repository != named:
        fix = f"{program_command('offsite', 'init')}\n{program_command('offsite', 'copy')}"
        found = [error("off-site copy", f"nothing has been sent to {named} yet", fix)]
        return OffsiteReport(named, None, tuple(found))
    hours, minutes = settings.offsite_max_age_hours, settings.offsite_wal_max_age_minutes
    findings = (
        _judge_sets(state, timedelta(hours=hours), f"{hours:g} h", now),
        _judge_wal(state, timedelta(minutes=minutes), f"{minutes} min", now),
        _judge_check(state, now),
        *_judge_prune(state),
    )
    return OffsiteReport(named, state, findings)


def _judge_sets(state: OffsiteState, limit: timedelta, limit_words: str, now: datetime) -> Finding:
    """Until a first complete set is there the age counts from when the copy was begun: it may take days."""
    run = state.run("copy")
    if state.newest_complete:
        since = parse_stamp(state.newest_complete)
        words = f"the newest complete set there is {state.newest_complete}, {_ago(since, now)}"
    else:
        since = state.begun_at
        words = f"no complete set is there; the first copy was begun {for_people(since)}, {_ago(since, now)}"
    words += f"; the limit is {limit_words}; {len(state.whole)} of {state.sets} sets are whole there"
    if run.succeeded_at and run.sent_bytes:
        words += f"; the last run sent {size_for_people(run.sent_bytes)}"
    if state.measured_at:
        words += f"; {size_for_people(state.stored_bytes)} were stored there {for_people(state.measured_at)}"
    calm = bool(state.newest_complete)
    return _judged(
        "off-site copy", words, _late(since, limit, now), run, program_command("offsite", "copy"), calm=calm
    )


def _judge_wal(state: OffsiteState, limit: timedelta, limit_words: str, now: datetime) -> Finding:
    """By when it was sent last: a server at rest writes no WAL, and then there is nothing new to send."""
    run = state.run("wal")
    since = run.succeeded_at or state.begun_at
    sent = f"was sent {for_people(since)}, {_ago(since, now)}" if run.succeeded_at else "was never sent"
    safe = f"; commits up to {for_people(state.wal_until)} are safe there" if state.wal_until else ""
    words = f"{sent}{safe}; the limit is {limit_words}"
    return _judged(
        "off-site WAL",
        words,
        _late(since, limit, now),
        run,
        program_command("offsite", "wal"),
        calm=bool(run.succeeded_at),
    )


def _judge_check(state: OffsiteState, now: datetime) -> Finding:
    run = state.run("check")
    since = run.succeeded_at or state.begun_at
    words = f"{for_people(since)}: {run.sentence}" if run.succeeded_at else "it was never checked"
    late = run.failing_since is not None or _late(since, CHECK_AGE, now)
    if run.succeeded_at and _late(since, CHECK_AGE, now):
        words = f"the last good one was {words}; one in {CHECK_AGE.days} days is expected"
    return _judged(
        "off-site check", words, late, run, program_command("offsite", "check"), calm=bool(run.succeeded_at)
    )


def _judge_prune(state: OffsiteState) -> Iterator[Finding]:
    run = state.run("prune")
    if run.failing_since or run.succeeded_at:
        words = (
            f"{for_people(run.succeeded_at)}: {run.sentence}" if run.succeeded_at else "none has succeeded"
        )
        yield _judged("off-site prune", words, False, run, program_command("offsite", "prune"), calm=True)


def _judged(subject: str, words: str, late: bool, run: LastRun, fix: str, *, calm: bool) -> Finding:
    """An error where it is late, a warning where runs fail or all is not yet `calm`."""
    if run.failing_since and run.failed_at:
        words += f"; fails since {for_people(run.failing_since)}: {run.error}"
        fix = run.fix or fix
    if late:
        return error(subject, words, fix)
    return ok(subject, words) if calm and not run.failing_since else warning(subject, words, fix)


def _late(since: datetime, limit: timedelta, now: datetime) -> bool:
    """What is dated in the future does not count, or there would be no alarm until then."""
    return now - since > limit or since - now > CLOCK_ERROR


def _ago(since: datetime, now: datetime) -> str:
    if since - now > CLOCK_ERROR:
        return "which is in the future; check the clock"
    return f"{duration_for_people(max(0.0, (now - since).total_seconds()))} ago"
