"""Mount points, by the kernel's list of them.

A folder that is mounted a second time (a bind mount: containers, ReadWritePaths of systemd) may have the
device number of the folder above it; still it cannot be renamed, and nothing can be renamed or linked across
its edge.
"""

import os
import re
from pathlib import Path

_ESCAPED = re.compile(rb"\\(\d{3})")


def mount_points() -> frozenset[str]:
    """Where something is mounted for this process, without links; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    return frozenset(os.fsdecode(_ESCAPED.sub(_byte, line.split(b" ")[4])) for line in lines)


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
