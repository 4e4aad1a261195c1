"""The history of the server's timeline, without which a base backup of a later timeline restores nowhere.

PostgreSQL archives `0000000N.history` once, at the promotion. Where archiving was off then, or the archive
began anew since, it is missing for good; the server's own folder has it.
"""

import shlex

from alfresco_backup.archive import archived_path
from alfresco_backup.database import identify_system
from alfresco_backup.errors import ArchivingBroken, ToolFailed
from alfresco_backup.host import Host
from alfresco_backup.preflight_files import WAL_COMMANDS
from alfresco_backup.runner import Command, run

ARCHIVE_SECONDS = 600.0


def check_history(host: Host) -> str:
    """What preflight says of the timeline; archives its history. Raises as `provide_history`."""
    timeline = identify_system(host.database).timeline
    provide_history(host, timeline)
    return f"is {timeline}" + ("; its history is archived" if timeline > 1 else "")


def provide_history(host: Host, timeline: int) -> None:
    """Put the history of a timeline into the archive, from the data directory, where it is missing there.

    As PostgreSQL's account and by archive-wal, so that PostgreSQL may archive it at the same time. Raises
    ArchivingBroken with the command that mends it.
    """
    name = f"{timeline:08X}.history"
    archive = host.repository.wal
    if timeline == 1 or archived_path(archive, name):
        return
    program = WAL_COMMANDS / "archive-wal"
    source = host.installation.data_directory / host.server.wal_directory / name
    places = (str(source), name, str(archive))
    # Its text is passed on, because PostgreSQL's account may be unable to reach the file.
    script = program.read_text(encoding="utf-8")
    argv = ("sh", "-c", script, program.name, *places)
    try:
        run(Command(argv, ARCHIVE_SECONDS, account=host.account))
    except ToolFailed as failure:
        raise ArchivingBroken(
            f"the history of the server's timeline {timeline}, {name}, is not in the archive, and archiving "
            f"it failed: {failure.tail}",
            f"as {host.account.name or host.account.uid}: {shlex.join((str(program), *places))}; where "
            f"{source.parent} has it no more, take it from an older archive",
        ) from failure
