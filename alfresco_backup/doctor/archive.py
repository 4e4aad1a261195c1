"""Doctor's checks of PostgreSQL: the preflight's, and whether archive_command is as it should be."""

from pathlib import Path

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.host import Host, Run
from alfresco_backup.preflight.database import check_archiving, check_database
from alfresco_backup.preflight.files import account_can
from alfresco_backup.settings.commands import configure_command
from alfresco_backup.streaming.receiver import receiver_program
from alfresco_backup.streaming.slot import read_slot, slot_name
from alfresco_backup.times import make_stamp
from alfresco_backup.wal.archive_command import (
    ARCHIVE_WAL,
    RESTORE_WAL,
    check_server_finds,
    is_current,
    parse_archive_command,
)


def check_postgresql(context: CheckContext) -> list[Finding]:
    """All that the preflight finds, archiving included: it is tried where nothing else is wrong.

    So archive_command is never called good because of what this process sees at its path.
    """
    host = context.host
    found = check_database(host)
    command = next((item for item in found if item.subject == "archive_command"), None)
    if command and command.level == "ok":
        found += check_wal_commands(host, command.sentence.removeprefix("is "))
    if not any(item.level == "error" for item in found):
        found += check_archiving(Run(host, make_stamp(context.now), host.repository.logs / "doctor.log"))
    return found


def check_streaming(context: CheckContext) -> list[Finding]:
    """WAL streaming, where it is wanted: a program that works with the server, the slot, what limits it."""
    host = context.host
    if not host.settings.wal_streaming:
        left = read_slot(host)
        what = f"{slot_name(host.name)} keeps WAL that nobody receives: WAL_STREAMING is no"
        return [error("replication slot", what, configure_command("--apply"))] if left else []
    noted = context.facts.streaming.findings if context.facts.streaming else ()
    found = [item for item in noted if item.level == "ok"]  # the others are among the backups' findings
    program = receiver_program(host)
    found.append(ok("pg_receivewal", f"is that of {program.directory}"))
    slot = read_slot(host)
    if slot and not slot.limited:
        what = "nothing limits the WAL it keeps; the disk guard drops it before the server's disk is full"
        found.append(ok("replication slot", what))
    return found


def check_wal_commands(host: Host, command: str) -> list[Finding]:
    """Whether archive_command runs this project's archive-wal, for this archive."""
    parsed = parse_archive_command(command)
    replace = configure_command("--apply", "--replace-archive-command")
    if parsed is None:
        what = f"{command} is not {ARCHIVE_WAL}; whether it flushes to disk and never overwrites is not known"
        return [warning("WAL commands", what, replace)]
    folder = parsed.program.parent
    install = configure_command("--apply", "--wal-commands", str(folder))
    if not account_can(host.account, "-x", parsed.program):
        what = f"{parsed.program} of archive_command is missing, or PostgreSQL's account cannot run it"
        return [error("WAL commands", what, install)]
    unseen = check_server_finds(host.superuser_database, parsed.program)
    found = [unseen] if unseen else []
    archive = parsed.archive
    if archive is None or archive.resolve() != host.repository.wal.resolve():
        what = f"archive_command fills {archive or 'no folder'}, not the archive {host.repository.wal}"
        found.append(error("WAL commands", what, replace))
    for name in (ARCHIVE_WAL, RESTORE_WAL):
        if not _current(folder / name):
            what = f"{folder / name} is missing or not that of this version of the software"
            found.append(warning("WAL commands", what, install))
    return found or [ok("WAL commands", f"are installed in {folder}")]


def _current(program: Path) -> bool:
    """One that this account cannot read is taken to be."""
    try:
        return bool(is_current(program))
    except OSError:
        return True
