"""Folders, WAL commands and the `.env` as they are. Looks as the server's account, changes nothing."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure_settings import ARCHIVE_WAL
from alfresco_backup.host import Host
from alfresco_backup.preflight import INSTALLED
from alfresco_backup.preflight_files import WAL_COMMANDS, account_can
from alfresco_backup.runner import Account
from alfresco_backup.settings_file import env_file_path

PROGRAMS = (ARCHIVE_WAL, "restore-wal")

Access = tuple[int, int, int]
"""Owner, group and mode."""


@dataclass(frozen=True)
class PlacesSeen:
    """Folders and files as they are; None for what is not there.

    `unmounted`: a mount point of /etc/fstab on the way to BACKUP_DIR where nothing is mounted. `closed`:
    folders above BACKUP_DIR that the server's account cannot pass. `programs`: for each WAL command in
    `folder` None, or whether it is this project's. `folder_open`: it can be passed to.
    """

    root: Path
    root_access: Access | None
    parent_exists: bool
    unmounted: str
    closed: tuple[Path, ...]
    root_open: bool
    archive: Path
    archive_access: Access | None
    archive_writable: bool
    env_file: Path
    env_access: Access
    env_lines: tuple[str, ...]
    folder: Path
    folder_exists: bool
    folder_parent_exists: bool
    folder_open: bool
    programs: dict[str, bool | None]
    me: Access
    account: Account


def observe_places(host: Host, folder: Path) -> PlacesSeen:
    """Look; starts `test` as the server's account, changes nothing."""
    root, archive, env_file = host.repository.root, host.repository.wal, env_file_path()
    there = root.is_dir()
    usable = there and account_can(host.account, "-x", root)
    above = (item for item in root.parents if item.is_dir())
    return PlacesSeen(
        root=root,
        root_access=access_of(root),
        parent_exists=root.parent.is_dir(),
        unmounted=_unmounted(root),
        closed=tuple(item for item in above if not account_can(host.account, "-x", item)),
        root_open=usable,
        archive=archive,
        archive_access=access_of(archive),
        archive_writable=usable
        and archive.is_dir()
        and all(account_can(host.account, flag, archive) for flag in ("-w", "-x")),
        env_file=env_file,
        env_access=access_of(env_file) or (0, 0, 0),
        env_lines=tuple(env_file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")),
        folder=folder,
        folder_exists=folder.is_dir(),
        folder_parent_exists=folder.parent.is_dir(),
        folder_open=account_can(host.account, "-x", next(p for p in (folder, *folder.parents) if p.is_dir())),
        programs={name: _is_ours(folder / name) for name in PROGRAMS},
        me=(os.geteuid(), os.getegid(), 0),
        account=host.account,
    )


def folder_of_commands(host: Host, given: Path | None, running: Path | None) -> Path:
    """Where the WAL commands are or go: as asked, where archive_command runs them, else the usual place.

    An ordinary account cannot write there; it is the server's own, which can run them in the project.
    """
    if given:
        return given
    if running:
        return running.parent
    return Path(INSTALLED) if os.geteuid() == 0 else WAL_COMMANDS


def access_of(path: Path) -> Access | None:
    """Owner, group and mode of what a path leads to; None where nothing is."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def _is_ours(program: Path) -> bool | None:
    try:
        same = program.read_bytes() == (WAL_COMMANDS / program.name).read_bytes()
        return same and os.access(program, os.X_OK)
    except FileNotFoundError:
        return None


def _unmounted(path: Path) -> str:
    """What /etc/fstab would mount at or above a path, where nothing is mounted now."""
    try:
        lines = Path("/etc/fstab").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    points = [Path(item[1].replace("\\040", " ")) for item in fields if len(item) > 2 and item[1] != "/"]
    return next((str(item) for item in points if path.is_relative_to(item) and not item.is_mount()), "")
