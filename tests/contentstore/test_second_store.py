"""A second content store (EXTRA_CONTENT_DIRS): backed up, planned for and restored with all the rest."""

import re
import shutil
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.host.host import load_host
from tests.support.common import temporary_demo_host
from tests.support.restore_command import newest_set, restore, run

FILES = {"2024/5/6/7/8/first.bin": "first", "2026/1/2/3/4/second.bin": "second"}


@pytest.fixture
def server(prefect_server: None) -> dict[str, str]:
    """The environment that names a running Prefect server."""
    return {"PREFECT_API_URL": str(PREFECT_API_URL.value())}


def contents(store: Path) -> dict[str, str]:
    return {str(path.relative_to(store)): path.read_text() for path in store.rglob("*.bin")}


def test_a_second_store_is_in_every_set_and_comes_back_with_a_full_restore(
    server: dict[str, str], tmp_path: Path
) -> None:
    with temporary_demo_host(documents=20) as host:
        second = host.home / "alf_data/second"
        for name, content in FILES.items():
            (second / name).parent.mkdir(parents=True)
            (second / name).write_text(content)
        env = host.env_file
        env.write_text(f"{env.read_text()}EXTRA_CONTENT_DIRS=second={second}\n")
        done = run("backup.py", env, home=tmp_path, server=server)
        assert done.returncode == 0, done.stderr
        size = len("firstsecond")
        assert re.search(rf"^\| second +\| {size} B +\|", done.stdout, re.MULTILINE), done.stdout
        made = newest_set(host)
        assert made.complete and set(made.snapshots) == {"contentstore", "second"}
        snapshot = made.snapshots["second"]
        assert snapshot.path == host.backup_dir / f"stores/second/contentstore-{made.stamp}"
        held = {name: (snapshot.path / name).read_text() for name in FILES}
        assert held == FILES and snapshot.files == len(FILES)
        assert_closed(host.backup_dir / f"configuration/configuration-{made.stamp}.json")
        assert_retention_is_only_planned(host.backup_dir, env, tmp_path, server)

        before = host.read_state()
        host.stop()
        shutil.rmtree(second)
        shutil.rmtree(host.layout.contentstore)
        order = ("--mode", "full", "--execute", "--confirm", "demo")
        code, document = restore(host, *order, home=tmp_path, server=server)
        assert code == 0, document
        assert contents(second) == FILES
        assert host.missing_documents(before) == []


def assert_closed(metadata: Path) -> None:
    """It holds digests of files with short passwords."""
    assert metadata.stat().st_mode & 0o777 == 0o600


def assert_retention_is_only_planned(backup_dir: Path, env: Path, home: Path, server: dict[str, str]) -> None:
    """`--plan-retention` prints what would go and leaves it, second stores included."""
    stale = backup_dir / "stores/second/contentstore-20200101T000000Z.partial"
    stale.mkdir()
    done = run("backup.py", env, "--plan-retention", home=home, server=server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("To remove: 1 "), done.stdout
    assert stale.is_dir() and not list((load_host(env).repository.logs).glob("retention-*"))
