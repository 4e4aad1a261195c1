"""Other accounts, and what they put in the way of root: links to places and files that are root's alone."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from alfresco_backup.system.accounts import Account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something that others may not change")
SECRET = "only root may read this\n"


def other_account(name: str = "nobody") -> Account:
    """An account of this machine that is not root's."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid, name)


def given(path: Path, account: Account) -> Path:
    """A path, and all below it, given to an account."""
    for item in (path, *path.rglob("*")):
        os.chown(item, account.uid, account.gid, follow_symlinks=False)
    return path


def planted(path: Path, target: Path, account: Account) -> Path:
    """A link that an account made; what was there is replaced."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.chown(path, account.uid, account.gid, follow_symlinks=False)
    return path


class RootsOwn:
    """A folder of root's with a file that nobody else may read; what must not change, nor be given away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.file = folder / "secret"
        self.file.write_text(SECRET)
        self.file.chmod(0o600)
        self._before = self.state()

    def require_unchanged(self) -> None:
        """Fail unless folder and file are as they were: names, content, owners, modes and times."""
        assert self.state() == self._before

    def state(self) -> list[tuple[object, ...]]:
        """Names, content, owners, modes and times of all in it."""
        found: list[tuple[object, ...]] = []
        for path in (self.folder, *sorted(self.folder.rglob("*"))):
            status = path.lstat()
            owner = (status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns, status.st_nlink)
            found.append((str(path), *owner, path.read_bytes() if path.is_file() else b""))
        return found


def run_as(account: Account, *argv: object) -> subprocess.CompletedProcess[str]:
    """Run a program as an account; its exit code is the caller's to judge."""
    change = ("setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--")
    return subprocess.run([*change, *map(str, argv)], capture_output=True, text=True, check=False, cwd="/")


def holds_secret(root: Path) -> list[Path]:
    """The files below a folder that hold what only root may read; links are not followed."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if SECRET.encode() in path.read_bytes()]
