"""The program that copies what no older version holds: `python -I first_copy.py NAMES TARGET`.

Does what rsync does as rsync.py calls it, from the working directory into TARGET, and says the same lines:
name, content, mtime, mode, as root the owner, links as links, SHA-1 of what was read. A first copy needs none
of what rsync spends most of its time on: three processes, a second name for each file, a look at what is
there already. Every name in TARGET is made new; what is there is never written to.

Reads nothing through a link, and only the bytes that a file had when it was opened. The mtime of a file is
set last: one that was cut short never looks like its original. What vanishes is told (24), what cannot be
read too (23), the rest is copied; what cannot be written ends it (11). Standard library alone, for its start.
"""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SPECIAL = stat.S_ISUID | stat.S_ISGID
"""Bits of a mode that a change of the owner takes away."""
BLOCK = 128 << 10
SAID = 64 << 10
VANISHED, UNREAD, UNWRITTEN = 24, 23, 11


class Unreadable(Exception):
    """Something in the store that cannot be read, or is not there."""


class FirstCopy:
    """Copies entries from the folder `source` into the folder `target`, both held open."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._root = os.geteuid() == 0
        self._refused = () if self._root else (PermissionError,)
        self._here = os.getcwd()  # noqa: PTH109 - text
        self._lines: list[str] = []
        self._size = self.files = self.bytes = 0
        self.result = 0

    def entry(self, path: str) -> None:
        """Copy a folder with all in it, a file or a link. Nothing where there is none."""
        *above, name = path.split("/")
        with suppress(Unreadable), self._way(above) as source:
            with self._reading("/".join(above), missing_is_told=False):
                mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
            with _writing(path), _descend(self._target, above) as target:
                self._one(source, target, name, path, mode)
        self.flush()

    def folder_above(self, path: str) -> None:
        """Give a folder on the way to entries what it has in the store; its contents are complete."""
        names = path.split("/")
        with (
            suppress(Unreadable),
            self._way(names) as source,
            _writing(path),
            _descend(self._target, names) as target,
        ):
            self._give(target, os.fstat(source), stat.S_IRWXU)

    @contextmanager
    def _way(self, names: list[str]) -> Iterator[int]:
        with ExitStack() as stack:
            with self._reading("/".join(names), missing_is_told=False):
                found = stack.enter_context(_descend(self._source, names))
            yield found

    def _one(self, source: int, target: int, name: str, path: str, mode: int) -> None:
        if stat.S_ISDIR(mode):
            self._folder(source, target, name, path)
        elif stat.S_ISREG(mode):
            self._file(source, target, name, path)
        elif stat.S_ISLNK(mode):
            self._link(source, target, name, path)
        else:
            self.say(f'skipping non-regular file "{_escaped(path)}"')

    def _folder(self, source: int, target: int, name: str, path: str) -> None:
        with self._reading(path, "directory"):
            here = os.open(name, FOLDER, dir_fd=source)
        try:
            with self._reading(path, "directory"), os.scandir(here) as listing:
                entries = list(listing)
            os.mkdir(name, 0o700, dir_fd=target)
            self.say(f"cd+++++++++  {_escaped(path)}/")
            there = os.open(name, FOLDER, dir_fd=target)
            try:
                for entry in entries:
                    with suppress(Unreadable):
                        self._entry_of(here, there, entry, f"{path}/{entry.name}")
                self._give(there, os.fstat(here), stat.S_IRWXU)
            finally:
                os.close(there)
        finally:
            os.close(here)

    def _entry_of(self, source: int, target: int, entry: os.DirEntry[str], path: str) -> None:
        try:
            mode = _kind(entry)
        except OSError as error:
            self._tell(error, path)
        self._one(source, target, entry.name, path, mode)

    def _file(self, source: int, target: int, name: str, path: str) -> None:
        """Without the context managers of the rest: a store has millions of them."""
        try:
            here = os.open(name, FILE, dir_fd=source)
        except OSError as error:
            self._tell(error, path)
        try:
            status = os.fstat(here)
            if not stat.S_ISREG(status.st_mode):
                self._unread(path, "it is no regular file any more")
            there = os.open(name, NEW, stat.S_IMODE(status.st_mode) & 0o777, dir_fd=target)
            try:
                digest = self._copy(here, there, status.st_size, path)
                self._give(there, status)
            except BaseException:
                os.unlink(name, dir_fd=target)
                raise
            finally:
                os.close(there)
        finally:
            os.close(here)
        self.files += 1
        self.bytes += status.st_size
        self.say(f">f+++++++++ {digest} {_escaped(path)}")

    def _copy(self, here: int, there: int, left: int, path: str) -> str:
        """Copy so many bytes; their SHA-1."""
        state = hashlib.sha1(usedforsecurity=False)
        while left > 0:
            try:
                block = os.read(here, min(left, BLOCK))
            except OSError as error:
                self._tell(error, path)
            if not block:
                self._unread(path, "it became shorter while it was read")
            state.update(block)
            left -= len(block)
            while block:
                block = block[os.write(there, block) :]
        return state.hexdigest()

    def _link(self, source: int, target: int, name: str, path: str) -> None:
        with self._reading(path):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            text = os.readlink(name, dir_fd=source)
        os.symlink(text, name, dir_fd=target)
        with suppress(*self._refused):
            owner = status.st_uid if self._root else -1
            os.chown(name, owner, status.st_gid, dir_fd=target, follow_symlinks=False)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
        self.say(f"cL+++++++++  {_escaped(path)}")

    def _give(self, there: int, status: os.stat_result, more: int = 0) -> None:
        """Owner, mode, and last the time. Another user gives the group alone, where that is allowed.

        What is right already stays as it is: each change is one of the file system's journal.
        """
        made, owner = os.fstat(there), status.st_uid if self._root else -1
        if made.st_gid != status.st_gid or made.st_uid != status.st_uid:
            with suppress(*self._refused):
                os.fchown(there, owner, status.st_gid)
        mode = stat.S_IMODE(status.st_mode) | more
        if stat.S_IMODE(made.st_mode) != mode or mode & SPECIAL:
            os.fchmod(there, mode)
        os.utime(there, ns=(status.st_mtime_ns, status.st_mtime_ns))

    @contextmanager
    def _reading(self, path: str, what: str = "file", *, missing_is_told: bool = True) -> Iterator[None]:
        """Tell what the block cannot read; what it belongs to is left out."""
        try:
            yield
        except OSError as error:
            if not missing_is_told and isinstance(error, FileNotFoundError):
                raise Unreadable from error
            self._tell(error, path, what)

    def _tell(self, error: OSError, path: str, what: str = "file") -> NoReturn:
        if isinstance(error, FileNotFoundError):
            self.say(f'{what} has vanished: "{_escaped(f"{self._here}/{path}")}"')
            self.result = self.result or VANISHED
            raise Unreadable from error
        self._unread(path, f"{error.strerror} ({error.errno})")

    def _unread(self, path: str, why: str) -> NoReturn:
        self.say(f'copy: cannot read "{_escaped(f"{self._here}/{path}")}": {why}')
        self.result = UNREAD
        raise Unreadable

    def say(self, line: str) -> None:
        """A line of what rsync would say."""
        self._lines.append(line)
        self._size += len(line)
        if self._size > SAID:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            sys.stdout.write("\n".join(self._lines) + "\n")
            sys.stdout.flush()
        self._lines, self._size = [], 0


class Unwritten(Exception):
    """What cannot be written: a full disk, most likely."""


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """What the block raises beyond what it could not read is of the target."""
    try:
        yield
    except OSError as error:
        name = f"{path}: {error.filename}" if error.filename else path
        raise Unwritten(f'copy: cannot write "{_escaped(name)}": {error.strerror} ({error.errno})') from error


@contextmanager
def _descend(folder: int, names: list[str]) -> Iterator[int]:
    """A folder below another, no link followed."""
    found = os.dup(folder)
    try:
        for name in names:
            below = os.open(name, FOLDER, dir_fd=found)
            os.close(found)
            found = below
        yield found
    finally:
        os.close(found)


def _kind(entry: os.DirEntry[str]) -> int:
    """The kind of an entry as a mode, mostly without a look at it."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return entry.stat(follow_symlinks=False).st_mode


def _escaped(name: str) -> str:
    """A name as rsync prints it: one line of ASCII, other bytes as \\#ooo."""
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    plain = range(0x20, 0x7F)
    return "".join(
        chr(byte) if byte in plain and byte != 0x5C else f"\\#{byte:03o}" for byte in os.fsencode(name)
    )


def main(names: str, target: str) -> int:
    """Copy what the list names; the exit code."""
    with open(names, "rb") as stream:  # noqa: PTH123 - text
        entries = [os.fsdecode(name).lstrip("/") for name in stream.read().split(b"\0") if name]
    copy = FirstCopy(os.open(".", FOLDER), os.open(target, FOLDER))
    above: set[str] = set()
    try:
        for path in entries:
            copy.entry(path)
            parts = path.split("/")[:-1]
            above.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        for path in sorted(above, reverse=True):
            copy.folder_above(path)
        copy.say(f"Number of regular files transferred: {copy.files}")
        copy.say(f"Total transferred file size: {copy.bytes} bytes")
    except Unwritten as error:
        copy.say(str(error))
        copy.result = UNWRITTEN
    copy.flush()
    return copy.result


if __name__ == "__main__":
    os.umask(0)  # a file is made with its mode; TARGET is closed to others
    sys.exit(main(*sys.argv[1:]))
