"""The files that `configure` writes, in place: owner, mode, links and inode stay.

No temporary file is ever made beside PostgreSQL's files: one of root's, left by a kill, ruins every base
backup of 9.4. What is overwritten was copied before.
"""

import hashlib
import os
from pathlib import Path

from alfresco_backup.configure_places import access_of
from alfresco_backup.durable import fsync_directory, fsync_file


def set_access(path: Path, access: tuple[int, int, int]) -> None:
    uid, gid, mode = access
    if (access_of(path) or access)[:2] != (uid, gid):
        os.chown(path, uid, gid)
    path.chmod(mode)


def overwrite(path: Path, content: bytes) -> None:
    """New content for a file that is there, in place and flushed.

    Raises OSError before anything is touched where there is no room for it: the space is taken first.
    """
    with path.open("r+b") as stream:
        if content:
            os.posix_fallocate(stream.fileno(), 0, len(content))
        stream.write(content)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def replace_program(path: Path, content: bytes, access: tuple[int, int, int]) -> None:
    """A program put in place whole: it may be running."""
    partial = partial_of_program(path)
    partial.write_bytes(content)
    set_access(partial, access)
    fsync_file(partial)
    partial.replace(path)
    fsync_directory(path.parent)


def partial_of_program(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lines_of(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").split("\n")


def bytes_of(lines: list[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "surrogateescape")
