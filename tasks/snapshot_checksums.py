"""The lists of checksums of what a snapshot copies, from what rsync said of each file as it copied it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from alfresco_backup.checksums import (
    CopiedNotes,
    Digests,
    digest_of,
    files_below,
    list_text,
    read_list,
    read_unfinished,
)
from alfresco_backup.layout import CHECKSUMS, COPIED, beside_tree
from alfresco_backup.snapshot_plan import Previous, SnapshotRequest

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
            beside_tree(partial, kind).mkdir()
        self._notes = CopiedNotes(beside_tree(partial, COPIED))

    def copied(self, name: bytes, digest: bytes) -> None:
        """Note what rsync said of a file."""
        if self._request.mode != "checksum":
            self._notes.add(name, digest)

    def end_copying(self) -> None:
        """All that rsync said is in the files, for `enter` to read."""
        self._notes.flush()

    def enter(self, path: str) -> tuple[int, int, int] | None:
        """Write the list of an entry; returns its directories, files and bytes. None: nothing is there."""
        tree, entry = os.fsencode(self._tree), os.fsencode(path)
        noted = read_unfinished(self._tree, path)
        folders: list[bytes] = []
        digests: Digests = {}
        silent: Stats = {}
        size = 0
        try:
            for name, status in files_below(tree, entry, folders):
                size += status.st_size
                if name in noted:
                    digests[name] = noted[name]
                else:
                    silent[name] = self._looks(status)
        except FileNotFoundError:
            return None
        counts = len(folders), len(digests) + len(silent), size
        digests |= self._inherited(path, silent)
        if self._request.mode == "checksum":
            digests |= {name: digest_of(tree + b"/" + name) for name in silent if name not in digests}
        file = beside_tree(self._tree, CHECKSUMS) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(list_text(digests))
        return counts

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
            return self._looks(os.stat(file)) == looks  # noqa: PTH116 - names are bytes
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
            yield os.fsencode(previous.path), known or {}
        for tree in self._earlier:
            yield os.fsencode(tree), read_unfinished(tree, path)
