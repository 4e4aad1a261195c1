"""The database's files: set aside what is in place, extract the backup, make it ready to recover."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError
from alfresco_backup.host.service_control import look_at, stop_service
from alfresco_backup.host.services import Service
from alfresco_backup.repository.records import BaseFile
from alfresco_backup.restore.journal.journal import make_directory, rename, restoring_name
from alfresco_backup.restore.journal.journal_record import Stopped
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.obstacles import STOPS
from alfresco_backup.restore.recovery.recovery_files import CONTROL_FILE, CONTROL_PARTIAL, prepare_recovery
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.restore.recovery.saved_wal import SavedFiles, decompress, save_wal
from alfresco_backup.restore.recovery.server_files import put_back_server_files
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.folders import open_folder
from alfresco_backup.system.processes import Command, OnProgress, run_pipeline
from tasks.runs.progress import Progress

HOUR = 3600.0
TAR_RECORD = 10240
DIGEST_BLOCK = 1 << 18
CHECKPOINT_RECORDS = 2000
PRIVATE, ALLOWED_MODE = 0o700, 0o750  # PostgreSQL 11 and later start with group access too
_CHECKPOINT = re.compile(r"tar: (\d+)$")
_CONTROL_LAST = f"--transform=flags=r;s,^\\(\\./\\)*{CONTROL_FILE}$,{CONTROL_PARTIAL},"


@dataclass(frozen=True)
class Extracted:
    """What was extracted. `warnings` name settings of the restored server that should be checked."""

    bytes: int
    warnings: tuple[str, ...] = ()


@task(name="stop-services", task_run_name="stop Alfresco and PostgreSQL", cache_policy=NO_CACHE, retries=0)
def stop_services(restoration: Restoration) -> None:
    """Stop Alfresco, then PostgreSQL, as far as the plan says so, and check that they are down."""
    logger = get_run_logger()
    for step, service in STOPS.items():
        if restoration.plans(step):
            with restoration.step(step):
                running = stop(restoration, service)
            logger.info("%s %s", service, "stopped" if running else "was down")


@task(name="set-aside-database", task_run_name="set the database aside", cache_policy=NO_CACHE, retries=0)
def set_aside_database(restoration: Restoration) -> SavedFiles:
    """Save WAL that was never archived, then set data directory and tablespaces aside."""
    logger = get_run_logger()
    with restoration.step(Step.SAVE_WAL):
        saved = save_wal(restoration)
    logger.info(saved.sentence())
    if restoration.plans(Step.SET_ASIDE_DATABASE):
        with restoration.step(Step.SET_ASIDE_DATABASE):
            for source, target in set_aside(restoration):
                logger.info("%s set aside as %s", source, target)
    return saved


@task(name="extract-database", task_run_name="extract the database", cache_policy=NO_CACHE, retries=0)
def extract_database(restoration: Restoration) -> Extracted:
    """Extract the base backup, write the recovery settings, and put the complete data directory in place."""
    logger = get_run_logger()
    progress = Progress(restoration.host.name, "extract database")
    with restoration.step(Step.EXTRACT_DATABASE):
        size = extract(restoration, progress)
    progress.finish()
    with restoration.step(Step.WRITE_RECOVERY_SETTINGS):
        warnings = (*put_back_server_files(restoration), *prepare_recovery(restoration))
    for warning in warnings:
        logger.warning(warning)
    logger.info("%d bytes extracted to %s", size, restoration.database.data_directory)
    return Extracted(size, warnings)


def stop(restoration: Restoration, service: Service) -> bool:
    """Stop a service and check that it is down; returns whether it had been running."""
    running = not look_at(restoration.host, service).down
    act = Stopped(service, running)
    restoration.journal.act(act)
    stop_service(restoration.host, service, restoration.log)
    restoration.journal.done(act)
    return running


def set_aside(restoration: Restoration) -> Iterator[tuple[Path, Path]]:
    """Rename the data directory, its WAL outside it, and every tablespace the plan sets aside."""
    database = restoration.database
    outside = database.wal_location
    moves = [(database.data_directory, database.set_aside)]
    moves += [(outside.source, outside.target)] if outside else []
    moves += [(space.location, space.set_aside) for space in database.tablespaces]
    for source, target in moves:
        if target is not None:
            rename(restoration.journal, source, target)
            yield source, target


def extract(restoration: Restoration, on_progress: OnProgress) -> int:
    """Extract data directory and tablespaces beside their places; returns the bytes of the tars.

    The checksums of the set are compared meanwhile. Raises BackupError when one differs.
    """
    database = restoration.database
    before = database.set_aside
    mode = before.stat().st_mode & ALLOWED_MODE if before and before.exists() else PRIVATE
    targets = {space.oid: space.location for space in database.tablespaces}
    done = 0
    with ThreadPoolExecutor(1) as pool, _set_at_failure() as failed:
        checks: list[tuple[BaseFile, Future[str]]] = []
        for file in database.base.files:
            place = database.data_directory if file.holds == "data" else None
            if file.holds.isdecimal():
                place = targets[int(file.holds)]
            if place is None:
                continue
            if file.sha256:
                checks.append((file, pool.submit(_digest, database.base.path / file.name, failed)))
            new = restoring_name(place, restoration.plan.restore_id)
            make_directory(restoration.journal, new, mode, restoration.account)
            done = _extract_tar(restoration, file.name, new, done, on_progress)
        if database.wal_location is not None:
            new = restoring_name(database.wal_location.source, restoration.plan.restore_id)
            make_directory(restoration.journal, new, mode, restoration.account)
        for space in database.tablespaces:
            if not space.restored:  # replaying its creation wants an empty folder
                new = restoring_name(space.location, restoration.plan.restore_id)
                make_directory(restoration.journal, new, mode, restoration.account)
        wrong = [file.name for file, digest in checks if digest.result() != file.sha256]
    if wrong:
        raise BackupError(
            f"checksum mismatch: {', '.join(wrong)} of {database.base.path} is damaged; restore another "
            "backup, and check the disk of BACKUP_DIR",
            program_command("status"),
        )
    return done


def _extract_tar(
    restoration: Restoration, name: str, target: Path, done: int, on_progress: OnProgress
) -> int:
    """Extract one tar as the account it will belong to; pg_control keeps another name for now."""
    database = restoration.database
    limit = restoration.host.settings.recovery_limit_hours * HOUR
    total = database.base.database_bytes
    extracted = 0

    def on_line(line: str) -> None:
        nonlocal extracted
        if found := _CHECKPOINT.match(line):
            extracted = int(found[1]) * TAR_RECORD
            on_progress(done + extracted, max(total, done + extracted))

    checkpoint = (f"--checkpoint={CHECKPOINT_RECORDS}", "--checkpoint-action=echo=%u")
    argv = ("tar", "-x", "-p", "--no-same-owner", _CONTROL_LAST, *checkpoint, "-f", "-")
    producer = Command(decompress(database.base.path / name), limit)
    with open_folder(target) as folder:  # the account may not pass what is above a container's volume
        unpack = Command(
            argv, limit, account=restoration.account, directory=folder, chatter=_CHECKPOINT.match
        )
        run_pipeline(producer, unpack, log=restoration.log, on_line=on_line)
    return done + extracted


@contextmanager
def _set_at_failure() -> Iterator[Event]:
    """An event that is set when the body raises, so that its threads end early."""
    failed = Event()
    try:
        yield failed
    except BaseException:
        failed.set()
        raise


def _digest(path: Path, unwanted: Event) -> str:
    """The checksum of a file; of a part of it once it is `unwanted`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while not unwanted.is_set() and (data := stream.read(DIGEST_BLOCK)):
            digest.update(data)
    return digest.hexdigest()
