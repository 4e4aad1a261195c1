"""Reads compressed tars back while they are written: contents, SHA-256, and whether they are complete.

A base backup of terabytes read back afterwards would come from the disk once more; read right behind the
writer it comes from memory, and verifying it costs next to no time.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import BinaryIO, cast

import zstandard

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.folders import open_file

SUFFIX = ".tar.zst"
BLOCK = 1 << 20
POLL_SECONDS = 0.05
FLUSH_BYTES = 64 << 20
END_OF_TAR = 1024
LONGEST_PADDING = 20480  # GNU tar fills its last record of 10 KiB
_MARK = b"\xff" * 64
_FRAME_AT_THE_END = zstandard.compress(_MARK)


@dataclass(frozen=True)
class TarContents:
    """A tar that was read to its end: regular files with their sizes, the texts of those asked for."""

    name: str
    bytes: int
    sha256: str
    members: dict[str, int]
    texts: dict[str, str]


class _WriterFailed(Exception):
    """The tars will not be finished; the result is not needed."""


@dataclass
class _Writing:
    """What the reader knows of the writer."""

    ended: Event = field(default_factory=Event)
    failed: bool = False

    def require_wanted(self) -> None:
        """Raise once the writer has failed: then the result is not needed."""
        if self.failed:
            raise _WriterFailed


class _GrowingFile:
    """The bytes of a file until its writer is done with it, and after them a frame of our own.

    A decompressor that meets the end of its input says nothing when the last frame is cut. So a frame is
    added: its content comes out complete only when all before it was. The file is flushed to disk meanwhile.
    """

    def __init__(
        self, stream: BinaryIO, is_complete: Callable[[], bool], require_wanted: Callable[[], None]
    ) -> None:
        self.stream, self.is_complete, self.require_wanted = stream, is_complete, require_wanted
        self.digest = hashlib.sha256()
        self.bytes = self.flushed = 0
        self.at_the_end = _FRAME_AT_THE_END

    def read(self, size: int) -> bytes:
        self.require_wanted()
        complete = False
        while not (data := self.stream.read(size)) and not complete:
            complete = self.is_complete()
        if not data:
            data, self.at_the_end = self.at_the_end, b""
            return data
        self.digest.update(data)
        self.bytes += len(data)
        if self.bytes - self.flushed >= FLUSH_BYTES:
            self.flush()
        return data

    def flush(self) -> None:
        os.fdatasync(self.stream.fileno())
        self.flushed = self.bytes


class _Tail:
    """A stream that remembers the last bytes that were read from it, and how many there were in all."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size, self.last, self.bytes = stream, size, b"", 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.bytes += len(data)
        self.last = data[-self.size :] if len(data) >= self.size else (self.last + data)[-self.size :]
        return data


@contextmanager
def reading_along(folder: Path, wanted: frozenset[str]) -> Iterator["Future[list[TarContents]]"]:
    """Read every `*.tar.zst` of a folder while the body of the `with` writes them, one after the other.

    The result is there after the body; BackupUnsound in it says which tar is not complete. `wanted` are
    members whose text is kept. When the body raises, nothing is read any further.
    """
    writing = _Writing()
    with ThreadPoolExecutor(1, "reading-along") as pool:
        reading = pool.submit(_read_tars, folder, wanted, writing)
        try:
            yield reading
        except BaseException:
            writing.failed = True
            raise
        finally:
            writing.ended.set()


def _read_tars(folder: Path, wanted: frozenset[str], writing: _Writing) -> list[TarContents]:
    done: dict[Path, TarContents] = {}
    while True:
        ended = writing.ended.is_set()
        changed = _changed(folder, done)
        if changed:
            oldest = min(changed, key=lambda path: changed[path])
            is_complete = partial(_is_complete, oldest, folder, done, writing)
            done[oldest] = _read_tar(oldest, wanted, is_complete, writing)
        elif ended:
            return list(done.values())
        else:
            writing.ended.wait(POLL_SECONDS)


def _changed(folder: Path, done: Container[Path]) -> dict[Path, int]:
    """The tars that were not read yet, each with the time it was last written to."""
    return {path: path.lstat().st_ctime_ns for path in folder.glob(f"*{SUFFIX}") if path not in done}


def _is_complete(tar: Path, folder: Path, done: Container[Path], writing: _Writing) -> bool:
    """Whether a tar has got its last byte: the writer has ended, or writes to another by now.

    Within a tick of the file system's clock the times are equal, and it is not known which one grows.
    """
    if writing.ended.is_set():
        return True
    changed = _changed(folder, done)
    if max(changed.values()) > changed[tar]:
        return True
    writing.ended.wait(POLL_SECONDS)
    return False


def _read_tar(
    path: Path, wanted: frozenset[str], is_complete: Callable[[], bool], writing: _Writing
) -> TarContents:
    with os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering=0) as stream:
        file = _GrowingFile(stream, is_complete, writing.require_wanted)
        reader = zstandard.ZstdDecompressor().stream_reader(
            cast(BinaryIO, file), read_size=BLOCK, read_across_frames=True
        )
        tail = _Tail(reader, LONGEST_PADDING + len(_MARK))
        try:
            members, texts, end = _members(cast(BinaryIO, tail), wanted)
            while tail.read(BLOCK):
                pass
        except (zstandard.ZstdError, tarfile.TarError) as error:
            raise _not_complete(path, str(error)) from error
        rest = tail.bytes - len(_MARK) - end
        if not tail.last.endswith(_MARK) or rest < END_OF_TAR:
            raise _not_complete(path, "it ends in the middle")
        if rest > LONGEST_PADDING or any(tail.last[-rest - len(_MARK) : -len(_MARK)]):
            raise _not_complete(path, f"what comes after its first {end:,} bytes is no tar")
        file.flush()
    return TarContents(path.name, file.bytes, file.digest.hexdigest(), members, texts)


def _members(stream: BinaryIO, wanted: frozenset[str]) -> tuple[dict[str, int], dict[str, str], int]:
    """The sizes of a tar's regular files, the texts of those wanted, and the place where they end.

    To tarfile a damaged header is the end like any other: the caller sees whether only zeros follow.
    """
    sizes: dict[str, int] = {}
    texts: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, encoding="utf-8") as tar:
        for member in tar:
            if not member.isreg():
                continue
            name = member.name.removeprefix("./")
            sizes[name] = member.size
            if name in wanted and (content := tar.extractfile(member)):
                texts[name] = content.read().decode("utf-8", "replace")
    return sizes, texts, tar.offset


def _not_complete(path: Path, why: str) -> BackupUnsound:
    return BackupUnsound(
        f"{path} cannot be read back: {why}; if that happens again, the disk of BACKUP_DIR may be failing",
        program_command("backup"),
    )
