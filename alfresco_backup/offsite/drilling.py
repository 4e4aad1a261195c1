"""What a drill of the off-site copy restores from: a repository fetched into a folder of its own.

Base backup, WAL and configuration are fetched. Of the content only a share is, and compared with its
checksums; the other days are files without content, as long as the repository's index says they are, in which
the content check looks for documents.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from alfresco_backup.contentstore.checksums import digest_of, entries_of
from alfresco_backup.contentstore.reread import ReadState, Reread, choose_entries, state_after
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.engine import Engine, OnProgress
from alfresco_backup.offsite.fetch import Fetching, fetch, learn, present
from alfresco_backup.offsite.known import Known
from alfresco_backup.offsite.restoring import whole_catalogue
from alfresco_backup.offsite.wanted import FetchPlan, Unit, Wanted, plan_fetch
from alfresco_backup.repository.layout import CHECKSUMS, DAYS, Repository
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.folders import make_folders, reading
from alfresco_backup.times import utc_now

READ = "drilled.json"
LIST_SECONDS = 3600.0


@dataclass(frozen=True)
class FarCopy:
    """The copy as a drill sees it: the host with the fetched repository, and what is whole there."""

    host: Host
    fetching: Fetching
    known: Known
    catalogue: Catalogue
    notes: Path
    """BACKUP_DIR/offsite: what was read of the copy, and its last proof."""

    @property
    def restorable_until(self) -> datetime | None:
        """When the newest whole snapshot of content began: later documents are not there."""
        return max((item.started_at for item in self.catalogue.snapshots), default=None)

    def facts(self) -> HostFacts:
        """Of a host that has lost everything but what is there."""
        facts = inspect_host(self.host, self.catalogue, self.known.wal)
        stores = tuple(replace(store, exists=False, bytes=0) for store in facts.stores)
        return replace(facts, stores=stores)


def open_far_copy(
    host: Host, folder: Path, on_progress: OnProgress, *, backup: str = LATEST, target: datetime | None = None
) -> FarCopy:
    """Fetch the metadata into an empty folder. Raises what learn raises."""
    repository = Repository(folder)
    limit = host.settings.contentstore_limit_hours * 3600
    fetching = Fetching(engine_of(host), host.name, repository, None, limit, on_progress)
    known = learn(fetching, target, backup)
    there = replace(host, repository=repository)
    return FarCopy(there, fetching, known, whole_catalogue(known), host.repository.offsite)


@dataclass
class FarContent:
    """What was read of the content, what differs there, and how long it took to fetch all."""

    reread: Reread = field(default_factory=Reread)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def fetch_for_drill(copy: FarCopy, wanted: Wanted, cycle: int) -> FarContent:
    """Fetch what a drill restores and its share of the content, and lay out the rest from the index.

    Raises FarSideDamaged, and what fetch raises. The share moves on when all of it was read.
    """
    root = copy.host.repository.root
    whole = plan_fetch(copy.known, wanted, root, present(copy.host.repository))
    days = {
        unit: piece.name for piece in whole.pieces for unit in piece.units if isinstance(unit.check, tuple)
    }
    state = _read_state(copy.notes / READ)
    chosen = set(choose_entries({str(unit.path): max(1, unit.bytes) for unit in days}, state, cycle))
    part = _without(whole, {unit.path for unit in days if str(unit.path) not in chosen})
    findings = fetch(copy.fetching, copy.known, part)
    content = FarContent(findings=[f"off-site copy, {words}" for words in findings])
    for version in sorted(set(days.values())):
        left = [unit for unit, name in days.items() if name == version and str(unit.path) not in chosen]
        snapshot = copy.known.far.sets[version].snapshot
        content.findings += _lay_out(copy.fetching.engine, snapshot, root, left) if left else []
    read = [unit for unit in days if str(unit.path) in chosen]
    files, damaged = _compare(root, read)
    content.findings += damaged
    after = state_after(state, (str(unit.path) for unit in days), chosen, utc_now())
    write_json(copy.notes / READ, after.to_metadata())
    size = sum(unit.bytes for unit in read)
    oldest = [last.at for last in after.entries.values()]
    known = [moment for moment in oldest if moment]
    content.reread = Reread(
        files,
        size,
        damaged=len(damaged),
        entries=len(read),
        entries_stored=len(days),
        cycle=cycle,
        oldest=min(known) if known and len(known) == len(oldest) else None,
    )
    return content


def _read_state(file: Path) -> ReadState:
    """What drills of the copy have read; a file that cannot be read only begins the cycle again."""
    try:
        return ReadState.from_metadata(read_json(file))
    except (OSError, ValueError):
        return ReadState()


def _without(plan: FetchPlan, left: set[Path]) -> FetchPlan:
    """The plan without these days and their lists."""
    pieces = (
        replace(piece, units=tuple(unit for unit in piece.units if _day_of(unit.path) not in left))
        for piece in plan.pieces
    )
    return replace(plan, pieces=tuple(piece for piece in pieces if piece.units))


def _day_of(path: Path) -> Path:
    """The day that a list of checksums is of; any other path as it is."""
    return Path(*(part.removesuffix(CHECKSUMS) for part in path.parts))


def _lay_out(engine: Engine, snapshot: str, root: Path, units: Iterable[Unit]) -> list[str]:
    """Make files without content for days as the index lists them; returns the days that it lacks or differs.

    Nothing below these folders takes space.
    """
    wanted = {str(unit.path): unit for unit in units}
    counts = dict.fromkeys(wanted, (0, 0))
    first = min(wanted)
    above = f"/{first[: first.index(f'/{DAYS}/')]}/{DAYS}"

    def take(line: str) -> None:
        node: Mapping[str, object] = json.loads(line) if line.startswith("{") else {}
        path = str(node.get("path", ""))[1:]
        day = next((path[:end] for end in _ends(path) if path[:end] in wanted), None)
        if day is None or node.get("type") == "dir":
            return
        size = int(str(node.get("size", 0))) if node.get("type") == "file" else 0
        make_folders((root / path).parent)
        with open(root / path, "xb") as stream:  # noqa: PTH123 - one of many
            os.truncate(stream.fileno(), size)
        counts[day] = counts[day][0] + 1, counts[day][1] + size

    engine.run(
        *("ls", "--json", "--no-lock", "--recursive", snapshot, above),
        timeout_seconds=LIST_SECONDS,
        on_line=take,
    )
    return [
        f"off-site copy, {day}: {counts[day][0]} files of {counts[day][1]} bytes are there, metadata says "
        f"{unit.check[0]} of {unit.check[1]}"
        for day, unit in wanted.items()
        if isinstance(unit.check, tuple) and counts[day] != unit.check
    ]


def _ends(path: str) -> Iterator[int]:
    """Where the names of a path end."""
    yield from (place for place, letter in enumerate(path) if letter == "/")
    yield len(path)


def _compare(root: Path, days: Iterable[Unit]) -> tuple[int, list[str]]:
    """Compare fetched days with the checksums that were taken when their files were copied."""
    files, damaged = 0, []
    for unit in days:
        place = unit.path.parts.index(DAYS)
        tree = root.joinpath(*unit.path.parts[: place + 2])
        listed = tree.with_name(tree.name + CHECKSUMS).joinpath(*unit.path.parts[place + 2 :])
        if not listed.is_file():
            continue
        with reading(listed) as lines:
            for name, digest in entries_of(lines):
                files += 1
                path = os.path.join(os.fsencode(tree), name)  # noqa: PTH118 - a name may be of any bytes
                if not _agrees(path, digest):
                    damaged.append(f"off-site copy, {os.fsdecode(path)} differs from its checksum")
    return files, damaged


def _agrees(path: bytes, digest: bytes) -> bool:
    try:
        return digest_of(path, len(digest)) == digest
    except FileNotFoundError:
        return False
