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
from alfresco_backup.system.json_fields import Fields, time_text
from alfresco_backup.times import for_people

Cause = Literal["clock", "content"]
"""`clock`: the clock disagrees with other evidence of the time. `content`: documents vanished or changed."""
UNREADABLE = "for a reason that cannot be read"


@dataclass(frozen=True)
class Hold:
    """Why nothing is removed. `sentence` names the facts; `held_at` is by the clock of that time.

    `accepted_at` is None as long as it holds.
    """

    run: str
    cause: Cause
    sentence: str
    held_at: datetime | None
    accepted_at: datetime | None = None
    reason: str = ""

    @property
    def fix(self) -> str:
        """What to type once somebody has looked at it."""
        return accept_hold_command(self.run)

    @property
    def said(self) -> str:
        since = f" since {for_people(self.held_at)}" if self.held_at else ""
        return f"retention is on hold{since} and removes nothing: {self.sentence}"


def read_holds(repository: Repository) -> tuple[Hold, ...]:
    """All holds, accepted ones as well, oldest first. Raises OSError when they cannot be listed."""
    if not is_there(repository.holds):
        return ()
    return tuple(_read(path) for path in sorted(repository.holds.glob("*.json")))


def _read(path: Path) -> Hold:
    try:
        take = Fields(document := read_json(path))
        accepted = take.time("accepted_at") if document.get("accepted_at") else None
        cause: Cause = "clock" if take.text("cause") == "clock" else "content"
        return Hold(
            path.stem, cause, take.text("sentence"), take.time("held_at"), accepted, take.text("reason")
        )
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
    repository.holds.mkdir(exist_ok=True)
    assert hold.held_at is not None, "a hold is written by whoever finds its reason"
    accepted = time_text(hold.accepted_at) if hold.accepted_at else None
    write_json(
        repository.holds / f"{hold.run}.json",
        {
            "run": hold.run,
            "cause": hold.cause,
            "sentence": hold.sentence,
            "held_at": time_text(hold.held_at),
            "accepted_at": accepted,
            "reason": hold.reason,
        },
    )


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
