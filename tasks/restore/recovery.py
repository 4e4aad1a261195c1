"""Recovery: start PostgreSQL for the restore only, follow the replay, check that it reached its target."""

import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, RecoveryNotReached, ToolFailed
from alfresco_backup.host.postmaster import postmaster
from alfresco_backup.host.service_control import require_down, require_server_down, start_by_pg_ctl
from alfresco_backup.host.services import service_environment
from alfresco_backup.postgres.conf_file import CONF
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.planning.plan import Step, Target
from alfresco_backup.restore.recovery.recovery_files import RECOVERY_LOG, pg_ctl_starts, write_settings
from alfresco_backup.restore.recovery.recovery_log import RecoveryLog, why_not_reached
from alfresco_backup.restore.recovery.replay_end import find_replay_end
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.system.accounts import Account, acting_as, owner_of_program
from alfresco_backup.system.processes import Command, OnProgress, run_starter
from alfresco_backup.times import duration_for_people, utc_now
from alfresco_backup.wal.timelines import read_timelines, write_timelines
from tasks.runs.progress import Progress

POLL_SECONDS = 0.1
BIRTH_SECONDS = 5.0
HOUR = 3600.0
START_LOG = "postgresql-start.log"


@dataclass(frozen=True)
class Reached:
    """Where recovery ended. `last_commit` is the last one replayed, `next_commit` the first one not replayed.

    Either is None where the WAL that was read held none. `timeline` is the new one.
    """

    target: Target
    last_commit: datetime | None
    next_commit: datetime | None
    timeline: int | None
    segments: int
    reached_at: datetime

    def sentence(self) -> str:
        """What was reached, for people."""
        last = f"last commit {exactly(self.last_commit)}" if self.last_commit else "no commit replayed"
        if self.next_commit:
            last += f", first commit not replayed {exactly(self.next_commit)}"
        elif self.target.kind == "time":
            last += ", nothing was committed between it and the target time"
        timeline = f"; PostgreSQL is now on timeline {self.timeline}" if self.timeline else ""
        return f"{last}; {self.segments} WAL segments read{timeline}"


def exactly(moment: datetime) -> str:
    """Local time with its offset and fractions of a second: commits are close together."""
    return moment.astimezone().isoformat(sep=" ")


@task(name="recover-database", cache_policy=NO_CACHE, retries=0)
def recover_database(restoration: Restoration) -> Reached:
    """Recover the restored database to its target. Only the restore can connect to it; see open_database."""
    progress = Progress(restoration.host.name, "recover database", "segments")
    with restoration.step(Step.RECOVER_DATABASE):
        reached = recover(restoration, progress)
    progress.finish()
    get_run_logger().info("recovered: %s", reached.sentence())
    return reached


def recover(restoration: Restoration, on_progress: OnProgress) -> Reached:
    """Replay and judge, and check that Alfresco is down before and after: something may start it meanwhile.

    PostgreSQL is left running, with restricted access. Raises RecoveryNotReached when recovery did not come
    to its target, BackupError when the server died, or when Alfresco is up again.
    """
    require_down(restoration.host, "alfresco")
    try:
        reached = reach(restoration, on_progress)
    finally:
        note_timeline(restoration)
    require_down(restoration.host, "alfresco")
    return reached


def note_timeline(restoration: Restoration) -> None:
    """Keep which timeline this restore began, if any: after an undo nothing else tells it from a foreign one.

    The server of another host's backup does not archive here.
    """
    host, database = restoration.host, restoration.database
    log = RecoveryLog()
    with suppress(OSError):
        for line in _log_file(restoration).read_text(errors="replace").splitlines():
            log.read(line)
        if log.timeline and database.base.host in ("", host.name):
            record, owner = read_timelines(host.repository), database.base.system_identifier
            write_timelines(host.repository, record.with_earlier(owner, [log.timeline]))


def reach(restoration: Restoration, on_progress: OnProgress) -> Reached:
    """Replay and judge; PostgreSQL is left running as write_settings says. Raises like recover."""
    database = restoration.database
    log = replay(restoration, on_progress)
    require_reached(restoration, log)
    if log.unreached:
        log = replay_again(restoration, log, on_progress)
    return Reached(
        database.target, log.last_commit, log.stopped_before, log.timeline, log.restored, utc_now()
    )


def require_reached(restoration: Restoration, log: RecoveryLog) -> None:
    """Raise RecoveryNotReached unless a replay came to its target."""
    database = restoration.database
    archive = restoration.host.repository.wal
    reason = why_not_reached(
        log,
        database.target,
        database.last_segment,
        database.base.segment_size,
        lambda: find_replay_end(database, archive, log),
    )
    if reason:
        raise RecoveryNotReached(
            f"recovery did not reach the target: {reason}",
            f"less {_log_file(restoration)}\n{program_command('wal-audit')}",
        )


def replay_again(restoration: Restoration, first: RecoveryLog, on_progress: OnProgress) -> RecoveryLog:
    """Replay the same WAL once more, to its end, after PostgreSQL stopped there as from 13 on it does.

    Not to the end of whatever WAL there is by now: a server that goes on archiving, as beside a drill, may
    have added commits from after the target time.
    """
    database = restoration.database
    facts = facts_of(database.base.postgresql_version)
    end = Target("lsn", database.target.time, lsn=first.redo_done)
    write_settings(restoration, database.data_directory, facts, end)
    log = replay(restoration, on_progress)
    if log.redo_done != first.redo_done:
        raise RecoveryNotReached(
            f"recovery did not reach the target: a second replay of the same WAL ended at {log.redo_done}, "
            f"the first at {first.redo_done}",
            f"less {_log_file(restoration)}",
        )
    log.last_commit = log.last_commit or first.last_commit
    log.restored = max(log.restored, first.restored)
    return log


def replay(restoration: Restoration, on_progress: OnProgress) -> RecoveryLog:
    """Start PostgreSQL and follow its log until it is open, or has stopped because the WAL ended too early.

    Raises BackupError with the end of its log when it died otherwise, or needs longer than
    RECOVERY_LIMIT_HOURS.
    """
    database = restoration.database
    limit = restoration.host.settings.recovery_limit_hours * HOUR
    started = time.monotonic()
    logs = [
        _Follower(restoration.folder / START_LOG),
        _Follower(_log_file(restoration), restoration.account),
    ]
    log = RecoveryLog()
    failed = start_alone(restoration)
    while True:
        alive = postmaster(database.data_directory) is not None
        for follower in logs:
            for line in follower.new_lines():
                log.read(line)
        if log.ready or (not alive and log.unreached):
            return log
        seconds = time.monotonic() - started
        if not alive and (log.severe or seconds > BIRTH_SECONDS):
            if failed and not log.severe:
                raise failed
            tail = "\n".join(log.tail)
            raise BackupError(
                f"PostgreSQL ended during recovery; the end of its log:\n{tail}",
                f"less {shlex.quote(str(_log_file(restoration)))}",
            ) from failed
        if seconds > limit:
            raise RecoveryNotReached(
                f"recovery did not end within {duration_for_people(limit)} (RECOVERY_LIMIT_HOURS)"
            )
        on_progress(log.restored, max(database.segments, log.restored))
        time.sleep(POLL_SECONDS)


def start_alone(restoration: Restoration) -> ToolFailed | None:
    """Start PostgreSQL without waiting; where its configuration lies elsewhere, by PG_START_COMMAND.

    Returns the failure of a command that waits: it fails after its own limit, and when the server stops at
    the end of the WAL. What became of the server its log tells.
    """
    host = restoration.host
    start_log = restoration.folder / START_LOG
    if pg_ctl_starts(restoration.database.data_directory):
        start_by_pg_ctl(host, start_log)
        return None
    command = host.settings.pg_start_command
    if not command:
        raise BackupError(
            f"{restoration.database.data_directory} has no {CONF}, so pg_ctl cannot start the server",
            edit_setting("PG_START_COMMAND"),
        )
    require_server_down(host)
    limit = host.settings.recovery_limit_hours * HOUR
    try:
        argv = tuple(shlex.split(command))
        account = owner_of_program(Path(argv[0]))
        run_starter(Command(argv, limit, service_environment(), account), start_log)
    except ToolFailed as error:
        return error
    return None


def _log_file(restoration: Restoration) -> Path:
    return restoration.database.saved_wal / RECOVERY_LOG


class _Follower:
    """Reads what is appended to a file from now on, with an account's rights; it need not exist yet."""

    def __init__(self, path: Path, account: Account | None = None) -> None:
        self.path, self.account = path, account
        self.offset = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> list[str]:
        """The whole lines that were added."""
        if not self.path.exists() or self.path.stat().st_size <= self.offset:
            return []
        with acting_as(self.account), self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()
