"""Preflight of files: what PostgreSQL's account can read in its data directory and write to in the archive.

That account itself is asked (`find -readable`, `test -w`): groups and access control lists count too.
"""

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from secrets import token_hex

from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.containers import server_container
from alfresco_backup.host.host import Host
from alfresco_backup.preflight.rules import judge_unreadable
from alfresco_backup.settings.commands import configure_command, edit_setting
from alfresco_backup.system.accounts import Account, account_for_people
from alfresco_backup.system.folders import scratch_folder
from alfresco_backup.system.processes import Command, run

LOOK_SECONDS = 600.0
_FIND_UNREADABLE = (
    *("-type", "d", "(", "!", "-readable", "-o", "!", "-executable", ")", "-print0"),
    *("-o", "-type", "f", "!", "-readable", "-print0"),
)
_FIND_TOLERATED = {1: "folders it cannot enter, which it has named, and files that vanished"}


def check_data_directory(host: Host) -> Finding:
    """Whether the server's account can read every file and folder of its data directory and tablespaces."""
    directory = host.installation.data_directory
    if host.settings.pg_container:
        return _check_contained(host, directory)
    account = host.account
    people = account_for_people(account)
    if os.geteuid() not in (0, account.uid):
        fix = f"run it as root or as {people.partition(':')[0]}"
        return error("data directory", f"belongs to {people}", fix)
    if not (directory / "PG_VERSION").is_file():
        return error("data directory", f"{directory} contains no PG_VERSION", edit_setting("PG_DATA_DIR"))
    links = sorted(path for path in (directory / "pg_tblspc").glob("*") if path.is_symlink())
    # Path.exists raises where a folder on the way is closed. A link that leads nowhere harms no backup.
    there = [link for link in links if os.path.exists(link)]  # noqa: PTH110
    barred = [link for link in there if not account_can(account, "-x", link)]
    closed = [link.resolve() for link in barred]
    places = [directory, *_tablespaces([link for link in links if link not in barred])]
    return judge_unreadable([*closed, *_unreadable(account, places)], people)


def _check_contained(host: Host, directory: Path) -> Finding:
    """The same by owner and mode: on this host that account can often not reach the volume."""
    container = server_container(host.settings)
    own = container.data_directory
    if own is None or os.path.realpath(own) != os.path.realpath(directory):
        what = f"{directory} is not that of container {container.name}, which is {own or 'in no mount'}"
        return error("data directory", what, edit_setting("PG_DATA_DIR", str(own) if own else "..."))
    if not (directory / "PG_VERSION").is_file():
        return error("data directory", f"{directory} contains no PG_VERSION", edit_setting("PG_DATA_DIR"))
    uid, gid = (str(number) for number in (host.account.uid, host.account.gid))

    def readable(wanted: str) -> tuple[str, ...]:
        group = ("!", "-uid", uid, "-gid", gid, "-perm", f"-g={wanted}")
        rest = ("!", "-uid", uid, "!", "-gid", gid, "-perm", f"-o={wanted}")
        return ("(", "-uid", uid, "-perm", f"-u={wanted}", "-o", *group, "-o", *rest, ")")

    closed = (
        "-type",
        "d",
        "!",
        *readable("rx"),
        "-print0",
        "-o",
        "-type",
        "f",
        "!",
        *readable("r"),
        "-print0",
    )
    argv = ("find", "-H", str(directory), "-ignore_readdir_race", *closed)  # what vanishes meanwhile is none
    found = run(Command(argv, LOOK_SECONDS), keep_output=True).output
    return judge_unreadable(
        [Path(name) for name in found.split("\0") if name], account_for_people(host.account)
    )


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
    user = account_for_people(host.account).partition(":")[0]
    fix = configure_command("--apply")
    if not archive.is_dir():
        mount = f"mount {shlex.quote(str(host.repository.root))}"
        what = f"{archive} does not exist; is the disk mounted?"
        return error("WAL archive", what, f"{mount}\n{fix}  # for a new one")
    if not all(account_can(host.account, flag, archive) for flag in ("-w", "-x")):
        return error("WAL archive", f"{archive} cannot be written to by {user}, who archives there", fix)
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


# Preflight of BACKUP_DIR's file system: whether it can store what backups are made of. Tried, not inferred.

PROBE = ".preflight-"
"""Beginning of the name of the folder it is tried in; readers of the repository skip names with a dot."""


def check_file_system(host: Host) -> list[Finding]:
    """Make links, odd names and a file of PostgreSQL's account in BACKUP_DIR, and remove them again.

    FAT and some network mounts have no links; NFS that squashes root gives no files away.
    """
    root = host.repository.root
    fix = f"findmnt --target {shlex.quote(str(root))}  # use ext4, xfs or the like"
    try:
        with scratch_folder(root / f"{PROBE}{token_hex(6)}") as place:
            problems = _try_all(host, place, fix)
    except OSError as failure:
        what = f"a folder with a file in {root} cannot be made and removed: {failure.strerror}"
        return [error("file system", what, fix)]
    return problems or [ok("file system", f"{root} can store links and files of PostgreSQL's account")]


def _try_all(host: Host, place: int, fix: str) -> list[Finding]:
    """In an open folder of this process's own, whatever leads to it meanwhile."""
    file = os.open("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=place)
    try:
        return list(_problems(host, place, file, fix))
    finally:
        os.close(file)


def _problems(host: Host, place: int, file: int, fix: str) -> Iterator[Finding]:
    os.write(file, b"content")
    export = "export it with no_root_squash, or run backups as the owner of the data directory"
    found = [
        _try(
            error,
            "symbolic links, of which snapshots are made",
            fix,
            lambda: os.symlink("file", "s", dir_fd=place),
        ),
        _try(error, "flushing of folders to disk", fix, lambda: os.fsync(place)),
        _try(error, "files of PostgreSQL's account", export, lambda: _give_away(host, file)),
        _try(
            warning,
            "hard links; every version of a day takes its full size",
            fix,
            lambda: os.link("file", "h", src_dir_fd=place, dst_dir_fd=place),
        ),
        _try(
            warning,
            "file names of any bytes",
            fix,
            lambda: os.mkdir(b"\xff:\n?", dir_fd=place),
        ),
    ]
    yield from (finding for finding in found if finding is not None)
    if os.access("FILE", os.F_OK, dir_fd=place):
        what = "BACKUP_DIR's does not tell capitals from small letters in file names"
        yield warning("file system", what, fix)


def _try(
    level: Callable[[str, str, str], Finding], what: str, fix: str, step: Callable[[], object]
) -> Finding | None:
    try:
        step()
    except OSError as failure:
        return level("file system", f"BACKUP_DIR's does not support {what} ({failure.strerror})", fix)
    return None


def _give_away(host: Host, file: int) -> None:
    """As root, base backups are written by PostgreSQL's account into a folder given to it."""
    if os.geteuid() == 0 and host.installation.data_directory.exists():
        os.fchown(file, host.account.uid, host.account.gid)
