"""Doctor's look at PostgreSQL: the preflight's checks, and whether archive_command is as it should be."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.host import Host, Run
from alfresco_backup.preflight.database import check_archiving, check_database
from alfresco_backup.preflight.files import account_can, how_to_archive
from alfresco_backup.settings.model import WAL_COMMANDS
from alfresco_backup.times import make_stamp

ARCHIVE, RESTORE = "archive-wal", "restore-wal"
CONFIGURE = "python -m alfresco_backup configure"
NEED_RESTART = ("wal_level", "archive_mode", "max_wal_senders")
CONFIGURED = (
    *NEED_RESTART,
    "archive_command",
    "archive_timeout",
    "replication",
    "WAL archive",
    "WAL commands",
)


@dataclass(frozen=True)
class ArchiveCommand:
    """archive_command taken apart: the program, and the folder it is told to archive to."""

    program: Path
    archive: Path | None


def parse_archive_command(command: str) -> ArchiveCommand | None:
    """The archive-wal in a command; None where another program archives."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for index, word in enumerate(words):
        if Path(word).name == ARCHIVE:
            behind = [item for item in words[index + 1 :] if not item.startswith("--")]
            return ArchiveCommand(Path(word), Path(behind[2]) if len(behind) > 2 else None)
    return None


def check_postgresql(context: CheckContext) -> list[Finding]:
    """All that the preflight finds. Archiving is proven only where that was asked for: it writes WAL."""
    host = context.host
    found = check_database(host)
    command = next((item for item in found if item.subject == "archive_command"), None)
    if command and command.level == "ok":
        found += check_wal_commands(host, command.sentence.removeprefix("is "))
    if context.prove_archiving and not any(item.level == "error" for item in found):
        found += check_archiving(Run(host, make_stamp(context.now), host.repository.logs / "doctor.log"))
    return [_with_configure(item) for item in found]


def _with_configure(finding: Finding) -> Finding:
    """The command that does it by itself, in a line of its own, where there is one."""
    if finding.level == "ok" or finding.subject not in CONFIGURED:
        return finding
    restart = " --restart" if finding.subject in NEED_RESTART else ""
    return replace(finding, fix=f"{finding.fix}\nor: {CONFIGURE} --apply{restart}")


def check_wal_commands(host: Host, command: str) -> list[Finding]:
    """Whether archive_command runs this project's archive-wal, for this archive."""
    parsed = parse_archive_command(command)
    fix = how_to_archive(host).fix
    if parsed is None:
        what = f"{command} is not {ARCHIVE}: whether it flushes to disk and never overwrites is not known"
        return [warning("WAL commands", what, fix)]
    install = _install(parsed.program.parent)
    if not account_can(host.account, "-x", parsed.program):
        what = f"{parsed.program} of archive_command is not there, or PostgreSQL's account cannot run it"
        return [error("WAL commands", what, install)]
    found = []
    archive = parsed.archive
    if archive is None or archive.resolve() != host.repository.wal.resolve():
        what = f"archive_command fills {archive or 'no folder'}, not the archive {host.repository.wal}"
        found.append(error("WAL commands", what, fix))
    for name in (ARCHIVE, RESTORE):
        stale = _stale(parsed.program.with_name(name), WAL_COMMANDS / name)
        found += [warning("WAL commands", stale, install)] if stale else []
    return found or [ok("WAL commands", f"are installed in {parsed.program.parent}")]


def _stale(installed: Path, shipped: Path) -> str:
    """Why an installed command is not the one of this version; empty where it is, or cannot be compared."""
    try:
        if installed.read_bytes() == shipped.read_bytes():
            return ""
    except FileNotFoundError:
        return f"{installed} is missing"
    except OSError:
        return ""
    return f"{installed} is not that of this version of the software"


def _install(folder: Path) -> str:
    programs = shlex.join(str(WAL_COMMANDS / name) for name in (ARCHIVE, RESTORE))
    return f"install -D -m 755 {programs} -t {shlex.quote(str(folder))}"
