"""Accounts of the operating system: who owns a file, and doing the work of files as that account."""

import ctypes
import grp
import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = 0


@dataclass(frozen=True)
class Account:
    """An operating system account to run a program as. Numbers, since stat gives numbers."""

    uid: int
    gid: int
    name: str = ""


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


def owner_of_program(program: Path) -> Account | None:
    """Whom root runs a program as: the first account but root that owns it or a folder on the way to it.

    That account could exchange the program for another one. None: only root could, or this is not root. A
    program that is not there, or named without its folder, is root's.
    """
    if os.geteuid() != ROOT or not program.is_absolute():
        return None
    real = Path(os.path.realpath(program))
    for path in (program, *program.parents, real, *real.parents):
        try:
            status = path.lstat()
        except OSError:
            continue
        if status.st_uid != ROOT:
            return known_account(status.st_uid, status.st_gid)
    return None


def account_for_people(account: Account) -> str:
    """`user:group` as chown takes it; numbers for an account without a name, whose group may be another's."""
    if not account.name:
        return f"{account.uid}:{account.gid}"
    try:
        group = grp.getgrgid(account.gid).gr_name
    except KeyError:
        group = str(account.gid)
    return f"{account.name or account.uid}:{group}"


# Doing the work as another account, without leaving this process.

_libc = ctypes.CDLL(None)
_one_at_a_time = threading.RLock()
_acting = threading.local()


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Within the block this thread opens, makes, renames and removes files with an account's rights alone.

    So whatever that account has put there, a link or another folder, leads no further than it can go by
    itself. For root; without an account, for root's own and for ordinary users nothing changes. Linux ties
    these rights to the thread (setfsuid(2)) and takes those of root away with them (capabilities(7)). Start
    nothing within the block: a program would run as root, a new thread would keep the account's rights.
    Raises PermissionError where the kernel refuses.
    """
    if account is None or account.uid == ROOT or os.geteuid() != ROOT:
        yield
        return
    with _one_at_a_time:  # the groups belong to the whole process; root's other threads need none
        before = (_libc.setfsuid(-1), _libc.setfsgid(-1), os.getgroups(), is_acting())
        try:
            os.setgroups(os.getgrouplist(account.name, account.gid) if account.name else [account.gid])
            _take_on(account.uid, account.gid)
            _acting.now = True
            yield
        finally:
            _take_on(before[0], before[1])
            os.setgroups(before[2])
            _acting.now = before[3]


def is_acting() -> bool:
    """Whether this thread works with the rights of another account at this moment."""
    return getattr(_acting, "now", False)


def _take_on(uid: int, gid: int) -> None:
    """Neither call tells of a failure, so both are asked afterwards; -1 is no account and changes nothing."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    if (_libc.setfsuid(-1), _libc.setfsgid(-1)) != (uid, gid):
        raise PermissionError(f"the kernel does not let root work as account {uid}:{gid}")
