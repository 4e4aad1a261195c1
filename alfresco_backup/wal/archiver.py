"""The server's side of WAL archiving: what it says, and what of that endangers restores. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.postgres.wal_files import is_segment_name
from alfresco_backup.times import duration_for_people, for_people
from alfresco_backup.wal.contents import ArchiveContents

SERVER_LOG = "look at the server's log for what archive_command printed, then run archive_command by hand"


@dataclass(frozen=True)
class WaitingFile:
    """A file the server has finished and not yet archived (its `.ready` file), and since when."""

    name: str
    since: datetime


@dataclass(frozen=True)
class ServerView:
    """What the server said about archiving at `moment` (its own clock).

    `system_identifier` is empty where the version cannot tell (before 9.6). `last_archived` and `last_failed`
    are file names, empty when there was none since the statistics were reset. `archive_timeout` is in
    seconds. `switch_wal` is this version's function that ends a segment. `waiting` is None where the server's
    archive_status folder could not be listed.
    """

    moment: datetime
    system_identifier: str
    timeline: int
    segment_size: int
    current_segment: str
    archive_mode: str
    archive_command: str
    archive_timeout: int
    archived_count: int
    last_archived: str
    last_archived_at: datetime | None
    failed_count: int
    last_failed: str
    last_failed_at: datetime | None
    waiting: tuple[WaitingFile, ...] | None = ()
    kept: frozenset[str] = frozenset()
    wal_directory: str = ""
    switch_wal: str = "pg_switch_wal"

    @property
    def failing(self) -> bool:
        """Whether the last try to archive failed. What a later success made good does not count."""
        if self.last_failed_at is None:
            return False
        return self.last_archived_at is None or self.last_failed_at > self.last_archived_at


def judge_server(server: ServerView, contents: ArchiveContents, owner: str, wait: timedelta) -> list[Finding]:
    """What the server says, against the archive. `wait` is how long a finished segment may take to arrive.

    Failures with an exit code above 125 kill the archiver without being counted: they show as waiting files.
    """
    findings = [_judge_mode(server), _judge_failures(server), _judge_waiting(server, wait)]
    findings += [_judge_timeout(server), *_judge_identity(server, contents, owner)]
    return findings


def _judge_mode(server: ServerView) -> Finding:
    if server.archive_mode not in ("on", "always"):
        fix = "ALTER SYSTEM SET archive_mode = 'on'; then restart PostgreSQL"
        return error("archive_mode", f"is {server.archive_mode}: no WAL reaches the archive", fix)
    if not server.archive_command:
        fix = "ALTER SYSTEM SET archive_command = '…/deployments/wal/archive-wal …'; SELECT pg_reload_conf()"
        return error("archive_command", "is empty: no WAL reaches the archive", fix)
    return ok("archive_command", f"is {server.archive_command}")


def _judge_failures(server: ServerView) -> Finding:
    if server.failing and server.last_failed_at:
        success = (
            f"the last success was {for_people(server.last_archived_at)}" if server.last_archived_at else ""
        )
        failure = f"fails: {server.last_failed} at {for_people(server.last_failed_at)}"
        what = f"{failure}, {server.failed_count:,} failures; {success or 'it never succeeded'}"
        return error("archiving", f"{what}. Later commits are on the database's disk only", SERVER_LOG)
    if server.last_archived_at is None:
        return ok("archiving", "has not archived anything since its statistics were reset")
    last = f"{server.last_archived} at {for_people(server.last_archived_at)}"
    failures = f", {server.failed_count:,} failures before" if server.failed_count else ""
    return ok("archiving", f"{server.archived_count:,} files archived, the last {last}{failures}")


def _judge_waiting(server: ServerView, wait: timedelta) -> Finding:
    if server.waiting is None:
        fix = "run the audit as root or as the owner of the data directory"
        what = f"cannot be counted: {server.wal_directory}/archive_status cannot be listed"
        return warning("waiting segments", what, fix)
    if not server.waiting:
        return ok("waiting segments", "none")
    oldest = min(server.waiting, key=lambda item: item.since)
    age = server.moment - oldest.since
    duration = duration_for_people(max(0.0, age.total_seconds()))
    what = f"{len(server.waiting):,}, the oldest ({oldest.name}) for {duration}"
    if age <= wait:
        return ok("waiting segments", what)
    lost = f"what was committed since {for_people(oldest.since)} is on the database's disk only"
    return error("waiting segments", f"{what}: {lost}, which fills up", SERVER_LOG)


def _judge_timeout(server: ServerView) -> Finding:
    if server.archive_timeout > 0:
        return ok("archive_timeout", f"is {duration_for_people(server.archive_timeout)}")
    fix = "ALTER SYSTEM SET archive_timeout = '5min'; SELECT pg_reload_conf()"
    meaning = "only full segments are archived; on a quiet server the archive lags behind by hours"
    return warning("archive_timeout", f"is 0: {meaning}", fix)


def _judge_identity(server: ServerView, contents: ArchiveContents, owner: str) -> list[Finding]:
    """Whether what the server archives really arrives here, and with its timeline's history."""
    findings = []
    names = {file.wal_name for file in contents.files}
    if server.system_identifier and owner and server.system_identifier != owner:
        what = f"is {server.system_identifier}, the archive belongs to {owner}: nothing of it arrives here"
        fix = f"move {contents.directory} aside, make an empty one, then a new base backup"
        findings.append(error("system identifier", what, fix))
    elif is_segment_name(server.last_archived) and server.last_archived not in names:
        what = f"the server has archived {server.last_archived}, but it is not in {contents.directory}"
        fix = f"archive_command = {server.archive_command}: does it write to this folder?"
        findings.append(error("archiving", f"{what}: segments do not arrive", fix))
    history = f"{server.timeline:08X}.history"
    names.update(item.name for item in server.waiting or ())
    if server.timeline > 1 and history not in names:
        what = f"{history} is not in the archive: older base backups do not lead to the present"
        fix = f"copy {server.wal_directory}/{history} into {contents.directory}"
        findings.append(error("timeline history", what, fix))
    return findings
