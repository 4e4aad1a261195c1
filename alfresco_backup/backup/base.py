"""What a base backup is made with and judged by. Pure, but for asking what client and server can do.

Base backups are made without WAL (`-X none`, the default before 10); the segments from start to stop
are then taken from the archive. `-X fetch` fails on a busy server whose segments are recycled before
the copy ends, `-X stream` is refused with tar by 9.4, and both return without waiting for the
archive, which point-in-time recovery needs anyway. A server that ends a backup without WAL waits for its
own archiver.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.accounts import owner_of_program
from alfresco_backup.system.processes import Command, run

Compression = Literal["client-zstd", "server-zstd", "pipe", "afterwards"]
MAIN_TAR = "base.tar"
WAL_TAR = "pg_wal.tar.zst"
NEEDED_MEMBERS = ("backup_label", "PG_VERSION", "global/pg_control")
_ARCHIVED_ONLY = ("pg_wal/", "pg_xlog/")


@dataclass(frozen=True)
class BaseBackupMethod:
    """How one base backup is made: with whose programs, where zstd runs, with how many workers (0: none)."""

    programs: Programs
    server: VersionFacts
    compression: Compression
    level: int
    workers: int
    max_rate_kib: int = 0

    def argv(self, target: Path, label: str) -> tuple[str, ...]:
        """pg_basebackup's arguments; with a pipe the tar goes to standard output."""
        client = facts_of(self.programs.version)
        destination = "-" if self.compression == "pipe" else str(target)
        rate = (f"--max-rate={self.max_rate_kib}k",) if self.max_rate_kib else ()
        return (
            self.programs.path("pg_basebackup"),
            *("-D", destination, "-Ft", *client.without_wal, *client.without_sync, "--checkpoint=fast"),
            *("-l", label, "-P", "-v", "-w", *rate, *self._compress_option()),
        )

    def _compress_option(self) -> tuple[str, ...]:
        if self.compression in ("pipe", "afterwards"):
            return ()
        workers = f",workers={self.workers}" if self.workers else ""
        return (f"--compress={self.compression}:level={self.level}{workers}",)


def choose_compression(
    server: VersionFacts, *, client_zstd: bool, server_zstd: bool, tablespaces: bool
) -> Compression:
    """Where zstd runs. Builds differ, so both flags must come from asking, not from the version.

    Tablespaces cannot go through a pipe: pg_basebackup writes only a single tar to standard output.
    """
    if server.backup_compression and client_zstd:
        return "client-zstd"
    if server.backup_compression and server_zstd:
        return "server-zstd"
    return "afterwards" if tablespaces else "pipe"


def judge_tablespaces(tars: set[str], expected: Iterable[Tablespace]) -> None:
    """Raise BackupUnsound unless there is a tar for each tablespace, by its oid, and for nothing else."""
    known = {str(space.oid): f"{space.name} in {space.location}" for space in expected}
    missing = [known[oid] for oid in sorted(known.keys() - tars)]
    added = sorted(tars - known.keys())
    if missing or added:
        what = [f"no tar of tablespace {name}" for name in missing]
        what += [f"a tar of tablespace {oid}, which was made meanwhile" for oid in added]
        raise BackupUnsound(f"the base backup has {' and '.join(what)}", program_command("backup"))


def judge_members(members: Mapping[str, int], manifest: Mapping[str, int] | None) -> None:
    """Raise BackupUnsound unless a restore finds what it needs in the tars.

    `members` are all tars' files with sizes, tablespaces below `pg_tblspc/<oid>/`; `manifest` the
    sizes in its own manifest (13 and later). A 9.4 server that meets a file it cannot read leaves a
    valid, large tar without global/pg_control: size and exit code prove nothing (measured).
    """
    lacking = [name for name in NEEDED_MEMBERS if not members.get(name)]
    if lacking:
        raise BackupUnsound(
            f"the base backup lacks {', '.join(lacking)}; it cannot be restored and is not published; there "
            "may be files in the data directory that the server cannot read",
            program_command("backup"),
        )
    if manifest is None:
        return
    wrong = [
        f"{name} ({members.get(name, 'missing')}, manifest says {size})"
        for name, size in manifest.items()
        if members.get(name) != size and not name.startswith(_ARCHIVED_ONLY)
    ]
    if wrong:
        raise BackupUnsound(
            f"{len(wrong)} files of the base backup differ from its manifest: {', '.join(wrong[:5])}; if it "
            "happens again, the disk of BACKUP_DIR may be failing",
            program_command("backup"),
        )


def manifest_sizes(document: Mapping[str, object]) -> dict[str, int]:
    """Path → size of the files a backup_manifest lists. Encoded paths (non UTF-8 names) are decoded."""
    files = document.get("Files")
    if not isinstance(files, list):
        raise BackupUnsound("backup_manifest lists no files", program_command("backup"))
    sizes = {}
    for item in files:
        encoded = item.get("Encoded-Path")
        path = bytes.fromhex(encoded).decode("utf-8", "surrogateescape") if encoded else str(item["Path"])
        sizes[path] = int(item["Size"])
    return sizes


CHECKSUM_ERROR = 1
"""Exit code of a pg_basebackup that met pages with wrong checksums but copied everything, among others."""
_CHECKSUM_ERROR = re.compile(r"^pg_basebackup: (error: )?checksum error occurred$", re.MULTILINE)
_DATA_FILE = re.compile(
    r"(?:base/\d+|global|pg_tblspc/\d+/PG_[^/\s]+/\d+)/\d+(?:_[a-z]+)?(?:\.\d+)?(?![\w/])"
)


def copied_with_wrong_checksums(tail: str) -> bool:
    """Whether a pg_basebackup (11 and later) that failed says that it has copied everything.

    The server verifies checksums as it sends pages, sends those that are wrong too, and complains at the end.
    """
    return _CHECKSUM_ERROR.search(tail) is not None


def damaged_file(line: str) -> str:
    """The data file that a server's warning about a wrong checksum names; empty for other lines.

    Only the path is looked for: the words are in the server's language.
    """
    found = None if parse_progress(line) else _DATA_FILE.search(line)
    return found[0] if found else ""


_NO_WORKERS = re.compile(r"could not set compression worker count to \d+")


def refuses_workers(tail: str) -> bool:
    """Whether a pg_basebackup (15 and later) that failed says that its zstd was built without threads.

    It is known only when compressing was tried. A server says it in its own language.
    """
    return _NO_WORKERS.search(tail) is not None


_PROGRESS = re.compile(r"(\d+)/(\d+) kB \((\d+)%\)")


def parse_progress(line: str) -> tuple[int, int] | None:
    """(bytes done, bytes in all) from a progress line of `pg_basebackup -P`; None for other lines."""
    found = _PROGRESS.search(line)
    return (int(found[1]) * 1024, int(found[2]) * 1024) if found else None


# How a base backup is made: client and server are asked what they can do.

ASK_SECONDS = 30.0


def choose_method(host: Host, tablespaces: bool) -> BaseBackupMethod:
    """Ask client and server what they can do and choose how the copy is made."""
    programs = host.backup_client()
    server = host.server
    settings = host.settings
    client_zstd = server.backup_compression and client_has_zstd(programs)
    server_zstd = server.backup_compression and not client_zstd and server_has_zstd(host)
    compression = choose_compression(
        server, client_zstd=client_zstd, server_zstd=server_zstd, tablespaces=tablespaces
    )
    return BaseBackupMethod(
        programs,
        server,
        compression,
        settings.zstd_level,
        settings.parallel_copies,
        int(settings.bandwidth_limit_mib * 1024),
    )


def client_has_zstd(programs: Programs) -> bool:
    """Whether pg_basebackup was built with zstd, by its own pg_config; no where there is none."""
    if not programs.has("pg_config"):
        return False
    program = Path(programs.path("pg_config"))
    command = Command((str(program), "--configure"), ASK_SECONDS, account=owner_of_program(program))
    return "--with-zstd" in run(command, keep_output=True).output


def server_has_zstd(host: Host) -> bool:
    """Whether the server was built with zstd, by its view pg_config; no where that may not be read."""
    if host.superuser_database.value("SELECT has_table_privilege('pg_config', 'SELECT')") != "t":
        return False
    question = "SELECT setting FROM pg_config WHERE name = 'CONFIGURE'"
    return "--with-zstd" in host.superuser_database.value(question)
