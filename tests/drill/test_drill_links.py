"""A DRILL_DIR that another account can exchange: drills make and remove nothing where its link leads."""

from pathlib import Path

import pytest

from alfresco_backup.drill.plan import PREFIX, Scratch
from alfresco_backup.drill.server import make_drill_folder, remove_drill, remove_left_over
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host, load_host
from tests.support.planting import RootsOwn, as_root, other_account, planted

pytestmark = as_root
POSTGRES = other_account()


@pytest.fixture
def host(reachable_path: Path) -> Host:
    env = reachable_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={reachable_path}/backup\nALF_BASE_DIR={reachable_path}\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nALF_HOST_NAME=demo\n{places}")
    return load_host(env)


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


def test_the_folder_of_drills_is_opened_to_others_but_not_what_a_link_in_its_place_leads_to(
    reachable_path: Path, roots: RootsOwn
) -> None:
    folder = reachable_path / "drills"
    make_drill_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o711
    (reachable_path / "link").symlink_to(folder)
    make_drill_folder(reachable_path / "link")
    folder.rmdir()
    planted(folder, roots.folder, POSTGRES)
    with pytest.raises(BackupError, match=f"DRILL_DIR={folder} cannot be created: a link of the account"):
        make_drill_folder(folder)
    roots.require_unchanged()


def test_what_killed_drills_left_is_not_removed_behind_a_link(
    host: Host, reachable_path: Path, roots: RootsOwn
) -> None:
    stamp = "20261122T023000Z"
    (roots.folder / f"{PREFIX}{stamp}/data").mkdir(parents=True)
    before = roots.state()
    folder = planted(reachable_path / "drills", roots.folder, POSTGRES)
    for remove in (
        lambda: remove_left_over(host, folder, reachable_path / "log"),
        lambda: remove_drill(host, Scratch(folder, stamp), reachable_path / "log"),
    ):
        with pytest.raises(OSError, match="a link of the account nobody is on this path"):
            remove()
    assert roots.state() == before
