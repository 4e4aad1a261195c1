"""Which backup a request means: a set from the listing, or a refusal that says what can be had. Pure."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.records import MAIN_STORE, BaseBackup
from alfresco_backup.restore_facts import HostFacts
from alfresco_backup.restore_plan import Target
from alfresco_backup.restore_request import LATEST, RestoreRequest
from alfresco_backup.restore_window import Reachable
from alfresco_backup.sets import BackupSet, Catalogue
from alfresco_backup.stamps import for_people, parse_stamp
from alfresco_backup.timelines import TimelinePath
from alfresco_backup.wal import Segment
from alfresco_backup.wal_map import keeps_own_wal, reach

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
