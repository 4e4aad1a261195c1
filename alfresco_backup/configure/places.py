"""Folders, WAL commands and the `.env`: as they are, and what to change. Changes nothing."""

import os
import pwd
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure.changes import (
    AccessChange,
    Change,
    FolderChange,
    InstallChange,
    LinesChange,
)
from alfresco_backup.findings import Finding, warning
from alfresco_backup.host.host import Host
from alfresco_backup.preflight.files import account_can
from alfresco_backup.preflight.rules import WRITABLE_BY_OTHERS
from alfresco_backup.settings.commands import configure_command, edit_setting
from alfresco_backup.settings.env_file import READABLE_BY_ALL, env_file_path
from alfresco_backup.settings.model import WAL_COMMANDS
from alfresco_backup.system.accounts import Account, account_for_people
from alfresco_backup.wal.archive_command import ARCHIVE_WAL, INSTALLED, RESTORE_WAL, is_current

Access = tuple[int, int, int]
"""Owner, group and mode."""


@dataclass(frozen=True)
class PlacesState:
    """Folders and files as they are; None for what is not there.

    `unmounted`: a mount point of /etc/fstab on the way to BACKUP_DIR where nothing is mounted. `closed`:
    folders above BACKUP_DIR that the server's account cannot enter. `programs`: for each WAL command in
    `folder` None, or whether it is this version's. `folder_open`: the account gets there.
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


def inspect_places(host: Host, folder: Path) -> PlacesState:
    """Inspect them; starts `test` as the server's account, changes nothing."""
    root, archive, env_file = host.repository.root, host.repository.wal, env_file_path()
    there = root.is_dir()
    usable = there and account_can(host.account, "-x", root)
    above = (item for item in root.parents if item.is_dir())
    return PlacesState(
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
        programs={name: is_current(folder / name) for name in (ARCHIVE_WAL, RESTORE_WAL)},
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
    return INSTALLED if os.geteuid() == 0 else WAL_COMMANDS


def access_of(path: Path) -> Access | None:
    """Owner, group and mode of what a path leads to; None where nothing is."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def _unmounted(path: Path) -> str:
    """What /etc/fstab would mount at or above a path, where nothing is mounted now."""
    try:
        lines = Path("/etc/fstab").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    points = [Path(item[1].replace("\\040", " ")) for item in fields if len(item) > 2 and item[1] != "/"]
    return next((str(item) for item in points if path.is_relative_to(item) and not item.is_mount()), "")


# What `configure` changes about folders, WAL commands and the `.env`. Pure.

PROGRAM_MODE = 0o755
_SUPERUSER_LINE = re.compile(r"\s*(export\s+)?PGSUPERUSER\s*=", re.IGNORECASE)
_COMMENTED = re.compile(r"\s*#\s*PGSUPERUSER\s*=", re.IGNORECASE)


def plan_places(seen: PlacesState) -> tuple[list[Change], list[Finding]]:
    """BACKUP_DIR first, since the copies of what is changed are kept in it; then the rest."""
    changes: list[Change] = []
    left: list[Finding] = []
    _plan_root(seen, changes, left)
    uid, gid, mode = seen.env_access
    if mode & READABLE_BY_ALL:
        reason = "it contains passwords"
        changes.append(_access(str(seen.env_file), seen.env_access, (uid, gid, 0o600), ".env", reason))
    _plan_archive(seen, changes)
    _plan_commands(seen, changes, left)
    mine = _only_mine(seen, changes)
    left += [
        warning(
            item.subject,
            f"{item.old}; only root can change that",
            f"{configure_command('--apply')}  # run it as root",
        )
        for item in changes
        if item not in mine
    ]
    return mine, left


def _plan_root(seen: PlacesState, changes: list[Change], left: list[Finding]) -> None:
    if seen.closed:
        folders = shlex.join(map(str, seen.closed))
        what = f"PostgreSQL's account cannot enter {folders}, on the way to {seen.root}"
        left.append(warning("BACKUP_DIR", what, f"chmod o+x {folders}\n{edit_setting('BACKUP_DIR')}  # else"))
    if seen.unmounted:
        mount = f"mount {shlex.quote(seen.unmounted)}"
        left.append(warning("BACKUP_DIR", f"{seen.unmounted} of /etc/fstab is not mounted", mount))
    elif seen.root_access is None and not seen.parent_exists:
        what = f"{seen.root} does not exist, nor does the folder above it"
        fix = f"mount {shlex.quote(str(seen.root.parent))}\n{edit_setting('BACKUP_DIR')}  # else"
        left.append(warning("BACKUP_DIR", what, fix))
    elif seen.root_access is None:
        uid, gid, _ = seen.me
        reason = "backups are stored in it; nothing in /etc/fstab is to be mounted there"
        changes.append(
            FolderChange(
                "BACKUP_DIR",
                "does not exist",
                f"{seen.root}, mode 0755",
                reason,
                str(seen.root),
                uid,
                gid,
                0o755,
            )
        )
    else:
        uid, gid, mode = seen.root_access
        wanted = mode & ~WRITABLE_BY_OTHERS
        if not (seen.root_open or seen.closed):
            wanted |= 0o011
        if wanted != mode:
            reason = "PostgreSQL's account must enter it, and no other account may change backups"
            changes.append(
                _access(str(seen.root), seen.root_access, (uid, gid, wanted), "BACKUP_DIR", reason)
            )


def _plan_commands(seen: PlacesState, changes: list[Change], left: list[Finding]) -> None:
    folder = seen.folder
    if not seen.folder_open or not (seen.folder_exists or seen.folder_parent_exists):
        what = "has no folder above it" if seen.folder_open else "cannot be entered by PostgreSQL's account"
        fix = f"{configure_command('--apply')} --wal-commands ..."
        left.append(warning("WAL commands", f"{folder} {what}; the commands could not be run there", fix))
        return
    reason = "PostgreSQL's account runs the WAL commands there"
    if not seen.folder_exists:
        new = f"{folder}, mode 0755"
        changes.append(
            FolderChange("WAL commands", "no folder", new, reason, str(folder), *seen.me[:2], 0o755)
        )
    for name, ours in seen.programs.items():
        path, source = str(folder / name), str(WAL_COMMANDS / name)
        old = "missing" if ours is None else "of another version"
        if not ours:
            new = f"this version, mode {PROGRAM_MODE:04o}"
            changes.append(InstallChange(path, old, new, reason, path, source, ours is not None))


def _plan_archive(seen: PlacesState, changes: list[Change]) -> None:
    account, path = seen.account, str(seen.archive)
    reason = "PostgreSQL's account archives WAL there"
    owner = account_for_people(account)
    if seen.archive_access is None:
        new = f"{path}, {owner}, mode 0750"
        changes.append(
            FolderChange("WAL archive", "does not exist", new, reason, path, account.uid, account.gid, 0o750)
        )
    elif not seen.archive_writable:
        wanted = (account.uid, account.gid, seen.archive_access[2] | 0o700)
        if wanted != seen.archive_access:
            changes.append(_access(path, seen.archive_access, wanted, "WAL archive", reason))


def _only_mine(seen: PlacesState, changes: list[Change]) -> list[Change]:
    """What this account may do: root everything, another only what is its own."""
    if seen.me[0] == 0:
        return changes
    return [
        item
        for item in changes
        if not isinstance(item, AccessChange) or item.before[0] == item.after[0] == seen.me[0]
    ]


def _access(path: str, before: Access, after: Access, subject: str, reason: str) -> AccessChange:
    return AccessChange(
        subject, f"{path}: {access_words(before)}", access_words(after), reason, path, before, after
    )


def access_words(access: Access) -> str:
    """`postgres:postgres, mode 0750`."""
    uid, gid, mode = access
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return f"{account_for_people(Account(uid, gid, name))}, mode {mode:04o}"


def plan_env_superuser(seen: PlacesState, old: str, new: str) -> LinesChange:
    """The line of the `.env` that names the role for restore points and segment switches."""
    value = (
        new
        if re.fullmatch(r"[A-Za-z0-9_.-]+", new)
        else "'" + new.replace("\\", "\\\\").replace("'", "\\'") + "'"
    )
    lines = seen.env_lines
    set_at = [index for index, line in enumerate(lines) if _SUPERUSER_LINE.match(line)]
    commented = [index for index, line in enumerate(lines) if _COMMENTED.match(line)]
    reason = f"{old} cannot connect with the .env; {new} gets the rights that are needed"
    end = len(lines) - 1 if lines and not lines[-1] else len(lines)  # before the empty end of the last line
    position = set_at[-1] if set_at else (commented[-1] + 1 if commented else end)
    removed = (lines[position],) if set_at else ()
    return LinesChange(
        ".env",
        f"PGSUPERUSER {old}",
        f"PGSUPERUSER={value}",
        reason,
        str(seen.env_file),
        position,
        removed,
        (f"PGSUPERUSER={value}",),
    )
