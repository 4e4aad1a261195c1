"""The WAL archive as the backup needs it: proving that it works, waiting for a file, copying one out."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from alfresco_backup.errors import ArchivingBroken
from alfresco_backup.host import Host
from alfresco_backup.runner import Command, run
from alfresco_backup.stamps import duration_for_people

POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0
COPY_SECONDS = 600.0


def archived_path(archive: Path, name: str) -> Path | None:
    """Where a file lies in the archive, plain or compressed; None when it is not there."""
    for candidate in (archive / name, archive / f"{name}.zst"):
        if candidate.is_file():
            return candidate
    return None


def prove_archiving(host: Host, stamp: str, limit_seconds: float) -> str:
    """Write a restore point, switch the segment and wait for it in the archive; returns its name.

    The restore point comes first because switching an unwritten segment does nothing. Raises
    ArchivingBroken within the limit, at once when the server reports a failing archive_command.
    """
    database = host.superuser_database
    facts = host.server
    point = f"alfresco-backup {stamp}"
    name = database.value(f"SELECT {facts.lsn_file}(pg_create_restore_point('{point}'))")
    database.value(f"SELECT {facts.switch_wal}()")
    wait_for_archive(host, name, limit_seconds)
    return name


def wait_for_archive(host: Host, name: str, limit_seconds: float | None = None) -> Path:
    """Wait until a file is in the archive; returns its path. Raises ArchivingBroken."""
    limit = host.settings.archive_wait_minutes * 60 if limit_seconds is None else limit_seconds
    archive = host.repository.wal
    deadline = time.monotonic() + limit
    failures_before = _failures(host) if archived_path(archive, name) is None else 0
    look_again = time.monotonic() + LOOK_SECONDS
    while (found := archived_path(archive, name)) is None:
        now = time.monotonic()
        if now > deadline:
            raise ArchivingBroken(
                f"{name} did not reach {archive} within {duration_for_people(limit)}; "
                f"{_archiver_words(host)}",
                "psql -c 'SELECT * FROM pg_stat_archiver', and look at the server's log",
            )
        if now > look_again:
            look_again = now + LOOK_SECONDS
            if _failures(host) > failures_before and archived_path(archive, name) is None:
                raise ArchivingBroken(
                    f"archive_command fails, so {name} does not reach {archive}; {_archiver_words(host)}",
                    "look at the server's log for what archive_command printed",
                )
        time.sleep(POLL_SECONDS)
    return found


def watch_archiver(host: Host) -> Callable[[], None]:
    """A look for while the database is copied: raises ArchivingBroken when archiving fails for too long."""
    limit = host.settings.archive_wait_minutes * 60
    last_success = {"count": _archived(host), "at": time.monotonic(), "failures": _failures(host)}

    def look() -> None:
        archived, failures = _archived(host), _failures(host)
        if archived != last_success["count"]:
            last_success.update(count=archived, at=time.monotonic(), failures=failures)
        stuck = time.monotonic() - last_success["at"]
        if failures > last_success["failures"] and stuck > limit:
            raise ArchivingBroken(
                f"no WAL segment was archived for {duration_for_people(stuck)} while the database was "
                f"copied; {_archiver_words(host)}",
                "look at the server's log for what archive_command printed",
            )

    return look


def copy_from_archive(host: Host, name: str, target: Path) -> None:
    """Copy one archived file into a folder, uncompressed."""
    found = archived_path(host.repository.wal, name)
    if found is None:
        raise ArchivingBroken(f"{name} is not in {host.repository.wal}", "run the WAL audit")
    if found.suffix == ".zst":
        run(Command(("zstd", "-q", "-d", str(found), "-o", str(target / name)), COPY_SECONDS))
    else:
        shutil.copyfile(found, target / name)


def _failures(host: Host) -> int:
    return int(host.database.value("SELECT failed_count FROM pg_stat_archiver"))


def _archived(host: Host) -> int:
    return int(host.database.value("SELECT archived_count FROM pg_stat_archiver"))


def _archiver_words(host: Host) -> str:
    row = host.database.query(
        "SELECT archived_count, last_archived_wal, failed_count, last_failed_wal, last_failed_time"
        " FROM pg_stat_archiver"
    )[0]
    archived, last, failed, last_failed, when = row
    words = f"the server archived {archived} segments (last {last or 'none'}) and failed {failed} times"
    return f"{words} (last {last_failed} at {when})" if last_failed else words
