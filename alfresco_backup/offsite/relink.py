"""Makes one file again of what was one here: an unchanged content file in several versions of its day.

A run that copies a day again links what has not changed to the version before. Each version is in a restic
snapshot of its own, which does not know of the other's links.
"""

import filecmp
import os
import stat
from pathlib import Path

from alfresco_backup.system.files import PARTIAL
from alfresco_backup.system.folders import rename, set_time, unlink


def link_to_versions(tree: Path, versions: list[Path]) -> int:
    """Replace the files of a day tree by links to those of its other versions that are the same file.

    The same: name, size, times, owner, mode and every byte. The first version that has it counts. Returns how
    many were replaced; the folders keep their times. Raises OSError.
    """
    linked = 0
    for folder, _, names in os.walk(tree):
        here = Path(folder)
        before = here.lstat().st_mtime_ns
        found = [
            name for name in names if _link(here / name, [path / here.relative_to(tree) for path in versions])
        ]
        if found:
            set_time(here, before)
        linked += len(found)
    return linked


def _link(file: Path, folders: list[Path]) -> bool:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    for folder in folders:
        other = folder / file.name
        try:
            if _looks(other.lstat()) != _looks(status) or not filecmp.cmp(file, other, shallow=False):
                continue
        except FileNotFoundError:
            continue
        partial = file.with_name(file.name + PARTIAL)
        unlink(partial, missing_ok=True)
        os.link(other, partial, follow_symlinks=False)
        rename(partial, file)
        return True
    return False


def _looks(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns)
