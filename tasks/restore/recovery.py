"""Recovery: start PostgreSQL for the restore only, follow the replay, check that it reached its target."""

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, NotInTime, RecoveryNotReached, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import start_one_off
from alfresco_backup.host.service_control import (
    require_down,
    require_server_down,
    server_watch,
    start_by_pg_ctl,
    stop_service,
)
from alfresco_backup.host.services import service_environment
from alfresco_backup.postgres.conf_file import CONF
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.planning.plan import Step, Target
from alfresco_backup.restore.recovery.recovery_files import (
    RECOVERY_LOG,
    one_off_of,
    pg_ctl_starts,
    write_settings,
)
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
Starter = Callable[[Restoration], ToolFailed | None]
"""Starts PostgreSQL without waiting; gives the failure of a command that waits for it: see start_alone."""


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
    paused: bool = False

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


@task(name="recover-database", task_run_name="recover the database", cache_policy=NO_CACHE, retries=0)
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


def reach(restoration: Restoration, on_progress: OnProgress, start: Starter | None = None) -> Reached:
    """Replay and judge; PostgreSQL is left running as write_settings says. Raises like recover.

    One that was to pause is promoted where it cannot be a hot standby, or where the WAL ends at the target.
    """
    database = restoration.database
    start = start or start_alone
    log = replay(restoration, on_progress, start)
    if log.no_standby:
        restoration = _promoting(restoration)
        log = replay(restoration, on_progress, start)
    require_reached(restoration, log)
    if log.unreached:
        log = replay_again(replace(restoration, pause=False), log, on_progress, start)
    if log.paused_at_target:
        log.last_commit = require_paused(restoration.host, database.target)
    return Reached(
        database.target,
        log.last_commit,
        log.stopped_before,
        log.timeline,
        log.restored,
        utc_now(),
        paused=log.paused_at_target,
    )


def _promoting(restoration: Restoration) -> Restoration:
    """The same recovery without a pause, after a server that could not be a hot standby. It is stopped."""
    database = restoration.database
    get_run_logger().info("hot standby is not possible with this WAL: the database is promoted")
    stop_service(restoration.host, "postgresql", restoration.log)
    promoting = replace(restoration, pause=False)
    facts = facts_of(database.base.postgresql_version)
    write_settings(promoting, database.data_directory, facts, database.target)
    return promoting


def require_paused(host: Host, target: Target) -> datetime | None:
    """The last commit that a paused server has replayed, none where it replayed none since its start.

    Besides its log the server itself must say that it is in recovery and paused, and has replayed nothing
    from after the target time. Raises RecoveryNotReached.
    """
    database = host.database
    facts = facts_of(int(database.value("SHOW server_version_num")))
    ((recovering, paused, last),) = database.query(
        f"SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN {facts.replay_paused}() END, "
        "pg_last_xact_replay_timestamp()"
    )
    commit = datetime.fromisoformat(last) if last else None
    late = bool(commit and target.kind == "time" and target.time and commit > target.time)
    if (recovering, paused) != ("t", "t") or late:
        state = f"in recovery: {recovering}, paused: {paused}, last commit: {last or 'none'}"
        raise RecoveryNotReached(f"recovery did not stay at the target {target.time}: {state}")
    return commit


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


def replay_again(
    restoration: Restoration, first: RecoveryLog, on_progress: OnProgress, start: Starter | None = None
) -> RecoveryLog:
    """Replay the same WAL once more, to its end, after PostgreSQL stopped there as from 13 on it does.

    Not to the end of whatever WAL there is by now: a server that goes on archiving, as beside a drill, may
    have added commits from after the target time.
    """
    database = restoration.database
    facts = facts_of(database.base.postgresql_version)
    end = Target("lsn", database.target.time, lsn=first.redo_done)
    write_settings(restoration, database.data_directory, facts, end)
    log = replay(restoration, on_progress, start or start_alone)
    if log.redo_done != first.redo_done:
        raise RecoveryNotReached(
            f"recovery did not reach the target: a second replay of the same WAL ended at {log.redo_done}, "
            f"the first at {first.redo_done}",
            f"less {_log_file(restoration)}",
        )
    log.last_commit = log.last_commit or first.last_commit
    log.restored = max(log.restored, first.restored)
    return log


def replay(restoration: Restoration, on_progress: OnProgress, start: Starter) -> RecoveryLog:
    """Start PostgreSQL and follow its log: see follow."""
    logs = [
        Follower(restoration.folder / START_LOG),
        Follower(_log_file(restoration), restoration.account),
    ]
    failed = start(restoration)
    database = restoration.database
    hours = restoration.host.settings.recovery_limit_hours
    watched = Replay(server_watch(restoration.host), hours * HOUR, database.segments, restoration.pause)
    return follow(watched, logs, on_progress, failed)


@dataclass(frozen=True)
class Replay:
    """A replay under way: whether the server is alive, how long at most, how many segments it reads at least,
    if it is to pause.
    """

    alive: Callable[[], bool]
    limit_seconds: float
    segments: int
    pause: bool


def follow(
    watched: Replay,
    logs: Sequence["Follower"],
    on_progress: OnProgress,
    failed: ToolFailed | None = None,
) -> RecoveryLog:
    """Follow the log of a server until it is open, or paused at its target, or cannot be a hot standby as it
    was to be, or has stopped because the WAL ended too early.

    Raises BackupError with the end of its log when it died otherwise; NotInTime when it needs longer than
    RECOVERY_LIMIT_HOURS.
    """
    started = time.monotonic()
    log = RecoveryLog()
    while True:
        alive = watched.alive()
        for follower in logs:
            for line in follower.new_lines():
                log.read(line)
        if log.ready or log.paused_at_target or (not alive and log.unreached):
            return log
        if watched.pause and log.no_standby and (log.paused or not alive):
            return log
        seconds = time.monotonic() - started
        if not alive and (log.severe or seconds > BIRTH_SECONDS):
            if failed and not log.severe:
                raise failed
            tail = "\n".join(log.tail)
            raise BackupError(
                f"PostgreSQL ended during recovery; the end of its log:\n{tail}",
                f"less {shlex.quote(str(logs[-1].path))}",
            ) from failed
        if seconds > watched.limit_seconds:
            limit = duration_for_people(watched.limit_seconds)
            raise NotInTime(f"recovery did not end within {limit} (RECOVERY_LIMIT_HOURS)")
        on_progress(log.restored, max(watched.segments, log.restored))
        time.sleep(POLL_SECONDS)


def start_alone(restoration: Restoration) -> ToolFailed | None:
    """Start PostgreSQL without waiting; where its configuration lies elsewhere, by PG_START_COMMAND.

    That of a container in a one-off container.

    Returns the failure of a command that waits: it fails after its own limit, and when the server stops at
    the end of the WAL. What became of the server its log tells.
    """
    host = restoration.host
    start_log = restoration.folder / START_LOG
    if host.settings.pg_container:
        require_server_down(host)
        start_one_off(host, one_off_of(restoration, start_log))
        return None
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


class Follower:
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
