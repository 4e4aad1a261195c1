"""Files and folders in places that other accounts can change: where a path leads is not left to them.

Root works in folders whose owners may exchange any name in them for a link, at any moment. So a path is
walked folder by folder, each held open by its descriptor, and what is done at its end is done relative to the
last one. Root follows a link on the way only where root made it, and none at the end of a path that is
written to. What is new is made exclusively; what is given away is given by the descriptor it was made with.

The other way is to do the work as the account (accounts.acting_as): then the kernel sees to it that a link
leads no further than the account may go, and nothing here refuses one. Nor for an ordinary user.

Every function raises OSError with the whole path; for a link that is not followed its words say whose it is.
"""

import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TextIO

from alfresco_backup.system.accounts import (
    ROOT,
    Account,
    acting_as,
    is_acting,
    known_account,
)

PASS = os.O_PATH | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A pipe that somebody made under the name of a file would keep the one who opens it waiting."""
MOST_LINKS = 40
MOST_HELD = 256
_HELD = re.compile(r"/proc/self/fd/(\d+)(?:/|$)")


@contextmanager
def parent_of(path: Path, *, follow: bool = False) -> Iterator[tuple[int, str]]:
    """The folder that holds a path, held open, and the last name. `follow`: links at that name, too."""
    with _named(path):
        descriptor, name = _walk(os.fspath(path), follow=follow)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """A folder held open for reading, as the `dir_fd` of what is done in it."""
    with parent_of(path, follow=True) as (parent, name):
        descriptor = os.open(name, FOLDER, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """A folder by a path that needs no folder above it, as long as the block lasts; in this process only.

    An account can work there (accounts.acting_as) though it may not pass what is above, as above the volumes
    of a container engine. Where a link that root does not follow is on the way it is the path itself.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(open_folder(path))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            yield path
        else:
            yield Path(f"/proc/self/fd/{descriptor}")


@dataclass(frozen=True)
class Trace:
    """Where a path leads. `makers`: the accounts whose links are on the way, root and this one excepted."""

    real: str
    status: os.stat_result
    makers: tuple[Account, ...]


def untrusted_link(path: Path) -> Path | None:
    """The first link on the way to a path that root does not follow; None where there is none."""
    for part in (*reversed(path.parents), path):
        if part.is_symlink() and _is_root() and part.lstat().st_uid not in (ROOT, os.geteuid()):
            return part
    return None


def trace(path: str) -> Trace:
    """Follow every link of a path and say who made those that root would not follow. Raises OSError."""
    makers: dict[int, Account] = {}
    with _named(Path(path)):
        descriptor, name = _walk(path, follow=True, makers=makers)
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            real = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), name)  # noqa: PTH115, PTH118
        finally:
            os.close(descriptor)
    return Trace(os.path.normpath(real), status, tuple(makers.values()))


def open_file(path: Path, flags: int, mode: int = 0o600, *, follow: bool = False) -> int:
    """Open a regular file, and nothing else; one that is written to has no other name.

    A hard link to a file of root's would be written to as a symbolic one is. `follow`: see parent_of.
    """
    with parent_of(path, follow=follow) as (parent, name):
        return _open_regular(parent, name, flags, mode)


def _open_regular(parent: int, name: str, flags: int, mode: int = 0) -> int:
    descriptor = os.open(name, flags | FILE, mode, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if flags & os.O_ACCMODE != os.O_RDONLY:
            _require_one_name(status)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class HeldFolders:
    """The folders of files that were opened, held open: the next file of one is opened without a walk.

    For reading many files of few folders. A folder stays the one that was walked to, whatever has its name by
    now. Threads may share it.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._lock = Lock()

    def open_file(self, path: Path) -> int:
        """Open a regular file for reading, as open_file does."""
        folder, _, name = os.fspath(path).rpartition("/")
        with _named(path):
            parent = self._known(folder)
            if parent is None:
                parent = self._hold(folder, path)
            try:
                return _open_regular(parent, name, os.O_RDONLY)
            finally:
                os.close(parent)

    def _known(self, folder: str) -> int | None:
        """A descriptor of its own: another thread may let go of the held one meanwhile."""
        with self._lock:
            held = self._held.get(folder)
            return None if held is None else os.dup(held)

    def _hold(self, folder: str, path: Path) -> int:
        with parent_of(path) as (walked, _):
            with self._lock:
                if len(self._held) >= MOST_HELD:
                    self._let_go()
                if folder not in self._held:
                    self._held[folder] = os.dup(walked)
            return os.dup(walked)

    def close(self) -> None:
        """Let go of all; it can be used again."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])


def open_entry(path: Path, *, follow: bool = False) -> int:
    """Open a file or folder, to give it other attributes by its descriptor; no link, and one name only."""
    with parent_of(path, follow=follow) as (parent, name):
        descriptor = os.open(name, os.O_RDONLY | FILE, dir_fd=parent)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISDIR(status.st_mode):
                _require_one_name(status)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def reading(path: Path) -> io.BufferedReader:
    """A file to read, to which a link of root's may lead."""
    return os.fdopen(open_file(path, os.O_RDONLY, follow=True), "rb")


def appending(path: Path, mode: int = 0o640) -> io.BufferedWriter:
    """A file to append to, made where it is missing."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "ab")


def appending_text(path: Path, mode: int = 0o640) -> TextIO:
    """The same for text, in which names of files may hold any bytes."""
    return io.TextIOWrapper(appending(path, mode), encoding="utf-8", errors="surrogateescape")


def creating(path: Path, mode: int = 0o644) -> io.BufferedWriter:
    """A new file to write. Raises FileExistsError where the name is taken, be it by a link."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def make_folder(
    path: Path, mode: int = 0o755, owner: Account | None = None, *, exist_ok: bool = False
) -> None:
    """Make a folder, with that mode whatever the umask, for `owner` or else for this process's account.

    With `exist_ok` a folder that is there, or that a link of root's leads to, is left as it is. In a folder
    of another account it is that account that makes it: under a name of root's it could be exchanged for
    another folder before it is given away.
    """
    with parent_of(path, follow=exist_ok) as (parent, name):
        if exist_ok and _is_folder(parent, name):
            return
        above = os.fstat(parent)
        maker = known_account(above.st_uid, above.st_gid) if owner and above.st_uid != os.geteuid() else None
        with acting_as(maker):
            os.mkdir(name, 0o700, dir_fd=parent)
            descriptor = os.open(name, FOLDER, dir_fd=parent)
        try:
            _require_new(descriptor, maker)
            if owner is not None and _is_root():
                os.fchown(descriptor, owner.uid, owner.gid)
            os.fchmod(descriptor, mode | os.fstat(descriptor).st_mode & stat.S_ISGID)
        finally:
            os.close(descriptor)


def make_folders(path: Path) -> None:
    """Make a folder and what is missing above it."""
    if not path.is_dir():
        make_folders(path.parent)
        make_folder(path, exist_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[int]:
    """A new folder for this process alone, as the `dir_fd` of what is done in it; removed afterwards."""
    make_folder(path, 0o700)
    try:
        with open_folder(path) as folder:
            _require_new(folder, None)
            yield folder
    finally:
        remove_tree(path)


def _require_new(descriptor: int, maker: Account | None) -> None:
    """Raise unless a folder is the one that was made just now, as far as it matters: empty, of its maker."""
    expected = maker.uid if maker and _is_root() else os.geteuid()
    if not is_acting() and (os.fstat(descriptor).st_uid != expected or os.listdir(descriptor)):
        raise OSError(errno.EEXIST, "it was exchanged while it was made")


def rename(source: Path, target: Path) -> None:
    """Rename within a file system; what has the name `target` is replaced as rename(2) does."""
    with parent_of(source) as (parent, name), parent_of(target) as (other, wanted):
        try:
            os.rename(name, wanted, src_dir_fd=parent, dst_dir_fd=other)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(source), None, os.fspath(target)) from error


def symlink(path: Path, text: str) -> None:
    """Make a link at `path` that says `text`."""
    with parent_of(path) as (parent, name):
        os.symlink(text, name, dir_fd=parent)


def unlink(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a file or a link."""
    with parent_of(path) as (parent, name):
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            if not missing_ok:
                raise


def remove_folder(path: Path) -> None:
    """Remove an empty folder."""
    with parent_of(path) as (parent, name):
        os.rmdir(name, dir_fd=parent)


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it; of a link or a file only itself."""
    with parent_of(path) as (parent, name):
        if _is_folder(parent, name):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)


def set_access(path: Path, uid: int, gid: int, mode: int, *, follow: bool = False) -> None:
    """Give a file or folder owner, group and mode. `follow`: see parent_of."""
    descriptor = open_entry(path, follow=follow)
    with _named(path):
        try:
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid) != (uid, gid):
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def set_time(path: Path, time_ns: int, *, follow: bool = False) -> None:
    """Give a file or folder its time of change, and keep that of its last access. `follow`: see parent_of."""
    with parent_of(path, follow=follow) as (parent, name):
        accessed = os.stat(name, dir_fd=parent, follow_symlinks=False).st_atime_ns
        os.utime(name, ns=(accessed, time_ns), dir_fd=parent, follow_symlinks=False)


def take_back(path: Path, account: Account) -> None:
    """Make a folder that was given to an account, and the files in it, this process's own again.

    From then on that account can neither make nor exchange anything in it. Raises OSError naming what is
    neither a file of that account's, nor of this process's, with one name: a link, a pipe, another folder.
    """
    if not _is_root():
        return
    with open_folder(path) as folder:
        os.fchown(folder, ROOT, os.getegid())
        os.fchmod(folder, 0o700)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            with _named(path / name):
                descriptor = os.open(name, os.O_RDONLY | FILE, dir_fd=folder)
                try:
                    status = os.fstat(descriptor)
                    ours = status.st_uid in (account.uid, ROOT) and status.st_nlink == 1
                    if not (ours and stat.S_ISREG(status.st_mode)):
                        raise OSError(errno.EINVAL, f"it is no file that {account.name or account.uid} made")
                    os.fchown(descriptor, ROOT, os.getegid())
                    os.fchmod(descriptor, 0o600)
                finally:
                    os.close(descriptor)


def _require_one_name(status: os.stat_result) -> None:
    if _is_root() and status.st_nlink > 1:
        raise OSError(errno.EMLINK, "it is a hard link, perhaps to a file of root's")


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_root() -> bool:
    """Whether this thread works with root's rights, so that somebody could make use of them."""
    return os.geteuid() == ROOT and not is_acting()


def _walk(path: str, *, follow: bool, makers: dict[int, Account] | None = None) -> tuple[int, str]:
    """Descriptor of the folder that holds the end of a path, and the name in it.

    With `makers` every link is followed, and who made those that otherwise were not is added there.
    """
    descriptor, names = _begin(path)
    links = 0
    try:
        while names:
            name = names.pop()
            if not names and not follow:
                return descriptor, name
            try:
                found = os.open(name, PASS | os.O_NOFOLLOW, dir_fd=descriptor)
            except FileNotFoundError:
                if not names:  # it may be about to be made
                    return descriptor, name
                raise
            try:
                status = os.fstat(found)
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    if links > MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if _is_root() and status.st_uid not in (ROOT, os.geteuid()):
                        _note_maker(status, makers)
                    text = os.readlink("", dir_fd=found)
                    names += _names(text)
                    if text.startswith("/"):
                        os.close(descriptor)
                        descriptor = os.open("/", PASS)
                elif names:
                    found, descriptor = descriptor, found
                else:
                    return descriptor, name
            finally:
                os.close(found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, "."


def _begin(path: str) -> tuple[int, list[str]]:
    """Descriptor of the folder that a path begins in, and its names: see held."""
    if found := _HELD.match(path):
        return os.open(f"/proc/self/fd/{found[1]}", PASS), _names(path[found.end() :])
    return os.open("/" if path.startswith("/") else ".", PASS), _names(path)


def _names(path: str) -> list[str]:
    """The parts of a path, last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _note_maker(link: os.stat_result, makers: dict[int, Account] | None) -> None:
    maker = known_account(link.st_uid, link.st_gid)
    if makers is None:
        name = maker.name or maker.uid
        raise OSError(errno.ELOOP, f"a link of the account {name} is on this path; root does not follow it")
    makers[maker.uid] = maker


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors name the whole path: relative to a descriptor the system knows the last name only."""
    try:
        yield
    except OSError as error:
        if error.errno is None or str(error.filename).startswith("/"):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
