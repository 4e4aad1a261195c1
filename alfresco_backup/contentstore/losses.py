"""What a snapshot no longer holds of the one before it, and which files were changed in place.

Alfresco writes a content file once and never changes it; deleting is the only later change. So a file that
holds something else than its checksum of before was changed by something else: an encryption by malware, a
failing disk, somebody's script. Found are deletions in days that are copied anyway and in days that are gone,
and changes in files that are copied: a `quick` run does not look at files of days that did not change.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.contentstore.checksums import Digests, digest_of, files_below, read_list
from alfresco_backup.contentstore.plan import HOUR_NS, Previous, SnapshotPlan, SnapshotRequest
from alfresco_backup.contentstore.scan import Scan
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import CHECKSUMS, SNAPSHOT_PREFIX
from alfresco_backup.system.files import PARTIAL

NAMED = 20
"""So many files that were changed in place are named in the snapshot's metadata."""
DAYS_KNOWN = 14
"""Of so many days with runs a snapshot knows what was deleted on them."""
BLOCK = 1 << 20


@dataclass
class Losses:
    """Counts of one snapshot against the one before. `changed`: the first names, for people."""

    deleted_files: int = 0
    deleted_days: int = 0
    changed_files: int = 0
    changed: list[str] = field(default_factory=list)

    def add_gone(self, previous: Previous | None, scan: Scan, plan: SnapshotPlan) -> None:
        """Count the days and loose files that the store no longer has."""
        if previous is None:
            return
        self.deleted_days += len(plan.days.gone)
        self.deleted_files += sum(previous.days[path].files for path in plan.days.gone)
        self.deleted_files += len(plan.loose.gone)
        for path in previous.held - scan.days.keys() - scan.loose.keys():
            self.deleted_days += 1
            with suppress(OSError):
                self.deleted_files += sum(1 for _ in files_below(_bytes(previous.path), os.fsencode(path)))

    def add_vanished(self, previous: Previous | None, path: str) -> None:
        """Count an entry that was to be copied and went away before it was."""
        held = _held(previous, path)
        if previous and held:
            self.deleted_days += path in previous.days
            self.deleted_files += held.files


def deletions_until(
    before: Mapping[str, tuple[int, int]], day: str, losses: Losses
) -> dict[str, tuple[int, int]]:
    """Files and days deleted by day: what the previous snapshot knew, and this run's added to its day."""
    files, days = before.get(day, (0, 0))
    known = {**before, day: (files + losses.deleted_files, days + losses.deleted_days)}
    return {day: known[day] for day in sorted(known)[-DAYS_KNOWN:]}


class Comparison:
    """Compares the entries that a run copies with what the previous snapshot holds of them."""

    def __init__(
        self, request: SnapshotRequest, tree: Path, previous: Previous | None, losses: Losses
    ) -> None:
        """`tree`: where the run copies to. `losses` gets what is found."""
        self.losses = losses
        self._request, self._tree, self._previous = request, _bytes(tree), previous
        self._older_of, self._older = "", list[bytes]()

    def compare(self, path: str, names: set[bytes], digests: Mapping[bytes, bytes]) -> None:
        """Add what an entry lost and what of it was changed. `names` and `digests`: of the new copy."""
        held = _held(self._previous, path)
        if held is None:
            return
        repository = self._request.repository
        before: Digests = {}
        with suppress(ValueError, OSError):  # the next drill will tell of it
            before = read_list(repository.checksums(held.version) / path) or {}
        tree = _bytes(repository.day_trees(held.version))
        known = before.keys() if len(before) == held.files else set(_names(tree, path))
        losses = self.losses
        losses.deleted_files += len(known - names)
        for name in sorted(known & digests.keys()):
            if before.get(name) != digests[name] and self._is_changed(
                tree, path, name, before.get(name), digests[name]
            ):
                losses.changed_files += 1
                if len(losses.changed) < NAMED:
                    losses.changed.append(name.decode("utf-8", "backslashreplace"))

    def _is_changed(self, tree: bytes, path: str, name: bytes, before: bytes | None, now: bytes) -> bool:
        """Whether content differs, and neither was still being written then nor is an older copy again."""
        old, new = tree + b"/" + name, self._tree + b"/" + name
        try:
            if before is None:
                before = digest_of(old, len(now))
            elif len(before) != len(now):
                now = digest_of(new, len(before))
        except OSError:
            return False  # nothing to compare with: a drill tells what is unreadable
        return before != now and not self._was_growing(old, new) and not self._is_put_back(path, name)

    def _was_growing(self, old: bytes, new: bytes) -> bool:
        """Whether the old copy was made while the file was written: it is recent, and the file longer now."""
        assert self._previous is not None
        hot_ns = int(self._request.options.hot_window_hours * HOUR_NS)
        try:
            then = os.stat(old)  # noqa: PTH116 - names are bytes
            if then.st_mtime_ns < self._previous.started_ns - hot_ns:
                return False
            with open(old, "rb") as first, open(new, "rb") as second:  # noqa: PTH123
                while block := first.read(BLOCK):
                    if second.read(len(block)) != block:
                        return False
                return bool(second.read(1))
        except OSError:
            return False

    def _is_put_back(self, path: str, name: bytes) -> bool:
        """Whether the file is as an older copy of it: a restore has put it back."""
        new = self._tree + b"/" + name
        size = os.stat(new).st_size  # noqa: PTH116
        if self._older_of != path:
            self._older_of, self._older = path, list(self._trees_with(path))
        for tree in self._older:
            with suppress(OSError):
                file = tree + b"/" + name
                if os.stat(file).st_size == size and digest_of(file) == digest_of(new):  # noqa: PTH116
                    return True
        return False

    def _trees_with(self, path: str) -> Iterator[bytes]:
        """All published trees with a copy of an entry, the predecessor's snapshots as well."""
        repository = self._request.repository
        for tree in (*repository.days.iterdir(), *repository.root.glob(f"{SNAPSHOT_PREFIX}*")):
            if tree.name.endswith((PARTIAL, CHECKSUMS)):
                continue
            if not (tree / path).is_symlink() and (tree / path).exists():
                yield _bytes(tree)


def _held(previous: Previous | None, path: str) -> DayVersion | None:
    return (previous.days.get(path) or previous.loose.get(path)) if previous else None


def _names(tree: bytes, path: str) -> Iterator[bytes]:
    with suppress(OSError):
        yield from (name for name, _ in files_below(tree, os.fsencode(path)))


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)
