"""Running restore.py as people and scripts do, and what the tests look at afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfresco_backup.host.host import load_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.repository.sets import BackupSet
from demo.host import DemoHost
from demo.state import DATABASE
from tests.support.terminal import Terminal

PROJECT = Path(__file__).parents[2]
LIMIT_SECONDS = 600


def environment(home: Path) -> dict[str, str]:
    """Next to nothing, as cron gives it."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin"}


def run(
    program: str, *arguments: object, home: Path, server: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROJECT / program, *map(str, arguments)],
        cwd="/",
        env={**environment(home), **(server or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def restore(
    host: DemoHost, *arguments: object, home: Path, server: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """With --json: the exit code and the one document on standard output."""
    done = run("restore.py", "--env", host.env_file, "--json", *arguments, home=home, server=server)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode, done.stderr
    return done.returncode, document


def typing(host: DemoHost, home: Path, *arguments: str, server: Mapping[str, str] | None = None) -> Terminal:
    argv = [sys.executable, str(PROJECT / "restore.py"), "--env", str(host.env_file), *arguments]
    return Terminal(argv, {**environment(home), **(server or {})})


def newest_set(host: DemoHost) -> BackupSet:
    return read_catalogue(load_host(host.env_file).repository).sets[-1]


def outline(host: DemoHost) -> dict[str, tuple[int, int, int]]:
    """Inode, time of change and size of everything a restore could touch, journals of restores included."""
    places = [host.layout.contentstore, host.layout.keystore, host.home / "alf_data/solr4", host.backup_dir]
    found = {}
    for place in places:
        for path in place.rglob("*"):
            status = path.lstat()
            if host.wal_archive not in (path, *path.parents):
                found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_size)
    found["data directory"] = (host.layout.data_directory.stat().st_ino, 0, 0)
    return found


def a_document(host: DemoHost, snapshot: Snapshot) -> str:
    """The path of a document in the workspace that the snapshot holds; Alfresco starts without it."""
    rows = host.cluster.sql(
        "SELECT content_url FROM alf_content_url u JOIN alf_content_data d ON d.content_url_id = u.id "
        "JOIN alf_node_properties p ON p.long_value = d.id JOIN alf_node n ON n.id = p.node_id "
        "WHERE n.store_id = 2 AND content_size > 0 AND content_url LIKE 'store://%' ORDER BY u.id",
        DATABASE,
    )
    paths = [url.removeprefix("store://") for (url,) in rows]
    return next(path for path in paths if (snapshot.path / path).is_file())


def forget(host: DemoHost, snapshot: Snapshot, path: str) -> dict[Path, bytes]:
    """Remove a document from the live store and from the snapshot; gives what was removed."""
    kept = {}
    for place in (host.layout.contentstore, snapshot.path):
        real = Path(os.path.realpath(place / path))
        kept[real] = real.read_bytes()
        real.unlink()
    return kept
