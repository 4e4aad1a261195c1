"""From a journal to what puts the host back: a pure plan. Each action is harmless to repeat."""

from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.journal import (
    Created,
    Filled,
    MadeDirectory,
    Record,
    Renamed,
    RestoreState,
    Service,
    Stopped,
)
from alfresco_backup.restore_plan import Step

START_ORDER: tuple[Service, ...] = ("postgresql", "alfresco")


@dataclass(frozen=True)
class StopService:
    """Stop it, should it run."""

    service: Service


@dataclass(frozen=True)
class MoveBack:
    """Rename `renamed.target` back to its source, wherever it is of the two.

    `original`: it is the host's own data and must be found in one of the two places.
    """

    renamed: Renamed
    original: bool


@dataclass(frozen=True)
class Remove:
    """Remove a tree the restore made, or rename it to `keep_as`: somebody may have worked in it."""

    path: Path
    keep_as: Path | None


@dataclass(frozen=True)
class RemoveEmpty:
    """Remove a directory if it is empty."""

    path: Path


@dataclass(frozen=True)
class Unfill:
    """Take back what a fill added to a store and put back what it replaced.

    `times`: give the directories their old times back, too; not where Alfresco has written since.
    """

    filled: Filled
    times: bool


@dataclass(frozen=True)
class StartService:
    """Start what ran before the restore."""

    service: Service


UndoAction = StopService | MoveBack | Remove | RemoveEmpty | Unfill | StartService


def make_undo_plan(record: Record) -> tuple[UndoAction, ...]:
    """What puts the host back: services down, every act reversed, newest first, services up as before.

    What the restore made is removed, unless Alfresco may have worked with it since: then it is set aside.
    Raises Refused for a restore whose old data has been discarded.
    """
    if record.state is RestoreState.DISCARDED:
        raise Refused(
            f"the restore {record.stamp} cannot be undone: what it had set aside was discarded",
            "python restore.py lists the backups to restore from",
        )
    stopped = [act for act in record.acts if isinstance(act, Stopped)]
    in_use = record.completed or record.began(Step.START_ALFRESCO)
    created = {act.path for act in record.acts if isinstance(act, Created)}
    actions: list[UndoAction] = [StopService(act.service) for act in stopped]
    for act in reversed(record.acts):
        match act:
            case Renamed():
                actions.append(MoveBack(act, original=act.source not in created))
            case Created(path):
                keep_as = undone_name(path, record.stamp) if in_use else None
                actions.append(Remove(path, keep_as))
            case MadeDirectory(path):
                actions.append(RemoveEmpty(path))
            case Filled():
                actions.append(Unfill(act, times=not in_use))
            case Stopped():
                continue
    ran = {act.service for act in stopped if act.running}
    return (*actions, *(StartService(service) for service in START_ORDER if service in ran))


def undone_name(path: Path, stamp: str) -> Path:
    """Where what a restore made is kept when it is undone after use."""
    return path.with_name(path.name.removesuffix(f".restoring-{stamp}") + f".undone-{stamp}")


def set_aside_by(record: Record) -> tuple[Path, ...]:
    """What a restore and its undo set aside and `discard` removes; not all of it needs to exist."""
    created = [act.path for act in record.acts if isinstance(act, Created)]
    aside = [act.target for act in record.acts if isinstance(act, Renamed) and act.source not in created]
    undone = [undone_name(path, record.stamp) for path in created]
    kept = [act.folder for act in record.acts if isinstance(act, Filled)]
    return (*aside, *undone, *kept)


def choose_restore(records: list[Record], wanted: str) -> Record:
    """The restore to undo or discard: a stamp, or `latest`: the newest neither undone nor discarded.

    Raises Refused when there is none of that name, or nothing left to do, or a newer one must go first.
    """
    over = (RestoreState.UNDONE, RestoreState.DISCARDED)
    open_records = [record for record in records if record.state not in over]
    stamps = ", ".join(f"{record.stamp} ({record.state.value})" for record in records) or "none"
    chosen = [record for record in records if record.stamp == wanted]
    if wanted == "latest":
        chosen = open_records[-1:]
    if not chosen:
        raise Refused(f"no restore {wanted!r} to undo; restores of this host: {stamps}")
    newer = [record.stamp for record in open_records if record.stamp > chosen[0].stamp]
    if newer:
        raise Refused(
            f"the restore {chosen[0].stamp} was followed by {', '.join(newer)}, which must be undone or "
            "discarded first",
            f"python restore.py --mode undo --backup {newer[-1]}",
        )
    return chosen[0]
