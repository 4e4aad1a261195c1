"""What the server says of archiving, and what of that endangers restores. Pure."""

import re
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.postgres.wal_files import is_segment_name
from alfresco_backup.settings.commands import (
    archive_command,
    as_account,
    configure_command,
    new_archive_commands,
    program_command,
)
from alfresco_backup.system.accounts import Account
from alfresco_backup.times import duration_for_people, for_people
from alfresco_backup.wal.contents import ArchiveContents


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
    seconds. `waiting` is None where the server's archive_status folder could not be listed. `kept` are the
    names in `wal_directory`, and `account` owns it; None where it is this process's own.
    `streamed`: WAL is received over a replication slot, so that archive_mode may be off.
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
    account: Account | None = None
    streamed: bool = False

    @property
    def failing(self) -> bool:
        """Whether the last try to archive failed. What a later success made good does not count."""
        if self.last_failed_at is None:
            return False
        return self.last_archived_at is None or self.last_failed_at > self.last_archived_at


_UNLESS = {True: ", as far as it was not streamed", False: ""}


def judge_server(server: ServerView, contents: ArchiveContents, owner: str, wait: timedelta) -> list[Finding]:
    """What the server says, against the archive. `wait` is how long a finished segment may take to arrive.

    Failures with an exit code above 125 kill the archiver without being counted: they show as waiting files.
    """
    findings = [_judge_mode(server), _judge_failures(server), _judge_waiting(server, wait)]
    findings += [_judge_timeout(server), *_judge_identity(server, contents, owner)]
    return findings


def _judge_mode(server: ServerView) -> Finding:
    if server.streamed and server.archive_mode == "off":
        return ok("archive_mode", "is off; WAL is streamed")
    if server.archive_mode not in ("on", "always"):
        fix = configure_command("--apply", "--restart")
        return error("archive_mode", f"is {server.archive_mode}: no WAL reaches the archive", fix)
    if not server.archive_command:
        fix = configure_command("--apply")
        return error("archive_command", "is empty: no WAL reaches the archive", fix)
    return ok("archive_command", f"is {server.archive_command}")


def _judge_failures(server: ServerView) -> Finding:
    if server.failing and server.last_failed_at:
        success = (
            f"the last success was {for_people(server.last_archived_at)}" if server.last_archived_at else ""
        )
        failure = f"fails: {server.last_failed} at {for_people(server.last_failed_at)}"
        what = f"{failure}, {server.failed_count:,} failures; {success or 'it never succeeded'}"
        what = f"{what}. Later commits are on the database's disk only{_UNLESS[server.streamed]}"
        return error("archiving", what, _archive_by_hand(server, server.last_failed))
    if server.last_archived_at is None:
        return ok("archiving", "has not archived anything since its statistics were reset")
    last = f"{server.last_archived} at {for_people(server.last_archived_at)}"
    failures = f", {server.failed_count:,} failures before" if server.failed_count else ""
    return ok("archiving", f"{server.archived_count:,} files archived, the last {last}{failures}")


def _judge_waiting(server: ServerView, wait: timedelta) -> Finding:
    if server.waiting is None:
        what = f"cannot be counted: this account may not list {server.wal_directory}/archive_status"
        return warning("waiting segments", what, program_command("wal-audit"))
    if not server.waiting:
        return ok("waiting segments", "none")
    oldest = min(server.waiting, key=lambda item: item.since)
    age = server.moment - oldest.since
    duration = duration_for_people(max(0.0, age.total_seconds()))
    what = f"{len(server.waiting):,}, the oldest ({oldest.name}) for {duration}"
    if age <= wait:
        return ok("waiting segments", what)
    lost = f"what was committed since {for_people(oldest.since)} is on the database's disk only"
    lost += _UNLESS[server.streamed]
    fix = _archive_by_hand(server, oldest.name)
    return error("waiting segments", f"{what}: {lost}, which fills up", fix)


def _archive_by_hand(server: ServerView, name: str) -> str:
    """archive_command for one file, as the server runs it: then its messages are on the terminal.

    An archive_library has no command.
    """
    if not re.search("%[pf]", server.archive_command):
        return f"read in the server's log why {server.archive_command} fails"
    wal_directory = Path(server.wal_directory)
    values = {"%p": f"{wal_directory.name}/{name}", "%f": name, "%%": "%"}
    command = re.sub("%[pf%]", lambda found: values[found.group()], server.archive_command)
    typed = as_account(server.account, f"sh -c {shlex.quote(command)}")
    return f"cd {shlex.quote(str(wal_directory.parent))} && {typed}"


def _judge_timeout(server: ServerView) -> Finding:
    if server.archive_timeout > 0 or (server.streamed and server.archive_mode == "off"):
        return ok("archive_timeout", f"is {duration_for_people(server.archive_timeout)}")
    meaning = "only full segments are archived; on a quiet server the archive lags behind by hours"
    return warning("archive_timeout", f"is 0: {meaning}", configure_command("--apply"))


def _judge_identity(server: ServerView, contents: ArchiveContents, owner: str) -> list[Finding]:
    """Whether what the server archives arrives here, and with its timeline's history."""
    findings = []
    names = {file.wal_name for file in contents.files}
    if server.system_identifier and owner and server.system_identifier != owner:
        what = (
            f"mismatch: server {server.system_identifier}, WAL archive {owner}; no WAL of this server arrives"
        )
        findings.append(error("system identifier", what, new_archive_commands(contents.directory, owner)))
    elif is_segment_name(server.last_archived) and server.last_archived not in names:
        what = f"the server has archived {server.last_archived}, but it is not in {contents.directory}"
        what = f"{what}: archive_command ({server.archive_command}) writes elsewhere, or nothing"
        findings.append(error("archiving", what, configure_command()))
    history = f"{server.timeline:08X}.history"
    names.update(item.name for item in server.waiting or ())
    if server.timeline > 1 and history not in names:
        what = f"{history} is not in the archive: older base backups cannot be restored to the present"
        fix = archive_command(server.account, Path(server.wal_directory), [history], contents.directory)
        findings.append(error("timeline history", what, fix))
    return findings
