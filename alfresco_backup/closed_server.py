"""A restored server that lets in nobody but the restore itself, until everything is in its place. Pure.

Alfresco connects by TCP, where everybody is rejected. The restore comes through the Unix socket, as the
operating system account that owns the data directory and could read all of it anyway; to one database, as
one role, so that jobs of that account with other roles stay outside.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLOSED_HBA = "pg_hba.restoring.conf"
CLOSED_IDENT = "pg_ident.restoring.conf"
CLOSED_FILES = (CLOSED_HBA, CLOSED_IDENT)
MAP = "restoring"
HEAD = """\
# Written by a restore: nobody else is let in before everything is restored. It then removes this file, and
# its part of postgresql.auto.conf, which names it.
"""
REJECTION = "local all all reject\nhost all all all reject\n"
_EXPRESSIBLE = re.compile(r'[^"\0\r\n]+')
_PORT, _SOCKETS = 3, 4


@dataclass(frozen=True)
class Visitor:
    """Who is let in: an account of this machine, as a role, to a database.

    Nobody is where a name is empty or cannot be written into pg_hba.conf, which knows no quotes within names.
    """

    account: str
    role: str
    database: str

    @property
    def expressible(self) -> bool:
        return all(_EXPRESSIBLE.fullmatch(name) for name in (self.account, self.role, self.database))


def closing_files(visitor: Visitor) -> Mapping[str, str]:
    """The files of access to write into the data directory, by name."""
    if not visitor.expressible:
        return {CLOSED_HBA: HEAD + REJECTION, CLOSED_IDENT: HEAD}
    way_in = f'local "{visitor.database}" "{visitor.role}" peer map={MAP}\n'
    who = f'{MAP} "{visitor.account}" "{visitor.role}"\n'
    return {CLOSED_HBA: HEAD + way_in + REJECTION, CLOSED_IDENT: HEAD + who}


def closing_settings(data_directory: Path) -> Mapping[str, str]:
    """The settings that name these files."""
    return {
        "hba_file": str(data_directory / CLOSED_HBA),
        "ident_file": str(data_directory / CLOSED_IDENT),
    }


def socket_of(pid_file: str, data_directory: Path) -> tuple[Path, str] | None:
    """The folder of a server's first Unix socket and its port, from the text of its postmaster.pid.

    None where it has no socket. The folder may be given relative to the data directory.
    """
    lines = pid_file.splitlines()
    if len(lines) <= _SOCKETS or not lines[_SOCKETS].strip():
        return None
    return data_directory / lines[_SOCKETS].strip(), lines[_PORT].strip()
