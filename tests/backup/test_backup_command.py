"""`python backup.py` as cron and people run it: any folder, a bare environment, meaningful exit codes."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.repository.catalogue import read_catalogue
from demo.host import DemoHost
from tests.support.common import temporary_demo_host

pytestmark = pytest.mark.slow

BACKUP = Path(__file__).parents[2] / "backup.py"
LIMIT_SECONDS = 600


def backup(*arguments: object, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: from the root folder, with next to nothing in the environment."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", **environment}
    return subprocess.run(
        [sys.executable, BACKUP, *map(str, arguments)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all runs, so that Prefect makes its database only once."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.slow
def test_a_bare_environment_suffices_for_two_sets_and_a_content_only_run(home: Path) -> None:
    with temporary_demo_host() as host:
        first = backup(host.env_file, home=home)
        assert first.returncode == 0, first.stderr
        assert "# Backup of demo: set " in first.stdout and "**restorable from " in first.stdout
        second = backup(host.env_file, home=home)
        assert second.returncode == 0, second.stderr
        assert "| quick, 0 new files |" in second.stdout
        hourly = backup(host.env_file, "--only", "contentstore", "--full", home=home)
        assert hourly.returncode == 0, hourly.stderr
        catalogue = read_catalogue(load_host(host.env_file).repository)
        assert [item.complete for item in catalogue.sets] == [True, True, False]
        assert catalogue.problems == () and catalogue.partials == ()
        older, newer, full = catalogue.snapshots
        assert (older.mode, newer.mode, full.mode) == ("quick", "quick", "full")
        assert older.started_at > catalogue.bases[0].stopped_at
        assert newer.new_files == 0 and newer.files == older.files == full.files
        assert_same_content(host, newer.path)
        assert_no_shared_inode(host, newer.path)


def assert_same_content(host: DemoHost, snapshot: Path) -> None:
    """Byte for byte, as `cp -rL` would give it."""
    done = subprocess.run(
        ["diff", "-r", host.layout.contentstore, snapshot], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[:2000]


def assert_no_shared_inode(host: DemoHost, snapshot: Path) -> None:
    live = {path.stat().st_ino for path in host.layout.contentstore.rglob("*") if path.is_file()}
    kept = {
        Path(folder, name).stat().st_ino
        for folder, _, names in os.walk(snapshot, followlinks=True)
        for name in names
    }
    assert kept and not live & kept


@pytest.mark.slow
def test_a_preflight_error_fails_with_every_mend_and_copies_nothing(home: Path) -> None:
    with temporary_demo_host(documents=20) as host:
        host.cluster.sql("ALTER ROLE alfresco NOREPLICATION")
        host.backup_dir.chmod(0o777)
        done = backup(host.env_file, home=home)
        assert done.returncode == 1
        assert "HostNotReady: the host is not ready: 2 errors, nothing was copied" in done.stderr
        assert "alfresco may not replicate: " in done.stderr and "HINT: chmod go-w" in done.stderr
        assert " -m alfresco_backup configure --apply --env " in done.stderr
        assert "Traceback" not in done.stderr and "ended by the HostNotReady above" in done.stderr
        left = {path.name for path in host.backup_dir.iterdir()}
        assert left == {"pg_wal", "logs"}


@pytest.mark.slow
def test_a_part_that_fails_leaves_older_sets_and_runs_no_retention(home: Path) -> None:
    with temporary_demo_host(documents=20) as host:
        assert backup(host.env_file, home=home).returncode == 0
        before = read_catalogue(load_host(host.env_file).repository)
        stale = host.backup_dir / "contentstore/days/20200101T000000Z"
        stale.mkdir(parents=True)
        blocked = host.layout.keystore / "unreadable"
        blocked.symlink_to("/proc/1/mem-that-is-not-there")
        done = backup(host.env_file, "--only", "configuration", home=home)
        assert done.returncode == 1
        assert "rsync ended with exit code 23" in done.stderr
        fix = f"namei -l {host.layout.keystore}; df -h {host.backup_dir}/configuration"
        assert f"\nHINT: {fix}\n" in done.stderr
        after = read_catalogue(load_host(host.env_file).repository)
        assert [item.stamp for item in after.sets] == [item.stamp for item in before.sets]
        assert stale.is_dir()
        assert [path.name.partition("-")[0] for path in after.partials] == ["configuration"]
        copy = host.backup_dir / "postgres/base-20260101T000000Z.partial"
        copy.mkdir()
        again = backup(host.env_file, "--only", "configuration", home=home)
        assert again.returncode == 1 and f"removed {after.partials[0]}, left by a run" in again.stderr
        assert [path.name.partition("-")[0] for path in after.partials if path.exists()] == []
        left = read_catalogue(load_host(host.env_file).repository).partials
        assert len(left) == 2 and copy in left


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("/nowhere/.env",), "/nowhere/.env: this settings file does not exist"),
        (
            ("--only", "database"),
            "'database': one or more of postgres,contentstore,configuration are expected",
        ),
        (("--full", "--checksum"), "not allowed with argument"),
    ],
)
def test_wrong_settings_or_arguments_are_exit_code_2_before_anything_starts(
    home: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = backup(*arguments, home=home)
    assert done.returncode == 2
    assert expected in done.stderr


def test_a_settings_file_that_cannot_be_read_is_exit_code_2(home: Path, tmp_path: Path) -> None:
    env = tmp_path / "latin.env"
    env.write_bytes("CUSTOMER_NAME=Müller\n".encode("latin-1"))
    done = backup(env, home=home)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{env}: cannot be read: 'utf-8' codec" in done.stderr
    if os.geteuid() != 0:  # root reads every file
        env.chmod(0)
        done = backup(env, home=home)
        assert done.returncode == 2 and f"{env}: cannot be read: [Errno 13] Permission" in done.stderr


@pytest.mark.slow
def test_a_home_that_cannot_be_made_is_named_with_what_helps(tmp_path: Path) -> None:
    """As that of many system accounts, /nonexistent."""
    env = tmp_path / "env"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}\n")
    done = backup(env, home=Path("/proc/nonexistent"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "BackupError: PREFECT_HOME=/proc/nonexistent/.prefect, where Prefect keeps" in done.stderr
    assert "or set PREFECT_HOME in the .env to a folder of this account" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an account without a name")
def test_an_account_without_a_name_needs_no_home() -> None:
    """As in containers, or while the directory service is away."""
    nameless = next(uid for uid in range(60000, 65000) if uid not in {item.pw_uid for item in pwd.getpwall()})
    code = (
        "import os; from alfresco_backup.cli.entry import prepare_environment\n"
        f"os.setuid({nameless}); prepare_environment(None); print(os.environ['HOME'])"
    )
    argv = [sys.executable, "-c", code]
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        argv, cwd=BACKUP.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "/\n", done.stderr
