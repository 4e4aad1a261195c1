"""The off-site copy in each kind of place: an S3 server, an SSH server, a folder of another file system."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.far import read_far
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.offsite_copy import offsite_copy
from flows.offsite_wal import offsite_wal
from tests.support.common import temporary_demo_host
from tests.support.offsite_places import PASSWORD, SECRET_KEY, Place, place_of, use
from tests.support.restore_command import PROJECT
from tests.support.restoring import loaded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]
KINDS = ("s3", "sftp", "folder")


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    """A host with a set of all parts and one of new documents."""
    with temporary_demo_host(documents=40) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        backup()
        made.writer.add(3)
        backup(components=["contentstore"])
        yield made


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_of(request.param) as made:
        yield made


def verb(host: DemoHost, *words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "alfresco_backup", *words, "--env", host.env_file, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_both_sets_and_the_wal_archive_come_back_as_they_were(
    host: DemoHost, place: Place, tmp_path: Path
) -> None:
    use(host, place.settings("alf1"))
    made = verb(host, "offsite", "init")
    assert made["made"] is True, made
    assert PASSWORD not in str(made) and SECRET_KEY not in str(made)
    assert offsite_copy() == "2 backup IDs sent; 2 of 2 sets are whole off-site"
    assert offsite_copy() == "0 backup IDs sent; 2 of 2 sets are whole off-site"
    offsite_wal()
    assert len(verb(host, "offsite", "list")["sets"]) == 2  # type: ignore[arg-type]

    engine = engine_of(loaded(host))
    far = read_far(engine, host.name)
    assert far.newest_wal
    for item in (*far.sets.values(), far.newest_wal):
        engine.run("restore", item.snapshot, "--target", str(tmp_path), "--no-lock")
    unsent = ("--exclude=/logs", "--exclude=/offsite", "--exclude=latest")
    compared = ("rsync", "-anic", "--delete", *unsent)
    different = subprocess.run(
        [*compared, f"{host.backup_dir}/", f"{tmp_path}/"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line for line in different if not line.endswith("./")] == []
