"""Which backup a request means, or a refusal that says what is possible instead. Pure.

A backup set restored as it is comes first; then a target time: from which base backup, along which timeline.
A target time may be on several timelines, after a recovery to an earlier time and its undo. It is taken on
the newest timeline that has it: the one in use then. An explicit `timeline` overrides that, and must be given
where a foreign timeline, which the host's server was never on, has the target time too.
"""

import shlex
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.timelines import TimelinePath
from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup
from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest, command_of
from alfresco_backup.restore.planning.window import Reachable, Way, whole_second_after
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people, for_people_and_utc, parse_stamp
from alfresco_backup.wal.chain import WalMap, keeps_own_wal, reach
from alfresco_backup.wal.window import segments_needed

BACKUPS_NAMED = 10
ARCHIVE_LAG = timedelta(minutes=10)
"""How late a segment's time may be in an archive filled by a plain copy, whose times are those of copying."""


@dataclass(frozen=True)
class Choice:
    """What is recovered how far. `segments` are all that recovery reads at least, in order.

    `state_time` is the time of the resulting state, which the content must match: nothing in it was committed
    later.
    """

    base: BaseBackup
    target: Target
    state_time: datetime
    timeline: int
    segments: tuple[Segment, ...]
    backup_set: BackupSet | None = None
    warnings: tuple[str, ...] = ()


def find_set(catalogue: Catalogue, backup_id: str) -> BackupSet:
    """The set of a backup ID, complete or not. Raises Refused, naming why not, or which are known."""
    status = program_command("status")
    for item in catalogue.sets:
        if backup_id == item.stamp:
            return item
    for problem in catalogue.problems:
        if _backup_id_of(problem.path) == backup_id:
            raise Refused(f"backup {backup_id} cannot be used: {problem.path}: {problem.reason}", status)
    for path in catalogue.partials:
        if backup_id in path.name:
            raise Refused(f"backup {backup_id} is incomplete: its run left only {path.name}", status)
    raise Refused(f"there is no backup {backup_id}; {known_backups(catalogue)}", status)


def wanted_set(request: RestoreRequest, catalogue: Catalogue, now: datetime) -> BackupSet:
    """The set asked for, or the newest that is not dated in the future. Raises Refused.

    A full restore needs a complete set, the others only the part they restore.
    """
    if request.backup != LATEST:
        backup_set = find_set(catalogue, request.backup)
        missing = missing_parts(backup_set, request)
        if missing:
            raise Refused(
                f"backup {backup_set.stamp} is incomplete: it has no {missing}", program_command("status")
            )
        return backup_set
    usable = [item for item in catalogue.sets if not missing_parts(item, request) and item.moment <= now]
    if not usable:
        raise Refused(
            f"no backup is complete enough for a {request.kind} restore; {known_backups(catalogue)}",
            program_command("backup"),
        )
    return usable[-1]


def missing_parts(backup_set: BackupSet, request: RestoreRequest) -> str:
    """What a set has not got for a restore, in words; empty when it has all."""
    parts = {
        "base backup": backup_set.base is None and request.kind != "contentstore",
        "main content store": MAIN_STORE not in backup_set.snapshots
        and request.kind in ("full", "contentstore"),
        "configuration": request.kind == "full"
        and backup_set.configuration is None
        and not backup_set.legacy,
    }
    return " and no ".join(part for part, missing in parts.items() if missing)


def known_backups(catalogue: Catalogue) -> str:
    """The newest backup IDs, for a refusal."""
    known = [f"{item.stamp} ({for_people(item.moment)})" for item in catalogue.sets[-BACKUPS_NAMED:]]
    if not known:
        return "there is no backup yet"
    older = len(catalogue.sets) - len(known)
    return f"known: {', '.join(reversed(known))}{f' and {older} older' if older else ''}"


def choose_set(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Choice:
    """A set as it is: the state at the end of its base backup, on that one's own timeline. Raises Refused."""
    backup_set = wanted_set(request, catalogue, facts.now)
    base = backup_set.base
    if base is None:
        raise Refused(
            f"backup {backup_set.stamp} is incomplete: it has no base backup", program_command("status")
        )
    check_cluster(base, facts)
    wal = reachable.known.wal
    path = wal.path(base.timeline)
    first, stop = base.start_lsn.segment(base.segment_size), (int(base.stop_lsn) - 1) // base.segment_size
    segments = tuple(path.segment(number, base.segment_size) for number in range(first, stop + 1))
    reached = reach(base, path, wal)
    if reached is None or reached.last < stop:
        missing = [item.name(base.segment_size) for item in segments if wal.time_of(item) is None]
        raise Refused(
            f"base backup {base.stamp} cannot be restored: {_why_not(base, path, missing)}; "
            f"{reachable.sentence}",
            program_command("status"),
        )
    newer = passed_over(catalogue, base, facts.now) if request.backup == LATEST else ()
    return Choice(base, Target("immediate"), base.stopped_at, base.timeline, segments, backup_set, newer)


def _why_not(base: BaseBackup, path: TimelinePath, missing: list[str]) -> str:
    reason = path.why_not(base.timeline, base.start_lsn, base.stop_lsn)
    if reason:
        return reason
    own = "" if keeps_own_wal(base) else " and the base backup contains no WAL itself"
    return f"WAL between its start and its end is missing from the archive{own}: {', '.join(missing)}"


def check_cluster(base: BaseBackup, facts: HostFacts) -> None:
    """Refuse a base backup whose cluster is not the archive's: archiving would fail after the restore."""
    owner = facts.archive.owner
    if facts.archive_readable and owner and owner != base.system_identifier:
        folder = facts.archive_directory
        old, new = shlex.quote(f"{folder}-of-{owner}"), shlex.quote(str(folder))
        raise Refused(
            f"system identifier mismatch: base backup {base.stamp} {base.system_identifier}, WAL archive "
            f"{folder} {owner}; this archive has no WAL for that base backup and would refuse the WAL of the "
            "restored server. Restore another backup, or first set the archive aside for a new one",
            f"mv {new} {old} && mkdir {new} && chown --reference={old} {new} && chmod --reference={old} "
            f"{new}",
        )


def passed_over(catalogue: Catalogue, base: BaseBackup, before: datetime) -> tuple[str, ...]:
    """Base backups nearer to the target than the chosen one that are damaged."""
    return tuple(
        f"{problem.path.name} is newer but cannot be used: {problem.reason}"
        for problem in catalogue.problems
        if problem.path.name.startswith("base-") and base.started_at < _time_of(problem.path) <= before
    )


def _backup_id_of(path: Path) -> str:
    return path.name.partition("-")[2]


def _time_of(path: Path) -> datetime:
    """The time in the name of an entry; the beginning of time for a name without one."""
    try:
        return parse_stamp(_backup_id_of(path))
    except ValueError:
        return parse_stamp("20000101T000000Z")


def choose_target_time(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Choice:
    """Base backup, timeline and target for a target time, or for the end of all WAL. Raises Refused."""
    _check_timeline(request, reachable)
    wanted = _limit_to_base(request, catalogue, facts, reachable)
    chosen = wanted if request.timeline is None else wanted.on(request.timeline)
    time = request.exact_time
    if time is None:
        way = chosen.latest()
        if way is None:
            raise Refused(reachable.sentence, program_command("backup"))
        _require_known_timeline(request, way, facts, wanted.known.wal)
        _require_undamaged_end(request, way, wanted.known.wal)
        return Choice(
            way.base,
            Target("end-of-wal"),
            way.interval.end,
            way.interval.timeline,
            _segments_to_end(way, wanted.known.wal),
            warnings=(*passed_over(catalogue, way.base, facts.now), *_foreign_words(way, wanted.known.wal)),
        )
    if time > facts.now:
        raise Refused(
            f"target time {for_people_and_utc(time)} is in the future; choose a target time in the past, it "
            f"is now {for_people_and_utc(facts.now)}; {reachable.sentence}",
            command_of(replace(request, target_time=LATEST)),
        )
    ways = chosen.ways_to(time)
    if not ways:
        _refuse(request, time, wanted, reachable)
    way = ways[0]
    _require_one_timeline(request, time, way, chosen)
    timeline = way.interval.timeline
    passed = passed_over(catalogue, way.base, time) if request.backup == LATEST else ()
    # The times of plain copies are late: a segment copied after the time may have been written before it.
    until = time if facts.archive_keeps_times else min(time + ARCHIVE_LAG, way.interval.end)
    return Choice(
        way.base,
        _target(time, way, facts, wanted),
        time,
        timeline,
        segments_needed(way.base, until, timeline, wanted.known.wal),
        warnings=(
            *passed,
            *_other_timelines(request, time, timeline, wanted),
            *_foreign_words(way, wanted.known.wal),
        ),
    )


def _require_one_timeline(request: RestoreRequest, time: datetime, way: Way, chosen: Reachable) -> None:
    """Refuse a target time that a foreign timeline has too, until one of them is asked for."""
    foreign = chosen.foreign_to(time)
    if foreign:
        raise Refused(
            f"target time {for_people_and_utc(time)} is on timeline {way.timeline} of this host's server and "
            f"on foreign timeline {' and '.join(map(str, foreign))}, which {_never_on(chosen.known.wal)}",
            command_of(replace(request, timeline=way.timeline)),
        )


def _require_known_timeline(request: RestoreRequest, way: Way, facts: HostFacts, wal: WalMap) -> None:
    """Refuse `latest` where the server is gone and may have changed to a timeline that no audit has seen."""
    seen = wal.own.seen_at
    server_tells = facts.live is not None and facts.live.timeline is not None
    later = [each for each in wal.foreign if seen and wal.promoted.get(each, seen) > seen]
    if request.timeline is None and later and not server_tells:
        listed = " and ".join(map(str, sorted(later)))
        raise Refused(
            f"the last audit saw this host's server on timeline {wal.own.live}, and timeline {listed} in the "
            "WAL archive began after it: either the server changed to it, or a copy of it archives here",
            "\n".join(
                f"{command_of(replace(request, timeline=each))}  # if timeline {each} is the right one"
                for each in (way.timeline, *sorted(later))
            ),
        )


def _foreign_words(way: Way, wal: WalMap) -> tuple[str, ...]:
    """What an operator must know who asked for a foreign timeline."""
    if way.timeline not in wal.foreign:
        return ()
    what = f"timeline {way.timeline} is foreign, the rows of another server are restored: it is one that"
    return (f"{what} {_never_on(wal)}",)


def _never_on(wal: WalMap) -> str:
    seen = f" at {for_people(wal.own.seen_at)}" if wal.own.seen_at else ""
    return f"no restore of this host began; its server was on timeline {wal.own.live}{seen}"


def _target(time: datetime, way: Way, facts: HostFacts, reachable: Reachable) -> Target:
    """A time to stop at; or the end of the WAL, where a stopped server's last write was before that time."""
    known = reachable.known
    on_live = way.interval.timeline == known.live_timeline
    stopped = facts.live is not None and not facts.live.running
    if on_live and stopped and known.written is not None and known.written < time:
        return Target("end-of-wal", time)
    reaches_beyond = facts.archive_keeps_times or on_live or time + ARCHIVE_LAG <= way.interval.end
    return Target("time", time, end_of_wal_suffices=reaches_beyond)


def _require_undamaged_end(request: RestoreRequest, way: Way, wal: WalMap) -> None:
    """Refuse `latest` where the next segment is damaged: PostgreSQL would read into it, and end anywhere."""
    size, interval = way.base.segment_size, way.interval
    number = parse_segment_name(interval.last_segment, size).number + 1
    following = wal.path(interval.timeline).segment(number, size)
    if following in wal.damaged:
        raise Refused(
            f"the WAL does not end at {for_people_and_utc(interval.end)}, the last time that can be restored:"
            f" segment {following.name(size)} after it is damaged",
            command_of(replace(request, target_time=interval.end)),
        )


def _check_timeline(request: RestoreRequest, reachable: Reachable) -> None:
    known = reachable.known.wal.timelines
    if request.timeline is not None and request.timeline not in known:
        listed = ", ".join(str(timeline) for timeline in known) or "none"
        raise Refused(
            f"timeline {request.timeline} is not in the WAL archive; known: {listed}",
            command_of(replace(request, timeline=None)),
        )


def _limit_to_base(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Reachable:
    """What can be restored from the base backup asked for, or from any."""
    if request.backup == LATEST:
        return reachable
    backup_set = find_set(catalogue, request.backup)
    with_any_backup = command_of(replace(request, backup=LATEST))
    if backup_set.base is None:
        raise Refused(
            f"backup {backup_set.stamp} has no base backup, so no target time can be restored from it",
            with_any_backup,
        )
    base = backup_set.base
    check_cluster(base, facts)
    time = request.exact_time
    if time is not None and time <= base.stopped_at:
        raise Refused(
            f"base backup {base.stamp} ended at {for_people_and_utc(base.stopped_at)}, not before the "
            f"target time {for_people_and_utc(time)}: only later times can be restored from it; "
            f"{reachable.sentence}",
            with_any_backup,
        )
    own, foreign = (
        tuple(way for way in ways if way.base.stamp == base.stamp)
        for ways in (reachable.ways, reachable.foreign)
    )
    return replace(reachable, bases=(base,), ways=own, foreign=foreign)


def _refuse(request: RestoreRequest, time: datetime, wanted: Reachable, reachable: Reachable) -> NoReturn:
    """Say why no base backup leads to the target time, and which ones are possible instead."""
    target, possible = f"target time {for_people_and_utc(time)}", reachable.sentence
    possible += _lost_histories(wanted.known.wal)
    for timeline in wanted.foreign_to(time):
        possible += f"; it is on foreign timeline {timeline}, which {_never_on(wanted.known.wal)}"
    elsewhere = sorted({way.interval.timeline for way in wanted.ways_to(time)})
    if request.timeline is not None and elsewhere:
        on = " and ".join(str(timeline) for timeline in elsewhere)
        began = wanted.known.wal.promoted.get(request.timeline)
        since = f", which began at {for_people_and_utc(began)}" if began else ""
        raise Refused(
            f"{target} is not on timeline {request.timeline}{since}; it is on timeline {on}",
            command_of(replace(request, timeline=elsewhere[-1])),
        )
    spans = wanted.spans
    which = "" if request.backup == LATEST else f" of base backup {request.backup}"
    if not spans:
        source = "" if request.backup == LATEST else f" from base backup {request.backup}"
        reason = wanted.gap_words(time) or possible
        raise Refused(
            f"{target} cannot be restored{source}: {reason}; {possible}", program_command("wal-audit")
        )
    if time <= spans[0][0]:
        first, command = _from(request, min(wanted.ways, key=lambda way: way.interval.start))
        raise Refused(f"{target} is before the oldest restorable time{which}, {first}; {possible}", command)
    missing = wanted.gap_words(time)
    reason = f": {missing}" if missing else ""
    if time > spans[-1][1]:
        raise Refused(
            f"{target} is after the newest restorable time{which}, "
            f"{for_people_and_utc(spans[-1][1])}{reason}; a later one needs WAL that is not archived; "
            f"{possible}",
            command_of(replace(request, target_time=LATEST)),
        )
    earlier = [way for way in wanted.ways if way.interval.end < time]
    later = [way for way in wanted.ways if way.interval.start >= time]
    before = max(earlier, key=lambda way: way.interval.end, default=None)
    nearest = [_to_the_end(request, before)] if before else []
    nearest += [_from(request, min(later, key=lambda way: way.interval.start))] if later else []
    where = f"is in a gap of the WAL{reason}"
    if before in wanted.older and before:
        where = f"cannot be restored: base backup {before.base.stamp} is kept without later WAL"
    possible = f"the nearest possible: {' and '.join(words for words, _ in nearest)}; {possible}"
    raise Refused(f"{target} {where}; {possible}", "\n".join(command for _, command in nearest))


def _from(request: RestoreRequest, way: Way) -> tuple[str, str]:
    """The first time of a way that can be typed, in words, and the command that restores it."""
    first = whole_second_after(way.interval.start)
    if way.contains(first):
        return for_people_and_utc(first), command_of(replace(request, target_time=first))
    return _as_it_is(request, way)


def _to_the_end(request: RestoreRequest, way: Way) -> tuple[str, str]:
    """The same of the last time of a way."""
    if way.contains(way.interval.end):
        return (
            for_people_and_utc(way.interval.end),
            command_of(replace(request, target_time=way.interval.end)),
        )
    return _as_it_is(request, way)


def _as_it_is(request: RestoreRequest, way: Way) -> tuple[str, str]:
    """Of a base backup with no time after its end: that end, which a restore without target time reaches."""
    kind = "full" if request.kind == "pitr" else request.kind
    end = for_people_and_utc(way.base.stopped_at)
    plain = replace(request, kind=kind, backup=way.base.stamp, target_time=None, timeline=None)
    return f"{end}, the end of base backup {way.base.stamp}", command_of(plain)


def _lost_histories(wal: WalMap) -> str:
    """What a missing history keeps from being restored, in words; empty where none is missing."""
    lost = [each for each in wal.timelines if each > 1 and each not in wal.paths]
    names = ", ".join(f"{each:08X}.history" for each in lost)
    only = "only base backups made on them" if len(lost) > 1 else "only a base backup made on it"
    return (
        f"; {names} is missing or damaged in the WAL archive: {only} can be restored along it" if lost else ""
    )


def _segments_to_end(way: Way, wal: WalMap) -> tuple[Segment, ...]:
    """All segments from a base's start to the last of its interval."""
    size = way.base.segment_size
    path = wal.path(way.interval.timeline)
    segments = []
    for number in range(way.base.start_lsn.segment(size), 1 << 62):
        segments.append(path.segment(number, size))
        if segments[-1].name(size) == way.interval.last_segment:
            break
    return tuple(segments)


def _other_timelines(
    request: RestoreRequest, time: datetime, chosen: int, reachable: Reachable
) -> tuple[str, ...]:
    """What an operator should know of the other timelines this host was on around the target time."""
    if request.timeline is not None:
        return ()
    warnings = []
    others = sorted({way.interval.timeline for way in reachable.ways_to(time)} - {chosen})
    if others:
        on = " and ".join(str(timeline) for timeline in others)
        warnings.append(
            f"the target time is on timeline {on} as well, which was not in use then and is in use again "
            f"since an undo; timeline {chosen}, in use at the target time, is restored"
        )
    wal = reachable.known.wal
    on_the_way = {span.timeline for span in wal.path(chosen).spans}
    lived = max(
        (wal.promoted[line] for line in on_the_way & set(wal.promoted) if wal.promoted[line] <= time),
        default=None,
    )
    for timeline, began in sorted(wal.promoted.items()):
        newer = began < time and (lived is None or began > lived) and timeline not in wal.foreign
        if newer and timeline not in on_the_way and timeline not in others:
            warnings.append(
                f"timeline {timeline} began at {for_people_and_utc(began)}, before the target time, but its "
                f"WAL ends before it; the target time is restored on timeline {chosen}, in use again since "
                "an undo"
            )
    return tuple(warnings)
