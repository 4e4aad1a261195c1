"""Which backup a request means: a set from the listing, or a refusal that says what can be had. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.timelines import TimelinePath
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup
from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from alfresco_backup.restore.planning.window import Reach, Reachable, whole_second_after
from alfresco_backup.times import for_people, for_people_and_utc, parse_stamp
from alfresco_backup.wal.chain import WalMap, keeps_own_wal, reach
from alfresco_backup.wal.window import segments_needed

STAMPS_NAMED = 10
LIST_COMMAND = "python restore.py lists the backups"


@dataclass(frozen=True)
class Choice:
    """What is recovered how far. `segments` are all that recovery reads at least, in order.

    `moment` is that of the state this gives, which the content must suit: nothing in it was committed later.
    """

    base: BaseBackup
    target: Target
    moment: datetime
    timeline: int
    segments: tuple[Segment, ...]
    backup_set: BackupSet | None = None
    warnings: tuple[str, ...] = ()


def find_set(catalogue: Catalogue, stamp: str) -> BackupSet:
    """The set of a stamp, whole or not. Raises Refused, naming why it cannot be used or which are known."""
    for item in catalogue.sets:
        if stamp == item.stamp:
            return item
    for problem in catalogue.problems:
        if _stamp_of(problem.path) == stamp:
            raise Refused(f"backup {stamp} cannot be used: {problem.path}: {problem.reason}", LIST_COMMAND)
    for path in catalogue.partials:
        if stamp in path.name:
            raise Refused(f"backup {stamp} was never finished: only {path.name} is left of it", LIST_COMMAND)
    raise Refused(f"backup {stamp} is not known; {known_stamps(catalogue)}", LIST_COMMAND)


def wanted_set(request: RestoreRequest, catalogue: Catalogue, now: datetime) -> BackupSet:
    """The set asked for, or the newest that is not dated in the future. Raises Refused.

    A full restore needs a complete set, the others only the part they restore.
    """
    if request.backup != LATEST:
        backup_set = find_set(catalogue, request.backup)
        what = lacking(backup_set, request)
        if what:
            raise Refused(
                f"set {backup_set.stamp} is incomplete: it lacks {what}",
                f"restore what it has with another mode, or choose another: {LIST_COMMAND}",
            )
        return backup_set
    usable = [item for item in catalogue.sets if not lacking(item, request) and item.moment <= now]
    if not usable:
        raise Refused(
            f"there is no backup for restore-{request.kind}; {known_stamps(catalogue)}",
            "python backup.py makes one",
        )
    return usable[-1]


def lacking(backup_set: BackupSet, request: RestoreRequest) -> str:
    """What a set lacks for a restore, in words; empty when it has all."""
    parts = {
        "its base backup": backup_set.base is None and request.kind != "contentstore",
        "the main content store": MAIN_STORE not in backup_set.snapshots
        and request.kind in ("full", "contentstore"),
        "the configuration": request.kind == "full"
        and backup_set.configuration is None
        and not backup_set.legacy,
    }
    return " and ".join(words for words, lacks in parts.items() if lacks)


def known_stamps(catalogue: Catalogue) -> str:
    """The newest stamps, for a refusal."""
    stamps = [f"{item.stamp} ({for_people(item.moment)})" for item in catalogue.sets[-STAMPS_NAMED:]]
    if not stamps:
        return "there is no backup yet"
    older = len(catalogue.sets) - len(stamps)
    return f"known: {', '.join(reversed(stamps))}{f' and {older} older' if older else ''}"


def choose_end_of_base(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Choice:
    """A set as it is: the state at the end of its base backup, on the base's own timeline. Raises Refused."""
    backup_set = wanted_set(request, catalogue, facts.now)
    base = backup_set.base
    if base is None:
        raise Refused(f"set {backup_set.stamp} is incomplete: it lacks its base backup", LIST_COMMAND)
    check_cluster(base, facts)
    wal = reachable.known.wal
    path = wal.path(base.timeline)
    first, stop = base.start_lsn.segment(base.segment_size), (int(base.stop_lsn) - 1) // base.segment_size
    segments = tuple(path.segment(number, base.segment_size) for number in range(first, stop + 1))
    reached = reach(base, path, wal)
    if reached is None or reached.last < stop:
        missing = [item.name(base.segment_size) for item in segments if wal.time_of(item) is None]
        raise Refused(
            f"base {base.stamp} cannot be restored: {_why_not(base, path, missing)}; {reachable.sentence}",
            f"choose another backup: {LIST_COMMAND}",
        )
    newer = passed_over(catalogue, base, facts.now) if request.backup == LATEST else ()
    return Choice(base, Target("immediate"), base.stopped_at, base.timeline, segments, backup_set, newer)


def _why_not(base: BaseBackup, path: TimelinePath, missing: list[str]) -> str:
    reason = path.why_not(base.timeline, base.start_lsn, base.stop_lsn)
    if reason:
        return reason
    kept = "" if keeps_own_wal(base) else " and it keeps no WAL itself"
    return f"WAL between its start and its end is missing from the archive{kept}: {', '.join(missing)}"


def check_cluster(base: BaseBackup, facts: HostFacts) -> None:
    """Refuse a base whose cluster is not the archive's: archiving would be refused after the restore."""
    owner = facts.archive.owner
    if facts.archive_readable and owner and owner != base.system_identifier:
        folder = facts.archive_directory
        raise Refused(
            f"base {base.stamp} is of the cluster with system identifier {base.system_identifier}, the WAL "
            f"archive {folder} of {owner}: it holds no WAL for it, and would take none after the restore",
            f"set that archive aside first: mv {folder} {folder}-of-{owner} && mkdir {folder}, with the same "
            "owner; choose another backup otherwise",
        )


def passed_over(catalogue: Catalogue, base: BaseBackup, before: datetime) -> tuple[str, ...]:
    """Base backups that would have been nearer to the target than the chosen one, had they been sound."""
    return tuple(
        f"{problem.path.name} is newer and was passed over: {problem.reason}"
        for problem in catalogue.problems
        if problem.path.name.startswith("base-") and base.started_at < _moment_of(problem.path) <= before
    )


def _stamp_of(path: Path) -> str:
    return path.name.partition("-")[2]


def _moment_of(path: Path) -> datetime:
    """The moment in the name of an entry; the beginning of time for a name without one."""
    try:
        return parse_stamp(_stamp_of(path))
    except ValueError:
        return parse_stamp("20000101T000000Z")


# From which base, along which timeline a moment is reached; or a refusal that says what can be. Pure.
#
# A wall-clock moment may lie on several timelines, after a recovery to an earlier moment and its undoing. It
# is taken on the newest one that has it: the one that was lived on then. An explicit `timeline` overrides
# that.

ARCHIVE_LAG = timedelta(minutes=10)
"""How late a segment's time may be in an archive filled by a plain copy, whose times are those of copying."""


def choose_moment(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Choice:
    """The base backup, timeline and target for a moment, or for the end of all WAL. Raises Refused."""
    _check_timeline(request, reachable)
    wanted = _limit_to_base(request, catalogue, facts, reachable)
    moment = request.moment
    if moment is None:
        way = wanted.latest(request.timeline)
        if way is None:
            raise Refused(reachable.sentence, "python backup.py makes a new base backup")
        return Choice(
            way.base,
            Target("end-of-wal"),
            way.interval.end,
            way.interval.timeline,
            _segments_to_end(way, wanted.known.wal),
            warnings=passed_over(catalogue, way.base, facts.now),
        )
    if moment > facts.now:
        raise Refused(
            f"target {for_people_and_utc(moment)} lies in the future: it is {for_people_and_utc(facts.now)} "
            f"now; {reachable.sentence}",
            "choose a moment that has been",
        )
    ways = [way for way in wanted.holding(moment) if request.timeline in (None, way.interval.timeline)]
    if not ways:
        _refuse(request, moment, wanted, reachable)
    way = ways[0]
    timeline = way.interval.timeline
    passed = passed_over(catalogue, way.base, moment) if request.backup == LATEST else ()
    return Choice(
        way.base,
        _target(moment, way, facts, wanted),
        moment,
        timeline,
        segments_needed(way.base, moment, timeline, wanted.known.wal),
        warnings=(*passed, *_other_timelines(request, moment, timeline, wanted)),
    )


def _target(moment: datetime, way: Reach, facts: HostFacts, reachable: Reachable) -> Target:
    """A time to stop at; or the end of the WAL, where a stopped server's last write was before the moment."""
    known = reachable.known
    on_live = way.interval.timeline == known.live_timeline
    stopped = facts.live is not None and not facts.live.running
    if on_live and stopped and known.written is not None and known.written < moment:
        return Target("end-of-wal", moment)
    reaches_beyond = facts.archive_keeps_times or on_live or moment + ARCHIVE_LAG <= way.interval.end
    return Target("time", moment, end_of_wal_suffices=reaches_beyond)


def _check_timeline(request: RestoreRequest, reachable: Reachable) -> None:
    known = reachable.known.wal.timelines
    if request.timeline is not None and request.timeline not in known:
        listed = ", ".join(str(timeline) for timeline in known) or "none"
        raise Refused(
            f"timeline {request.timeline} is not known to the WAL archive; known: {listed}",
            "leave timeline out: the one in use at the moment is taken",
        )


def _limit_to_base(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Reachable:
    """What can be reached from the base backup asked for, or from any."""
    if request.backup == LATEST:
        return reachable
    backup_set = find_set(catalogue, request.backup)
    if backup_set.base is None:
        raise Refused(
            f"set {backup_set.stamp} has no base backup, so no moment is reached from it",
            "leave backup out: the newest base before the moment is taken",
        )
    base = backup_set.base
    check_cluster(base, facts)
    moment = request.moment
    if moment is not None and moment <= base.stopped_at:
        raise Refused(
            f"base {base.stamp} ended at {for_people_and_utc(base.stopped_at)}, not before the target "
            f"{for_people_and_utc(moment)}: nothing before its end is reached from it; {reachable.sentence}",
            "leave backup out: the newest base before the moment is taken",
        )
    own = tuple(way for way in reachable.reaches if way.base.stamp == base.stamp)
    return replace(reachable, bases=(base,), reaches=own)


def _refuse(request: RestoreRequest, moment: datetime, wanted: Reachable, reachable: Reachable) -> NoReturn:
    """Say why no base backup leads to the moment, and what can be reached instead."""
    target, can = f"target {for_people_and_utc(moment)}", reachable.sentence
    elsewhere = sorted({way.interval.timeline for way in wanted.holding(moment)})
    if request.timeline is not None and elsewhere:
        on = " and ".join(str(timeline) for timeline in elsewhere)
        began = wanted.known.wal.promoted.get(request.timeline)
        since = f", which began at {for_people_and_utc(began)}" if began else ""
        raise Refused(
            f"{target} is not on timeline {request.timeline}{since}; it is on timeline {on}",
            f"leave timeline out, or give timeline {elsewhere[-1]}",
        )
    spans = wanted.spans
    which = "" if request.backup == LATEST else f" from base {request.backup}"
    if not spans:
        raise Refused(
            f"{target} cannot be reached{which}: {wanted.gap_words(moment) or can}; {can}", LIST_COMMAND
        )
    if moment <= spans[0][0]:
        first = for_people_and_utc(whole_second_after(spans[0][0]))
        raise Refused(
            f"{target} is before the first moment that can be reached{which}, {first}; {can}", LIST_COMMAND
        )
    missing = wanted.gap_words(moment)
    reason = f": {missing}" if missing else ""
    if moment > spans[-1][1]:
        raise Refused(
            f"{target} is after the last moment that can be reached{which}, "
            f"{for_people_and_utc(spans[-1][1])}{reason}; {can}",
            f"target_time {LATEST} restores all there is; a moment later needs WAL that is not archived",
        )
    raise Refused(f"{target} lies in a gap{reason}; {can}", "choose a moment before or after the gap")


def _segments_to_end(way: Reach, wal: WalMap) -> tuple[Segment, ...]:
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
    request: RestoreRequest, moment: datetime, chosen: int, reachable: Reachable
) -> tuple[str, ...]:
    """What an operator should know of the other lives this host had around the moment."""
    if request.timeline is not None:
        return ()
    warnings = []
    others = sorted({way.interval.timeline for way in reachable.holding(moment)} - {chosen})
    if others:
        on = " and ".join(str(timeline) for timeline in others)
        warnings.append(
            f"the moment lies on timeline {on} as well, which was set aside then and taken up again later; "
            f"timeline {chosen}, in use at the moment, is restored"
        )
    wal = reachable.known.wal
    on_the_way = {span.timeline for span in wal.path(chosen).spans}
    lived = max(
        (wal.promoted[line] for line in on_the_way & set(wal.promoted) if wal.promoted[line] <= moment),
        default=None,
    )
    for timeline, began in sorted(wal.promoted.items()):
        newer = began < moment and (lived is None or began > lived)
        if newer and timeline not in on_the_way and timeline not in others:
            warnings.append(
                f"timeline {timeline} began at {for_people_and_utc(began)}, before the moment, but its WAL "
                f"does not reach it; the moment is taken on timeline {chosen}, which was taken up again later"
            )
    return tuple(warnings)
