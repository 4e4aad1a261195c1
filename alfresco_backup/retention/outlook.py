"""Until when retention keeps what it keeps, by asking its rules again for later times. Pure.

Nothing is worked out a second time: the answer is the first time at which the same rules, applied to
the repository as it is now, would remove a thing. What only newer backups can replace has no such time.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.wal_files import ArchivedFile
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention.bases import Situation, Verdicts
from alfresco_backup.retention.inventory import Inventory
from alfresco_backup.retention.plan import decide_parts

SECOND = timedelta(seconds=1)
MOMENTS = 150
"""How many times are tried at most; with more of them, all are rounded up to the day."""


def verdicts_on_parts(situation: Situation) -> Verdicts:
    """The verdict on every base backup, snapshot and configuration."""
    bases, snapshots, configurations = decide_parts(situation)
    return {**bases, **snapshots, **configurations}


def kept_until(situation: Situation) -> dict[Path, datetime]:
    """When the first retention run is that removes a part, if nothing new is backed up until then.

    Parts that would stay for ever, and those that go at once, are not in it.
    """
    now = Situation(situation.catalogue, _condensed(situation.inventory), situation.policy, situation.now)
    kept = {path for path, verdict in verdicts_on_parts(now).items() if verdict.keep}
    until: dict[Path, datetime] = {}
    for moment in _moments(now):
        verdicts = verdicts_on_parts(replace(now, now=moment))
        gone = {path for path in kept if not verdicts[path].keep}
        until |= dict.fromkeys(gone, moment)
        kept -= gone
    return until


def _moments(situation: Situation) -> list[datetime]:
    """The times at which a verdict can change, each a second later, when it has changed."""
    found = {moment + SECOND for moment in _turning_points(situation) if moment + SECOND > situation.now}
    if len(found) > MOMENTS:
        found = {_next_day(moment) for moment in found}
    return sorted(found)


def _turning_points(situation: Situation) -> Iterator[datetime]:
    for part in situation.catalogue.parts:
        ended = part.stopped_at if isinstance(part, BaseBackup) else part.finished_at
        for age in situation.policy.ages:
            yield from (ended + age, part.started_at + age)
    for file in situation.inventory.wal:
        yield file.modified + situation.policy.window


def _next_day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _condensed(inventory: Inventory) -> Inventory:
    """The same for the rules on parts, which ask the archive only for each timeline's newest segment."""
    newest: dict[str, ArchivedFile] = {}
    for file in inventory.wal:
        if file.kind in {"segment", "backup"}:
            key = file.wal_name[:8] if file.kind == "segment" else "backup"
            if key not in newest or file.modified > newest[key].modified:
                newest[key] = file
    return replace(inventory, wal=tuple(newest.values()))
