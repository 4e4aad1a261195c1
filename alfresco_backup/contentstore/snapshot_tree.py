"""The snapshot on disk: what killed runs left, the tree of links, and giving everything its final name."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from alfresco_backup.contentstore.links import leftovers, link_text, unlinked_day_trees
from alfresco_backup.contentstore.scan import Container
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import (
    CHECKSUMS,
    COPIED,
    StoreRepository,
    beside_tree,
    metadata_of,
    partial_of,
)
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.files import (
    PARTIAL,
    fsync_directory,
    fsync_tree,
    publish,
    sync_filesystem,
    write_json,
)

BESIDE = (COPIED, CHECKSUMS)
SYNCED = ".synced" + PARTIAL
"""In a copy that is under way: what is older than this file is surely on disk."""
BOOT = ".boot" + PARTIAL
"""In a copy that is under way: since which start of the machine all in it can be trusted."""


def reclaim_leftovers(repository: StoreRepository, stamp: str) -> list[Path]:
    """Day trees of killed runs, newest first, which this run may link to instead of copying again.

    A tree of this run's own stamp (an earlier try of the same run) is set aside among them: nothing is ever
    copied into a tree that holds links already. So is one that was published by a run killed before its
    snapshot was. After a restart only what was flushed before it is trusted.
    """
    own = repository.day_trees(stamp)
    for path in (own, *unlinked_day_trees(repository), partial_of(own)):
        if path.exists():
            name = _free_name(own if path == partial_of(own) else path)
            _set_aside(path, name)
            if path != partial_of(own):
                mark_boot(name)  # flushed before it was published
    for kind in BESIDE:  # with no tree any more they tell nothing
        for path in (beside_tree(own, kind), partial_of(beside_tree(own, kind))):
            if path.exists():
                shutil.rmtree(path)
    trees = [
        path
        for path in leftovers(repository)
        if path.parent == repository.days and path.is_dir() and _is_tree(path)
    ]
    return [tree for tree in trees if _trustworthy(tree)]


def _set_aside(tree: Path, name: Path) -> None:
    """Give day trees of an earlier try another name, and the same to what lies beside them."""
    for kind in BESIDE:
        for path in (beside_tree(tree, kind), partial_of(beside_tree(tree, kind))):
            if path.exists() and not beside_tree(name, kind).exists():
                path.rename(beside_tree(name, kind))
    tree.rename(name)


def _is_tree(path: Path) -> bool:
    return not path.name.removesuffix(PARTIAL).endswith(BESIDE)


def _free_name(own: Path) -> Path:
    number = 1
    while (name := own.with_name(f"{own.name}-{number}{PARTIAL}")).exists():
        number += 1
    return name


def _trustworthy(tree: Path) -> bool:
    """Whether files in the tree can be linked to; removes those that a power cut may have emptied.

    Killed over that, it begins again: only at the end does the tree count as made since this start.
    """
    boot, marker = tree / BOOT, tree / SYNCED
    if boot.exists() and boot.read_bytes() == _boot_id() != b"":
        return True
    if not marker.exists():
        return False
    synced_ns = marker.stat().st_mtime_ns
    for directory, _, names in os.walk(tree):
        for name in names:
            path = Path(directory, name)
            if path.lstat().st_ctime_ns >= synced_ns and path not in (boot, marker):
                path.unlink()
    mark_boot(tree)
    return True


def mark_boot(partial: Path) -> None:
    """Note that nothing in a copy that is under way was written before this start of the machine."""
    (partial / BOOT).write_bytes(_boot_id())


def _boot_id() -> bytes:
    """What the kernel names this start of the machine; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


def mark_synced(partial: Path, now_ns: int) -> None:
    """Flush what has been copied so far and note until when, for a run that continues after a power cut."""
    sync_filesystem(partial)
    marker = partial / SYNCED
    marker.touch()
    os.utime(marker, ns=(now_ns, now_ns))


def make_containers(root: Path, paths: Iterable[str]) -> None:
    """Make `root` and the folders above day trees below it, each after the one that holds it."""
    root.mkdir(exist_ok=True)
    for path in paths:
        (root / path).mkdir(exist_ok=True)


def link_tree(
    repository: StoreRepository,
    stamp: str,
    containers: Mapping[str, Container],
    entries: Iterable[tuple[str, DayVersion]],
) -> Path:
    """Make the snapshot's tree of links under its partial name. Folders get mode, time, as root the owner."""
    tree = partial_of(repository.snapshot(stamp))
    if tree.exists():
        shutil.rmtree(tree)
    make_containers(tree, containers)
    root = os.fspath(tree)
    for path, entry in entries:
        os.symlink(link_text(path, entry.version), f"{root}/{path}")  # noqa: PTH211 - thousands of text paths
    for container in reversed(list(containers.values())):
        folder = tree / container.path
        if os.geteuid() == 0:
            os.chown(folder, container.uid, container.gid)
        folder.chmod(container.mode | 0o700)
        os.utime(folder, ns=(container.modified_ns, container.modified_ns))
    return tree


def publish_snapshot(repository: StoreRepository, snapshot: Snapshot, copied: Path | None) -> None:
    """Flush everything, then name it: day trees, their checksums, metadata, snapshot."""
    tree = partial_of(snapshot.path)
    if copied:
        sync_filesystem(repository.root)  # minutes: a run that is killed meanwhile is continued by the notes
        for note in (SYNCED, BOOT):
            (copied / note).unlink(missing_ok=True)
        fsync_directory(copied)
        publish(copied, repository.day_trees(snapshot.stamp))
        publish(beside_tree(copied, CHECKSUMS), repository.checksums(snapshot.stamp))
    else:
        fsync_tree(tree)
    write_json(metadata_of(snapshot.path), snapshot.to_metadata())
    publish(tree, snapshot.path)


def point_to_latest(repository: StoreRepository, stamp: str) -> None:
    """Make `latest` lead to that snapshot. For people; nothing here relies on it."""
    latest = partial_of(repository.latest)
    latest.unlink(missing_ok=True)
    latest.symlink_to(repository.snapshot(stamp).name)
    latest.replace(repository.latest)
    fsync_directory(repository.root)


def remove_leftovers(repository: StoreRepository) -> None:
    """Remove what killed runs left. Only after a success: until then it may spare a copy."""
    for path in leftovers(repository):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
