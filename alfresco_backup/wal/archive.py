"""The WAL archive as the backup needs it: prove that it works, wait for a file, copy one, add a history.

Waits for PostgreSQL and changes the archive only by archive-wal.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from alfresco_backup.errors import ArchivingBroken, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import identify_system
from alfresco_backup.postgres.wal_files import ZST, is_segment_name, parse_segment_name, read_segment_header
from alfresco_backup.settings.commands import archive_command, new_archive_commands, program_command
from alfresco_backup.settings.model import WAL_COMMANDS
from alfresco_backup.system.folders import creating, open_folder, reading
from alfresco_backup.system.processes import Command, run
from alfresco_backup.system.zstd_files import content_size
from alfresco_backup.times import duration_for_people, utc_now
from alfresco_backup.wal.observe import waiting_files

POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0
COPY_SECONDS = 600.0
STANDSTILL_SECONDS = 30.0


def archived_path(archive: Path, name: str) -> Path | None:
    """The path of a file in the archive, plain or compressed; None when it is not there."""
    for candidate in (archive / name, archive / f"{name}.zst"):
        if candidate.is_file():
            return candidate
    return None


def prove_archiving(host: Host, stamp: str, limit_seconds: float) -> str:
    """Write a restore point, switch the segment and wait for it in the archive; returns its name.

    The restore point comes first because switching an unwritten segment does nothing. Raises
    ArchivingBroken within the limit, at once when the server reports a failing archive_command, or when
    the archive has that segment already: then it is another server's, or from before this one was restored.
    """
    database = host.superuser_database
    facts = host.server
    point = f"alfresco-backup {stamp}"
    name = database.value(f"SELECT {facts.lsn_file}(pg_create_restore_point('{point}'))")
    early = archived_path(host.repository.wal, name)
    if early and name == database.value(f"SELECT {facts.lsn_file}({facts.current_lsn}())"):
        raise ArchivingBroken(
            f"{early} is in the archive already, while the server is still writing that segment: it belongs "
            "to another server, or to this one before it was restored or created again. Each cluster needs "
            "an archive of its own",
            new_archive_commands(host.repository.wal, "old"),
        )
    database.value(f"SELECT {facts.switch_wal}()")
    arrived = wait_for_archive(host, name, limit_seconds)
    refuse_foreign_segment(arrived, name, identify_system(host.database).system_identifier)
    return name


def refuse_foreign_segment(path: Path, name: str, system_identifier: str) -> None:
    """Raise ArchivingBroken unless an archived or copied file is the segment `name` of that cluster."""
    problem = ""
    try:
        header = read_segment_header(path)
        segment = parse_segment_name(name, header.segment_size)
    except ValueError as error:
        problem = str(error)
    else:
        if header.system_identifier != system_identifier:
            theirs = header.system_identifier
            problem = f"system identifier mismatch: server {system_identifier}, segment {theirs}"
        elif header.address != segment.start(header.segment_size):
            problem = f"its WAL begins at {header.address}, not at {segment.start(header.segment_size)}"
        elif path.suffix != ZST and path.stat().st_size != header.segment_size:
            problem = f"it has {path.stat().st_size} of {header.segment_size} bytes"
    if problem:
        raise ArchivingBroken(
            f"{path} is not this server's segment {name}: {problem}; another server may archive to this "
            "folder",
            program_command("wal-audit"),
        )


def wait_for_archive(host: Host, name: str, limit_seconds: float | None = None) -> Path:
    """Wait until a file is in the archive, and whole; returns its path. Raises ArchivingBroken.

    The limit is how long the archiver may get nothing done while the file is in its queue: files go in order,
    so one that works off a long queue gets there. With a limit of its own an attempt that fails ends the wait
    at once, since nothing is lost yet, and so does the time of the settings. Without one a finished copy
    waits, and only an archiver that archives nothing for that time ends the wait: it tries again, and a
    server that cannot be asked now and then ends nothing either.
    """
    found = _wait_for_name(host, name, limit_seconds)
    try:
        _let_grow(found)
    except FileNotFoundError:  # somebody compresses the archive: it has another name now
        return wait_for_archive(host, name, limit_seconds)
    return found


def _wait_for_name(host: Host, name: str, limit_seconds: float | None) -> Path:
    patient = limit_seconds is None
    configured = host.settings.archive_wait_minutes * 60
    limit = configured if limit_seconds is None else limit_seconds
    archive = host.repository.wal
    began = moved = looked = time.monotonic()
    before = None if archived_path(archive, name) else _counts(host, patient)
    while (found := archived_path(archive, name)) is None:
        now = time.monotonic()
        if now - moved > limit or (not patient and now - began > max(limit, configured)):
            waited = limit if moved == began else now - began
            raise ArchivingBroken(
                f"{name} did not reach {archive} within {duration_for_people(waited)}; "
                f"{_archiver_words(host)}",
                program_command("doctor"),
            )
        if now - looked > LOOK_SECONDS:
            looked, after = now, _counts(host, patient)
            if not patient and before and after and after.failed > before.failed:
                if found := archived_path(archive, name):
                    return found
                raise ArchivingBroken(
                    f"archive_command fails, so {name} does not reach {archive}; {_archiver_words(host)}; "
                    "the server's log has what archive_command printed",
                    program_command("doctor"),
                )
            if before and after and after.archived > before.archived and _is_queued(host, name):
                moved, before = now, replace(before, archived=after.archived)
            before = before or after
        time.sleep(POLL_SECONDS)
    return found


def _is_queued(host: Host, name: str) -> bool:
    """Whether the server has a file ready for archiving; not where its folder cannot be looked into."""
    wal_directory = host.installation.data_directory / host.server.wal_directory
    return any(item.name == name for item in waiting_files(wal_directory) or ())


@dataclass(frozen=True)
class _Counts:
    """What the server's archiver has done since its counters began."""

    archived: int
    failed: int


def _counts(host: Host, patient: bool) -> _Counts | None:
    """None where the server cannot be asked and the caller is patient."""
    try:
        return _Counts(_archived(host), _failures(host))
    except ToolFailed:
        if not patient:
            raise
        return None


def _let_grow(path: Path) -> None:
    """Wait while a file is being written: `cp` as archive_command shows it from its first byte on.

    One that stays cut off is left to whoever reads it, who will say what is wrong with it.
    """
    size, since = -1, time.monotonic()
    while not _is_whole(path):
        if (now := path.stat().st_size) != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > STANDSTILL_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def _is_whole(path: Path) -> bool:
    """Whether a segment is complete; of any other file, whether it is not empty."""
    size = path.stat().st_size
    if not is_segment_name(path.name.removesuffix(ZST)):
        return size > 0
    try:
        stored = content_size(path) if path.suffix == ZST else size
        return stored == read_segment_header(path).segment_size
    except ValueError:
        return False


def watch_archiver(host: Host) -> Callable[[], None]:
    """A check for while the database is copied: raises ArchivingBroken when archiving fails for too long.

    That is when, for the whole limit, no file was archived although attempts failed or a file was waiting: an
    archive_command that hangs counts no failures. A server that cannot be asked now and then is no reason
    to give up a long copy.
    """
    limit = host.settings.archive_wait_minutes * 60
    wal_directory = host.installation.data_directory / host.server.wal_directory
    seen = {"archived": _archived(host), "failures": _failures(host), "at": time.monotonic()}

    def look() -> None:
        try:
            archived, failures = _archived(host), _failures(host)
        except ToolFailed:
            return
        now = time.monotonic()
        if archived != seen["archived"]:
            seen.update(archived=archived, failures=failures, at=now)
        stuck = now - seen["at"]
        if stuck > limit and (failures > seen["failures"] or _waiting_since(wal_directory, limit)):
            raise ArchivingBroken(
                f"no WAL segment was archived for {duration_for_people(stuck)} while the database was "
                f"copied: archive_command fails or hangs; {_archiver_words(host)}; the server's log has what "
                "it printed",
                program_command("doctor"),
            )

    return look


def _waiting_since(wal_directory: Path, limit_seconds: float) -> bool:
    """Whether a file has been ready for archiving for longer than that."""
    waiting = waiting_files(wal_directory) or ()
    return any((utc_now() - item.since).total_seconds() > limit_seconds for item in waiting)


def copy_from_archive(host: Host, name: str, target: Path) -> None:
    """Copy one archived file into a folder, uncompressed."""
    found = archived_path(host.repository.wal, name)
    if found is None:
        raise ArchivingBroken(f"{name} is not in {host.repository.wal}", program_command("wal-audit"))
    if found.suffix == ".zst":
        with open_folder(target) as folder:
            run(Command(("zstd", "-q", "-d", str(found), "-o", name), COPY_SECONDS, directory=folder))
    else:
        with reading(found) as source, creating(target / name) as copy:
            shutil.copyfileobj(source, copy)


def archive_file(host: Host, source: Path, *options: str) -> None:
    """Run archive-wal for a file that has its name already, as PostgreSQL's account. Raises ToolFailed.

    Its text is passed on, because that account may be unable to reach the program.
    """
    program = WAL_COMMANDS / "archive-wal"
    script = program.read_text(encoding="utf-8")
    argv = ("sh", "-c", script, program.name, *options, str(source), source.name, str(host.repository.wal))
    run(Command(argv, COPY_SECONDS, account=host.account))


def _failures(host: Host) -> int:
    return int(host.database.value("SELECT failed_count FROM pg_stat_archiver"))


def _archived(host: Host) -> int:
    return int(host.database.value("SELECT archived_count FROM pg_stat_archiver"))


def _archiver_words(host: Host) -> str:
    question = (
        "SELECT archived_count, last_archived_wal, failed_count, last_failed_wal, last_failed_time"
        " FROM pg_stat_archiver"
    )
    try:
        row = host.database.query(question)[0]
    except ToolFailed as failure:
        return f"the server cannot be asked why: {failure.tail or failure.message}"
    archived, last, failed, last_failed, when = row
    words = f"the server archived {archived} segments (last {last or 'none'}) and failed {failed} times"
    return f"{words} (last {last_failed} at {when})" if last_failed else words


# The history of the server's timeline, without which a base backup of a later timeline cannot be restored.
#
# PostgreSQL archives `0000000N.history` once, at the promotion. Where archiving was off then, or the archive
# was replaced since, it never gets there; the server's own folder has it.


def check_history(host: Host) -> str:
    """What preflight says of the timeline; archives its history. Raises as `provide_history`."""
    timeline = identify_system(host.database).timeline
    provide_history(host, timeline)
    return f"is {timeline}" + ("; its history is archived" if timeline > 1 else "")


def provide_history(host: Host, timeline: int) -> None:
    """Put the history of a timeline into the archive, from the data directory, where it is missing there.

    As PostgreSQL's account and by archive-wal, so that PostgreSQL may archive it at the same time. Raises
    ArchivingBroken with the command to repeat by hand.
    """
    name = f"{timeline:08X}.history"
    archive = host.repository.wal
    if timeline == 1 or archived_path(archive, name):
        return
    source = host.installation.data_directory / host.server.wal_directory / name
    try:
        archive_file(host, source)
    except ToolFailed as failure:
        raise ArchivingBroken(
            f"the history of the server's timeline {timeline}, {name}, is not in the archive, so that no "
            f"base backup of this timeline can be restored; archiving it failed: {failure.tail}",
            archive_command(host.account, source.parent, [name], archive),
        ) from failure
