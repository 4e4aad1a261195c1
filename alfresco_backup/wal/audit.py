"""The audit of the WAL archive: what can be restored, what is lost, what endangers restores. Pure.

Facts come in as records (contents.py, archiver.py, the catalogue), a WalAudit comes out. A file in the
archive that is defective is a warning by itself; where a kept base backup needs it, it is a gap. A gap is an
error until there is a newer base backup after it: from then on nothing can bring back what is lost.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from alfresco_backup.findings import Finding, Level, error, ok, warning, worst_first
from alfresco_backup.postgres.wal_files import DEFAULT_SEGMENT_SIZE, parse_segment_name
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import archive_command, move_command, program_command
from alfresco_backup.times import duration_for_people, for_people
from alfresco_backup.wal.archiver import ServerView, judge_server
from alfresco_backup.wal.chain import WalMap, make_map
from alfresco_backup.wal.contents import ArchiveContents
from alfresco_backup.wal.judge import judge_segments
from alfresco_backup.wal.verified import Verification, summarize
from alfresco_backup.wal.window import Gap, GapSearch, Interval, window

WAIT = timedelta(minutes=10)
GAPS_NAMED = 3
SEGMENTS_AT_ONCE = 20
"""How many of a gap's segments a fix names; the next audit names the next ones."""
_ORDER = ("error", "warning", "ok")
Value = TypeVar("Value")


@dataclass(frozen=True)
class BaseWindow:
    """What one base backup can be restored to, and the gaps that stop it.

    `end_only`: it is from before the recovery window and kept without the WAL after its end, which is no gap.
    """

    stamp: str
    intervals: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    end_only: bool = False

    @property
    def sentence(self) -> str:
        if not self.intervals:
            return "cannot be restored: the archive lacks WAL between its start and its end"
        if self.end_only:
            end = for_people(self.intervals[0].start)
            return f"restorable as of its end, {end}; it is kept without later WAL"
        several = len(self.intervals) > 1
        return "restorable " + "; ".join(_interval_words(item, several) for item in self.intervals)


@dataclass(frozen=True)
class WalAudit:
    """The result. `summary` is one sentence; `findings` are sorted, errors first; `newest` is when the newest
    usable segment was last written to; `wal` answers further questions (window.py).
    """

    moment: datetime
    summary: str
    bases: tuple[BaseWindow, ...]
    gaps: tuple[Gap, ...]
    findings: tuple[Finding, ...]
    files: int
    bytes: int
    newest: datetime | None
    wal: WalMap
    verification: Verification

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What endangers restores."""
        return tuple(item for item in self.findings if item.level == "error")

    def with_finding(self, finding: Finding) -> "WalAudit":
        """The same result with one more finding."""
        return replace(self, findings=worst_first([*self.findings, finding]))


def audit(
    contents: ArchiveContents,
    bases: Sequence[BaseBackup],
    server: ServerView | None,
    now: datetime,
    wait: timedelta = WAIT,
    window_start: datetime | None = None,
) -> WalAudit:
    """Audit an archive against the kept base backups and the server; None where it cannot be asked.

    `wait` is how long a finished segment may take to arrive. Base backups that ended after the archive was
    listed are left out: their WAL may have arrived since. What ends before `window_start`, where the recovery
    window begins, is as retention leaves it: of older base backups it keeps their own WAL only, so what is
    missing right after that is no gap. What a foreign timeline could be restored to is no part of what can be
    restored.
    """
    kept = [base for base in bases if base.stopped_at <= contents.listed_at]
    wal, found = read_map(contents, kept, server)
    current = wal.current
    settled = contents.listed_at - wait
    search = GapSearch(wal, kept, current, settled)
    windows = _without_what_retention_removed(
        [BaseWindow(base.stamp, _own_windows(base, wal), search.of(base)) for base in kept],
        {(int(base.stop_lsn) - 1) // base.segment_size for base in kept},
        window_start,
        wal.segment_size,
    )
    gaps = _unique_gaps(windows)
    written = (times.values() for timeline, times in wal.times.items() if timeline not in wal.foreign)
    newest = max((moment for times in written for moment in times), default=None)
    verification = summarize(contents, wal, kept)
    findings = [*_judge_windows(windows), *found, _judge_age(newest, now), verification.finding]
    findings += _judge_foreign(wal, contents)
    if contents.timelines.defect and not server:
        what = (
            f"{contents.timelines.defect}: which timelines are foreign is not known until the server is asked"
        )
        findings.append(warning("timelines.json", what, program_command("wal-audit")))
    findings += [
        ok("WAL gap", f"before the recovery window; {gap.sentence}")
        if window_start and gap.lost_until and gap.lost_until <= window_start
        else _judge_gap(gap, contents, wal.segment_size, server)
        for gap in gaps
    ]
    findings += judge_server(server, contents, wal.owner, wait) if server else _judge_history(wal, contents)
    return WalAudit(
        moment=now,
        summary=_summary(kept, windows, gaps, wal.owner),
        bases=windows,
        gaps=gaps,
        findings=worst_first(findings),
        files=len(contents.files),
        bytes=sum(file.bytes for file in contents.files),
        newest=newest,
        wal=wal,
        verification=verification,
    )


def read_map(
    contents: ArchiveContents,
    bases: Sequence[BaseBackup] = (),
    server: ServerView | None = None,
) -> tuple[WalMap, tuple[Finding, ...]]:
    """The usable WAL of an archive, and findings on the rest of it.

    The cluster is the one the marker names, else the server's, else that of most segments, else that of the
    newest base backup; the segment size is that of most of the cluster's segments. Which timelines are its
    server's that one says, or what is recorded of it.
    """
    headers = [look.header for look in contents.looks.values() if look.header is not None]
    owner = contents.owner or (server.system_identifier if server else "")
    owner = owner or _most_common(header.system_identifier for header in headers) or ""
    owner = owner or (bases[-1].system_identifier if bases else "")
    size = _most_common(header.segment_size for header in headers if header.system_identifier == owner)
    size = size or (server.segment_size if server else 0)
    size = size or (bases[-1].segment_size if bases else DEFAULT_SEGMENT_SIZE)
    judged = judge_segments(contents, owner, size)
    wal = make_map(owner, size, judged.usable, contents.histories.paths, judged.promoted, judged.damaged)
    timelines = contents.timelines
    if server and server.system_identifier in ("", owner):
        timelines = timelines.with_live(owner, server.timeline, server.moment)
    own = timelines.of(owner)
    witnessed = {base.timeline for base in bases if base.system_identifier == owner}
    wal = replace(wal, own=own, foreign=own.foreign(wal.timelines, wal.paths, witnessed))
    return wal, judged.findings


def _own_windows(base: BaseBackup, wal: WalMap) -> tuple[Interval, ...]:
    return tuple(item for item in window(base, wal) if item.timeline not in wal.foreign)


def _without_what_retention_removed(
    windows: Sequence[BaseWindow], stops: set[int], window_start: datetime | None, size: int
) -> tuple[BaseWindow, ...]:
    """The same without the holes that retention makes, which begin after the last segment of a base backup.

    `stops`: the numbers of these segments.
    """

    def removed(gap: Gap) -> bool:
        before = window_start and gap.lost_until and gap.lost_until <= window_start
        return bool(before) and parse_segment_name(gap.first, size).number - 1 in stops

    return tuple(
        replace(
            item,
            gaps=tuple(gap for gap in item.gaps if not removed(gap)),
            end_only=bool(item.intervals and item.gaps and removed(item.gaps[0])),
        )
        for item in windows
    )


def _judge_foreign(wal: WalMap, contents: ArchiveContents) -> list[Finding]:
    """Each timeline that another server archives here. Its files are in nobody's way, but may mislead."""
    findings = []
    for timeline in sorted(wal.foreign):
        prefix = f"{timeline:08X}"
        names = [file.name for file in contents.files if file.wal_name.startswith(prefix)]
        written = max(wal.times.get(timeline, {}).values(), default=None)
        until = f", written until {for_people(written)}" if written else ""
        seen = f" at {for_people(wal.own.seen_at)}" if wal.own.seen_at else ""
        what = (
            f"timeline {timeline} is foreign ({len(names):,} files{until}): this host's server was on "
            f"timeline {wal.own.live}{seen}, and no restore of this host began it; a copy of the server that "
            "was promoted archives here. A restore does not use it unless --timeline names it"
        )
        fix = f"{move_command(contents.directory, sorted(names)[:SEGMENTS_AT_ONCE])}  # first stop the copy"
        findings.append(warning("foreign timeline", what, fix))
    return findings


def _most_common(values: Iterable[Value]) -> Value | None:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else None


def _unique_gaps(windows: Iterable[BaseWindow]) -> tuple[Gap, ...]:
    """Each gap once, as the newest restorable base backup before it has it: that one loses the least."""
    by_worth = sorted(windows, key=lambda item: bool(item.intervals))
    gaps = {(gap.first, gap.last): gap for item in by_worth for gap in item.gaps}
    return tuple(sorted(gaps.values(), key=lambda gap: (gap.before, gap.first)))


def _judge_windows(windows: Sequence[BaseWindow]) -> list[Finding]:
    if not windows:
        return [error("base backups", "there is none: WAL alone restores nothing", _new_base_backup())]
    findings = []
    for item in windows:
        subject = f"base backup {item.stamp}"
        if item.intervals:
            findings.append(ok(subject, item.sentence))
        elif item is windows[-1]:
            findings.append(error(subject, item.sentence, _new_base_backup()))
        else:
            fix = "restore from another base backup; retention removes this one when it expires"
            findings.append(warning(subject, item.sentence, fix))
    return findings


def _judge_gap(gap: Gap, contents: ArchiveContents, size: int, server: ServerView | None) -> Finding:
    """A gap that no newer base backup makes harmless is an error; the server may still have its segments."""
    level: Level = "error" if gap.current and gap.lost_until is None else "warning"
    names = gap.names(size)
    if server is not None and names and server.kept.issuperset(names):
        what = f"{gap.sentence}; the server still has what is missing"
        place, names = Path(server.wal_directory), names[:SEGMENTS_AT_ONCE]
        stored = [file.name for file in contents.files if file.wal_name in names]
        moves = [move_command(contents.directory, stored)] if stored else []
        fix = archive_command(server.account, place, names, contents.directory)
        return Finding(level, "WAL gap", what, "\n".join([*moves, fix]))
    if level == "error":
        return Finding(level, "WAL gap", gap.sentence, _new_base_backup())
    return Finding(level, "WAL gap", gap.sentence, "choose a target time before or after the gap")


def _new_base_backup() -> str:
    return program_command("backup", "--only", "postgres")


def _judge_history(wal: WalMap, contents: ArchiveContents) -> list[Finding]:
    """Where the server was not asked: whether the timeline in use has its history.

    The audit that asks the server names the command that copies it from there.
    """
    history = f"{wal.current:08X}.history"
    if wal.current == 1 or any(file.wal_name == history for file in contents.files):
        return []
    what = f"{history} is not in the archive: older base backups cannot be restored to the present"
    return [error("timeline history", what, program_command("wal-audit"))]


def _judge_age(newest: datetime | None, now: datetime) -> Finding:
    if newest is None:
        fix = program_command("doctor")
        return warning("newest segment", "there is none in the archive", fix)
    age = duration_for_people(max(0.0, (now - newest).total_seconds()))
    return ok("newest segment", f"was last written to {age} ago, {for_people(newest)}")


def _summary(
    bases: Sequence[BaseBackup], windows: Sequence[BaseWindow], gaps: Sequence[Gap], owner: str
) -> str:
    """Of another cluster's base backups only their ends can be restored, whatever lies between them."""
    pairs = list(zip(bases, windows, strict=True))
    own = [window for base, window in pairs if base.system_identifier == owner]
    others = sum(bool(window.intervals) for base, window in pairs if base.system_identifier != owner)
    older = sum(window.end_only for window in own)
    ends = [f"{_ends(older, 'older base backup')}"] if older else []
    ends += [f"{_ends(others, 'base backup')} of another cluster"] if others else []
    intervals = [item for window in own if not window.end_only for item in window.intervals]
    if intervals:
        return ", and ".join([_headline(intervals, gaps), *ends])
    if ends:
        return f"restorable: only {' and '.join(ends)}"
    reason = "no base backup has the WAL it needs" if windows else "there is no base backup"
    return f"nothing can be restored: {reason}"


def _ends(count: int, of: str) -> str:
    several = "s" if count > 1 else ""
    return f"the end{several} of {count:,} {of}{several}"


def _headline(intervals: Sequence[Interval], gaps: Sequence[Gap]) -> str:
    start, end = min(item.start for item in intervals), max(item.end for item in intervals)
    reachable = f"restorable from {for_people(start)} to {for_people(end)}"
    if not gaps:
        return f"{reachable} (no gaps)"
    words = [
        f"{for_people(gap.before)} to {for_people(gap.lost_until) if gap.lost_until else 'now'}"
        for gap in gaps[:GAPS_NAMED]
    ]
    more = f" and {len(gaps) - GAPS_NAMED:,} more" if len(gaps) > GAPS_NAMED else ""
    return f"{reachable} (gap{'s' if len(gaps) > 1 else ''}: {'; '.join(words)}{more})"


def _interval_words(interval: Interval, several: bool) -> str:
    words = f"from {for_people(interval.start)} to {for_people(interval.end)}"
    return f"{words} on timeline {interval.timeline}" if several else words
