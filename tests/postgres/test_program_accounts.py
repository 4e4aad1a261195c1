"""Programs that another account can exchange are run as that account, never as root."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.backup.base import client_has_zstd
from alfresco_backup.drill.server import verify_extracted
from alfresco_backup.errors import BackupError, ToolFailed
from alfresco_backup.host.host import load_host
from alfresco_backup.host.service_control import start_service
from alfresco_backup.postgres.programs import Programs, find_programs
from alfresco_backup.repository.layout import MANIFEST
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.system.accounts import owner_of_program
from tests.support.planting import as_root, given, other_account, planted
from tests.support.restore_worlds import World, base, wal_map

pytestmark = as_root


class AlfrescoHome:
    """A home whose programs note whom they are run as."""

    def __init__(self, root: Path) -> None:
        self.root = root / "alfresco"
        self.bindir = self.root / "postgresql/bin"
        self.bindir.mkdir(parents=True)
        self.note = root / "ran-as"
        self.note.touch()
        self.note.chmod(0o666)
        self.env = root / "env"
        self.env.touch(0o600)
        self.env.write_text(f"PGHOST=localhost\nPGUSER=a\nBACKUP_DIR={root}\nALF_BASE_DIR={self.root}\n")
        self.host = load_host(self.env)

    def program(self, name: str, says: str) -> Path:
        """A program that notes what is in the file named after -m, too."""
        path = self.bindir / name
        path.write_text(
            f"#!/bin/sh\nid -u >> {self.note}\n[ $# -lt 4 ] || cat \"$4\" >> {self.note}\necho '{says}'\n"
        )
        path.chmod(0o755)
        return path

    def ran_as(self) -> list[str]:
        return self.note.read_text().split()


@pytest.fixture
def home(reachable_path: Path) -> AlfrescoHome:
    return AlfrescoHome(reachable_path)


@pytest.mark.parametrize(("owner", "uid"), [("nobody", "65534"), ("root", "0")])
def test_the_version_of_a_homes_programs_is_asked_as_the_account_that_owns_them(
    home: AlfrescoHome, owner: str, uid: str
) -> None:
    home.program("pg_basebackup", "pg_basebackup (PostgreSQL) 15.4")
    given(home.root, other_account(owner))
    assert Programs(home.bindir, 150004) in find_programs(home.host.settings, "pg_basebackup")
    assert home.ran_as() == [uid]


def test_so_it_is_where_the_account_owns_only_a_folder_or_a_link_on_the_way(
    home: AlfrescoHome, reachable_path: Path
) -> None:
    real = home.program("psql", "psql (PostgreSQL) 15.4")
    (reachable_path / "link").symlink_to(real)
    assert owner_of_program(real) is owner_of_program(reachable_path / "link") is None
    os.chown(home.root / "postgresql", 65534, 65534)
    assert owner_of_program(real) == owner_of_program(reachable_path / "link") == other_account()
    os.chown(home.root / "postgresql", 0, 0)
    assert owner_of_program(planted(reachable_path / "link", real, other_account())) == other_account()
    assert owner_of_program(Path("systemctl")) is owner_of_program(Path("/no/such/program")) is None


def test_what_pg_basebackup_was_built_with_is_asked_as_that_account_too(home: AlfrescoHome) -> None:
    home.program("pg_config", "--with-zstd")
    given(home.root, other_account())
    assert client_has_zstd(Programs(home.bindir, 150004))
    assert home.ran_as() == ["65534"]


@pytest.mark.parametrize(
    ("tablespaces", "which"),
    [
        ((), "every file"),
        (
            (Tablespace(16400, "fast", "/fast"), Tablespace(16401, "large", "/large")),
            "every file outside the tablespaces (fast, large, whose files were not compared)",
        ),
    ],
    ids=["no tablespace", "two tablespaces"],
)
def test_the_files_of_a_drill_are_verified_as_the_account_they_belong_to(
    home: AlfrescoHome, reachable_path: Path, tablespaces: tuple[Tablespace, ...], which: str
) -> None:
    """And it says what was not verified."""
    home.program("pg_verifybackup", "pg_verifybackup (PostgreSQL) 15.4")
    given(home.root, other_account())
    made = base(1)
    plan = World(bases=[made], wal=wal_map((1, 1, 9)), full_sets=False).plan("postgres", backup=made.stamp)
    assert plan.database is not None
    (reachable_path / MANIFEST).write_text("roots manifest")
    (reachable_path / MANIFEST).chmod(0o600)
    database = replace(plan.database, base=replace(made, path=reachable_path, tablespaces=tablespaces))
    folder = reachable_path / "drill"
    folder.mkdir()
    plan = replace(plan, database=database)
    journal = Journal(folder / "journal.jsonl")
    restoration = Restoration(home.host, plan, folder, journal, other_account(), folder / "log")
    assert verify_extracted(restoration) == f"{which} agrees with the manifest of the base backup"
    assert home.ran_as() == ["65534", "65534", "roots", "manifest"]


@pytest.mark.slow
def test_alfrescos_script_is_run_as_the_account_that_owns_it(
    home: AlfrescoHome, reachable_path: Path
) -> None:
    script = home.root / "alfresco.sh"
    script.write_text(f"#!/bin/sh\necho $(id -u) $HOME $2 >> {home.note}\nexit 1\n")
    script.chmod(0o755)
    (home.root / "tomcat/temp").mkdir(parents=True)
    data = home.root / "alf_data/postgresql"
    data.mkdir(parents=True)
    given(home.root, other_account())
    host = load_host(home.env)
    for service in ("alfresco", "postgresql"):
        with pytest.raises(ToolFailed, match=r"alfresco\.sh ended with exit code 1"):
            start_service(host, service, reachable_path / "log")
    assert home.ran_as() == ["65534", "/nonexistent", "tomcat", "65534", "/nonexistent", "postgresql"]


@pytest.mark.slow
def test_a_server_of_another_account_than_the_scripts_is_started_by_pg_ctl(
    home: AlfrescoHome, reachable_path: Path
) -> None:
    (home.root / "alfresco.sh").write_text(f"#!/bin/sh\nid -u >> {home.note}\n")
    data = home.root / "alf_data/postgresql"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    given(home.root, other_account())
    given(data, other_account("postgres"))
    home.bindir.rename(reachable_path / "no programs")
    with pytest.raises(BackupError, match="pg_ctl"):
        start_service(load_host(home.env), "postgresql", reachable_path / "log")
    assert home.ran_as() == []
