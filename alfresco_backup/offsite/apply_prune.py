"""Removes from the off-site repository what the plan says: forgets snapshots, then removes their data."""

import re
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.errors import BackupError, HostBusy, Refused
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.check import DAMAGED
from alfresco_backup.offsite.copy import read_there
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import versions_of, without_unfinished
from alfresco_backup.offsite.metadata import read_far_sets
from alfresco_backup.offsite.prune import (
    FarItem,
    FarPolicy,
    Here,
    PrunePlan,
    damaged_items,
    kept_together,
    plan_prune,
)
from alfresco_backup.repository.catalogue import Catalogue, read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import require_known
from alfresco_backup.repository.sending import make_offsite_folder, read_notes
from alfresco_backup.retention.apply import make_retention_plan, with_holds
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import unlink
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN

GONE = "gone.json"
PENDING = "prune-pending.json"
WAIT_SECONDS = 1800.0
"""How long a prune waits for those that write, if not told otherwise."""
POLL_SECONDS = 10.0
PRUNE_HOURS = 24
AT_ONCE = 500
STAMP = re.compile(f"{STAMP_PATTERN.pattern}|{LEGACY_PATTERN.pattern}")


def make_prune_plan(host: Host, engine: Engine, now: datetime, *, damaged: bool = False) -> PrunePlan:
    """Plan, and note here what was first seen to be gone. Removes nothing.

    `damaged`: instead, what the last check found to be damaged is to go, to be sent again.

    Raises BackupError where BACKUP_DIR cannot be listed, is another repository's or has no set at all, and
    Refused where another machine sends under this host's name: nothing shows then what is really gone.
    """
    host.require_repository()
    require_known(host.repository)
    everything = read_there(host, engine)
    unfinished = (host.repository.offsite / PENDING).exists()
    held = with_holds(make_retention_plan(host.settings, now=now), host.settings, "", None).holds
    said = held[0].said if held else ""
    catalogue = read_catalogue(host.repository, now=now)
    _require_sets(catalogue, host.repository)
    if damaged:
        return PrunePlan(damaged_items(everything, read_damaged(host.repository)), {}, said, unfinished)
    notes = read_notes(host.repository)
    far = without_unfinished(everything, notes)
    ended = without_unfinished(everything, notes, left_only=True)
    not_ended = set(everything.snapshots) - set(ended.snapshots)
    sets = read_far_sets(engine, far, catalogue, host.repository)
    policy = FarPolicy(timedelta(days=host.settings.offsite_grace_days), host.settings.minimum_redundancy)
    plan = plan_prune(far, sets, here_of(catalogue, _read_gone(host.repository)), policy, now)
    _write_gone(host.repository, plan)
    left = tuple(FarItem(item, keep=False, reason="its sending did not end") for item in not_ended)
    return replace(
        plan,
        items=kept_together((*plan.items, *left)),
        held=said,
        unfinished=unfinished,
    )


def read_damaged(repository: Repository) -> frozenset[str]:
    """The snapshots that use what the last check found to be damaged; empty where it found nothing."""
    try:
        return frozenset(map(str, read_json(repository.offsite / DAMAGED)["snapshots"]))
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def here_of(catalogue: Catalogue, gone_since: dict[str, datetime]) -> Here:
    """What is here. What cannot be read is no set, but it is not gone either."""
    stamps = {part.stamp for part in catalogue.parts} | {item.stamp for item in catalogue.sets}
    paths = [*(problem.path for problem in catalogue.problems), *catalogue.partials]
    stamps |= {match[0] for path in paths for match in STAMP.finditer(path.name)}
    referred = {version for item in catalogue.sets for version in versions_of(item)}
    return Here(frozenset(stamps), frozenset(referred), gone_since)


def _require_sets(catalogue: Catalogue, repository: Repository) -> None:
    if not catalogue.complete_sets:
        raise Refused(
            f"{repository.root} has no complete set, so nothing is removed from the off-site repository: "
            "what is there may be all that is left",
            program_command("status"),
        )


def carry_out(
    host: Host, engine: Engine, plan: PrunePlan, wait_seconds: float = WAIT_SECONDS, log: Path | None = None
) -> str:
    """Do exactly the plan; a sentence for the report.

    Waits until nobody writes there. Raises HostBusy when the time is over, Refused for a plan that is held.
    A run that is killed is completed by the next one.
    """
    if plan.held:
        raise Refused(f"nothing is removed off-site: {plan.held}", program_command("status"))
    pending = host.repository.offsite / PENDING
    make_offsite_folder(host.repository)
    write_json(pending, {"snapshots": plan.forgotten})
    deadline = time.monotonic() + wait_seconds
    snapshots = plan.forgotten
    for start in range(0, len(snapshots), AT_ONCE):
        _alone(engine, ("forget", *snapshots[start : start + AT_ONCE]), deadline, log)
    _alone(engine, ("prune",), deadline, log)
    unlink(pending, missing_ok=True)
    if read_damaged(host.repository) <= set(snapshots):
        unlink(host.repository.offsite / DAMAGED, missing_ok=True)
    return f"{len(snapshots)} snapshots removed off-site, {plan.snapshots - len(snapshots)} stay"


def _alone(engine: Engine, words: tuple[str, ...], deadline: float, log: Path | None) -> None:
    """Run what needs the repository for itself. What a killed run has locked is unlocked first."""
    while True:
        engine.run("unlock")
        try:
            engine.run_long(*words, timeout_seconds=PRUNE_HOURS * 3600, log=log)
            return
        except HostBusy:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def _read_gone(repository: Repository) -> dict[str, datetime]:
    """Since when what is gone here was seen to be; empty where that is lost: the grace period begins anew."""
    try:
        noted = read_json(repository.offsite / GONE)["since"]
        return {str(stamp): datetime.fromisoformat(when) for stamp, when in noted.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def _write_gone(repository: Repository, plan: PrunePlan) -> None:
    make_offsite_folder(repository)
    since = {stamp: when.isoformat() for stamp, when in sorted(plan.gone_since.items())}
    try:
        write_json(repository.offsite / GONE, {"since": since})
    except OSError as error:
        raise BackupError(f"what is gone here cannot be noted: {error}") from error
