"""Preflight of files: what PostgreSQL's account can read in its data directory and write to in the archive.

That account itself is asked (`find -readable`, `test -w`): groups and access control lists count too.
"""

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from alfresco_backup.accounts import account_for_people
from alfresco_backup.errors import BackupError
from alfresco_backup.host import Host
from alfresco_backup.preflight import Finding, HowToArchive, error, judge_unreadable, ok
from alfresco_backup.runner import Account, Command, run
from alfresco_backup.settings import PROJECT_DIRECTORY

WAL_COMMANDS = PROJECT_DIRECTORY / "deployments/wal"
LOOK_SECONDS = 600.0
_FIND_UNREADABLE = (
    *("-type", "d", "(", "!", "-readable", "-o", "!", "-executable", ")", "-print0"),
    *("-o", "-type", "f", "!", "-readable", "-print0"),
)
_FIND_TOLERATED = {1: "folders it cannot enter, which it has named, and files that vanished"}


def check_data_directory(host: Host) -> Finding:
    """Whether the server's account can read every file and folder of its data directory and tablespaces."""
    directory = host.installation.data_directory
    account = host.account
    people = account_for_people(account)
    if os.geteuid() not in (0, account.uid):
        mend = f"run the backup as root or as {people.partition(':')[0]}"
        return error("data directory", f"belongs to {people}", mend)
    if not (directory / "PG_VERSION").is_file():
        return error("data directory", f"{directory} holds no PG_VERSION", "set PG_DATA_DIR in the .env")
    links = sorted(path for path in (directory / "pg_tblspc").glob("*") if path.is_symlink())
    # Path.exists raises where a folder on the way is closed. A link that leads nowhere harms no backup.
    there = [link for link in links if os.path.exists(link)]  # noqa: PTH110
    barred = [link for link in there if not account_can(account, "-x", link)]
    closed = [link.resolve() for link in barred]
    places = [directory, *_tablespaces([link for link in links if link not in barred])]
    return judge_unreadable([*closed, *_unreadable(account, places)], people)


def _tablespaces(links: Sequence[Path]) -> list[Path]:
    """What PostgreSQL keeps in each tablespace, and copies: a mount point holds a `lost+found` beside it."""
    return [place for link in links for place in (sorted(link.glob("PG_*")) or [link])]


def _unreadable(account: Account, places: Sequence[Path]) -> list[Path]:
    argv = ("find", "-H", *map(str, places), *_FIND_UNREADABLE)
    command = Command(argv, LOOK_SECONDS, account=account, tolerated=_FIND_TOLERATED)
    return [Path(name) for name in run(command, keep_output=True).output.split("\0") if name]


def check_wal_archive(host: Host) -> Finding:
    """Whether the folder of the WAL archive is there and PostgreSQL's account can write to it."""
    archive = host.repository.wal
    user, _, group = account_for_people(host.account).partition(":")
    mend = f"install -d -o {user} -g {group} -m 750 {shlex.quote(str(archive))}"
    if not archive.is_dir():
        return error("WAL archive", f"{archive} does not exist", mend)
    if not all(account_can(host.account, flag, archive) for flag in ("-w", "-x")):
        return error("WAL archive", f"{archive} cannot be written to by {user}, who archives there", mend)
    return ok("WAL archive", f"is {archive}")


def account_can(account: Account, flag: str, path: Path) -> bool:
    """What `test` says of a path, as that account: -r, -w, -x."""
    command = Command(
        ("test", flag, str(path)), LOOK_SECONDS, account=account, tolerated={1: "the answer no"}
    )
    return run(command).returncode == 0


def closed_folders(host: Host, path: Path) -> tuple[Path, ...]:
    """The folders on the way to `path` that keep PostgreSQL's account out; none while that is not known."""
    try:
        if account_can(host.account, "-x", path):
            return ()
    except BackupError:
        return ()
    return tuple(item for item in (path, *path.parents) if not item.stat().st_mode & stat.S_IXOTH)


def how_to_archive(host: Host) -> HowToArchive:
    """Where PostgreSQL's account finds archive-wal, and the archive it fills."""
    here = account_can(host.account, "-x", WAL_COMMANDS / "archive-wal")
    return HowToArchive(WAL_COMMANDS, host.repository.wal, reachable=here)
