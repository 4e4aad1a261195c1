"""Checks the off-site copy: that restic's packs are what was sent, and that the sets there are whole.

restic takes no lock for it, so that it never keeps the WAL archive from being sent. Each check reads one
share of the packs and every tree; OFFSITE_CHECK_CYCLE checks together read all.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.errors import BackupError, NotVerified, ToolFailed, ToolTimedOut
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import read_own
from alfresco_backup.offsite.engine import Engine, FarSideDamaged
from alfresco_backup.offsite.far import FarSet, FarSide, FarSnapshot
from alfresco_backup.offsite.locks import is_running
from alfresco_backup.offsite.metadata import compare_metadata, read_far_sets
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.sending import make_offsite_folder
from alfresco_backup.settings.commands import heal_commands, program_command
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import unlink
from alfresco_backup.times import size_for_people

CHECK_HOURS = 24
DAMAGE = re.compile(
    r"^(?:pack [0-9a-f]{64}: (?!not referenced).*|Pack ID does not match.*|error for tree .*|error: load .*"
    r"|pack [0-9a-f]{64} (?:contains|failed to download).*|.*not found in (?:repository|index).*"
    r"|.*ciphertext verification failed.*|.*invalid data returned.*)$"
)
"""Lines of `restic check` that name what is damaged or missing. Source: tried with 0.14."""
LISTED = re.compile(r"^pack [0-9a-f]{64}: ")
"""What the list of packs tells. A connection that breaks while they are read looks like damage to restic."""
PACK = re.compile(r"\b(?:pack|want) ([0-9a-f]{64})\b")
DAMAGED = "damaged.json"
"""What a check found damaged, and the snapshots that use it; `offsite prune --damaged` removes them."""
PACKS = re.compile(r"read group #\d+ of (\d+) data packs \(out of total (\d+) packs")


class DamagedPacks(FarSideDamaged):
    """restic found damage. `lines`: all that it said of it."""

    def __init__(self, message: str, hint: str, lines: Iterable[str]) -> None:
        super().__init__(message, hint)
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Share:
    """Which share of the packs a check reads: `number` of `count`, from 1."""

    number: int
    count: int


@dataclass(frozen=True)
class Checked:
    """What a check looked at: sets found whole of those there, packs read of all, metadata files compared."""

    whole: int
    sets: int
    share: Share
    packs_read: int
    packs: int
    metadata: int = 0
    stored_bytes: int = 0
    """What the snapshots there take, each piece once; restic knows it without asking the place."""

    def __str__(self) -> str:
        return (
            f"{self.whole} of {self.sets} sets whole; share {self.share.number} of {self.share.count} of the "
            f"packs read: {self.packs_read} of {self.packs}; {self.metadata} metadata files compared; "
            f"{size_for_people(self.stored_bytes)} are stored there"
        )


def next_share(noted: Mapping[str, object], count: int) -> Share:
    """The share whose turn it is, by what the last check noted; the first one where that cannot be told."""
    last = noted.get("share")
    return Share(last % count + 1 if isinstance(last, int) and last > 0 else 1, count)


def incomplete(sets: Iterable[FarSet], far: FarSide) -> dict[str, set[str]]:
    """Of the sets whose snapshot is there: the backup IDs they refer to that are not there. Pure."""
    lacks = {item.stamp: set(item.needs - far.sets.keys()) for item in sets}
    return {stamp: versions for stamp, versions in lacks.items() if versions}


def check(host: Host, engine: Engine, now: datetime, log: Path | None = None) -> Checked:
    """Check the off-site copy and note which share was read.

    Raises FarSideDamaged, naming what is affected; NotVerified where the check itself came to no end; what
    Engine.run raises where the far side is away.
    """
    host.require_repository()
    make_offsite_folder(host.repository)
    far = read_own(host, engine)
    share = next_share(_noted(host), host.settings.offsite_check_cycle)
    read, packs = _sound_packs(host, engine, share, far, log)
    known = read_far_sets(engine, far, read_catalogue(host.repository), host.repository)
    sets = [known[stamp] for stamp in far.sets if stamp in known]
    broken = incomplete(sets, far)
    if broken and not is_running(host, "copy"):
        raise FarSideDamaged(
            f"{len(broken)} of {len(sets)} sets in the off-site repository are not whole: "
            f"{_in_words(broken)}",
            program_command("offsite", "copy"),
        )
    compared = _require_same_metadata(host, engine, far)
    stored = _stored_bytes(engine)
    unlink(host.repository.offsite / DAMAGED, missing_ok=True)
    write_json(_note(host), {"share": share.number, "of": share.count, "checked_at": now.isoformat()})
    return Checked(len(sets) - len(broken), len(sets), share, read, packs, compared, stored)


def _stored_bytes(engine: Engine) -> int:
    words = ("stats", "--mode", "raw-data", "--no-lock", "--json")
    return int(json.loads(engine.run(*words, timeout_seconds=CHECK_HOURS * 3600).output)["total_size"])


def _require_same_metadata(host: Host, engine: Engine, far: FarSide) -> int:
    """How many metadata files were compared. Raises FarSideDamaged where one is not as it is here."""
    if not far.sets:
        return 0
    compared, different = compare_metadata(engine, far, host.repository)
    if different:
        raise FarSideDamaged(
            f"{len(different)} of {compared} metadata files differ between {host.repository.root} and the "
            f"off-site repository: {', '.join(different[:5])}; one of the two was changed after it was sent",
            program_command("offsite", "list"),
        )
    return compared


def _sound_packs(host: Host, engine: Engine, share: Share, far: FarSide, log: Path | None) -> tuple[int, int]:
    """As read_packs; damage is noted for `offsite prune --damaged`, and told with what it affects."""
    try:
        return read_packs(engine, share, log)
    except DamagedPacks as error:
        packs = sorted({pack for line in error.lines for pack in PACK.findall(line)})
        using = find_using(engine, packs) if packs else set()
        if not using or any(line.startswith("error for tree") for line in error.lines):
            using |= {item.snapshot for item in far.snapshots if not _is_listed(engine, item)}
        write_json(host.repository.offsite / DAMAGED, {"packs": packs, "snapshots": sorted(using)})
        raise FarSideDamaged(f"{error.message}; {_affected(far, using)}", heal_commands(host.name)) from error


def find_using(engine: Engine, packs: list[str]) -> set[str]:
    """The snapshots that have something of these packs; none where restic cannot tell."""
    try:
        found = engine.run(
            *("find", "--no-lock", "--json", "--pack", *packs), timeout_seconds=CHECK_HOURS * 3600
        ).output
        return {str(hit["snapshot"]) for hit in json.loads(found or "[]")}
    except (BackupError, ValueError, KeyError, TypeError):
        return set()


def _is_listed(engine: Engine, item: FarSnapshot) -> bool:
    """Whether restic can list a snapshot from what is there; its cache here is not asked."""
    try:
        words = ("ls", "--no-lock", "--no-cache", item.snapshot)
        engine.run(*words, timeout_seconds=CHECK_HOURS * 3600, on_line=lambda _: None)  # not kept: long
    except (FarSideDamaged, ToolFailed):
        return False
    return True


def _affected(far: FarSide, using: set[str]) -> str:
    own = [item for item in far.snapshots if item.snapshot in using]
    names = sorted({item.stamp or "copies of the WAL archive" for item in own})
    others = len(using) - len(own)
    more = f" and {others} other snapshots in the repository" if others else ""
    return f"affected: {', '.join(names)}{more}" if names or others else "what is affected is not known"


def read_packs(engine: Engine, share: Share, log: Path | None = None) -> tuple[int, int]:
    """Let restic check structure and one share of the packs; how many packs it read, of how many.

    What is found damaged is looked at a second time: a snapshot that arrives while restic reads its index
    looks damaged to it. Raises as `check`.
    """
    try:
        return _read_packs(engine, share, log)
    except DamagedPacks:
        return _read_packs(engine, share, log)


def _read_packs(engine: Engine, share: Share, log: Path | None) -> tuple[int, int]:
    damage: list[str] = []
    counted = [0, 0]

    def look(line: str) -> None:
        if match := PACKS.search(line):
            counted[:] = int(match[1]), int(match[2])
        elif DAMAGE.match(line):
            damage.append(line)

    words = ("check", "--no-lock", f"--read-data-subset={share.number}/{share.count}")
    try:
        engine.run_long(*words, timeout_seconds=CHECK_HOURS * 3600, log=log, on_line=look)
    except BackupError as error:
        if not isinstance(error, (FarSideDamaged, ToolFailed)) and not any(map(LISTED.match, damage)):
            raise
        if not damage:
            raise _not_verified(engine, error) from error
        raise DamagedPacks(
            f"the off-site repository {engine.shown} is damaged: {'; '.join(dict.fromkeys(damage[:5]))}",
            program_command("offsite", "check"),
            damage,
        ) from error
    return counted[0], counted[1]


def _not_verified(engine: Engine, error: BackupError) -> NotVerified:
    ended = "came to no end" if isinstance(error, ToolTimedOut) else "ended without a result"
    return NotVerified(
        f"the off-site repository {engine.shown} could not be checked: restic {ended}: {error.message}",
        program_command("offsite", "check"),
    )


def _in_words(broken: Mapping[str, set[str]]) -> str:
    return "; ".join(f"{stamp} lacks {', '.join(sorted(lacks))}" for stamp, lacks in sorted(broken.items()))


def _note(host: Host) -> Path:
    return host.repository.offsite / "check.json"


def _noted(host: Host) -> Mapping[str, object]:
    try:
        return read_json(_note(host))
    except (OSError, ValueError):
        return {}
