"""Writing that survives a power cut: nothing has its final name until it is whole and on disk."""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from alfresco_backup.system.accounts import Account, is_acting
from alfresco_backup.system.folders import creating, open_folder, reading, rename, unlink

SCHEMA_VERSION = 1
PARTIAL = ".partial"


def fsync_file(path: Path) -> None:
    """Flush a file's content and inode to disk."""
    with reading(path) as stream:
        os.fsync(stream.fileno())


def fsync_directory(path: Path) -> None:
    """Flush a directory's entries to disk."""
    with open_folder(path) as folder:
        os.fsync(folder)


def fsync_tree(root: Path) -> None:
    """Flush every file and directory below `root`, and `root` itself. Symlinks are not followed."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                fsync_file(path)
        fsync_directory(Path(directory))


def sync_filesystem(path: Path) -> None:
    """Flush the whole file system that holds `path`.

    One call for a tree of millions of new files, where an fsync for each would cost hours. `syncfs`
    is Linux's; it returns when all that was written before is on disk.
    """
    with open_folder(path) as folder:
        if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(path))


def write_text(path: Path, text: str, mode: int = 0o644, owner: Account | None = None) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename, fsync of the directory.

    What has its name, or the temporary one, is replaced, be it a link. Root gives the file to `owner`.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"), mode, owner)


def write_bytes(path: Path, content: bytes, mode: int = 0o644, owner: Account | None = None) -> None:
    """As write_text, for content that is no text."""
    with replacing(path, mode, owner) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path, mode: int = 0o644, owner: Account | None = None) -> Iterator[BinaryIO]:
    """As write_text, for content that is written piece by piece. On an error nothing is left of it."""
    partial = path.with_name(path.name + PARTIAL)
    unlink(partial, missing_ok=True)
    try:
        with creating(partial, mode) as stream:
            if owner is not None and os.geteuid() == 0 and not is_acting():
                os.fchown(stream.fileno(), owner.uid, owner.gid)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        rename(partial, path)
    except BaseException:
        with suppress(OSError):
            unlink(partial, missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_json(path: Path, document: dict[str, Any], mode: int = 0o644) -> None:
    """Write a metadata document, with its schema version, whole or not at all."""
    write_text(path, json.dumps({"schema": SCHEMA_VERSION, **document}, indent=1) + "\n", mode)


def read_json(path: Path) -> dict[str, Any]:
    """Read a metadata document. Unknown fields are kept; ValueError for a newer schema or no document."""
    with reading(path) as stream:
        text = stream.read().decode("utf-8")
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is no metadata: it is nested too deeply") from error
    schema = document.get("schema", 0) if isinstance(document, dict) else None
    if not isinstance(schema, int):
        raise ValueError(f"{path} is no metadata: an object with a schema number is expected")
    if schema > SCHEMA_VERSION:
        raise ValueError(f"{path} has schema {schema}, this program reads up to {SCHEMA_VERSION}")
    return dict(document)


def publish(partial: Path, final: Path) -> None:
    """Give a finished tree its final name and make the name durable. `final` must not exist."""
    if os.path.lexists(final):
        raise FileExistsError(f"{final} exists already")
    rename(partial, final)
    fsync_directory(final.parent)


def set_umask() -> None:
    """Let PostgreSQL's account into the folders of the repository, and nobody else write there.

    What is secret has a mode of its own: base backups, configurations and logs.
    """
    os.umask(0o022)
