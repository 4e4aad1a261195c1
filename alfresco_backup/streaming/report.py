"""Whether WAL streaming is as it should be: the live server's own word, else what the receiver noted."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.host import Host
from alfresco_backup.host.installation import find_installation
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.commands import program_command, receiver_command
from alfresco_backup.settings.model import Settings
from alfresco_backup.streaming.slot import Slot, guard_disk, read_slot, slot_name
from alfresco_backup.streaming.state import ReceiverState, read_receiver_state
from alfresco_backup.times import duration_for_people, for_people, size_for_people

SUBJECT = "WAL streaming"


@dataclass(frozen=True)
class StreamingReport:
    """What is known of the stream of a host that has one.

    `slot`: what the server said now; None where it could not be asked, `unasked` says why, or where it has no
    slot of this host. `state`: what the receiver noted; None where it noted nothing.
    """

    name: str
    slot: Slot | None
    unasked: str
    state: ReceiverState | None
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.level != "ok")

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What a person is to be told of at once."""
        return tuple(item for item in self.findings if item.level == "error")

    @property
    def sentence(self) -> str:
        """The first finding, which says how far behind the commits are safe."""
        return self.findings[0].sentence


def inspect_streaming(host: Host, now: datetime) -> StreamingReport | None:
    """Ask the server and read what was noted; None where no streaming is wanted. Changes nothing."""
    if not host.settings.wal_streaming:
        return None
    slot, unasked = None, ""
    try:
        slot = read_slot(host)
    except BackupError as failure:
        unasked = getattr(failure, "tail", "") or failure.message
    try:
        state = read_receiver_state(host.repository)
    except (OSError, ValueError):
        state = None
    findings = judge_streaming(host.settings, slot, unasked, state, now)
    return StreamingReport(slot_name(host.name), slot, unasked, state, findings)


def streaming_of(settings: Settings, now: datetime, *, guard: bool = False) -> StreamingReport | None:
    """The same, for whoever has the settings only. With `guard` the disk guard looks first."""
    if not settings.wal_streaming:
        return None
    try:
        host = Host(settings, find_installation(settings), Repository(settings.backup_dir))
    except BackupError as failure:
        findings = judge_streaming(settings, None, failure.message, None, now)
        return StreamingReport(slot_name(settings.alf_host_name), None, failure.message, None, findings)
    dropped = guard_streaming(host) if guard else ""
    report = inspect_streaming(host, now)
    if report and dropped:
        told = error("replication slot", dropped, receiver_command(host.name))
        return replace(report, findings=(*report.findings, told))
    return report


def guard_streaming(host: Host) -> str:
    """Let the disk guard look while no receiver may be there to do so; what it did, empty for nothing."""
    try:
        slot = read_slot(host)
        return guard_disk(host, slot) if slot else ""
    except (BackupError, OSError):
        return ""


def judge_streaming(
    settings: Settings, slot: Slot | None, unasked: str, state: ReceiverState | None, now: datetime
) -> tuple[Finding, ...]:
    """Compare with WAL_STREAMING_MAX_LAG_SECONDS. Pure."""
    limit = timedelta(seconds=settings.wal_streaming_max_lag_seconds)
    heard = state.heard_at if state else None
    late = heard is None or now - heard > limit
    fix = receiver_command(settings.alf_host_name)
    if unasked:
        found = [_judge_by_note(f"the server cannot be asked: {unasked}", state, late, fix)]
    elif slot is None:
        what = f"the server has no replication slot {slot_name(settings.alf_host_name)}"
        found = [_judge_by_note(what, state, late, fix)]
    elif not slot.active or slot.flushed is None:
        kept = f"the receiver is down; the server keeps {size_for_people(slot.kept)} of WAL for it"
        found = [_judge_by_note(kept, state, late, fix)]
    elif slot.catching_up:
        what = (
            f"the receiver is catching up; {size_for_people(slot.behind or 0)} of WAL is on the server only"
        )
        found = [_judge_by_note(what, state, late, fix) if heard else warning(SUBJECT, what, fix)]
    else:
        found = [_judge_lag(slot, limit, fix)]
    if slot and slot.status in ("unreserved", "lost"):
        what = f"wal_status is {slot.status}: the server removes WAL before it is received"
        found.append(warning("replication slot", what, fix))
    if state and state.failing_since:
        level = error if now - state.failing_since > limit else warning
        what = f"since {for_people(state.failing_since)} fails: {state.error}"
        found.append(level("WAL receiver", what, state.fix or fix))
    if state and state.lost_at and now - state.lost_at < timedelta(days=1):
        found.append(warning("WAL receiver", f"{for_people(state.lost_at)}: {state.lost}", _new_base()))
    return tuple(found)


def _new_base() -> str:
    base = f"{program_command('backup', '--only', 'postgres')}  # where the audit names a gap"
    return f"{program_command('wal-audit')}\n{base}"


def _judge_by_note(what: str, state: ReceiverState | None, late: bool, fix: str) -> Finding:
    """Nobody receives: an error once that has lasted too long."""
    if state is None or state.heard_at is None:
        return error(SUBJECT, f"{what}; it was never seen to have caught up", fix)
    words = f"{what}; commits are safe up to {state.flushed}, received until {for_people(state.heard_at)}"
    return error(SUBJECT, words, fix) if late else warning(SUBJECT, words, fix)


def _judge_lag(slot: Slot, limit: timedelta, fix: str) -> Finding:
    kept = f"; the server keeps {size_for_people(slot.kept)} of WAL for it"
    status = f", wal_status {slot.status}" if slot.status else ""
    words = f"{lag_words(slot)}{kept}{status}"
    age = slot.heard_ago if slot.age is None else slot.age
    late = age > limit.total_seconds()
    return error(SUBJECT, words, fix) if late else ok(SUBJECT, words)


def lag_words(slot: Slot) -> str:
    """How far behind the server's commits are safe, as the server measured it."""
    measured = "" if slot.lag is None else f", {_ago(slot.lag)} when last measured"
    if slot.behind and slot.age is not None and slot.silence is not None:
        return f"commits are safe up to {_ago(slot.age)} behind ({slot.behind:,} bytes)"
    return f"commits are safe up to {slot.behind:,} bytes behind{measured}"


def _ago(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else duration_for_people(seconds)
