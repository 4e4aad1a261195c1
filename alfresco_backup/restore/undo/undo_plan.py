"""From a journal to the actions that undo the restore: a pure plan. Each action is harmless to repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.host.services import Service
from alfresco_backup.restore.journal.journal_record import (
    DISCARDABLE,
    OVER,
    PENDING,
    Created,
    Filled,
    MadeDirectory,
    Record,
    Renamed,
    RestoreState,
    Stopped,
    Touched,
)
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.planning.plan_database import SAVED_WAL
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.settings.commands import program_command, undo_command
from alfresco_backup.times import for_people

START_ORDER: tuple[Service, ...] = ("postgresql", "alfresco")
WORKABLE = (Step.RECOVER_DATABASE, Step.RESTORE_CONTENT, Step.START_ALFRESCO)
"""From the first of these steps on somebody can have started Alfresco by hand, whatever the step's end."""


@dataclass(frozen=True)
class StopService:
    """Stop it, should it run."""

    service: Service


@dataclass(frozen=True)
class MoveBack:
    """Rename `renamed.target` back to its source, wherever it is of the two.

    `original`: it is the host's own data and must be in one of the two places.
    """

    renamed: Renamed
    original: bool


@dataclass(frozen=True)
class Remove:
    """Remove a tree the restore made, or rename it to `keep_as`: it may have been in use."""

    path: Path
    keep_as: Path | None


@dataclass(frozen=True)
class RemoveEmpty:
    """Remove a directory if it is empty."""

    path: Path


@dataclass(frozen=True)
class Unfill:
    """Remove what a fill added to a store and restore what it replaced.

    `times`: reset the times of the directories, too; not where Alfresco has written since.
    """

    filled: Filled
    times: bool


@dataclass(frozen=True)
class StartService:
    """Start what ran before the restore."""

    service: Service


@dataclass(frozen=True)
class SetTime:
    """Give a folder the time it had, in nanoseconds."""

    path: Path
    time_ns: int


UndoAction = StopService | MoveBack | Remove | RemoveEmpty | Unfill | SetTime | StartService


def make_undo_plan(record: Record) -> tuple[UndoAction, ...]:
    """What undoes a restore: services down, every act reversed, newest first, services up as before.

    What the restore made is removed, unless it may have been in use since: then it is set aside.
    Raises Refused for a restore whose old data has been discarded.
    """
    if record.state in (RestoreState.DISCARDING, RestoreState.DISCARDED):
        raise Refused(
            f"restore {record.restore_id} cannot be undone: the data it set aside was discarded; restore a "
            "backup",
            program_command("status"),
        )
    stopped = [act for act in record.acts if isinstance(act, Stopped)]
    in_use = may_be_in_use(record)
    created = {act.path for act in record.acts if isinstance(act, Created)}
    placed = {act.source for act in record.acts if isinstance(act, Renamed)}
    actions: list[UndoAction] = [StopService(act.service) for act in stopped]
    for act in reversed(record.acts):
        match act:
            case Renamed():
                actions.append(MoveBack(act, original=act.source not in created))
            case Created(path):
                keep_as = undone_name(path, record.restore_id) if in_use and path in placed else None
                actions.append(Remove(path, keep_as))
            case MadeDirectory(path):
                actions.append(RemoveEmpty(path))
            case Filled():
                actions.append(Unfill(act, times=not in_use))
            case Touched(path, time_ns) if not in_use:
                actions.append(SetTime(path, time_ns))
            case Stopped() | Touched():
                continue
    if record.began(Step.SAVE_WAL) and not any(isinstance(act, Renamed) for act in record.acts):
        # Copies: the originals never left their pg_wal.
        actions.append(Remove(record.folder / SAVED_WAL, None))
    ran = {act.service for act in stopped if act.running}
    return (*actions, *(StartService(service) for service in START_ORDER if service in ran))


def may_be_in_use(record: Record) -> bool:
    """Whether what a restore put in place may have been in use since it ended or was interrupted.

    A flow that dies leaves a database that can be started; what was done by hand since is in no journal.
    """
    return record.completed or any(record.began(step) for step in WORKABLE)


def undone_name(path: Path, stamp: str) -> Path:
    """Where what a restore made is kept when it is undone after use."""
    return path.with_name(path.name.removesuffix(f".restoring-{stamp}") + f".undone-{stamp}")


def sentence_of(action: UndoAction) -> str:
    """What an action does, for people."""
    match action:
        case StopService(service) | StartService(service):
            stops = isinstance(action, StopService)
            down, up = "and check that it is down", "which ran before the restore"
            return f"stop {service} {down}" if stops else f"start {service}, {up}"
        case MoveBack(renamed):
            return f"rename {renamed.target} back to {renamed.source}"
        case Remove(path, keep_as):
            what = f"rename to {keep_as}" if keep_as else "remove"
            return f"{what}, if it exists: {path}, made by the restore"
        case RemoveEmpty(path):
            return f"remove the folder {path} if it is empty"
        case SetTime(path):
            return f"reset the modification time of {path}"
        case Unfill(filled):
            return f"remove the files added to {filled.store}, restore those that were replaced"


def lost_by_undoing(record: Record) -> str:
    """What was written since a restore and is lost by its undo; empty where there is nothing."""
    if record.recovered:
        what = "Changes made to the database since then are not in the database that the undo brings back"
    elif Step.SET_ASIDE_CONTENT in record.done:
        what = "Documents added since then are not in the content store that the undo brings back"
    else:
        return ""
    if not record.completed:
        return ""
    end = max((item.started_at for item in record.steps), default=record.started_at)
    return f"**The restore was completed at {for_people(end)}. {what}**; they are kept as named below."


def accept_lines(record: Record) -> tuple[str, ...]:
    """What counting a restore as complete means, for people: what was not done, and what stays possible."""
    not_done = ", ".join(record.not_done) or "none"
    undoing = "; its undo was interrupted" if record.state is RestoreState.UNDOING else ""
    return (
        f"steps not done: {not_done}{undoing}",
        "they are not done now either: accept only if they were done by hand, or are not needed",
        "PostgreSQL must accept connections; if it was recovered and only the restore can connect, it is "
        "restarted with its normal pg_hba.conf. Then the restore counts as complete, and backups and "
        "restores run again",
        "the content file of every document is checked; the run fails with a list when some are missing",
        "the data that the restore set aside is kept: the restore can still be undone, or discarded",
    )


def matters_to_people(action: UndoAction) -> bool:
    """Whether an action is worth a line: not the renaming of what the restore itself had made."""
    if isinstance(action, MoveBack):
        return action.original
    return not isinstance(action, RemoveEmpty | SetTime)


def set_aside_by(record: Record) -> tuple[Renamed, ...]:
    """What a restore set aside of the host's own data."""
    created = {act.path for act in record.acts if isinstance(act, Created)}
    return tuple(act for act in record.acts if isinstance(act, Renamed) and act.source not in created)


def choose_undo(records: Sequence[Record], wanted: str) -> Record:
    """The restore to undo: its ID, or `latest` for the newest that is neither undone nor discarded.

    Raises Refused when there is none with that ID, or it is over, or a newer one must be undone first.
    """
    chosen = _find(records, wanted, [record for record in records if record.state not in OVER])
    if chosen.state in OVER:
        raise Refused(f"restore {chosen.restore_id} cannot be undone: it is {chosen.state.value}")
    newer = [
        item.restore_id for item in records if item.restore_id > chosen.restore_id and item.state not in OVER
    ]
    if newer:
        raise Refused(
            f"restore {chosen.restore_id} was followed by {', '.join(newer)}, which must be undone or "
            "discarded first",
            program_command("undo", "--backup", newer[-1]),
        )
    return chosen


def choose_discard(records: Sequence[Record], wanted: str) -> Record:
    """The restore whose set-aside data is to be removed: its ID, or `latest` for the newest that has some.

    Raises Refused when there is none with that ID, or the host is only partly restored.
    """
    chosen = _find(records, wanted, [record for record in records if record.state in DISCARDABLE])
    if chosen.state not in DISCARDABLE:
        raise Refused(
            f"nothing of restore {chosen.restore_id} can be discarded: it is {chosen.state.value}",
            undo_command(chosen.restore_id, chosen.host)
            if chosen.state is not RestoreState.DISCARDED
            else "",
        )
    return chosen


def choose_accept(records: Sequence[Record], wanted: str) -> Record:
    """The restore to count as complete: its ID, or `latest` for the newest that is unfinished.

    Raises Refused when there is none with that ID, or it is not unfinished.
    """
    chosen = _find(records, wanted, [record for record in records if record.state in PENDING])
    if chosen.state not in PENDING:
        raise Refused(
            f"restore {chosen.restore_id} is {chosen.state.value}; only an unfinished one can be accepted"
        )
    return chosen


def _find(records: Sequence[Record], wanted: str, eligible: Sequence[Record]) -> Record:
    chosen = eligible[-1:] if wanted == LATEST else [item for item in records if item.restore_id == wanted]
    if not chosen:
        listed = ", ".join(f"{record.restore_id} ({record.state.value})" for record in records) or "none"
        what = "no restore for which this is possible" if wanted == LATEST else f"no restore {wanted}"
        raise Refused(f"there is {what}; restores of this host: {listed}")
    return chosen[0]
