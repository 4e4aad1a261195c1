"""Asks the server, reads the WAL archive, audits both.

Writes nothing but the index of segments seen, and the timeline that the server is on.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from alfresco_backup.errors import BackupError, HostNotReady
from alfresco_backup.findings import warning
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.programs import program_of_version
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import utc_now
from alfresco_backup.wal.archiver import ServerView, WaitingFile
from alfresco_backup.wal.audit import WalAudit, audit
from alfresco_backup.wal.contents import (
    INDEX,
    ArchiveContents,
    is_known,
    read_contents,
    read_index,
    with_received,
    write_index,
)
from alfresco_backup.wal.timelines import read_timelines, write_timelines
from alfresco_backup.wal.verify import verify_again, verify_new

READY = ".ready"
SEGMENT_SIZE = (
    "SELECT setting::bigint * CASE unit WHEN 'B' THEN 1 ELSE 8192 END FROM pg_settings"
    " WHERE name = 'wal_segment_size'"
)
"""Asks a server for the bytes of a segment."""
_SERVER_QUERY = """
SELECT clock_timestamp(), {lsn_file}({current_lsn}()),
  ({segment_size}),
  current_setting('archive_mode'), current_setting('archive_command'),
  (SELECT setting FROM pg_settings WHERE name = 'archive_library'),
  (SELECT setting FROM pg_settings WHERE name = 'archive_timeout'),
  {system_identifier},
  archived_count, last_archived_wal, last_archived_time, failed_count, last_failed_wal, last_failed_time
FROM pg_stat_archiver
"""


def audit_host(host: Host, *, ask_server: bool = True) -> WalAudit:
    """Read server, archive and catalogue, in this order, and audit them.

    The order keeps what happens meanwhile from looking like a loss: a segment the server counts as archived
    is in the later listing; a base backup published after the listing is left out by its time; one that
    retention removes with its WAL is gone from the catalogue as well. Raises HostNotReady when the archive
    cannot be listed.
    """
    server, unasked = (_view_or_reason(host)) if ask_server else (None, "")
    directory = host.repository.wal
    index = host.repository.logs / INDEX
    try:
        known = read_index(index, directory)
        contents = read_contents(directory, known)
        contents = verify_new(contents, partial(program_of_version, host.settings))
    except OSError as error:
        raise HostNotReady(
            f"the WAL archive {directory} cannot be listed: {error.strerror}",
            f"namei -l {shlex.quote(str(directory))}; findmnt --target {shlex.quote(str(directory))}",
        ) from error
    if not is_known(contents, known) and index.parent.is_dir() and os.access(index.parent, os.W_OK):
        with suppress(OSError):  # it only saves work, and another audit may write it at the same time
            write_index(index, contents)
    contents = with_received(contents, host.repository.wal_receiver)
    bases = read_catalogue(host.repository).bases
    wait = timedelta(minutes=host.settings.archive_wait_minutes)
    now = utc_now()
    window_start = now - timedelta(days=host.settings.retention_days)
    contents = replace(contents, timelines=read_timelines(host.repository))
    result = audit(contents, bases, server, now, wait, window_start)
    if server and server.system_identifier in ("", result.wal.owner):
        _keep_timeline(host.repository, contents, result.wal.owner, server)
    return result.with_finding(warning("server", unasked, program_command("doctor"))) if unasked else result


def _keep_timeline(repository: Repository, contents: ArchiveContents, owner: str, server: ServerView) -> None:
    """Record which timeline the server is on: once it is gone, that tells its own timelines from foreign."""
    if os.access(repository.root, os.W_OK):
        with suppress(OSError):  # the next audit does it
            write_timelines(repository, contents.timelines.with_live(owner, server.timeline, server.moment))


def verify_share(
    host: Host, share: int, on_progress: Callable[[int, int], None]
) -> tuple[str, dict[str, str]]:
    """Read one of `share` parts of the archived segments again, and keep what was found for the audit.

    Returns what was done, and a sentence for each segment found damaged now, by its file. Raises OSError when
    the archive cannot be listed.
    """
    directory, index = host.repository.wal, host.repository.logs / INDEX
    before = read_contents(directory, read_index(index, directory))
    after = verify_again(before, partial(program_of_version, host.settings), share, on_progress)
    write_index(index, after)
    changed = {name: look for name, look in after.looks.items() if look is not before.looks[name]}
    damaged = {name: look.words for name, look in changed.items() if look.defect}
    why = Counter(look.unverified for look in after.looks.values() if look.unverified)
    read = sum(look.verified_at is not None for look in changed.values())
    words = f"{read:,} of {len(after.looks):,} WAL segments verified again, {len(damaged):,} damaged"
    told = [words, *(f"{count:,} could not be verified: {reason}" for reason, count in why.items())]
    sentences = {name: f"WAL segment {name} is damaged: {words}" for name, words in damaged.items()}
    return "; ".join(told), sentences


def _view_or_reason(host: Host) -> tuple[ServerView | None, str]:
    try:
        return view_server(host), ""
    except BackupError as failure:
        reason = getattr(failure, "tail", "") or failure.message
        return None, f"cannot be asked, so only the archive was audited: {reason}"


def view_server(host: Host) -> ServerView:
    """Ask the server about archiving. Raises ToolFailed when it cannot be asked or is a standby."""
    facts = host.server
    identifier = (
        "(SELECT system_identifier FROM pg_control_system())" if facts.has_control_functions else "''"
    )
    query = _SERVER_QUERY.format(
        lsn_file=facts.lsn_file,
        current_lsn=facts.current_lsn,
        segment_size=SEGMENT_SIZE,
        system_identifier=identifier,
    )
    row = host.superuser_database.query(query)[0]
    wal_directory = host.installation.data_directory / facts.wal_directory
    return ServerView(
        moment=_moment(row[0]) or utc_now(),
        timeline=int(row[1][:8], 16),
        current_segment=row[1],
        segment_size=int(row[2]),
        archive_mode=row[3],
        archive_command=row[4] or row[5],
        archive_timeout=int(row[6]),
        system_identifier=row[7],
        archived_count=int(row[8]),
        last_archived=row[9],
        last_archived_at=_moment(row[10]),
        failed_count=int(row[11]),
        last_failed=row[12],
        last_failed_at=_moment(row[13]),
        waiting=waiting_files(wal_directory),
        kept=kept_files(wal_directory),
        wal_directory=str(wal_directory),
        account=host.account,
        streamed=host.settings.wal_streaming,
    )


def waiting_files(wal_directory: Path) -> tuple[WaitingFile, ...] | None:
    """The files a server has marked ready for archiving; None when the folder cannot be listed."""
    found = []
    try:
        for path in (wal_directory / "archive_status").iterdir():
            if path.suffix == READY:
                with suppress(FileNotFoundError):  # archived meanwhile
                    since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    found.append(WaitingFile(path.stem, since))
    except OSError:
        return None
    return tuple(sorted(found, key=lambda item: item.name))


def kept_files(wal_directory: Path) -> frozenset[str]:
    """The names of the files in a server's WAL folder; none when it cannot be listed."""
    try:
        return frozenset(path.name for path in wal_directory.iterdir())
    except OSError:
        return frozenset()


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
