"""archive_command: the line that runs this project's archive-wal, built and parsed; the programs it runs."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import ToolFailed
from alfresco_backup.findings import Finding, error
from alfresco_backup.postgres.database import Database, quoted_literal
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.settings.commands import configure_command
from alfresco_backup.settings.model import WAL_COMMANDS

ARCHIVE_WAL, RESTORE_WAL = "archive-wal", "restore-wal"
INSTALLED = Path("/usr/local/lib/alfresco-backup")
"""Where `configure` puts the WAL commands; PostgreSQL's account may be unable to enter the project."""


@dataclass(frozen=True)
class ArchiveCommand:
    """The archive-wal that is run, and the folder it archives to; None where the command names none."""

    program: Path
    archive: Path | None

    @property
    def text(self) -> str:
        """Quoted for the shell; a `%` in a path is doubled, as PostgreSQL wants it."""
        program, archive = (
            shlex.quote(str(path)).replace("%", "%%") for path in (self.program, self.archive)
        )
        return f'{program} --zstd "%p" "%f" {archive}'


def parse_archive_command(command: str) -> ArchiveCommand | None:
    """The archive-wal in a command, also one among others; None where another program archives."""
    try:
        words = [word.replace("%%", "%") for word in shlex.split(command)]
    except ValueError:
        return None
    for index, word in enumerate(words):
        if Path(word).name == ARCHIVE_WAL:
            behind = [item for item in words[index + 1 :] if not item.startswith("--")]
            return ArchiveCommand(Path(word), Path(behind[2]) if len(behind) > 2 else None)
    return None


def is_current(program: Path) -> bool | None:
    """Whether an installed WAL command is this version's and can be run; None where it is missing.

    Raises OSError where this account cannot read it.
    """
    try:
        same = program.read_bytes() == (WAL_COMMANDS / program.name).read_bytes()
    except FileNotFoundError:
        return None
    return same and os.access(program, os.X_OK)


def check_server_finds(superuser: Database, program: Path) -> Finding | None:
    """An error where the server itself does not find the program of its archive_command; None otherwise.

    A server in a container, or under an account that a folder is closed to, has another view of the same path
    than this process: archive_command fails with 127 there, which pg_stat_archiver does not count. Only a
    superuser is certain to be answered, and from 11 on; else nothing is learnt, and None is no proof.
    """
    question = (
        "SELECT rolsuper, current_setting('server_version_num') FROM pg_roles WHERE rolname = current_user"
    )
    may_ask, version = superuser.query(question)[0]
    if may_ask != "t" or not facts_of(int(version)).stats_any_file:
        return None
    try:
        superuser.value(f"SELECT size FROM pg_stat_file({quoted_literal(str(program))})")
    except ToolFailed as failure:
        what = (
            f"archive_command runs {program}, which the server does not find, though it may be here: "
            f"{failure.tail or failure.message}"
        )
        place = f"{configure_command('--apply', '--wal-commands', str(program.parent))}  # or a folder"
        return error("WAL commands", what, f"{place} that the server, or its container, has at the same path")
    return None
