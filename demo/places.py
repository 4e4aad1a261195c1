"""Accounts and places the demo and the tests use, as root and as an ordinary user alike."""

import os
import pwd
from pathlib import Path

from alfresco_backup.system.accounts import Account


def server_account() -> Account | None:
    """The account PostgreSQL runs as when this process is root, which PostgreSQL refuses to be; else None."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def give_to(path: Path, account: Account | None) -> None:
    """Hand one file or directory to the account, when this process is root."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def cache_directory() -> Path:
    """Where the test servers are kept: not in the checkout, since root's may be closed to others."""
    if os.geteuid() == 0:
        return Path("/var/cache/alfresco-backup")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alfresco-backup"
