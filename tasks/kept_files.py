"""Files of a store that a fill replaces: kept for its undo, first where they lie, at the end in its folder.

While rsync runs they stay on their own file system, where keeping one is a rename or a link: from a copy to
another one a killed rsync would leave half, and undo would put that back over the whole.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from alfresco_backup.durable import fsync_file, fsync_tree
from alfresco_backup.snapshot_rsync import write_names
from alfresco_backup.store_differences import read_list

KEPT = "kept"
PLACES = "places.store"
MOVING = "moving"


def note_places(folder: Path, temporaries: Sequence[str]) -> None:
    """Write down, in a fill's folder, its temporary folders relative to the store."""
    write_names(folder / PLACES, temporaries)


def kept_in_store(store: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """The replaced files that are still in the store's temporary folders, with the paths they belong at."""
    noted = folder / PLACES
    for temporary in read_list(noted.read_bytes()) if noted.exists() else ():
        kept = store / temporary / KEPT
        for path in sorted(kept.rglob("*")):
            if path.is_file():
                yield path, os.fspath(Path(temporary).parent / path.relative_to(kept))


def keep_in_folder(store: Path, folder: Path) -> None:
    """Bring the replaced files from the store into a fill's folder; each is whole there, or not there."""
    moved = False
    for file, path in kept_in_store(store, folder):
        target = folder / KEPT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_whole(file, folder / MOVING).replace(target)
        moved = True
    if moved:
        fsync_tree(folder / KEPT)


def _copy_whole(file: Path, copy: Path) -> Path:
    """Copy a file in all respects, to disk."""
    status = file.stat()
    shutil.copyfile(file, copy)
    if os.geteuid() == 0:
        os.chown(copy, status.st_uid, status.st_gid)
    copy.chmod(status.st_mode & 0o7777)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    fsync_file(copy)
    return copy
