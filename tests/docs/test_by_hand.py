"""docs/reference/repository.md restores without this software: its commands are executed as they stand."""

import os
import pwd
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.offsite.copy import engine_of, init
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.times import utc_now
from demo.cluster import available_bindirs, default_bindir, stated_version
from demo.host import DemoHost
from demo.places import give_to
from demo.state import State
from flows.backup import backup
from flows.offsite import offsite_copy, offsite_wal
from tests.support.common import temporary_demo_host, wait_until
from tests.support.documents import Names, execute, plain_environment
from tests.support.places import reachable_directory
from tests.support.restoring import loaded

DOCUMENT = PROJECT_DIRECTORY / "docs/reference/repository.md"
MOMENT = "2026-11-22 09:15:00+01:00"


def names_for(host: DemoHost, moment: datetime | None = None) -> Names:
    """What stands for the example's names. An ordinary user is PostgreSQL's account and needs no su."""
    account = host.cluster.account
    user = pwd.getpwuid(account.uid if account else os.geteuid())
    catalogue = read_catalogue(loaded(host).repository)
    before, after = [item.stamp for item in catalogue.snapshots[-2:]] if moment else ("", "")
    facts = facts_of(host.cluster.version)
    return Names(
        {
            "WAL=pg_wal": f"WAL={facts.wal_directory}",
            "recovery_target_action = 'promote'": facts.target_action_line,
            "/backup": str(host.backup_dir),
            "/opt/alfresco": str(host.home),
            "20261122T023000Z": catalogue.bases[-1].stamp,
            "20261122T071000Z": before,
            "20261122T081000Z": after,
            MOMENT: (moment or utc_now()).isoformat(sep=" "),
            "-o postgres -g postgres": f"-o {user.pw_uid} -g {user.pw_gid}",
            "postgres:postgres": f"{user.pw_uid}:{user.pw_gid}",
            "su postgres -s /bin/sh -c": f"su {user.pw_name} -s /bin/sh -c" if account else "sh -c",
        }
    )


def restore_by_hand(host: DemoHost, home: Path, *words: str, names: Names | None = None) -> None:
    version = "before-12" if host.cluster.version < 120000 else "from-12"
    execute(DOCUMENT, names or names_for(host), plain_environment(home), {version, *words})


def assert_is(host: DemoHost, expected: State) -> None:
    """Every row, every document byte for byte, and a server that lives as always."""
    assert host.read_state().difference(expected) == []
    assert host.missing_documents(expected) == []
    assert len(expected.live_documents()) > 40
    assert host.answer() == f"{len(expected.tables['alf_content_data'])} documents"
    asked = host.cluster.sql("SELECT pg_is_in_recovery(), current_setting('hot_standby')")
    assert asked == [("f", "on" if host.cluster.version >= 100000 else "off")]
    left = {path.name for path in host.cluster.directory.iterdir()}
    assert not left & {"recovery.conf", "recovery.done", "recovery.signal", "postgresql.auto.conf.before"}


def oldest_and_default() -> list[Path]:
    """With recovery.conf, and with a signal file."""
    return sorted({available_bindirs()[0], default_bindir()}, key=stated_version)


@pytest.fixture
def host(bindir: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch):
    with temporary_demo_host(bindir, documents=60) as made:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        backup()
        yield made


versions = pytest.mark.parametrize(
    "bindir",
    [pytest.param(path, id=str(stated_version(path) // 10000)) for path in oldest_and_default()],
)


@versions
def test_all_is_had_back_to_a_moment_on_a_host_that_lost_everything(host: DemoHost, tmp_path: Path) -> None:
    host.writer.add(3)
    backup(components=["contentstore"])
    host.writer.delete()
    moment = host.writer.commits[-1].committed_at
    host.writer.add(2)
    at_moment = host.writer.state_at(moment)
    while not host.missing_documents(at_moment):  # the snapshot before the moment has what this takes
        host.writer.delete()
        host.writer.purge(100)
    backup(components=["contentstore"])
    archive(host)
    host.wipe()
    bare_data_folder(host)
    names = names_for(host, moment + timedelta(microseconds=1))
    restore_by_hand(host, tmp_path, "moment", "elsewhere", names=names)
    assert_is(host, at_moment)
    assert host.cluster.sql("SHOW archive_mode") == [("off",)]


@versions
def test_the_latest_is_had_back_with_wal_that_only_the_crashed_server_had(
    host: DemoHost, tmp_path: Path
) -> None:
    host.writer.add(2)
    archive(host)
    backup(components=["contentstore"])
    host.cluster.configure(archive_command="exit 1")
    host.cluster.reload()
    host.writer.delete()
    host.writer.close()
    latest = host.writer.state
    host.stop("tomcat")
    host.cluster.stop("immediate")
    shutil.rmtree(host.layout.contentstore)
    restore_by_hand(host, tmp_path, "latest", "old-wal")
    assert_is(host, latest)
    assert host.cluster.sql("SHOW archive_mode") == [("on",)]
    wal = host.cluster.directory / facts_of(host.cluster.version).wal_directory
    assert (wal / "00000002.history").is_file()


def test_the_end_of_a_set_with_a_tablespace_needs_no_archive(
    bindir: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with temporary_demo_host(bindir, documents=60) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        place = host.directory / "tablespace"
        place.mkdir()
        give_to(place, host.cluster.account)
        host.cluster.sql(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
        host.cluster.sql("CREATE TABLE there TABLESPACE elsewhere AS SELECT generate_series(1, 1000) AS n")
        ((oid,),) = host.cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere'")
        backup()
        in_set = host.writer.state.copy()
        names = Names({**names_for(host).table, "16384": oid, "/srv/tablespace": str(place)})
        host.writer.add(2)
        host.cluster.sql("DELETE FROM there")
        host.wipe()
        bare_data_folder(host)
        shutil.rmtree(place)
        shutil.rmtree(host.wal_archive)
        restore_by_hand(host, tmp_path, "set", "tablespace", names=names)
        assert_is(host, in_set)
        assert host.cluster.sql("SELECT count(*), sum(n) FROM there") == [("1000", "500500")]


def test_a_host_that_lost_its_backup_disk_too_is_had_back_with_restic_tar_zstd_and_cp_alone(
    host: DemoHost, tmp_path: Path
) -> None:
    host.writer.add(3)
    with reachable_directory() as place:
        with host.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={place}/far\nOFFSITE_PASSWORD=correct-horse\n")
        init(engine_of(loaded(host)))
        backup(components=["contentstore"])
        host.writer.delete()
        archive(host)
        latest = host.writer.state.copy()
        offsite_copy()
        offsite_wal()
        password = tmp_path / "password"
        password.write_text("correct-horse\n")
        more = {
            "/mnt/second/alfresco": f"{place}/far",
            "/media/key/password": str(password),
            "alf1": host.name,
        }
        names = Names({**names_for(host).table, **more})
        host.wipe()
        bare_data_folder(host)
        shutil.rmtree(host.backup_dir)
        restore_by_hand(host, tmp_path, "off-site", "latest", "elsewhere", names=names)
        assert_is(host, latest)


def archive(host: DemoHost) -> None:
    """Have all WAL archived, as archive_timeout does on any host."""
    host.writer.close()
    facts = facts_of(host.cluster.version)
    ((name,),) = host.cluster.sql(f"SELECT {facts.lsn_file}({facts.switch_wal}())")
    wait_until((host.wal_archive / f"{name}.zst").exists, f"{name} is archived")


def bare_data_folder(host: DemoHost) -> None:
    """What any new installation has."""
    (host.home / "alf_data").mkdir()
