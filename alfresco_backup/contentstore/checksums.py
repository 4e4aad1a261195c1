"""Checksums of stored content: what each file was when it was copied, to tell later whether it still is.

Every version of a day tree has a list, beside the trees: `days/STAMP.checksums/2026/11/22` is that of
`days/STAMP/2026/11/22`. A list can be checked by hand, with names relative to `days/STAMP`:

    cd days/STAMP && sha1sum --check --quiet ../STAMP.checksums/2026/11/22

Its first line holds its schema, the last one a checksum of all before it. A file without a line has no
checksum yet: it comes from before there were lists. SHA-1 is what rsync computes fastest while it copies, of
those that can be checked by hand; rsync before 3.2 knows MD5 only. Both are to find accidents, not forgery.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from alfresco_backup.contentstore.plan import Previous, SnapshotRequest
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.contentstore.volumes import leads_out
from alfresco_backup.repository.layout import CHECKSUMS, COPIED, beside_tree
from alfresco_backup.system.files import SCHEMA_VERSION, write_bytes
from alfresco_backup.system.folders import appending, creating, make_folder, make_folders, reading

Digests = dict[bytes, bytes]
"""Digest by name, relative to the version's tree."""
ALGORITHMS: Mapping[int, str] = {20: "sha1", 16: "md5"}
"""By length of the digest in bytes."""
FIRST_CHOICE = 20
BLOCK = 1 << 20
BUFFERED = 256 << 10
_LINE = re.compile(rb"(\\?)([0-9a-f]{40}|[0-9a-f]{32})  (.+)", re.DOTALL)
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_ESCAPED = re.compile(rb"\\([\\nr])")
_MEANT = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


def line_of(name: bytes, digest: bytes) -> bytes:
    """A line as sha1sum and md5sum write it: odd names escaped, which a backslash at its beginning tells."""
    mark = b""
    if b"\\" in name or b"\n" in name or b"\r" in name:
        mark = b"\\"
        for plain, escaped in _ESCAPES:
            name = name.replace(plain, escaped)
    return mark + digest.hex().encode() + b"  " + name + b"\n"


def entries_of(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Name and digest of every line that is one; comments are none, nor is what a power cut left of one."""
    for line in lines:
        found = _LINE.fullmatch(line.rstrip(b"\n"))
        if found and line.endswith(b"\n"):
            name = _ESCAPED.sub(lambda match: _MEANT[match[1]], found[3]) if found[1] else found[3]
            yield name, bytes.fromhex(found[2].decode())


def list_text(entries: Mapping[bytes, bytes]) -> bytes:
    """The text of a list."""
    head = f"# {json.dumps({'schema': SCHEMA_VERSION, 'files': len(entries)})}\n".encode()
    body = head + b"".join(line_of(name, entries[name]) for name in sorted(entries))
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return b"# " + hashlib.sha1(body, usedforsecurity=False).hexdigest().encode() + b"\n"


def write_list(file: Path, entries: Mapping[bytes, bytes]) -> None:
    """Write a list whole or not at all; on disk when this returns."""
    make_folders(file.parent)
    write_bytes(file, list_text(entries))


def read_list(file: Path) -> Digests | None:
    """A published list; None where there is none. Raises ValueError for a damaged one, or OSError."""
    try:
        with reading(file) as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    body = content[: content.rstrip(b"\n").rfind(b"\n") + 1]
    if content != body + _seal(body):
        raise ValueError("its last line, the checksum of all other lines, does not match")
    head = json.loads(body.partition(b"\n")[0].lstrip(b"# "))
    if head.get("schema", 0) > SCHEMA_VERSION:
        raise ValueError(
            f"schema {head['schema']} is newer than {SCHEMA_VERSION}, the last that this program reads"
        )
    return dict(entries_of(body.splitlines(keepends=True)))


def read_unfinished(tree: Path, path: str) -> Digests:
    """What a run that did not finish has noted of an entry of its tree; it may have lost the end of it."""
    found: Digests = {}
    for kind in (COPIED, CHECKSUMS):
        try:
            with reading(beside_tree(tree, kind) / path) as stream:
                found.update(entries_of(stream))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):  # the last: a folder
                raise
    return found


def entry_of(name: bytes) -> bytes:
    """The day tree or loose entry that holds a file."""
    return b"/".join(name.split(b"/", DAY_DEPTH)[:DAY_DEPTH])


class CopiedNotes:
    """What rsync says of each file it copies, put on disk by day: there may be millions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[bytes, list[bytes]] = {}
        self._size = 0

    def add(self, name: bytes, digest: bytes) -> None:
        line = line_of(name, digest)
        self._waiting.setdefault(entry_of(name), []).append(line)
        self._size += len(line)
        if self._size > BUFFERED:
            self.flush()

    def flush(self) -> None:
        for entry, lines in self._waiting.items():
            file = self._folder / os.fsdecode(entry)
            make_folders(file.parent)
            with appending(file) as stream:
                stream.writelines(lines)
        self._waiting, self._size = {}, 0


def digest_of(file: bytes, length: int = FIRST_CHOICE) -> bytes:
    """Read a file from the disk, not from what memory still holds of it. Raises OSError.

    `length` is that of the digest. What is read does not stay in memory either: the host needs it.
    """
    state = hashlib.new(ALGORITHMS[length], usedforsecurity=False)
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while block := os.read(descriptor, BLOCK):
            state.update(block)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return state.digest()


def files_below(
    tree: bytes, entry: bytes, folders: list[bytes] | None = None
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every file of an entry: its name relative to the tree, and its inode. `folders` gets those on the way.

    Links are not followed, but named like files. Raises FileNotFoundError when the entry is not there.
    """
    status = os.lstat(tree + b"/" + entry)
    if not stat.S_ISDIR(status.st_mode):
        yield entry, status
        return
    found = [entry]
    while found:
        folder = found.pop()
        if folders is not None:
            folders.append(folder)
        with os.scandir(tree + b"/" + folder) as entries:
            for item in entries:
                name = folder + b"/" + item.name
                if item.is_dir(follow_symlinks=False):
                    found.append(name)
                else:
                    yield name, item.stat(follow_symlinks=False)


# The lists of checksums of what a snapshot copies, from what rsync said of each file as it copied it.

Stats = dict[bytes, tuple[int, int]]
"""By name what tells whether a file is the same as another."""


class Recording:
    """Writes the list of each entry that was copied into the day trees of a run under way.

    A file that was copied has the checksum rsync computed meanwhile. One that was linked, or copied from an
    older version because its mode has changed, has that of the older version: rsync takes it to be the same
    by size and time, and so does this. In a `checksum` run rsync names the checksum the file had when it was
    listed; there the copy is read again.
    """

    def __init__(
        self, request: SnapshotRequest, partial: Path, previous: Previous | None, earlier: Sequence[Path]
    ) -> None:
        """`earlier`: the trees of killed runs that this one links to. What they left bears other names."""
        self._request, self._tree, self._previous, self._earlier = request, partial, previous, earlier
        for kind in (COPIED, CHECKSUMS):
            make_folder(beside_tree(partial, kind))
        self.outside: list[str] = []
        self._notes = CopiedNotes(beside_tree(partial, COPIED))
        self.on_entered: Callable[[str, set[bytes], Digests], None] | None = None

    def copied(self, name: bytes, digest: bytes) -> None:
        """Note what rsync said of a file."""
        if self._request.mode != "checksum":
            self._notes.add(name, digest)

    def end_copying(self) -> None:
        """All that rsync said is in the files, for `enter` to read."""
        self._notes.flush()

    def enter(self, path: str) -> tuple[int, int, int] | None:
        """Write the list of an entry; returns its directories, files and bytes. None: nothing is there.

        `on_entered` gets the entry, the names of its files, and the checksums that are known.
        """
        tree, entry = os.fsencode(self._tree), os.fsencode(path)
        noted = read_unfinished(self._tree, path)
        folders: list[bytes] = []
        digests: Digests = {}
        silent: Stats = {}
        links: set[bytes] = set()
        size = 0
        try:
            for name, status in files_below(tree, entry, folders):
                if stat.S_ISLNK(status.st_mode):
                    links.add(name)
                    self._note_link(tree, name)
                    continue
                size += status.st_size
                if name in noted:
                    digests[name] = noted[name]
                else:
                    silent[name] = self._looks(status)
        except FileNotFoundError:
            return None
        counts = len(folders), len(digests) + len(silent) + len(links), size
        digests |= self._inherited(path, silent)
        if self._request.mode == "checksum":
            digests |= {name: digest_of(tree + b"/" + name) for name in silent if name not in digests}
        file = beside_tree(self._tree, CHECKSUMS) / path
        make_folders(file.parent)
        with creating(file) as stream:
            stream.write(list_text(digests))
        if self.on_entered:
            self.on_entered(path, links | digests.keys() | silent.keys(), digests)
        return counts

    def _note_link(self, tree: bytes, name: bytes) -> None:
        """Remember a link that leads out of the store: what it leads to is not copied."""
        path = os.fsdecode(name)
        if leads_out(os.fsdecode(os.readlink(tree + b"/" + name)), path):  # noqa: PTH115 - names are bytes
            self.outside.append(path)

    def _inherited(self, path: str, silent: Stats) -> Digests:
        """Checksums of files that rsync found in an older tree, in the order in which it looked."""
        found: Digests = {}
        for tree, digests in self._sources(path) if silent else ():
            for name, digest in digests.items():
                if (
                    name in silent
                    and name not in found
                    and self._looks_like(tree + b"/" + name, silent[name])
                ):
                    found[name] = digest
        return found

    def _looks(self, status: os.stat_result) -> tuple[int, int]:
        """By what rsync takes files to be the same; in a `checksum` run only links surely are."""
        if self._request.mode == "checksum":
            return status.st_dev, status.st_ino
        return status.st_size, status.st_mtime_ns

    def _looks_like(self, file: bytes, looks: tuple[int, int]) -> bool:
        try:
            return self._looks(os.lstat(file)) == looks
        except OSError:
            return False

    def _sources(self, path: str) -> Iterator[tuple[bytes, Digests]]:
        previous, repository = self._previous, self._request.repository
        if previous:
            held = previous.days.get(path) or previous.loose.get(path)
            file = repository.checksums(held.version if held else previous.stamp) / path
            known: Digests | None = None
            with suppress(ValueError, OSError):  # the next drill will tell of it
                known = read_list(file)
            tree = repository.day_trees(held.version) if held else previous.path
            yield os.fsencode(tree), known or {}
        for tree in self._earlier:
            yield os.fsencode(tree), read_unfinished(tree, path)
