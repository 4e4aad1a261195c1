"""The snapshot as links: where a day entry points, and what the snapshots on disk really refer to.

`contentstore-S/2026/11/22 -> ../../../days/V/2026/11/22`: relative, so that the repository can be moved.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from alfresco_backup.contentstore.plan import Previous
from alfresco_backup.contentstore.scan import DAY_DEPTH, SECOND_NS
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import DAYS, SNAPSHOT_PREFIX, StoreRepository, metadata_of
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.files import PARTIAL, read_json
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN, make_stamp, parse_stamp


def link_text(path: str, version: str) -> str:
    """What the link at `path` in a snapshot says to lead to the version of that path."""
    return "../" * (path.count("/") + 1) + f"{DAYS}/{version}/{path}"


def linked_version(text: str, path: str) -> str | None:
    """The version that a link at `path` leads to; None for a link that is not ours."""
    head, tail = "../" * (path.count("/") + 1) + f"{DAYS}/", f"/{path}"
    if not (text.startswith(head) and text.endswith(tail)):
        return None
    version = text[len(head) : -len(tail)]
    return version if STAMP_PATTERN.fullmatch(version) else None


def snapshot_stamps(repository: StoreRepository) -> list[str]:
    """Stamps of all snapshot trees that bear their final name, oldest first, the predecessor's included."""
    if not repository.root.is_dir():
        return []
    names = (path.name.removeprefix(SNAPSHOT_PREFIX) for path in repository.root.glob(f"{SNAPSHOT_PREFIX}*/"))
    stamps = [name for name in names if STAMP_PATTERN.fullmatch(name) or LEGACY_PATTERN.fullmatch(name)]
    return sorted(stamps, key=parse_stamp)


def read_previous(repository: StoreRepository) -> Previous | None:
    """The newest snapshot. A day whose link or version is not there any more counts as not in it.

    A tree whose metadata is missing or damaged still serves as link target.
    """
    stamps = snapshot_stamps(repository)
    if not stamps:
        return None
    stamp = stamps[-1]
    path = repository.snapshot(stamp)
    if LEGACY_PATTERN.fullmatch(stamp):
        root = os.fspath(path)
        return replace(_held_below(stamp, path), links=frozenset(_links_in_whole_tree(root)))
    try:
        snapshot = Snapshot.from_metadata(read_json(metadata_of(path)), path)
    except (OSError, ValueError):
        return _held_below(stamp, path)
    started_ns = int(snapshot.started_at.timestamp() * SECOND_NS)
    days, loose = (_present(path, entries) for entries in (snapshot.days, snapshot.loose))
    return Previous(
        stamp, path, started_ns, days, loose, deletions=snapshot.deletions, outside=snapshot.outside
    )


def _held_below(stamp: str, path: Path) -> Previous:
    entries = dict(_entries_below(os.fspath(path)))
    days = frozenset(entry for entry, is_day in entries.items() if is_day)
    return Previous(stamp, path, held=days, held_loose=frozenset(entries.keys() - days))


def read_published(repository: StoreRepository, stamp: str) -> Snapshot | None:
    """The snapshot of that stamp, when it bears its final name and its metadata can be read."""
    path = repository.snapshot(stamp)
    if not path.is_dir():
        return None
    try:
        return Snapshot.from_metadata(read_json(metadata_of(path)), path)
    except (OSError, ValueError):
        return None


def _present(snapshot: Path, entries: Mapping[str, DayVersion]) -> dict[str, DayVersion]:
    root, days = os.fspath(snapshot), f"{snapshot.parent}/{DAYS}"
    return {
        path: entry
        for path, entry in entries.items()
        if _link(f"{root}/{path}") == link_text(path, entry.version)
        and os.path.lexists(f"{days}/{entry.version}/{path}")  # an entry may be a link itself
    }


def _entries_below(root: str, relative: str = "", depth: int = 1) -> Iterator[tuple[str, bool]]:
    """Paths of the folders at the depth of days in a tree (True), and of files above; not of what cannot be
    read. Links are followed.
    """
    with suppress(OSError), os.scandir(f"{root}/{relative}") as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if not entry.is_dir():
                yield path, False
            elif depth < DAY_DEPTH:
                yield from _entries_below(root, path, depth + 1)
            else:
                yield path, True


def _links_in_whole_tree(root: str) -> Iterator[str]:
    """Where links are in a predecessor's tree, down to days: rsync would follow them and link to live files.

    What cannot be looked at counts as a link. It reads every folder, once: the next snapshot is one of ours.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_symlink():
                        yield "/".join(path.split("/")[:DAY_DEPTH])
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(path)
        except OSError:
            yield "/".join(folder.split("/")[:DAY_DEPTH])


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - thousands of text paths
    except OSError:
        return None


def links_below(root: str, relative: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """(version, path) of every link of ours in a snapshot's tree. Raises OSError."""
    with os.scandir(f"{root}/{relative}") as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_symlink():
                version = linked_version(os.readlink(entry.path), path)  # noqa: PTH115
                if version is not None:
                    yield version, path
            elif depth < DAY_DEPTH and entry.is_dir(follow_symlinks=False):
                yield from links_below(root, path, depth + 1)


def leftovers(repository: StoreRepository) -> list[Path]:
    """What killed runs left in this store's folders, newest first."""
    found = [*repository.root.glob(f"*{PARTIAL}"), *repository.days.glob(f"*{PARTIAL}")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def unlinked_day_trees(repository: StoreRepository) -> list[Path]:
    """Published day trees newer than every snapshot, oldest first: their run was killed just before its own.

    None where a snapshot bears a name that people gave it: it may hold them.
    """
    trees = [path.name for path in repository.root.glob(f"{SNAPSHOT_PREFIX}*/")]
    stamps = snapshot_stamps(repository)
    if sum(not name.endswith(PARTIAL) for name in trees) > len(stamps):
        return []
    newest = make_stamp(parse_stamp(stamps[-1])) if stamps else ""
    found = (path for path in sorted(repository.days.glob("*/")) if STAMP_PATTERN.fullmatch(path.name))
    return [path for path in found if path.name > newest]


def leaves(folder: str, depth: int) -> Iterator[str]:
    """Entries at the depth of a day, and what ends above it. An empty folder is a leaf too."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    if not entries:
        yield folder
    for entry in entries:
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from leaves(entry.path, depth - 1)
        else:
            yield entry.path
