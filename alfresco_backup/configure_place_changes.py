"""What `configure` changes about folders, WAL commands and the `.env`. Pure."""

import pwd
import re

from alfresco_backup.accounts import account_for_people
from alfresco_backup.configure_places import Access, PlacesSeen
from alfresco_backup.configure_records import (
    AccessChange,
    Change,
    FolderChange,
    InstallChange,
    Left,
    LinesChange,
)
from alfresco_backup.hba import end_of
from alfresco_backup.preflight import WRITABLE_BY_OTHERS
from alfresco_backup.preflight_files import WAL_COMMANDS
from alfresco_backup.runner import Account

PROGRAM_MODE = 0o755
_SUPERUSER_LINE = re.compile(r"\s*(export\s+)?PGSUPERUSER\s*=", re.IGNORECASE)
_COMMENTED = re.compile(r"\s*#\s*PGSUPERUSER\s*=", re.IGNORECASE)


def plan_places(seen: PlacesSeen) -> tuple[list[Change], list[Left]]:
    """BACKUP_DIR first, since the copies of what is changed are kept in it; then the rest."""
    changes: list[Change] = []
    left: list[Left] = []
    _plan_root(seen, changes, left)
    uid, gid, mode = seen.env_access
    if mode & 0o077:
        reason = "it holds passwords"
        changes.append(_access(str(seen.env_file), seen.env_access, (uid, gid, 0o600), ".env", reason))
    _plan_archive(seen, changes)
    _plan_commands(seen, changes, left)
    mine = _only_mine(seen, changes)
    left += [
        Left(item.subject, f"{item.old}: only root can change that", "run configure as root")
        for item in changes
        if item not in mine
    ]
    return mine, left


def _plan_root(seen: PlacesSeen, changes: list[Change], left: list[Left]) -> None:
    if seen.closed:
        folders = " ".join(map(str, seen.closed))
        what = f"{folders}: PostgreSQL's account cannot pass, on its way to {seen.root}"
        left.append(Left("BACKUP_DIR", what, f"chmod o+x {folders}; or set BACKUP_DIR elsewhere"))
    if seen.unmounted:
        left.append(
            Left("BACKUP_DIR", f"{seen.unmounted} of /etc/fstab is not mounted", f"mount {seen.unmounted}")
        )
    elif seen.root_access is None and not seen.parent_exists:
        what = f"{seen.root} does not exist, nor does the folder above it"
        left.append(Left("BACKUP_DIR", what, f"mount it, or mkdir -p {seen.root.parent}"))
    elif seen.root_access is None:
        uid, gid, _ = seen.me
        reason = "backups are kept in it; nothing in /etc/fstab is to be mounted there"
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
            reason = "PostgreSQL's account enters it, and nobody else may change backups"
            changes.append(
                _access(str(seen.root), seen.root_access, (uid, gid, wanted), "BACKUP_DIR", reason)
            )


def _plan_commands(seen: PlacesSeen, changes: list[Change], left: list[Left]) -> None:
    folder = seen.folder
    if not seen.folder_open or not (seen.folder_exists or seen.folder_parent_exists):
        what = (
            "cannot be passed by PostgreSQL's account" if not seen.folder_open else "has no folder above it"
        )
        hint = "choose another place: --wal-commands DIR"
        left.append(Left("WAL commands", f"{folder} {what}, so that the commands cannot be run there", hint))
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


def _plan_archive(seen: PlacesSeen, changes: list[Change]) -> None:
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


def _only_mine(seen: PlacesSeen, changes: list[Change]) -> list[Change]:
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


def plan_env_superuser(seen: PlacesSeen, old: str, new: str) -> LinesChange:
    """The line of the `.env` that names the role for restore points and segment switches."""
    value = (
        new
        if re.fullmatch(r"[A-Za-z0-9_.-]+", new)
        else "'" + new.replace("\\", "\\\\").replace("'", "\\'") + "'"
    )
    lines = seen.env_lines
    set_at = [index for index, line in enumerate(lines) if _SUPERUSER_LINE.match(line)]
    commented = [index for index, line in enumerate(lines) if _COMMENTED.match(line)]
    reason = f"{old} cannot connect as the .env says; {new} gets the rights that are needed"
    position = set_at[-1] if set_at else (commented[-1] + 1 if commented else end_of(lines))
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
