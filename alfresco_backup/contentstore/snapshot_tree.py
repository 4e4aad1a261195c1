"""The snapshot on disk: what killed runs left, the tree of links, and giving everything its final name."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
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
from alfresco_backup.system.folders import (
    appending,
    creating,
    make_folder,
    make_folders,
    open_folder,
    remove_tree,
    rename,
    set_access,
    symlink,
    unlink,
)

BESIDE = (COPIED, CHECKSUMS)
CLOSED = 0o700
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
                remove_tree(path)
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
                rename(path, beside_tree(name, kind))
    rename(tree, name)


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
    with open_folder(tree) as top:
        for folder, _, names, descriptor in os.fwalk(".", dir_fd=top):
            for name in names:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if status.st_ctime_ns >= synced_ns and (folder, name) not in ((".", BOOT), (".", SYNCED)):
                    os.unlink(name, dir_fd=descriptor)
    mark_boot(tree)
    return True


def mark_boot(partial: Path) -> None:
    """Note that nothing in a copy that is under way was written before this start of the machine."""
    unlink(partial / BOOT, missing_ok=True)
    with creating(partial / BOOT) as stream:
        stream.write(_boot_id())


def _boot_id() -> bytes:
    """What the kernel names this start of the machine; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


def mark_synced(partial: Path, now_ns: int) -> None:
    """Flush what has been copied so far and note until when, for a run that continues after a power cut."""
    sync_filesystem(partial)
    with appending(partial / SYNCED) as stream:
        os.utime(stream.fileno(), ns=(now_ns, now_ns))


def make_store(repository: StoreRepository) -> None:
    """Make the folders of a store's snapshots, closed to other accounts.

    What is copied keeps its owners, who could change it otherwise, and put links in it that lead root
    elsewhere.
    """
    make_folders(repository.root.parent)
    make_folder(repository.root, CLOSED, exist_ok=True)
    status = repository.root.stat()
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        set_access(repository.root, status.st_uid, status.st_gid, CLOSED)
    make_folder(repository.days, CLOSED, exist_ok=True)


def make_containers(root: Path, paths: Iterable[str]) -> None:
    """Make `root`, closed, and the folders above day trees below it, each after the one that holds it."""
    make_folder(root, CLOSED, exist_ok=True)
    with open_folder(root) as top:
        for path in filter(None, paths):
            with suppress(FileExistsError):
                os.mkdir(path, dir_fd=top)


def link_tree(
    repository: StoreRepository,
    stamp: str,
    containers: Mapping[str, Container],
    entries: Iterable[tuple[str, DayVersion]],
) -> Path:
    """Make the snapshot's tree of links under its partial name. Folders get mode, time, as root the owner."""
    tree = partial_of(repository.snapshot(stamp))
    if tree.exists():
        remove_tree(tree)
    make_containers(tree, containers)
    with open_folder(tree) as top:  # in which nobody else can change anything until it is given away
        for path, entry in entries:
            os.symlink(link_text(path, entry.version), path, dir_fd=top)
        for container in reversed(list(containers.values())):
            path = container.path or "."
            os.utime(path, ns=(container.modified_ns, container.modified_ns), dir_fd=top)
            os.chmod(path, container.mode | 0o700, dir_fd=top)
            if os.geteuid() == 0:
                os.chown(path, container.uid, container.gid, dir_fd=top)
    return tree


def publish_snapshot(repository: StoreRepository, snapshot: Snapshot, copied: Path | None) -> None:
    """Flush everything, then name it: day trees, their checksums, metadata, snapshot."""
    tree = partial_of(snapshot.path)
    if copied:
        sync_filesystem(repository.root)  # minutes: a run that is killed meanwhile is continued by the notes
        for note in (SYNCED, BOOT):
            unlink(copied / note, missing_ok=True)
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
    unlink(latest, missing_ok=True)
    symlink(latest, repository.snapshot(stamp).name)
    rename(latest, repository.latest)
    fsync_directory(repository.root)


def remove_leftovers(repository: StoreRepository) -> None:
    """Remove what killed runs left. Only after a success: until then it may spare a copy."""
    for path in leftovers(repository):
        remove_tree(path)
