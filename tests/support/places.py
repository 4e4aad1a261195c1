"""Where tests work: folders that are gone when their process is, however it ended (see sweeper.py)."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support.sweeper import Sweeper

ROOM_FOR_TESTS = 4 << 30


@cache
def sweeper() -> Sweeper:
    """The one of this process. What others do when the process ends, Prefect for one, they do before it."""
    made = Sweeper()
    atexit.register(made.finish)
    return made


@cache
def own_folder() -> Path:
    """This process's folder, which every account can reach; servers whose folder is in it die with it."""
    folder = Path(tempfile.mkdtemp(prefix="ab-", dir=_quick_place()))
    sweeper().sweep(folder)
    folder.chmod(0o755)
    return folder


def _quick_place() -> Path:
    """Memory where there is plenty of it: a cluster on a busy disk takes seconds more to make."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and not os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return memory if shutil.disk_usage(memory).free >= ROOM_FOR_TESTS else Path("/var/tmp")
    return Path("/var/tmp")


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A short path that PostgreSQL's account can reach when root runs the tests; pytest's own is closed."""
    directory = Path(tempfile.mkdtemp(prefix="", dir=own_folder()))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def directory_in(parent: str) -> Iterator[Path]:
    """A folder on the file system of `parent`, for tests that need just that one. For this account only."""
    with tempfile.TemporaryDirectory(prefix="ab-", dir=parent, ignore_cleanup_errors=True) as name:
        sweeper().sweep(Path(name))
        yield Path(name)
