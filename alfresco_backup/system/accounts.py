"""The accounts that own files, with their names where the system knows them."""

import grp
import pwd
from pathlib import Path

from alfresco_backup.system.processes import Account


def owner_of(path: Path) -> Account:
    """The account that owns a path, with its name where the system knows one."""
    status = path.stat()
    return known_account(status.st_uid, status.st_gid)


def known_account(uid: int, gid: int) -> Account:
    """An account by its numbers, with its name where the system knows one."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return Account(uid, gid, name)


def account_for_people(account: Account) -> str:
    """`user:group` as chown takes it."""
    try:
        group = grp.getgrgid(account.gid).gr_name
    except KeyError:
        group = str(account.gid)
    return f"{account.name or account.uid}:{group}"
