"""Ends and removes what a test process leaves behind, however it ends: kill -9 included.

Each pytest process (those of xdist too) starts this program beside itself and writes to it which folders
it works in, one line each: `keep FOLDER` or `sweep FOLDER`, the last word about a folder counts. When that
process is gone, its pipe closes. Then every process that has a swept folder in its command line or its
environment is ended, what is mounted below the folders is unmounted, and the folders are removed.

Servers that PostgreSQL, alfresco.sh or a restore put into the background are nobody's children, so neither
a process group nor PR_SET_PDEATHSIG reaches them; their folder is in their command line. Standard library
only: it is started before the project is imported, and has no name that `pkill -f pytest` finds.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 10.0
"""PostgreSQL needs a moment for an immediate shutdown, which removes its shared memory."""
GIVE_UP_SECONDS = 60.0
LOOK_SECONDS = 0.5


class Sweeper:
    """The program as seen by the process that it watches."""

    def __init__(self) -> None:
        argv = [sys.executable, "-I", __file__]
        self._process = subprocess.Popen(
            argv,
            env={"PATH": os.defpath},  # in which no other sweeper finds its folder
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def sweep(self, folder: Path) -> None:
        """When this process is gone: end what works in this folder, then remove it."""
        self._tell("sweep", folder)

    def keep(self, folder: Path) -> None:
        """Leave a folder alone after all."""
        self._tell("keep", folder)

    def finish(self) -> None:
        """Sweep now; returns when it is done."""
        self._process.communicate()

    def _tell(self, word: str, folder: Path) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{word} {folder}\n")
        self._process.stdin.flush()


def main() -> None:
    parent = os.getppid()
    folders = {}
    for line in lines_until_gone(parent):
        word, _, folder = line.partition(" ")
        folders[folder] = word == "sweep"
    swept = [Path(folder) for folder, wanted in folders.items() if wanted]
    end_processes(swept)
    for mount in mounts_below(swept):
        subprocess.run(["umount", "--lazy", mount], check=False)
    if not mounts_below(swept):  # never remove what is behind a mount
        for folder in swept:
            remove(folder)


def lines_until_gone(parent: int) -> Iterator[str]:
    """What the parent writes, until it is gone; a process that it forked may hold its pipe open."""
    rest = b""
    while os.getppid() == parent:
        if select.select([0], [], [], LOOK_SECONDS)[0]:
            block = os.read(0, 65536)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            yield from (os.fsdecode(line) for line in lines)


def end_processes(folders: list[Path]) -> None:
    """Kill whatever works in the folders until nothing does any more; tells of what it could not end."""
    began = time.monotonic()
    while found := [pid for pid in processes() if works_in(pid, folders)]:
        waited = time.monotonic() - began
        if waited > GIVE_UP_SECONDS:
            sys.stderr.write(f"still running in {folders}: {found}\n")
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                gently = waited < GRACE_SECONDS and is_postgres(pid)
                os.kill(pid, signal.SIGQUIT if gently else signal.SIGKILL)
        time.sleep(0.1)


def processes() -> Iterator[int]:
    own = {os.getpid(), os.getppid()}
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    yield from (pid for pid in found if pid not in own)


def works_in(pid: int, folders: list[Path]) -> bool:
    """Whether a folder is named in the command line or environment of a process that is no zombie."""
    told = read(pid, "cmdline") + b"\0" + read(pid, "environ") + b"\0"
    return any(os.fsencode(folder) + end in told for folder in folders for end in (b"/", b"\0"))


def is_postgres(pid: int) -> bool:
    return read(pid, "cmdline").split(b"\0")[0].rpartition(b"/")[2] in (b"postgres", b"postmaster")


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is another account's
        return b""


def mounts_below(folders: list[Path]) -> list[str]:
    """The mount points below the folders, the deepest first."""
    table = Path("/proc/self/mountinfo").read_bytes().splitlines()
    places = [line.split()[4].decode("unicode_escape") for line in table]
    inside = [place for place in places if any(Path(place).is_relative_to(folder) for folder in folders)]
    return sorted(inside, key=len, reverse=True)


def remove(folder: Path) -> None:
    """Remove a folder, in which what was killed may still write a last file."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    sys.stderr.write(f"{folder} could not be removed\n")


if __name__ == "__main__":
    main()
