"""What the status is made of: repository, archive and disk, read as far as possible. Writes nothing."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from alfresco_backup.backup.proof import PROOF, Proof, read_proof
from alfresco_backup.errors import BackupError, HostNotReady
from alfresco_backup.findings import Finding, error, warning
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, is_there
from alfresco_backup.repository.marker import require_known
from alfresco_backup.repository.pins import Pin, read_pins
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.journal_record import JOURNAL, Record, read_journal
from alfresco_backup.retention.holds import Hold, open_holds, read_holds
from alfresco_backup.retention.inventory import Inventory
from alfresco_backup.retention.policy import RetentionPolicy
from alfresco_backup.settings.model import Settings
from alfresco_backup.status.disk_trend import DiskFigures
from alfresco_backup.status.freshness import Freshness, judge_freshness
from alfresco_backup.status.offsite import OffsiteReport, read_offsite
from alfresco_backup.streaming.report import StreamingReport, streaming_of
from alfresco_backup.times import STAMP_PATTERN
from alfresco_backup.wal.archiver import ServerView
from alfresco_backup.wal.audit import WalAudit, audit
from alfresco_backup.wal.contents import INDEX, ArchiveContents, read_contents, read_index, with_received
from alfresco_backup.wal.timelines import read_timelines

LOOK_SECONDS = 20.0
"""How long segments that no audit has seen yet are followed to their end."""
NO_PINS: dict[str, Pin] = {}
T = TypeVar("T")


@dataclass(frozen=True)
class StatusFacts:
    """What was read. `audit` is None where the archive could not be listed, `disk` where that is not known.

    `findings` are the things that could not be read; nothing of them is missing silently.
    """

    host: str
    repository: Repository
    moment: datetime
    policy: RetentionPolicy
    freshness: Freshness
    catalogue: Catalogue
    inventory: Inventory = field(default_factory=Inventory)
    audit: WalAudit | None = None
    proofs: dict[str, Proof] = field(default_factory=dict)
    disk: DiskFigures | None = None
    logs: tuple[str, ...] = ()
    restores: tuple[Record, ...] = ()
    holds: tuple[Hold, ...] = ()
    offsite: OffsiteReport | None = None
    streaming: StreamingReport | None = None
    findings: tuple[Finding, ...] = ()


def read_facts(settings: Settings, now: datetime, server: ServerView | None = None) -> StatusFacts:
    """Read everything. Raises HostNotReady where BACKUP_DIR is not there.

    With what the `server` said before, the archive is audited against that too.
    """
    repository = Repository(settings.backup_dir)
    repository.require()
    found: list[Finding] = []
    try:
        require_known(repository)
    except HostNotReady as lost:
        found.append(error("BACKUP_DIR", lost.message, lost.hint))

    def look(what: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except OSError as problem:
            found.append(_unreadable(what, problem))
            return otherwise

    found += _read_only(repository.root)
    contents = look("WAL archive", lambda: _read_archive(repository), None)
    pins = look("pins", lambda: read_pins(repository), NO_PINS)
    catalogue = read_catalogue(repository, now=now)
    wait = timedelta(minutes=settings.archive_wait_minutes)
    proofs = _read_proofs(catalogue, found)
    policy = RetentionPolicy.of(settings)
    window_start = now - policy.window
    return StatusFacts(
        host=settings.alf_host_name,
        repository=repository,
        moment=now,
        policy=policy,
        freshness=judge_freshness(catalogue, settings, now),
        catalogue=catalogue,
        inventory=Inventory(contents.files, contents.histories.paths, pins=pins, drills=proofs)
        if contents
        else Inventory(pins=pins, drills=proofs),
        audit=audit(contents, catalogue.bases, server, now, wait, window_start) if contents else None,
        proofs=proofs,
        disk=look("disk", lambda: read_disk(repository.root), None),
        logs=look("logs", lambda: _names(repository.logs), ()),
        holds=open_holds(look("holds", lambda: read_holds(repository), ()), now),
        offsite=look("off-site notes", lambda: read_offsite(repository, settings, now), None),
        streaming=look("WAL streaming", lambda: streaming_of(settings, now), None),
        restores=look("restores", lambda: _read_restores(repository, settings, found), ()),
        findings=tuple(found),
    )


def _read_only(root: Path) -> list[Finding]:
    """Whoever looks may lack the right to write, and that is no problem; the file system may not.

    A kernel that met an error on a disk goes on with it read-only: backups fail from then on.
    """
    if not os.statvfs(root).f_flag & os.ST_RDONLY:
        return []
    place = shlex.quote(str(root))
    return [
        error(
            "BACKUP_DIR",
            f"{root} is on a file system that is mounted read-only; no backup can be written to it",
            f"dmesg | tail -n 50; mount -o remount,rw $(findmnt -n -o TARGET --target {place})",
        )
    ]


def read_disk(root: Path) -> DiskFigures:
    """Ask the file system that holds the repository."""
    status = os.statvfs(root)
    size = status.f_frsize
    return DiskFigures(
        status.f_blocks * size,
        (status.f_blocks - status.f_bfree) * size,
        status.f_bavail * size,
        status.f_files,
        status.f_favail,
    )


def _read_archive(repository: Repository) -> ArchiveContents:
    known = read_index(repository.logs / INDEX, repository.wal)
    contents = read_contents(repository.wal, known, deep_seconds=LOOK_SECONDS)
    contents = replace(contents, timelines=read_timelines(repository))
    return with_received(contents, repository.wal_receiver)


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir())) if is_there(folder) else ()


def _read_proofs(catalogue: Catalogue, found: list[Finding]) -> dict[str, Proof]:
    proofs = {}
    for base in catalogue.bases:
        try:
            proof = read_proof(base.path, base.stamp)
        except (OSError, ValueError) as problem:
            file = base.path / PROOF
            found.append(
                warning(
                    f"restore drill of {base.stamp}",
                    f"{file} cannot be read: {problem}",
                    f"ls -l {shlex.quote(str(file))}",
                )
            )
        else:
            if proof is not None:
                proofs[base.stamp] = proof
    return proofs


def _read_restores(repository: Repository, settings: Settings, found: list[Finding]) -> tuple[Record, ...]:
    """The restores that can be read; the others become findings."""
    records = []
    folder = repository.restores(settings.alf_host_name)
    for name in _names(folder):
        journal = folder / name / JOURNAL
        if STAMP_PATTERN.fullmatch(name) and journal.is_file():
            try:
                records.append(read_journal(journal))
            except BackupError as problem:
                found.append(error(f"restore {name}", problem.message, problem.hint))
    return tuple(records)


def _unreadable(what: str, problem: OSError) -> Finding:
    said = f"cannot be read: {problem.strerror}: {problem.filename}"
    place = shlex.quote(str(problem.filename))
    return error(what, said, f"ls -ld {place}  # run it as root or as an account that may read it")
