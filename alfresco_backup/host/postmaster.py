"""Which processes work in a PostgreSQL data directory: asked of the kernel, in every namespace root can see.

A `postmaster.pid` alone proves nothing: a server in a container writes the number it has there, mostly 1, and
after a crash or a reboot the number is another process's. A server works in its data directory
(ChangeToDataDir in postmaster.c) and keeps files of it open; the kernel tells device and inode of both, by
whatever path the process knows them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG, S_IWUSR

from alfresco_backup.host.services import running_process

PID_FILE = "postmaster.pid"
SHELLS = frozenset({"ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"})
"""Somebody's shell that was left in the folder is no server; what archive_command is run by is one, too."""


@dataclass(frozen=True)
class Worker:
    """A process that works in a data directory. `elsewhere`: in another pid namespace, or another root."""

    pid: int
    program: str
    elsewhere: bool

    def __str__(self) -> str:
        return f"process {self.pid} ({self.program}{', of a container' if self.elsewhere else ''})"


def postmaster(data_directory: Path) -> int | None:
    """The process its postmaster.pid names, where that is one of ours that works there; else None.

    An ordinary user may not see where another account's process works; the file is believed then, if that
    account is the folder's, as it must be. Raises OSError when the file cannot be read.
    """
    pid = running_process(data_directory / PID_FILE)
    if pid is None:
        return None
    try:
        return (
            pid if _works_in(f"/proc/{pid}", _identity(data_directory)) and not _is_elsewhere(pid) else None
        )
    except PermissionError:
        return pid if os.stat(f"/proc/{pid}").st_uid == data_directory.stat().st_uid else None  # noqa: PTH116
    except OSError:
        return None


def workers_in(data_directory: Path) -> tuple[Worker, ...]:
    """All processes that work in a data directory, or have a file of it open for writing.

    Shells left there do not count, nor what only reads, nor the processes that started this one. An ordinary
    user sees its own processes only: those of the account that a server there would have to be started by.
    """
    try:
        place = _identity(data_directory)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    own = set(_ancestors())
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    return tuple(_described(pid) for pid in pids if pid not in own and _uses(pid, data_directory, place))


def _uses(pid: int, data_directory: Path, place: tuple[int, int]) -> bool:
    process = f"/proc/{pid}"
    try:
        if _works_in(process, place) and _program(pid) not in SHELLS:
            return True
        return any(_is_in(link, data_directory) for link in _written_by(process))
    except OSError:  # it has ended, or is another account's
        return False


def _works_in(process: str, place: tuple[int, int]) -> bool:
    return _identity(f"{process}/cwd") == place


def _identity(path: Path | str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _written_by(process: str) -> Iterator[str]:
    """The descriptors of a process that are open for writing, as links below /proc."""
    for name in os.listdir(f"{process}/fd"):  # noqa: PTH208
        link = f"{process}/fd/{name}"
        try:
            if os.lstat(link).st_mode & S_IWUSR:
                yield link
        except FileNotFoundError:
            continue


def _is_in(link: str, data_directory: Path) -> bool:
    """Whether an open file is one of the data directory's.

    A process in a container has another path to it, so each end of that path is looked for below the data
    directory, and must be the same file.
    """
    try:
        opened = os.stat(link)  # noqa: PTH116
        parts = os.readlink(link).split("/")  # noqa: PTH115
    except FileNotFoundError:
        return False
    if not S_ISREG(opened.st_mode):
        return False
    for start in range(len(parts) - 1, 0, -1):
        try:
            if _identity(data_directory.joinpath(*parts[start:])) == (opened.st_dev, opened.st_ino):
                return True
        except OSError:
            continue
    return False


def _described(pid: int) -> Worker:
    return Worker(pid, _program(pid), _is_elsewhere(pid))


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return "which has ended"


def _is_elsewhere(pid: int) -> bool:
    try:
        return any(
            _identity(f"/proc/{pid}/{name}") != _identity(f"/proc/self/{name}") for name in ("ns/pid", "root")
        )
    except OSError:
        return False


def _ancestors() -> Iterator[int]:
    """This process and those that it was started by."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            return
