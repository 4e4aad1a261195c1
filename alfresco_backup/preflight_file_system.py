"""Preflight of BACKUP_DIR's file system: whether it holds what backups are made of. Tried, not inferred."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from alfresco_backup.durable import fsync_directory
from alfresco_backup.host import Host
from alfresco_backup.preflight import Finding, error, ok, warning

PROBE = ".preflight-"
"""Beginning of the name of the folder it is tried in; readers of the repository skip names with a dot."""


def check_file_system(host: Host) -> list[Finding]:
    """Make links, odd names and a file of PostgreSQL's account in BACKUP_DIR, and remove them again.

    FAT and some network mounts have no links; NFS that squashes root gives no files away.
    """
    root = host.repository.root
    mend = f"use ext4, xfs or the like: findmnt --target {shlex.quote(str(root))}"
    try:
        with TemporaryDirectory(prefix=PROBE, dir=root) as place:
            problems = _try_all(host, Path(place), mend)
    except OSError as failure:
        what = f"a folder with a file in {root} cannot be made and removed: {failure.strerror}"
        return [error("file system", what, mend)]
    return problems or [ok("file system", f"{root} holds links and files of PostgreSQL's account")]


def _try_all(host: Host, place: Path, mend: str) -> list[Finding]:
    file = place / "file"
    file.write_text("content", encoding="utf-8")
    export = "export it with no_root_squash, or run the backup as the owner of the data directory"
    found = [
        _try(error, "symlinks, of which snapshots are made", mend, lambda: (place / "s").symlink_to("file")),
        _try(error, "flushing of folders to disk", mend, lambda: fsync_directory(place)),
        _try(error, "files of PostgreSQL's account", export, lambda: _give_away(host, file)),
        _try(
            warning,
            "hard links: every version of a day takes its full size",
            mend,
            lambda: (place / "h").hardlink_to(file),
        ),
        _try(
            warning,
            "file names of any bytes",
            mend,
            lambda: Path(os.fsdecode(bytes(place) + b"/\xff:\n?")).touch(),
        ),
    ]
    if (place / "FILE").exists():
        what = "BACKUP_DIR's takes names that differ in capitals only for the same file"
        found.append(warning("file system", what, mend))
    return [finding for finding in found if finding is not None]


def _try(
    level: Callable[[str, str, str], Finding], what: str, mend: str, step: Callable[[], object]
) -> Finding | None:
    try:
        step()
    except OSError as failure:
        return level("file system", f"BACKUP_DIR's has no {what} ({failure.strerror})", mend)
    return None


def _give_away(host: Host, file: Path) -> None:
    """As root, base backups are written by PostgreSQL's account into a folder given to it."""
    if os.geteuid() == 0 and host.installation.data_directory.exists():
        os.chown(file, host.account.uid, host.account.gid)
