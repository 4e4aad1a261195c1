"""Running archive-wal and restore-wal as PostgreSQL does: by sh, as the server's account, with its umask."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.places import give_to, server_account

PROGRAMS = PROJECT_DIRECTORY / "deployments/wal"
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said on standard error."""

    code: int
    words: str


def install_commands(directory: Path) -> None:
    """Copy the commands to where the server's account can run them."""
    directory.mkdir(exist_ok=True)
    for name in ("archive-wal", "restore-wal"):
        shutil.copy(PROGRAMS / name, directory / name)
        (directory / name).chmod(0o755)


def as_account(argv: Sequence[str]) -> list[str]:
    """The arguments with a change of user before them, when the tests run as root."""
    account = server_account()
    if account is None:
        return list(argv)
    user = ["--reuid", str(account.uid), "--regid", str(account.gid), "--clear-groups"]
    return ["setpriv", *user, "--", *argv]


def start(argv: Sequence[str], directory: Path, first_in_path: Path | None = None) -> "subprocess.Popen[str]":
    """Start a command in `directory` as the server's account; programs in `first_in_path` are found first."""
    path = "/usr/bin:/bin" if first_in_path is None else f"{first_in_path}:/usr/bin:/bin"
    return subprocess.Popen(
        as_account(argv),
        cwd=directory,
        env={"PATH": path, "LD_LIBRARY_PATH": "/nonexistent"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        umask=0o077,
        start_new_session=True,
    )


def call(argv: Sequence[str], directory: Path, first_in_path: Path | None = None) -> Answer:
    """Run a command to its end. It must print nothing on standard output."""
    process = start(argv, directory, first_in_path)
    output, words = process.communicate(timeout=LIMIT_SECONDS)
    assert output == ""
    return Answer(process.returncode, words)


def own_directory(path: Path) -> Path:
    """A new directory that belongs to the server's account."""
    path.mkdir()
    give_to(path, server_account())
    return path


def give_all(directory: Path) -> None:
    """Hand a directory and what is in it to the server's account."""
    for path in (directory, *directory.rglob("*")):
        give_to(path, server_account())


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def runs_program(pid: int, name: str) -> bool:
    """Whether a process has a child that is that program by now, no longer a copy of the process itself."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                return True
    return False
