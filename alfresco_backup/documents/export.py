"""Writes documents into a new folder: their files, a JSON beside each, a manifest. Acts.

The folder is `NAME.partial` until it is complete. It is held open, and everything in it is made relative to
that descriptor: whoever may write to the folder above can exchange names there, but leads nothing elsewhere.
"""

import errno
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from alfresco_backup.contentstore.checksums import line_of
from alfresco_backup.documents.export_content import Contents, Copier, Copying, set_time
from alfresco_backup.documents.export_records import (
    LISTED,
    MANIFEST,
    SUMS,
    Names,
    Placed,
    Tally,
    Written,
    describe,
    json_text,
)
from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails, Version
from alfresco_backup.drill.place import live_places
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host
from alfresco_backup.repository.days import as_here
from alfresco_backup.repository.layout import partial_of
from alfresco_backup.settings.commands import folder_listing, free_space_command, own_links
from alfresco_backup.system.files import (
    PARTIAL,
    SCHEMA_VERSION,
    fsync_directory,
    read_json,
    sync_filesystem,
)
from alfresco_backup.system.folders import (
    FOLDER,
    make_folder,
    open_folder,
    remove_tree,
    rename,
    untrusted_link,
)
from alfresco_backup.times import size_for_people

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
BLOCKS_OF_A_NODE = 16 << 10
"""What a file and its JSON take besides their content."""
AHEAD = 32
"""So many nodes are begun before the first of them has to be copied: a large one keeps none waiting."""
OPEN_FOLDERS = 16


def require_target(host: Host, target: Path) -> None:
    """Refuse a folder that cannot be a new one, or that is in a place of the live host. Changes nothing."""
    if not target.is_absolute() or ".." in target.parts:
        raise Refused(f"the folder {target} is not a path from the root", folder_listing(Path("/")))
    link = untrusted_link(target.parent)
    if link:
        raise Refused(f"{link}, on the way to {target}, is a link of another account", own_links(link))
    try:
        above = target.parent.resolve(strict=True)
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        taken = target.is_symlink() or (target.exists() and not _is_empty(target))
    except OSError as error:
        raise Refused(
            f"the folder {target} cannot be made: {error.strerror}", folder_listing(target.parent)
        ) from error
    if taken:
        raise Refused(f"{target} exists and is not an empty folder", folder_listing(target))
    if os.path.ismount(target):
        raise Refused(f"{target} is a mount point; name a new folder in it", folder_listing(target))
    _require_apart(host, above / target.name)


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _require_apart(host: Host, target: Path) -> None:
    exports = host.repository.exports.resolve()
    if exports in target.parents:
        return
    for place in (*live_places(host), host.repository.root):
        real = place.resolve()
        if target == real or real in target.parents or target in real.parents:
            raise Refused(f"{target} overlaps with {real}", folder_listing(target.parent))


def require_space(target: Path, wanted: int, nodes: int) -> None:
    """Refuse an export that the disk has no room for."""
    needed = wanted + nodes * BLOCKS_OF_A_NODE
    status = os.statvfs(target.parent)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise Refused(
            f"the export needs {size_for_people(needed)}; {size_for_people(free)} are free at {target}",
            free_space_command(target.parent),
        )


def remove_unfinished(target: Path) -> list[Path]:
    """Remove what a killed export to that folder left. Raises Refused for what no export left."""
    partial = partial_of(target)
    if not os.path.lexists(partial):
        return []
    if not _is_left_over(partial, target):
        raise Refused(f"{partial} exists, and no export left it", folder_listing(partial))
    remove_tree(partial)
    return [partial]


def remove_all_unfinished(exports: Path) -> list[Path]:
    """Remove what killed exports left in the repository's own folder of exports."""
    found = sorted(exports.glob(f"*{PARTIAL}")) if exports.is_dir() else []
    for partial in found:
        remove_tree(partial)
    return found


def _is_left_over(partial: Path, target: Path) -> bool:
    with suppress(OSError, ValueError):
        status = os.lstat(partial)
        if status.st_uid != os.geteuid():
            return False
        first = {LISTED, SUMS, f"{MANIFEST}{PARTIAL}"}
        if {path.name for path in partial.iterdir()} <= first:  # killed before it had a manifest
            return True
        return bool(read_json(partial / MANIFEST).get("folder") == str(target))
    return False


@contextmanager
def exporting(target: Path, manifest: dict[str, Any], *, versions: bool) -> Iterator["Export"]:
    """A new folder `target`, there as a whole once the block has ended, and nothing of it after an error.

    Raises BackupError where the disk is full or the folder cannot be written to.
    """
    partial = partial_of(target)
    try:
        make_folder(partial, 0o700)
        with open_folder(partial) as root:
            export = Export(root, versions=versions)
            try:
                export.write_manifest({"state": "unfinished", "folder": str(target), **manifest})
                yield export
                export.close()
                sync_filesystem(partial)
                rename(partial, target)
                if not os.path.samestat(os.lstat(target), os.fstat(root)):
                    raise OSError(errno.ESTALE, "it was exchanged while it was made", os.fspath(target))
                fsync_directory(target.parent)
            except BaseException:
                export.abandon()
                with suppress(OSError):
                    remove_tree(partial)
                raise
    except OSError as error:
        if error.errno in FULL:
            raise BackupError(
                f"the disk of {target} is full: nothing was exported", free_space_command(target.parent)
            ) from error
        raise BackupError(
            f"{target} cannot be written: {error}; nothing was exported", folder_listing(target.parent)
        ) from error


@dataclass(frozen=True)
class _Begun:
    """A node whose content is being copied, if it has one. Without `placed` it is left."""

    details: NodeDetails
    placed: Placed | None = None
    copied: Copying | None = None


class Export:
    """An export under way, in a folder that is held open as `root`."""

    def __init__(self, root: int, *, versions: bool) -> None:
        self.names = Names()
        self.tally = Tally()
        self._root, self._versions = root, versions
        self._deferred: dict[int, Placed] = {}
        self._folders: set[str] = {""}
        self._times: list[tuple[str, datetime]] = []
        self._listed = self._stream(LISTED)
        self._sums = self._stream(SUMS)
        self._open: dict[str, int] = {}

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the folder."""
        status = os.fstat(self._root)
        return status.st_dev, status.st_ino

    def write(self, details: Iterable[NodeDetails], contents: Contents, *, snapshots: bool) -> list[Node]:
        """Write nodes; returns those left, whose content is not in reach of `contents`.

        While the content of one is copied, those before it are described and those after it are read.
        """
        left: list[Node] = []
        begun: deque[_Begun] = deque()
        with closing(Copier(contents)) as copier:
            for one in details:
                begun.append(self._begin(one, copier, snapshots=snapshots))
                if len(begun) > AHEAD:
                    left += self._end(begun.popleft(), copier, snapshots=snapshots)
            for each in begun:
                left += self._end(each, copier, snapshots=snapshots)
        return left

    def _begin(self, details: NodeDetails, copier: Copier, *, snapshots: bool) -> "_Begun":
        node = details.node
        wanted = [node.content, *(version.content for version in self._of_interest(details))]
        if not all(copier.contents.is_in_reach(each, snapshots=snapshots) for each in wanted):
            return _Begun(details)
        placed = self._deferred.pop(node.number, None) or self.names.place(node)
        if node.content is None:
            return _Begun(details, placed)
        copied = self._copy(placed.folder, placed.name, node.content, copier, snapshots=snapshots)
        return _Begun(details, placed, copied)

    def _end(self, begun: "_Begun", copier: Copier, *, snapshots: bool) -> list[Node]:
        """The node where it is left: only the snapshots, which are not read yet, may have its content."""
        node, placed = begun.details.node, begun.placed
        if placed is None:
            return [node]
        written = self._finish(placed.folder, placed.name, node.modified, begun.copied, copier)
        if written.state == "lost" and not snapshots:
            self._deferred[node.number] = placed
            return [node]
        if node.is_folder:
            self._folder(placed.path)
            if node.modified:
                self._times.append((placed.path, node.modified))
        versions = self._write_versions(begun.details, placed, copier)
        self._describe(begun.details, placed, written, versions)
        self.tally.add(begun.details, written)
        return []

    def _of_interest(self, details: NodeDetails) -> Sequence[Version]:
        return details.versions if self._versions else ()

    def _write_versions(
        self, details: NodeDetails, placed: Placed, copier: Copier
    ) -> list[tuple[Version, Written | None]]:
        if not self._versions:
            return [(version, None) for version in details.versions]
        found: list[tuple[Version, Written | None]] = []
        for version in details.versions:
            written = Written("none")
            if version.content:
                name = self.names.place_version(placed, version)
                copied = self._copy(placed.versions, name, version.content, copier, snapshots=True)
                written = self._finish(placed.versions, name, version.modified, copied, copier)
            self.tally.add_version(details.node, version, written)
            found.append((version, written))
        return found

    def _copy(
        self, folder: str, name: str, content: ContentFile, copier: Copier, *, snapshots: bool
    ) -> Copying:
        target = _create(self._folder(folder), name)
        return copier.begin(content, target, _join(folder, name), snapshots=snapshots)

    def _finish(
        self,
        folder: str,
        name: str,
        modified: datetime | None,
        copied: Copying | None,
        copier: Copier,
    ) -> Written:
        """What became of a content once it is copied; nothing stays of one that could not be."""
        if copied is None:
            return Written("none")
        written = copier.finish(copied, modified)
        if written.state != "exported":
            os.unlink(as_here(name), dir_fd=self._folder(folder))
        if written.sha1:
            path = _join(folder, name).encode("utf-8", "surrogateescape")
            self._sums.write(line_of(path, bytes.fromhex(written.sha1)))
        return written

    def _describe(
        self,
        details: NodeDetails,
        placed: Placed,
        written: Written,
        versions: list[tuple[Version, Written | None]],
    ) -> None:
        document = {"schema": SCHEMA_VERSION, **describe(details, written, versions)}
        parent = self._folder(placed.folder)
        target = _create(parent, placed.description.rpartition("/")[2])
        try:
            _write_all(target, json_text(document))
        finally:
            os.close(target)
        node = details.node
        line = {
            "node": node.uuid,
            "path": node.path,
            "description": placed.description,
            "state": "folder" if node.is_folder else written.state,
            "file": written.file or None,
            "size": written.size,
            "sha1": written.sha1 or None,
            "from": written.origin or None,
            "compared": written.compared,
            "notes": list(written.notes),
            "unread": written.unread,
        }
        self._listed.write(json.dumps(line).encode() + b"\n")

    def write_manifest(self, document: dict[str, Any]) -> None:
        """Write the manifest, in place of an earlier one."""
        partial = f"{MANIFEST}{PARTIAL}"
        target = _create(self._root, partial)
        try:
            text = json.dumps({"schema": SCHEMA_VERSION, **document}, indent=1, ensure_ascii=False)
            _write_all(target, text + "\n")
        finally:
            os.close(target)
        os.rename(partial, MANIFEST, src_dir_fd=self._root, dst_dir_fd=self._root)

    def close(self) -> None:
        """End writing: folders get their times last."""
        self._listed.close()
        self._sums.close()
        for path, modified in self._times:
            set_time(self._folder(path), modified)
        self._close_folders()

    def abandon(self) -> None:
        """Let go of what is open, whatever becomes of it."""
        for stream in (self._listed, self._sums):
            with suppress(OSError, ValueError):
                stream.close()
        with suppress(OSError):
            self._close_folders()

    def _close_folders(self) -> None:
        """Each once: closed again, the number could be that of another file by then."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _folder(self, path: str) -> int:
        """A folder of the export, made if need be, by its descriptor: a path may be longer than allowed.

        The last ones are kept open: nodes are begun in one while those of another are described.
        """
        if path in self._open:
            return self._open[path]
        descriptor, walked = os.dup(self._root), ""
        for name in path.split("/") if path else ():
            walked = f"{walked}/{name}" if walked else name
            here = os.fsencode(as_here(name))
            try:
                if walked not in self._folders:
                    os.mkdir(here, 0o700, dir_fd=descriptor)
                    self._folders.add(walked)
                inner = os.open(here, FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        if len(self._open) >= OPEN_FOLDERS:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = descriptor
        return descriptor

    def _stream(self, name: str) -> BinaryIO:
        return os.fdopen(_create(self._root, name), "wb", buffering=1 << 16)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _create(parent: int, name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(as_here(name), flags, 0o600, dir_fd=parent)


def _write_all(target: int, text: str) -> None:
    rest = memoryview(_encoded(text))
    while rest:
        rest = rest[os.write(target, rest) :]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
