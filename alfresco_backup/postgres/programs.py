"""PostgreSQL's programs on this host: in which folders they are, and their versions and that of the data."""

import logging
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import BackupError, HostNotReady, NotVerified, SettingsError, ToolFailed
from alfresco_backup.postgres.versions import (
    VersionFacts,
    facts_of,
    label_of,
    version_of_data_directory,
    version_of_program,
)
from alfresco_backup.settings.commands import edit_setting, install_postgresql_command
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.accounts import owner_of_program
from alfresco_backup.system.processes import Command, run

logger = logging.getLogger(__name__)
_VERSION_PROBE_SECONDS = 20.0


@dataclass(frozen=True)
class Programs:
    """A folder of PostgreSQL programs and the version its pg_basebackup or postgres states."""

    directory: Path
    version: int

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def has(self, name: str) -> bool:
        return os.access(self.directory / name, os.X_OK)


def find_programs(settings: Settings, needed: str) -> list[Programs]:
    """Folders with the program `needed`, best first: the setting, the installation's own, the system's.

    Raises SettingsError when PG_BINDIR has no program of PostgreSQL at all; some builds have servers' only.
    One that does not start, such as an old installation's whose libraries are gone, is passed over with a
    warning; where it is PG_BINDIR's or the only one, that is the error.
    """
    chosen = settings.pg_bindir
    if chosen and not any(os.access(chosen / name, os.X_OK) for name in (needed, "psql", "postgres")):
        raise SettingsError(
            [f"PG_BINDIR={chosen}: expected a folder with PostgreSQL's programs (psql, postgres)"],
            f"ls -d /usr/lib/postgresql/*/bin\n{edit_setting('PG_BINDIR')}  # or remove it",
        )
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_in_name, reverse=True)
    system += sorted(Path("/usr").glob("pgsql-*/bin"), key=_version_in_name, reverse=True)
    on_path = shutil.which(needed)
    candidates = [
        chosen,
        settings.alf_base_dir / "postgresql/bin",
        *system,
        Path(on_path).resolve().parent if on_path else None,
    ]
    folders = dict.fromkeys(path for path in candidates if path and os.access(path / needed, os.X_OK))
    found: list[Programs] = []
    failures: list[BackupError] = []
    for folder in folders:
        try:
            found.append(Programs(folder, _stated_version(folder / needed)))
        except (ToolFailed, HostNotReady) as failure:
            if folder == chosen:
                raise
            failures.append(failure)
            logger.warning("%s is passed over: %s", folder / needed, failure.message)
    if failures and not found:
        raise failures[0]
    return found


def program_of_version(settings: Settings, name: str, version: int) -> Programs:
    """The folder with a program of the same major version as `version`.

    Raises NotVerified naming those found.
    For programs that judge a backup: those of another version take what they do not know for damage.
    """
    facts = facts_of(version)
    label = facts.label.rpartition(".")[0]
    try:
        found = find_programs(settings, name)
    except (ToolFailed, HostNotReady) as failure:
        reason = failure.message
    else:
        for programs in found:
            if facts_of(programs.version).major == facts.major:
                return programs
        listed = ", ".join(f"{item.directory} ({label_of(item.version)})" for item in found) or "none"
        reason = f"there is no {name} of PostgreSQL {label} on this host; found: {listed}"
    raise NotVerified(reason, install_postgresql_command(label))


def _version_in_name(folder: Path) -> tuple[int, ...]:
    """`…/9.6/bin` → (9, 6), before (10,); what has no number in its name comes first."""
    return tuple(int(number) for number in re.findall(r"\d+", folder.parent.name))


def _stated_version(program: Path) -> int:
    command = Command((str(program), "--version"), _VERSION_PROBE_SECONDS, account=owner_of_program(program))
    return version_of_program(run(command, keep_output=True).output)


def data_directory_version(data_directory: Path) -> int:
    """The major version of a data directory, from its PG_VERSION. Raises HostNotReady."""
    try:
        return version_of_data_directory((data_directory / "PG_VERSION").read_text(encoding="ascii"))
    except OSError as error:
        raise HostNotReady(
            f"{data_directory} is not a PostgreSQL data directory that can be read: {error}",
            edit_setting("PG_DATA_DIR"),
        ) from error


def choose_client(server: VersionFacts, found: Iterable[Programs]) -> Programs:
    """The first pg_basebackup that works with the server. Raises HostNotReady naming those found."""
    programs = list(found)
    for candidate in programs:
        if server.client_suits(candidate.version):
            return candidate
    listed = ", ".join(f"{item.directory} ({label_of(item.version)})" for item in programs) or "none"
    needed = f"of version {server.label.rpartition('.')[0]}" if server.major < 100000 else "at least as new"
    raise HostNotReady(
        f"no pg_basebackup works with the server {server.label}; it must be {needed}; found: {listed}",
        f"{edit_setting('PG_BINDIR')}  # the bin folder of the server's own PostgreSQL",
    )
