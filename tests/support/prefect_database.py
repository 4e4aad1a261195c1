"""Prefect's database, made once for this machine: a server that makes it needs twice the time to start."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.places import cache_directory

START_AND_STOP = "from tasks.runs.embedded_server import prefect_server\nwith prefect_server(): pass"


def give_database(prefect_home: Path) -> Path:
    """Put it into a PREFECT_HOME that has none, and return that folder."""
    prefect_home.mkdir(parents=True, exist_ok=True)
    put_database(prefect_home / "prefect.db")
    return prefect_home


def put_database(file: Path) -> None:
    """Put it where a server will look for it, unless there is one."""
    if not file.exists():
        shutil.copyfile(_database(), file)


@cache
def _database() -> Path:
    """The database as a server of this version of Prefect has made it when it is up."""
    kept = cache_directory() / f"prefect-{version('prefect')}.db"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _make(kept)
    return kept


def _make(kept: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "PREFECT_HOME": home}
        argv = [sys.executable, "-c", START_AND_STOP]
        subprocess.run(argv, cwd=PROJECT_DIRECTORY, env=environment, check=True)
        partial = kept.with_suffix(".partial")
        partial.unlink(missing_ok=True)  # of a process that was killed while it held the lock
        made = sqlite3.connect(Path(home, "prefect.db"))
        made.execute("VACUUM INTO ?", (str(partial),))  # one file, whatever was still in the journal
        made.close()
        partial.rename(kept)
