"""What commit cabe697 left on disk (tests/fixtures/commit_cabe697): a repository, a host amid a restore.

Of the repository nothing is rewritten. The host is in another place after unpacking: its path is put into its
configuration and the journals of its restores, its port into postgresql.conf. An inode in a journal becomes
that of what had it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard

from alfresco_backup.times import parse_stamp, utc_now
from demo.cluster import available_bindirs, stated_version
from demo.host import DemoHost
from demo.places import give_to, server_account
from demo.state import State
from tests.support.places import reachable_directory

FOLDER = Path(__file__).parents[1] / "fixtures/commit_cabe697"
WINDOW = 27
"""Of zstd, as a power of two: as `make.py` compressed."""
PLACED = (
    "alfresco/alf_data/postgresql*/postgresql*.conf",
    "alfresco/alf_data/postgresql*/postmaster.*",
    "alfresco/tomcat/shared/classes/alfresco-global.properties",
    "backup/restores/*/*/journal.jsonl",
)
"""Files that name places of the host they were made on."""


@cache
def facts() -> Mapping[str, Any]:
    """What the version that made it said and what was done to the host, for people too."""
    document: Mapping[str, Any] = json.loads((FOLDER / "facts.json").read_text())
    return document


@cache
def expected() -> Mapping[str, Any]:
    """Every row and the SHA-256 of every file, by moment and snapshot; times of directories."""
    with (FOLDER / "expected.json.zst").open("rb") as packed:
        text = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW).stream_reader(packed).read()
    document: Mapping[str, Any] = json.loads(text)
    return document


def programs() -> Path:
    """PostgreSQL 15, whose files they are.

    Skips where this machine has none, or a clock that is not there yet: nothing is restored to the future.
    """
    if utc_now() < parse_stamp(facts()["interrupted"]["stamp"]) + timedelta(minutes=1):
        pytest.skip("this machine's clock says that the fixture has not been made yet")
    found = [path for path in available_bindirs() if stated_version(path) // 10000 == 15]
    if not found:
        pytest.skip("the data directory of the fixture needs a PostgreSQL 15 server")
    return found[0]


def unpack(name: str, directory: Path) -> None:
    """Unpack an archive: times to the nanosecond, modes, PostgreSQL's files to PostgreSQL's account."""
    archive = FOLDER / f"{name}.tar.zst"
    squeezed = ("-I", f"zstd -d --long={WINDOW}", "-f", str(archive))
    subprocess.run(["tar", "-x", "-p", "--no-same-owner", *squeezed, "-C", directory], check=True)
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW)
    with (
        archive.open("rb") as stream,
        decompressor.stream_reader(stream) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        for member in tar:
            if member.uname == "postgres":
                give_to(directory / member.name, server_account())


@contextmanager
def host_with_repository(bindir: Path | None = None) -> Iterator[DemoHost]:
    """A host that holds no data yet and has the repository of the other: another place, the same name."""
    with reachable_directory() as directory:
        host = DemoHost.install(directory / "other", bindir, name=facts()["host"], durable=False)
        shutil.rmtree(host.backup_dir)
        unpack("repository", host.directory)
        try:
            yield host
        finally:
            host.destroy()


@contextmanager
def host_amid_restore(bindir: Path | None = None) -> Iterator[DemoHost]:
    """The host as a power failure left it in the middle of a restore. Nothing runs."""
    with host_with_repository(bindir) as host:
        shutil.rmtree(host.home / "alf_data")
        unpack("interrupted", host.directory)
        for pattern in PLACED:
            for path in host.directory.glob(pattern):
                text = path.read_text(encoding="latin-1")
                path.write_text(text.replace(facts()["made_in"], str(host.directory)), encoding="latin-1")
        for directory in host.layout.data_directory.parent.glob("postgresql*"):
            replace(host.cluster, directory=directory).configure(port=host.cluster.port)
        for journal in host.backup_dir.glob("restores/*/*/journal.jsonl"):
            lines = [_with_inodes_of(host, json.loads(line)) for line in journal.read_text().splitlines()]
            journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        yield host


def _with_inodes_of(host: DemoHost, line: dict[str, Any]) -> dict[str, Any]:
    """A line of a journal in which the inode of what was renamed is that of its unpacked copy."""
    if line["entry"] != "act" or line["act"] != "Renamed":
        return line
    status = (host.directory / facts()["interrupted"]["inodes"][str(line["inode"])]).lstat()
    return {**line, "device": status.st_dev, "inode": status.st_ino}


def rows(state: State) -> dict[str, list[list[str]]]:
    """Every row of every table, as `expected` has them."""
    return {name: sorted(map(list, table.values())) for name, table in state.tables.items()}


def files(tree: Path) -> dict[str, str]:
    """Every file below a tree by its path, links followed: SHA-256 of its bytes."""
    found = [Path(folder, name) for folder, _, names in os.walk(tree, followlinks=True) for name in names]
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def fingerprint(directories: list[tuple[str, int, int]]) -> str:
    """The fingerprint of a day tree as that commit made it, from name, mtime and ctime of its directories."""
    lines = sorted(f"{name}\0{modified}\0{changed}" for name, modified, changed in directories)
    return hashlib.blake2b("\0\0".join(lines).encode(), digest_size=16).hexdigest()
