"""BACKUP_DIR whose disk is not mounted: nothing is backed up into the empty place below it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import note_file, read_marker
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.host import DemoHost
from demo.places import give_to, server_account
from tests.support.common import temporary_demo_host
from tests.support.prefect_database import give_database

pytestmark = pytest.mark.slow


class Typed:
    """Verbs typed by hand on one host, with one Prefect home."""

    def __init__(self, host: DemoHost, home: Path) -> None:
        self.host, self.home = host, home
        give_database(home / ".prefect")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "alfresco_backup", *words, "--env", str(self.host.env_file)]
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            argv, cwd=PROJECT_DIRECTORY, env=environment, capture_output=True, text=True, check=False
        )


@contextmanager
def unmounted(host: DemoHost) -> Iterator[Path]:
    """The place below the mount point, in which an archive was made by mistake; the disk comes back."""
    disk = host.backup_dir.with_name("disk")
    host.backup_dir.rename(disk)
    host.backup_dir.mkdir(mode=0o755)
    archive = host.backup_dir / "pg_wal"
    archive.mkdir(mode=0o750)
    give_to(archive, server_account())
    try:
        yield host.backup_dir
    finally:
        shutil.rmtree(host.backup_dir)
        disk.rename(host.backup_dir)


def test_a_backup_into_the_place_of_an_unmounted_disk_is_refused(tmp_path: Path) -> None:
    with temporary_demo_host(documents=40) as host:
        typed = Typed(host, tmp_path)
        repository = Repository(host.backup_dir)
        first = typed("backup")
        assert first.returncode == 0, first.stderr
        assert f"a new repository begins: BACKUP_DIR={host.backup_dir} contains no backup" in first.stderr
        identity = read_marker(repository)
        assert identity
        second = typed("backup", "--only", "contentstore")
        assert second.returncode == 0 and "a new repository begins" not in second.stderr
        with unmounted(host) as place:
            for known in ("by the note beside the .env", "by Prefect"):
                refused = typed("backup")
                assert refused.returncode == 1, known
                assert f"is not the repository {identity}: repository.json is missing there" in refused.stderr
                assert "mkdir" not in refused.stderr and "install -d" not in refused.stderr
                written = {path.name for path in place.rglob("*")} - {".running-demo.lock"}
                assert written == {"pg_wal", "logs"}, known
                note_file(host.env_file).unlink(missing_ok=True)
        third = typed("backup", "--only", "contentstore")
        assert third.returncode == 0, third.stderr
        assert json.loads(note_file(host.env_file).read_text())["id"] == identity  # noted again
        with unmounted(host) as place:
            assert "is not the repository" in typed("configure").stderr
            begun = typed("begin-repository")
            assert begun.returncode == 0, begun.stderr
            assert typed("begin-repository").returncode == 3
            fourth = typed("backup")
            assert fourth.returncode == 0, fourth.stderr
            assert read_marker(Repository(place)) == identity


def test_a_repository_of_before_that_has_sets_gets_its_marker(tmp_path: Path) -> None:
    with temporary_demo_host(documents=40) as host:
        assert Typed(host, tmp_path / "one")("backup").returncode == 0
        Repository(host.backup_dir).marker.unlink()
        note_file(host.env_file).unlink()
        knows_nothing = Typed(host, tmp_path / "two")
        again = knows_nothing("backup", "--only", "contentstore")
        assert again.returncode == 0, again.stderr
        assert f"{host.backup_dir} contains backups; it is marked as repository" in again.stderr
        assert read_marker(Repository(host.backup_dir))
