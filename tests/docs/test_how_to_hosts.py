"""Every command about whole hosts: install, move, come from the predecessor, configure by hand."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.offsite.copy import engine_of, init
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import default_bindir
from demo.home import ROLE_PASSWORD
from demo.host import DemoHost
from flows.offsite import offsite_copy, offsite_wal
from tests.support.documents import Names, blocks_of, execute
from tests.support.how_to import HOW_TO, NAME, SOFTWARE, Scene, environment, names_of, running_scene
from tests.support.offsite_places import folder_place, use
from tests.support.places import reachable_directory
from tests.support.restoring import loaded, predecessors_backup
from tests.support.unconfigured_hosts import PlainHost, debian_host, plain_host

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(prefect_server: None, tmp_path: Path) -> Iterator[Scene]:
    with running_scene(tmp_path) as made:
        yield made


def editor(folder: Path, settings: Path) -> Path:
    """A folder with the command `editor`, which fills the settings in as an administrator would."""
    folder.mkdir()
    program = folder / "editor"
    program.write_text(f'#!/bin/sh\ncase $1 in *.env) cp "{settings}" "$1" ;; *) test -s "$1" ;; esac\n')
    program.chmod(0o755)
    return folder


def test_install(prefect_server: None, tmp_path: Path) -> None:
    with plain_host(default_bindir()) as host:
        etc = host.directory / "etc-alfresco-backup"
        host.write_env(ALF_HOST_NAME=NAME)
        settings = host.env_file.rename(host.directory / "as filled in")
        # No test writes below /usr/local/lib or /etc.
        configure = "python -m alfresco_backup configure"
        names = Names(
            {
                **SOFTWARE,
                configure: f"{configure} --wal-commands {host.commands}",
                "/etc/alfresco-backup": str(etc),
                "/etc/cron.d/alfresco-backup": str(tmp_path / "cron"),
                "alf1.env": "alf1.env",
            }
        )
        path = f"{editor(tmp_path / 'bin', settings)}:{os.environ['PATH']}"
        said = execute(HOW_TO / "install.md", names, {**environment(tmp_path), "PATH": path})
        assert "archive_mode" in said[configure] and "archive_mode" in said[f"{configure} --apply --restart"]
        assert (etc / "alf1.env").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "cron").read_text().startswith("# /etc/cron.d/alfresco-backup")
        assert host.setting("archive_mode") == "on"
        (made,) = read_catalogue(load_host(etc / "alf1.env").repository).sets
        assert made.complete
        before = host.setting("archive_command")
        execute(HOW_TO / "upgrade.md", names, {**environment(tmp_path), "PATH": path})
        assert host.setting("archive_command") == before
        execute(HOW_TO / "uninstall.md", names, {**environment(tmp_path), "PATH": path})
        assert (host.setting("archive_mode"), host.setting("archive_command")) == ("off", "(disabled)")
        assert read_catalogue(load_host(etc / "alf1.env").repository).sets[0].complete


def written_settings(*kinds: str) -> str:
    """The .env as the page of the installation has it, for a kind of host."""
    blocks = [block for block in blocks_of(HOW_TO / "install.md") if block.language == "text"]
    return "\n".join(block.text for block in blocks if not block.words or block.words & set(kinds))


@pytest.mark.skipif(os.geteuid() != 0, reason="pg_createcluster gives the cluster to the account postgres")
def test_install_on_a_debian_package_cluster(prefect_server: None, tmp_path: Path) -> None:
    """Without systemd here: `systemctl` of the settings is a script that calls pg_ctlcluster."""
    version = default_bindir().parent.name
    if not shutil.which("pg_createcluster") or default_bindir().parts[1:4] != ("usr", "lib", "postgresql"):
        pytest.skip("there is no PostgreSQL of Debian's packages here")
    with debian_host(version) as host:
        folder = host.directory / "bin"
        settings = host.directory / "as filled in"
        places = Names(
            {
                "5432": str(host.port),
                "/var/lib/postgresql/15/main": str(host.data),
                "postgresql@15-main": f"postgresql@{version}-main",
                "/backup": str(host.directory / "backup"),
                "/opt/alfresco": str(host.home),
                "PGPASSWORD=...": "PGPASSWORD='" + ROLE_PASSWORD.replace("'", "\\'") + "'",
                "localhost": "127.0.0.1",
            }
        )
        path = f"{editor(folder, settings)}:{os.environ['PATH']}"
        written = places.put_into(written_settings("debian"))
        script = host.systemctl(folder)
        settings.write_text(f"{written.replace('systemctl', str(script))}\nTOMCAT_PORT=1\n")
        etc = host.directory / "etc-alfresco-backup"
        configure = "python -m alfresco_backup configure"
        names = Names(
            {
                **SOFTWARE,
                configure: f"{configure} --wal-commands {host.directory / 'wal'}",
                "/etc/alfresco-backup": str(etc),
                "/etc/cron.d/alfresco-backup": str(tmp_path / "cron"),
                "alf1.env": "alf1.env",
            }
        )
        execute(HOW_TO / "install.md", names, {**environment(tmp_path), "PATH": path})
        assert host.sql("SHOW archive_mode") == "on"
        loaded_host = load_host(etc / "alf1.env")
        (made,) = read_catalogue(loaded_host.repository).sets
        assert made.complete
        (configuration,) = loaded_host.repository.configurations.glob("configuration-*/postgresql")
        assert (configuration / "postgresql.conf").exists(), "Debian's configuration is outside the data"


def test_move_to_a_new_host(scene: Scene) -> None:
    scene.begin()
    scene.host.writer.add(3)
    last = scene.host.writer.state.copy()
    scene.execute("move-to-a-new-host.md", "old-host")
    with pytest.raises(OSError):
        scene.host.answer()
    with reachable_directory() as directory:
        new = DemoHost.install(directory / "new", like=scene.host, durable=False)
        try:
            document = HOW_TO / "move-to-a-new-host.md"
            execute(document, names_of(new, scene.stamp), environment(scene.home), {"new-host"})
            assert new.read_state().difference(last) == []
            assert new.missing_documents(last) == []
            assert new.cluster.sql("SHOW archive_mode") == [("on",)]
        finally:
            with suppress(FileNotFoundError):
                new.stop()
            new.cluster.stop("immediate")
            shutil.rmtree(new.directory)


def test_restore_a_lost_host(scene: Scene) -> None:
    """Only what was sent to the folder of another disk is left of the host and its backup disk."""
    with folder_place() as place, reachable_directory() as directory:
        use(scene.host, place.settings(NAME))
        scene.begin()
        last = scene.host.writer.state.copy()
        scene.host.writer.close()
        init(engine_of(loaded(scene.host)))
        offsite_copy()
        offsite_wal()
        scene.host.stop()
        new = DemoHost.install(directory / "new", like=scene.host, durable=False)
        try:
            scene.host.backup_dir.rename(directory / "lost")
            scene.host.backup_dir.mkdir()
            use(new, place.settings(NAME))
            document = HOW_TO / "restore-a-lost-host.md"
            execute(document, names_of(new, scene.stamp), environment(scene.home))
            assert new.read_state().difference(last) == []
            assert new.missing_documents(last) == []
        finally:
            with suppress(FileNotFoundError):
                new.stop()
            new.cluster.stop("immediate")
            shutil.rmtree(new.directory)


def test_from_the_predecessor(scene: Scene) -> None:
    stamp = predecessors_backup(scene.host)
    names = names_of(scene.host)
    both = Names({**names.table, "2026-11-21_02-00-00": stamp})
    execute(HOW_TO / "from-the-predecessor.md", both, environment(scene.home))
    old, new = read_catalogue(loaded(scene.host).repository).sets
    assert (old.stamp, old.legacy, new.legacy, new.complete) == (stamp, True, False, True)


def configure_by_hand(host: PlainHost) -> None:
    """What the reference has an administrator type, put into pg_hba.conf, and restart."""
    document = PROJECT_DIRECTORY / "docs/reference/configure.md"
    names = Names(
        {
            **SOFTWARE,
            "/usr/local/lib/alfresco-backup": str(host.commands),
            "/backup": str(host.backup_dir),
            "-o postgres -g postgres": f"-o {host.account.uid} -g {host.account.gid}",
        }
    )
    execute(document, names, environment(host.directory), {"by-hand"})
    for block in blocks_of(document):
        if block.language == "sql":
            (database,) = {word.replace("superuser", "postgres") for word in block.words}
            for statement in names.put_into(block.text).splitlines():
                host.sql(statement, database)
    (line,) = re.findall(r"`(host replication [^`]+)`", document.read_text())
    host.write(host.hba, f"{line}\n{host.hba.read_text()}")
    host.stop("fast")
    host.start()


def test_configure_by_hand() -> None:
    with plain_host(default_bindir()) as host:
        host.write_env(PGSUPERUSER="alfresco")
        host.env_file.chmod(0o600)
        assert host.configure().returncode == 5
        configure_by_hand(host)
        looked = host.configure()
        assert looked.returncode == 0, looked.stdout + looked.stderr
        assert looked.stdout.startswith("configure of plain: nothing to change\nverified: WAL segment ")
