"""Holds: reasons for which retention removes nothing until a person has accepted them.

A hold is a file of its own, `holds/RUN_ID.json`, named after the run that found the reason. A later run that
sees the same reason adds no second one. One whose text cannot be read holds, too: its name says what it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import Refused
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.settings.commands import accept_hold_command, program_command
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import make_folder, unlink
from alfresco_backup.system.json_fields import Text, Time, document_of, read_record
from alfresco_backup.times import for_people, parse_stamp

Cause = Literal["clock", "content", "missing", "fetched"]
"""`clock`: the clock disagrees with other evidence of the time. `content`: documents vanished or changed.
`missing`: a snapshot was refused, because the store looks unmounted. `fetched`: what is here is a part of
what is off-site.
"""
UNREADABLE = "for a reason that cannot be read"


@dataclass(frozen=True)
class Hold:
    """Why nothing is removed. `sentence` names the facts; `held_at` is by the clock of that time.

    `accepted_at` is None as long as it holds. `run` may end in `-CAUSE`: it was not the run's only reason.
    `store` is that of a snapshot that was refused.
    """

    run: Text
    cause: Cause
    sentence: Text
    held_at: Time | None
    accepted_at: Time | None = None
    reason: Text = ""
    store: Text = ""

    @property
    def fix(self) -> str:
        """What to type once somebody has looked at it."""
        return accept_hold_command(self.run)

    @property
    def said(self) -> str:
        since = f" since {for_people(self.held_at)}" if self.held_at else ""
        return f"retention is on hold{since} ({self.cause}) and removes nothing: {self.sentence}"


def read_holds(repository: Repository) -> tuple[Hold, ...]:
    """All holds, accepted ones as well, oldest first. Raises OSError when they cannot be listed."""
    if not is_there(repository.holds):
        return ()
    return tuple(_read(path) for path in sorted(repository.holds.glob("*.json")))


def _read(path: Path) -> Hold:
    try:
        return replace(read_record(Hold, read_json(path)), run=path.stem)
    except (OSError, ValueError) as error:
        return Hold(path.stem, "content", f"{UNREADABLE} ({path}: {error})", None)


def open_holds(holds: Iterable[Hold], now: datetime) -> tuple[Hold, ...]:
    """Those that hold now. A clock that has gone back behind the time of its hold was wrong then."""
    return tuple(
        hold
        for hold in holds
        if not hold.accepted_at and not (hold.cause == "clock" and hold.held_at and now < hold.held_at)
    )


def write_hold(repository: Repository, hold: Hold) -> None:
    """On disk when this returns. Raises OSError."""
    make_folder(repository.holds, exist_ok=True)
    write_json(repository.holds / f"{hold.run}.json", document_of(hold))


def accepted_loss(repository: Repository, store: str, newest: str) -> str:
    """The run since the store's `newest` snapshot that was refused for missing content, which was accepted.

    Empty for none. Raises OSError.
    """
    since = parse_stamp(newest) if newest else None
    runs = [
        hold.run
        for hold in read_holds(repository)
        if hold.cause == "missing" and hold.store == store and hold.accepted_at
    ]
    return max((run for run in runs if since is None or parse_stamp(run) > since), default="")


def end_refusals(repository: Repository, store: str, stamp: str) -> None:
    """Snapshot `stamp` of the store is published: what its runs were refused for is there again."""
    for hold in read_holds(repository):
        over = hold.cause == "missing" and hold.store == store and not hold.accepted_at and hold.run <= stamp
        if over:
            unlink(repository.holds / f"{hold.run}.json", missing_ok=True)


def accept_hold(repository: Repository, run: str, reason: str, now: datetime) -> Hold:
    """Let retention go on: what it waits for is as it should be. On disk when this returns.

    Raises Refused without a reason, and for a run that holds nothing, naming those that do.
    """
    words = " ".join(reason.split())
    if not words:
        raise Refused("accept needs a reason", accept_hold_command(run))
    waiting = open_holds(read_holds(repository), now)
    found = next((hold for hold in waiting if hold.run == run), None)
    if found is None:
        named = ", ".join(hold.run for hold in waiting) or "none"
        raise Refused(f"run {run} does not hold retention; runs that do: {named}", program_command("status"))
    accepted = replace(found, held_at=found.held_at or now, accepted_at=now, reason=words)
    write_hold(repository, accepted)
    return accepted
