"""Mount points, by the kernel's list of them.

A folder that is mounted a second time (a bind mount: containers, ReadWritePaths of systemd) may have the
device number of the folder above it; still it cannot be renamed, and nothing can be renamed or linked across
its edge.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from alfresco_backup.errors import BackupError, BackupUnsound

Mount = tuple[str, str]
"""The kernel's number of a mount, and where it is."""
FSTAB = Path("/etc/fstab")
_ESCAPED = re.compile(rb"\\(\d{3})")


def mount_points() -> frozenset[str]:
    """Where something is mounted for this process, without links; empty where the kernel does not tell."""
    return frozenset(path for _, path in _mounts())


def mounts_within(folder: Path) -> frozenset[Mount]:
    """What is mounted at a folder and below it; something that is mounted again later is another mount."""
    real = os.path.realpath(folder)
    return frozenset(mount for mount in _mounts() if mount[1] == real or mount[1].startswith(f"{real}/"))


def require_mounts(folder: Path, before: frozenset[Mount]) -> None:
    """Raise BackupUnsound when something that was mounted within a folder is there no more.

    An empty folder is left in its place, which looks as if all that was in it had been deleted.
    """
    gone = sorted(path for _, path in before - mounts_within(folder))
    if gone:
        raise BackupUnsound(
            f"{', '.join(gone)} in {folder} was unmounted meanwhile; what is on it looked deleted",
            f"mount {shlex.quote(gone[0])}",
        )


def mounts_below(folder: Path) -> tuple[Path, ...]:
    """Where something is mounted below a folder, which goes along when the folder is renamed."""
    real = os.path.realpath(folder)
    return tuple(Path(path) for path in sorted({path for _, path in mounts_within(folder)} - {real}))


def require_no_mounts(tree: Path) -> None:
    """Raise BackupError when something is mounted in a tree that is to be removed: it would be emptied.

    Not for a link, of which only itself is removed.
    """
    mounted = sorted(path for _, path in mounts_within(tree))
    if mounted and not tree.is_symlink():
        raise BackupError(
            f"{', '.join(mounted)} is mounted in {tree}, which is to be removed: what is on it would be "
            "removed, too; nothing was removed",
            f"umount {shlex.quote(mounted[-1])}",
        )


def not_mounted(place: Path) -> tuple[str, ...]:
    """What /etc/fstab mounts at, above or within a place and is not mounted now: what is written there is on
    the disk below. Nothing where the kernel does not tell what is mounted.
    """
    real, mounted = Path(os.path.realpath(place)), mount_points()
    try:
        lines = FSTAB.read_bytes().splitlines() if mounted else []
    except OSError:
        return ()
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith(b"#") or not fields[1].startswith(b"/"):
            continue
        point = os.fsdecode(_ESCAPED.sub(_byte, fields[1]))
        if point in mounted or point == "/":  # a mounted share whose server is down hangs whoever looks at it
            continue
        point = os.path.realpath(point)
        if point not in mounted and (real.is_relative_to(point) or Path(point).is_relative_to(real)):
            found.append(point)
    return tuple(dict.fromkeys(found))


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what a new file system brings along."""
    return all(entry.name == "lost+found" for entry in folder.iterdir())


def _mounts() -> Iterator[Mount]:
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(b" ")
        yield fields[0].decode(), os.fsdecode(_ESCAPED.sub(_byte, fields[4]))


def is_mount_point(path: Path, known: frozenset[str] | None = None) -> bool:
    """Whether something is mounted at a path. A link is none, whatever it leads to; nor is what is missing.

    `known` are the mount points, for those who ask often.
    """
    try:
        if path.lstat().st_dev != path.parent.stat().st_dev:
            return not path.is_symlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    real = f"{os.path.realpath(path.parent).rstrip('/')}/{path.name}"
    return real in (mount_points() if known is None else known)


def _byte(escaped: re.Match[bytes]) -> bytes:
    return bytes([int(escaped[1], 8)])
