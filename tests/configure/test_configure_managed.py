"""`configure` where others manage the server: included files, its command line, ALTER SYSTEM forbidden."""

import re
from pathlib import Path

import pytest

from demo.cluster import available_bindirs, default_bindir, stated_version
from tests.support.common import wait_until
from tests.support.unconfigured_hosts import HBA, PlainHost, plain_host

pytestmark = pytest.mark.slow


def at_least(version: int) -> Path:
    """The programs of the oldest server here that is new enough; skips where there is none."""
    found = [path for path in available_bindirs() if stated_version(path) >= version]
    if not found:
        pytest.skip(f"no PostgreSQL {version // 10000} or newer on this machine")
    return min(found, key=stated_version)


def access(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode


def automatic(host: PlainHost) -> str:
    return (host.data / "postgresql.auto.conf").read_text()


def test_where_alter_system_is_forbidden_it_names_lines_that_then_suffice() -> None:
    with plain_host(at_least(170000), allow_alter_system="off") as host:
        before = automatic(host)
        done = host.configure("--apply", "--restart")
        assert done.returncode == 5, done.stdout + done.stderr
        assert "allow_alter_system is off, settings are managed elsewhere" in done.stdout
        assert automatic(host) == before
        lines = re.findall(r"edit postgresql.conf: (.*); then (?:restart|reload) PostgreSQL", done.stdout)
        assert {line.partition(" ")[0] for line in lines} == {
            "archive_mode",
            "archive_timeout",
            "archive_command",
        }
        conf = host.data / "postgresql.conf"
        host.write(conf, "\n".join([conf.read_text(), *lines, ""]))
        host.program("pg_ctl", "reload", "-D", str(host.data))
        wait_until(lambda: host.setting("archive_timeout") == "300", "the server has taken the lines")
        again = host.configure("--apply", "--restart")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "arrived in the archive" in again.stdout


def test_a_setting_of_the_command_line_is_left_and_what_to_do_is_named() -> None:
    with plain_host(default_bindir()) as host:
        host.stop("fast")
        options = (
            "-D",
            str(host.data),
            "-l",
            str(host.log),
            "-o",
            "-c archive_timeout=0 -c archive_mode=off",
        )
        host.program("pg_ctl", "start", "-w", *options)
        done = host.configure("--apply")
        assert done.returncode == 5, done.stdout + done.stderr
        for name, value in {"archive_mode": "off", "archive_timeout": "0"}.items():
            assert (
                f"{name}: is {value} on the command line of the server, which no setting overrides"
                in done.stdout
            )
            assert f"HINT: start PostgreSQL without -c {name}=..., then: cd " in done.stdout
            assert f"{name} =" not in automatic(host)
        host.stop("fast")
        host.start()
        again = host.configure("--apply", "--restart")
        assert again.returncode == 0, again.stdout + again.stderr


def test_included_settings_and_rules_are_met_and_pg_hba_conf_keeps_owner_and_mode() -> None:
    """From 16 on rules may be in another file, which stays as it is."""
    with plain_host(at_least(160000), include_dir="conf.d") as host:
        folder = host.data / "conf.d"
        for name, text in {
            folder / "site.conf": "archive_timeout = 0\nwal_level = minimal\nmax_wal_senders = 0\n",
            host.data / "site_hba.conf": "host replication all 127.0.0.1/32 reject\n",
            host.hba: HBA.format(superuser=host.account.name, password=host.password_method)
            + "include site_hba.conf\n",
        }.items():
            host.write(name, text)
        host.hba.chmod(0o640)
        was = access(host.hba)
        host.stop("fast")
        host.start()
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "wal_level: minimal (site.conf) -> replica" in done.stdout
        assert "verified: alfresco replicates" in done.stdout
        assert access(host.hba) == was
        assert (host.data / "site_hba.conf").read_text() == "host replication all 127.0.0.1/32 reject\n"
        undone = host.configure("--undo", "--restart")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert access(host.hba) == was and host.hba.read_text().endswith("\ninclude site_hba.conf\n")
        assert host.setting("wal_level") == "minimal"
