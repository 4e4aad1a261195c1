"""PostgreSQL alone in a one-off container, for a recovery on a host whose server is in a container. It acts.

The image is that of the server's own container, so programs, libc and collations are the ones that its data
directory was written with. It has no network; the account is the data directory's owner, by number. What it
needs of the host has the same path in it, so that settings and restore_command are the same as on a host.

It ends with the run that started it, also by kill -9: the run holds the writing end of a pipe (FIFO), and a
shell in the container that reads the other one stops the server where there is nothing left to read. A single
program of the image is tied to its run likewise, by its standard input.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import BackupError, HostNotReady, NotInTime, ToolFailed
from alfresco_backup.findings import Finding, error
from alfresco_backup.host.containers import (
    DATA_INSIDE,
    INSPECT_SECONDS,
    WHICH_LIBC,
    Container,
    find_engine,
    look_for_container,
    server_container,
)
from alfresco_backup.host.host import Host
from alfresco_backup.host.services import process_start
from alfresco_backup.postgres.programs import data_directory_version
from alfresco_backup.postgres.versions import facts_of, label_of, version_of_program
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import guide_command
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system import folders
from alfresco_backup.system.accounts import Account, owner_of
from alfresco_backup.system.processes import Command, run, run_starter
from alfresco_backup.system.waiting import wait_until

LABEL = "alfresco-backup.one-off"
"""On every one-off container, with the data directory that it works in."""
RUN = "alfresco-backup.run"
"""On one of a single program, with the process number of its run."""
RESTORE_WAL = PROJECT_DIRECTORY / "deployments/wal/restore-wal"
SOCKETS = "socket"
"""In a restore's folder: that of the sockets of a server in a one-off container."""
FIFO = "one-off.fifo"
START_SECONDS = 300.0
HOUR = 3600.0
END_SECONDS = 60.0
ENFORCING = Path("/sys/fs/selinux/enforce")
_HELD: dict[str, int] = {}
"""By the name of a container that this process started: the pipe's end that keeps it running."""
_SERVER = """
exec 4<>"$1" 3<"$1" 4>&-
exec >>"$2" 2>&1
shift 2
(read -r _ <&3; while kill -INT 1; do sleep 1; done) &
exec postgres "$@" 3<&-"""
"""Opening the pipe for both ways first never waits, and afterwards nothing but the run holds it open. SIGINT
is a fast shutdown; it is repeated, since the first process of a container ignores it until it handles it."""
_TIED = """
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
trap 'exit 143' TERM
(read -r _ <&3; kill -KILL "$program") &
wait "$program"
"""
"""Standard input has nothing to read and ends with the run: so does the program then. The end of the first
process of a container ends all others. The engine passes SIGTERM on to it, which it would ignore.
"""
_PROBE = f"""
({WHICH_LIBC}
) || exit 9
postgres --version || exit 9
cat "$1/PG_VERSION" >/dev/null || exit 9
[ $# = 1 ] || sh -c "$4" restore-wal "$2" /tmp/restore-wal.probe "$3"
"""
_SHORT = {"-N": "max_connections", "-B": "shared_buffers"}


@dataclass(frozen=True)
class OneOff:
    """What a server in a one-off container is given besides its data directory.

    `folder` is root's, and has the pipe; `writable` and `readable` are its places, with their own paths in
    it. Its sockets go into `sockets`, all it says to `log`. `settings` are the names of those in its
    postgresql.auto.conf that the command of the server's own container must not override.
    """

    folder: Path
    sockets: Path
    log: Path
    writable: Sequence[Path]
    readable: Sequence[Path] = ()
    settings: frozenset[str] = frozenset()


def one_off_name(host: Host) -> str:
    """The name of the one-off container of a host's data directory."""
    digest = hashlib.sha256(os.fsencode(host.installation.data_directory)).hexdigest()
    return f"{host.settings.pg_container}.one-off-{digest[:8]}"


def server_options(command: Sequence[str]) -> dict[str, str]:
    """The settings that a container's command gives to `postgres`; none where it is another program."""
    names = [Path(word).name for word in command]
    if "postgres" in names:
        words = list(command[names.index("postgres") + 1 :])
    else:
        words = list(command) if command and command[0].startswith("-") else []
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word in _SHORT and words:
            found[_SHORT[word]] = words.pop(0)
            continue
        setting = words.pop(0) if word == "-c" and words else word.removeprefix("-c")
        setting = word.removeprefix("--") if word.startswith("--") else setting
        name, equals, value = setting.partition("=")
        if equals and not name.startswith("-"):
            found[name.replace("-", "_").lower()] = value
    return found


def start_one_off(host: Host, given: OneOff) -> None:
    """Start the server of a data directory; does not wait until it answers.

    The caller has proven that no other one works there. What a killed run left of the same name is removed.
    Raises BackupError.
    """
    stop_one_off(host, given.log)
    live, engine, name = server_container(host.settings), _engine(host.settings), one_off_name(host)
    account = owner_of(host.installation.data_directory)
    fifo = given.folder / FIFO
    _make_fifo(fifo, account)
    folders.appending(given.log, 0o600).close()
    folders.set_access(given.log, account.uid, account.gid, 0o600)
    argv = (
        *(engine, "run", "-d", "--rm", "--name", name, *_isolation(host, account)),
        *_mounts(host, live, given),
        *("--entrypoint", "sh", live.image, "-c", _SERVER, "sh", str(fifo), str(given.log)),
        *_server_argv(host, live, given),
    )
    _HELD[name] = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        run_starter(Command(argv, START_SECONDS), given.folder / "one-off-engine.log")
    except ToolFailed as failure:
        _let_go(name)
        raise BackupError(
            f"PostgreSQL was not started in a container of image {live.image}: {failure.message}",
            f"less {shlex.quote(str(given.folder / 'one-off-engine.log'))}",
        ) from failure


def one_off_watch(host: Host) -> Callable[[], bool]:
    """Tells whether the server that was started just now still runs."""
    container = look_for_container(_engine(host.settings), one_off_name(host))
    pid = container.pid if container else 0
    started = process_start(pid) if pid else None
    return lambda: started is not None and process_start(pid) == started


def in_image(
    host: Host, program: str, options: Sequence[str], places: Sequence[Path], account: Account
) -> Command:
    """A program of the server's image, which reads files of an account in these places.

    An exit code above 124 is the engine's, or that of a program which is missing or was killed.
    """
    mounts = [word for place in places for word in _bind(place, place, "ro")]
    image, limit = server_container(host.settings).image, host.settings.recovery_limit_hours * HOUR
    return _tied(host, account, (*mounts, "--entrypoint", "sh", image), (program, *options), limit)


def _tied(
    host: Host, account: Account, words: Sequence[str], program: Sequence[str], limit: float
) -> Command:
    """A program in a container of its own that ends with this process, and with the command's time limit."""
    engine = _engine(host.settings)
    _remove_never_started(engine)
    argv = (engine, "run", "--rm", "-i", "--label", f"{RUN}={os.getpid()}", *_isolation(host, account))
    return Command((*argv, *words, "-c", _TIED, "sh", *program), limit, holds_input=True)


def _remove_never_started(engine: str) -> None:
    """What is left of runs that were killed between the making of such a container and its start.

    It is harmless, and so is that it stays until the next time.
    """
    filters = ("--filter", f"label={RUN}", "--filter", "status=created")
    listing = (engine, "ps", "--all", *filters, "--format", "{{.ID}}")
    with suppress(ToolFailed, HostNotReady):
        for name in run(Command(listing, INSPECT_SECONDS), keep_output=True).output.split():
            found = look_for_container(engine, name)
            pid = found.labels.get(RUN, "") if found and not found.running else ""
            if pid.isdigit() and process_start(int(pid)) is None:
                run(Command((engine, "rm", "-v", name), INSPECT_SECONDS))


def stop_one_off(host: Host, log: Path) -> None:
    """Stop the server in the one-off container of a host's data directory, and remove it; none is harmless.

    Raises BackupError where one of that name is not ours, or stays.
    """
    name, engine = one_off_name(host), _engine(host.settings)
    found = look_for_container(engine, name)
    if found is not None:
        if found.labels.get(LABEL) != str(host.installation.data_directory):
            raise BackupError(
                f"container {name} was not made by this program for {host.installation.data_directory}",
                f"{engine} container inspect {name}",
            )
        seconds = max(1, int(host.settings.service_stop_minutes * 60))
        _try((engine, "stop", "-t", str(seconds), name), seconds + END_SECONDS, log)

        def gone() -> bool:
            return look_for_container(engine, name) is None

        with suppress(NotInTime):
            wait_until(gone, 5, "")
        if not gone():  # one that was created and never started has nothing that removes it
            _try((engine, "rm", "-f", "-v", name), END_SECONDS, log)
        wait_until(gone, END_SECONDS, f"container {name} cannot be removed", hint=f"{engine} rm -f {name}")
    _let_go(name)


def why_no_one_off(
    host: Host, base: BaseBackup | None = None, wal: tuple[Path, str] | None = None
) -> Finding | None:
    """Why the server of this host cannot be recovered in a one-off container; None where it can.

    Tried with one that changes nothing. `wal`: an archive and a segment of it, which restore-wal must be able
    to fetch there.
    """
    live, engine = server_container(host.settings), _engine(host.settings)
    subject, inspect = f"container {live.name}", f"{engine} image inspect {live.image}"
    if ENFORCING.is_file() and ENFORCING.read_text(encoding="ascii").strip() == "1":
        what = "SELinux is enforcing: the labels of a restored data directory would be wrong for containers"
        return error(subject, what, guide_command("containers.md", "restoring by hand"))
    directory = host.installation.data_directory
    if not (directory / "PG_VERSION").exists():
        what = f"{directory} is no data directory: whose it is to be is not known"
        return error(subject, what, f"{engine} start {live.name}  # which makes one")
    account = owner_of(directory)
    if account.uid == 0:
        return error(subject, f"{directory} belongs to root, as whom no server starts", f"ls -ld {directory}")
    mounts = {**_other_mounts(live), directory: (directory, "ro")}
    words = _words(mounts)
    probe = ["sh", "-c", _PROBE, "sh", str(directory)]
    if wal:
        words += _bind(wal[0], wal[0], "ro")
        probe += [wal[1], str(wal[0]), RESTORE_WAL.read_text(encoding="utf-8")]
    try:
        words += ["--entrypoint", "sh", live.image]
        done = run(_tied(host, account, words, probe, START_SECONDS), keep_output=True)
    except ToolFailed as failure:
        said = failure.tail or failure.message
        return error(
            subject, f"its image cannot recover a database in a container of its own: {said}", inspect
        )
    libc, _, version = done.output.strip().partition("\n")
    what = _why_other(libc, version, base, data_directory_version(directory))
    return error(subject, what, inspect) if what else None


def _why_other(libc: str, version: str, base: BaseBackup | None, in_place: int) -> str:
    """Why an image is another one than what is to be recovered needs; empty where it is not."""
    if base and base.libc and base.libc != libc:
        return (
            f"base backup {base.stamp} is of a server with {base.libc} (image {base.image}), its image is of "
            f"{libc}, which sorts text differently: indexes would be damaged"
        )
    expected = base.postgresql_version if base else in_place
    if facts_of(version_of_program(version)).major != facts_of(expected).major:
        return f"its image is of {version}; what is to be recovered is of {label_of(expected)}"
    return ""


def _engine(settings: Settings) -> str:
    return find_engine(settings, settings.pg_container)


def _isolation(host: Host, account: Account) -> tuple[str, ...]:
    label = f"{LABEL}={host.installation.data_directory}"
    return (
        *("--network", "none", "--userns", "host", "--security-opt", "label=disable"),
        *("--user", f"{account.uid}:{account.gid}", "--label", label, "--stop-signal", "SIGINT"),
    )


def _mounts(host: Host, live: Container, given: OneOff) -> list[str]:
    """The data directory where the server's own container has it, its other mounts, which it may only read,
    and the places of the recovery under their own paths.
    """
    inside = Path(live.environment.get("PGDATA") or DATA_INSIDE)
    mounts = {**_other_mounts(live), inside: (host.installation.data_directory, "")}
    mounts |= {place: (place, "ro") for place in given.readable}
    own = {host.installation.data_directory, given.folder, given.sockets, *given.writable}
    inner = {place for place in own for other in own if place != other and place.is_relative_to(other)}
    mounts |= {place: (place, "") for place in own - inner}
    return _words(mounts)


def _other_mounts(live: Container) -> dict[Path, tuple[Path, str]]:
    """The mounts of the server's own container but that of its data directory: by path inside, read only."""
    inside = Path(live.environment.get("PGDATA") or DATA_INSIDE)
    return {target: (source, "ro") for target, source in live.mounts if not inside.is_relative_to(target)}


def _words(mounts: Mapping[Path, tuple[Path, str]]) -> list[str]:
    return [word for target, (source, how) in mounts.items() for word in _bind(source, target, how)]


def _bind(source: Path, target: Path, how: str = "") -> tuple[str, str]:
    words = ("type=bind", f"source={source}", f"target={target}", *(["readonly"] if how else []))
    return "--mount", ",".join(words)


def _server_argv(host: Host, live: Container, given: OneOff) -> list[str]:
    """The options of `postgres`: what the container's command sets, which the WAL may need (max_connections
    and the like), but for what the recovery sets itself.
    """
    own: Mapping[str, str] = {
        "listen_addresses": "",
        "port": str(host.settings.pgport),
        "unix_socket_directories": str(given.sockets),
        "external_pid_file": "",
    }
    left_out = {*own, *given.settings, "data_directory"}
    taken = {name: value for name, value in server_options(live.command).items() if name not in left_out}
    settings = {**taken, **own}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return ["-D", live.environment.get("PGDATA") or str(DATA_INSIDE), *options]


def _make_fifo(path: Path, account: Account) -> None:
    """In a folder of root's, for the account to read."""
    with folders.parent_of(path) as (parent, name):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        os.mkfifo(name, 0o600, dir_fd=parent)
        os.chown(name, account.uid, account.gid, dir_fd=parent, follow_symlinks=False)


def _let_go(name: str) -> None:
    descriptor = _HELD.pop(name, None)
    if descriptor is not None:
        os.close(descriptor)


def _try(argv: tuple[str, ...], seconds: float, log: Path) -> None:
    """Whether it worked is seen by the container itself, which may have ended meanwhile."""
    with suppress(ToolFailed):
        run_starter(Command(argv, seconds), log)
