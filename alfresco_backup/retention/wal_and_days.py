"""What becomes of WAL, day trees, leftovers and logs, given what of the catalogue is kept. Pure."""

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.errors import BackupError
from alfresco_backup.postgres.wal_files import ArchivedFile
from alfresco_backup.repository.layout import BASE_PREFIX, DAYS
from alfresco_backup.retention.bases import BEING_SENT, Situation, Verdicts
from alfresco_backup.retention.clock import CLOCK_SKEW
from alfresco_backup.retention.inventory import REMOVED
from alfresco_backup.retention.policy import Item
from alfresco_backup.retention.wal_needs import NeededWal
from alfresco_backup.times import parse_stamp

ABANDONED = timedelta(days=1)
_STAMP = re.compile(r"\d{8}T\d{6}Z|\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def decide_wal(situation: Situation, bases: Verdicts, archive: Path) -> Iterator[Item]:
    """An item for every file of the WAL archive, by timeline and oldest segment first."""
    kept = sorted(
        (base for base in situation.catalogue.bases if bases[base.path].keep),
        key=lambda base: base.started_at,
    )
    needed = NeededWal(
        [base for base in kept if not bases[base.path].own_wal_only],
        [base for base in kept if bases[base.path].own_wal_only],
    )
    protected_since = _unreadable_since(situation)
    noted = _oldest_noted(situation)
    for file in situation.inventory.wal:
        keep, reason = _verdict_on_wal(situation, file, needed, bool(kept))
        if not keep and protected_since is not None and file.modified >= protected_since:
            keep, reason = True, "a base backup of that time cannot be read and may need it"
        if not keep and noted and file.kind != "temporary" and _segment(file) >= noted:
            keep = True
            reason = f"the base backup that starts with {noted} is missing; a file system may not be mounted"
        yield Item("wal", archive / file.name, keep, reason, file.bytes)


def _verdict_on_wal(
    situation: Situation, file: ArchivedFile, needed: NeededWal, any_kept: bool
) -> tuple[bool, str]:
    if file.kind == "temporary":
        touched = datetime.fromtimestamp(file.changed_ns / 1e9, UTC)
        abandoned = touched < situation.now - ABANDONED
        return not abandoned, "left by an archive-wal that was killed" if abandoned else "being written"
    if file.kind not in {"segment", "partial", "backup"}:
        return True, "never removed" if file.kind in {"history", "marker"} else "not a WAL file"
    oldest, owner = needed.of(_segment(file))
    if oldest:
        return True, f"needed from base backup {oldest.stamp} on, which starts with {oldest.start_wal}"
    if owner:
        return True, f"base backup {owner.stamp} cannot be restored without it"
    return (
        not any_kept,
        "no kept base backup needs WAL that old" if any_kept else "there is no base backup yet",
    )


def _unreadable_since(situation: Situation) -> datetime | None:
    """When the oldest base backup that cannot be read was made, of the window or pinned: it may be repaired.

    Where none from before the window is kept, or older ones only, the newest unreadable one of that time is
    what the window's beginning depends on. Segments have the server's times, IDs this machine's.
    """
    names = (problem.path.name for problem in situation.catalogue.problems)
    stamps = [name.removeprefix(BASE_PREFIX) for name in names if name.startswith(BASE_PREFIX)]
    made = {stamp: moment for stamp in stamps if (moment := _moment(stamp))}
    pinned = (moment for stamp, moment in made.items() if stamp in situation.inventory.pins)
    wanted = [*pinned, *(moment for moment in made.values() if moment >= situation.start)]
    before = max((moment for moment in made.values() if moment < situation.start), default=None)
    anchors = (base.stopped_at for base in situation.bases if base.path in situation.anchors)
    if before and all(stopped < before for stopped in anchors):
        wanted.append(before)
    return min(wanted) - CLOCK_SKEW if wanted else None


def _oldest_noted(situation: Situation) -> str:
    """The first segment of the oldest base backup of the window that PostgreSQL recorded; "" for none.

    Those of the window are never removed. Where WAL that old is needed by none that is seen, it failed or was
    removed by hand, or is on a file system that is not mounted just now and comes back.
    """
    notes = (file for file in situation.inventory.wal if file.kind == "backup")
    return min((_segment(note) for note in notes if note.modified >= situation.start), default="")


def _segment(file: ArchivedFile) -> str:
    return file.wal_name.partition(".")[0]


def decide_day_trees(situation: Situation, gone: set[Path]) -> Iterator[Item]:
    """An item for what each run copied, and one for each of its trees that no link leads to any more.

    `gone` are the snapshots and leftovers that go; whatever else has links counts as referring. Trees
    newer than the newest snapshot may belong to a run that is to be continued.
    """
    used: set[str] = set()
    _require_links(situation, gone)
    for tree, links in situation.inventory.references.items():
        if tree not in gone:
            used |= links
    above = {str(parent) for link in used for parent in Path(link).parents}
    newest = _newest_of_folders(situation)
    groups: dict[tuple[Path, str], list[str]] = {}
    for day in situation.inventory.day_trees:
        groups.setdefault((day.store, day.version), []).append(day.path)
    for (store, version), paths in groups.items():
        folder = store / DAYS / version
        moment = _moment(version)
        if moment is None or store not in newest or moment > newest[store]:
            yield Item("days", folder, True, "newer than the newest snapshot, or of no known run")
            continue
        if version in situation.inventory.sending:
            yield Item("days", folder, True, BEING_SENT)
            continue
        free = [path for path in paths if not _is_used(path, used, above)]
        if len(free) == len(paths):
            yield Item("days", folder, False, "no kept snapshot refers to any of its days")
            continue
        yield Item("days", folder, True, f"kept snapshots refer to {len(paths) - len(free):,} of its days")
        for path in free:
            yield Item("days", Path(path), False, "no kept snapshot refers to it")


def _require_links(situation: Situation, gone: set[Path]) -> None:
    """Raise BackupError where a kept snapshot with files leads to no day tree at all, or was not read.

    Then the links were not seen or not understood, and day trees in use would look unused.
    """
    for snapshot in situation.catalogue.snapshots:
        links = situation.inventory.references.get(snapshot.path)
        if not links and snapshot.files and snapshot.days and snapshot.path not in gone:
            raise BackupError(
                f"snapshot {snapshot.path} has {snapshot.files:,} files, but none of its links leads to "
                f"{DAYS}; retention removes nothing",
                f"find {shlex.quote(str(snapshot.path))} -maxdepth 3 -type l -printf '%p -> %l\\n' | head",
            )


def _is_used(path: str, used: set[str], above: set[str]) -> bool:
    """Whether a link leads to the path, to something in it, or to a folder above it."""
    return path in used or path in above or any(str(parent) in used for parent in Path(path).parents)


def _newest_of_folders(situation: Situation) -> dict[Path, datetime]:
    """When the newest part of each folder was made."""
    newest: dict[Path, datetime] = {}
    for part in situation.catalogue.parts:
        if not situation.is_future(part):
            moment = parse_stamp(part.stamp)
            newest[part.path.parent] = max(moment, newest.get(part.path.parent, moment))
    return newest


def decide_partials(situation: Situation) -> Iterator[Item]:
    """Leftovers go once a newer part of their kind was published; until then a run may continue them."""
    newest = _newest_of_folders(situation)
    running = situation.policy.running
    for path in situation.catalogue.partials:
        moment = _moment(path.name)
        folder = path.parent.parent if path.parent.name == DAYS else path.parent
        if path.name.endswith(REMOVED):
            yield Item("partial", path, False, "its removal has begun")
        elif moment is None:
            yield Item("partial", path, True, "not the name of a backup; check what it is")
        elif running and running in path.name:
            yield Item("partial", path, True, "belongs to the run in progress")
        elif folder in newest and moment < newest[folder]:
            yield Item("partial", path, False, "left by a run that did not finish; a newer one did")
        else:
            reason = "left by a run that did not finish; the next one continues or removes it"
            yield Item("partial", path, True, reason)


def decide_logs(situation: Situation) -> Iterator[Item]:
    """Logs go by age."""
    days = situation.policy.log_age.days
    for log in situation.inventory.logs:
        keep = log.modified >= situation.now - situation.policy.log_age
        yield Item("log", log.path, keep, f"{'not ' if keep else ''}older than {days} days", log.bytes)


def _moment(name: str) -> datetime | None:
    match = _STAMP.search(name)
    try:
        return parse_stamp(match[0]) if match else None
    except ValueError:
        return None
