"""A home that an ordinary user installed: its script ends with 0 whatever comes of it, and refuses root."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import load_host
from alfresco_backup.host.service_control import look_at, start_service, stop_service
from demo.cluster import default_bindir, free_port
from tests.support.planting import as_root, given
from tests.support.unconfigured_hosts import PlainHost, plain_host

pytestmark = [as_root, pytest.mark.slow]

SCRIPT = """#!/bin/sh
# In the words of the installer's; as root its pg_ctl refuses, and Tomcat would run as root.
cd {home} || exit 1
case "$1 $2" in
    "start postgresql")
        postgresql/bin/{pg_ctl} start -w -D alf_data/postgresql -l alf_data/postgresql.log >>said 2>&1 &&
            echo "$0 : postgresql started at port {port}" || echo "$0 : postgresql could not be started" ;;
    "stop postgresql")
        postgresql/bin/pg_ctl stop -w -m fast -D alf_data/postgresql >>said 2>&1 &&
            echo "$0 : postgresql stopped" || echo "$0 : postgresql could not be stopped" ;;
    "start tomcat")
        setsid perl -MIO::Socket::INET -e '{listens}' </dev/null >>said 2>&1 &
        echo $! >tomcat/temp/catalina.pid
        echo "$0 : tomcat started" ;;
    "stop tomcat")
        kill "$(cat tomcat/temp/catalina.pid)"; echo "$0 : tomcat stopped" ;;
esac
exit 0
"""


LISTENS = (
    '$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:%d", Listen => 5, ReuseAddr => 1) or die; '
    "while ($c = $s->accept) { close $c }"
)


class OwnedHome:
    """A host whose Alfresco home belongs to the account that runs PostgreSQL."""

    def __init__(self, plain: PlainHost) -> None:
        self.plain, self.tomcat = plain, free_port()
        (plain.home / "postgresql").mkdir()
        (plain.home / "postgresql/bin").symlink_to(plain.bindir)
        (plain.home / "tomcat/temp").mkdir(parents=True)
        self.script = plain.home / "alfresco.sh"
        self.write_script()
        given(plain.home, plain.account)
        plain.backup_dir.mkdir()
        plain.write_env(TOMCAT_PORT=self.tomcat, SERVICE_STOP_MINUTES=15)

    def write_script(self, pg_ctl: str = "pg_ctl") -> None:
        values = {"home": self.plain.home, "port": self.plain.port, "listens": LISTENS % self.tomcat}
        self.script.write_text(SCRIPT.format(pg_ctl=pg_ctl, **values))
        self.script.chmod(0o755)

    def roots_files(self) -> list[Path]:
        """What an account other than the home's owns there; links are their makers'."""
        uid = self.plain.account.uid
        return [path for path in self.plain.home.rglob("*") if path.lstat().st_uid != uid]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[OwnedHome]:
    with plain_host(default_bindir()) as plain:
        owned = OwnedHome(plain)
        host = load_host(plain.env_file)
        start_service(host, "alfresco", tmp_path / "log")
        yield owned
        stop_service(host, "alfresco", tmp_path / "log")


def test_root_restarts_it_as_its_owner_and_no_file_becomes_roots(home: OwnedHome) -> None:
    done = home.plain.configure("--apply", "--restart")
    assert done.returncode == 0, done.stdout + done.stderr
    host = load_host(home.plain.env_file)
    for service in ("postgresql", "alfresco"):
        pid = look_at(host, service).pid
        assert pid and Path(f"/proc/{pid}").stat().st_uid == home.plain.account.uid
    assert home.roots_files() == []


def test_what_could_not_be_started_is_told_at_once_with_what_starts_it_and_the_undo(home: OwnedHome) -> None:
    home.write_script(pg_ctl="pg_ctl-of-a-removed-version")
    begun = time.monotonic()
    done = home.plain.configure("--apply", "--restart")
    assert done.returncode == 1 and time.monotonic() - begun < 300, done.stdout
    assert "PostgreSQL did not come up: " in done.stderr
    assert f"{home.script} : postgresql could not be started" in done.stderr
    assert "PostgreSQL and Alfresco (Tomcat) must be started by hand" in done.stderr
    owner = home.plain.account.name
    for component, name in (("postgresql", "PostgreSQL"), ("tomcat", "Alfresco (Tomcat)")):
        command = f"runuser -u {owner} -- {home.script} start {component}"
        assert f"HINT: {command}  # starts {name}\n" in done.stderr
    assert "configure --undo " in done.stderr and "--restart" in done.stderr
    home.write_script()
    done = home.plain.configure("--undo", "--restart")
    assert done.returncode == 0, done.stdout + done.stderr
    host = load_host(home.plain.env_file)
    assert look_at(host, "postgresql").answers and look_at(host, "alfresco").answers
    assert home.plain.setting("archive_mode") == "off"


def test_a_script_named_behind_a_shell_is_run_as_its_owner_too(home: OwnedHome, tmp_path: Path) -> None:
    home.plain.write_env(TOMCAT_PORT=home.tomcat, ALF_START_COMMAND=f"'/bin/sh {home.script} start tomcat'")
    host = load_host(home.plain.env_file)
    stop_service(host, "alfresco", tmp_path / "log")
    start_service(host, "alfresco", tmp_path / "log")
    pid = look_at(host, "alfresco").pid
    assert pid and Path(f"/proc/{pid}").stat().st_uid == home.plain.account.uid


def test_a_command_that_starts_nothing_is_told_long_before_the_limit(home: OwnedHome, tmp_path: Path) -> None:
    home.plain.write_env(TOMCAT_PORT=home.tomcat, ALF_START_COMMAND="true", SERVICE_STOP_MINUTES=15)
    host = load_host(home.plain.env_file)
    stop_service(host, "alfresco", tmp_path / "log")
    begun = time.monotonic()
    with pytest.raises(BackupError, match=r"Alfresco \(Tomcat\) did not come up: .* no process"):
        start_service(host, "alfresco", tmp_path / "log")
    assert time.monotonic() - begun < 300
