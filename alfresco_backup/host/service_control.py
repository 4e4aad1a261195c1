"""Stopping and starting Alfresco and PostgreSQL, each verified by pid file and port."""

import os
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import BackupError, NotInTime, ToolFailed
from alfresco_backup.findings import Finding, error
from alfresco_backup.host.containers import inspect_container
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import one_off_watch, stop_one_off
from alfresco_backup.host.postmaster import SHELLS, Worker, postmaster, workers_in
from alfresco_backup.host.services import (
    Service,
    Verb,
    containers_of,
    control_command,
    endpoint_of,
    keeper_of,
    pid_file_of,
    running_process,
    service_environment,
)
from alfresco_backup.postgres.programs import Programs, data_directory_version, find_programs
from alfresco_backup.postgres.versions import facts_of, label_of
from alfresco_backup.settings.commands import as_account, edit_setting
from alfresco_backup.system.accounts import Account, acting_as, owner_of, owner_of_program
from alfresco_backup.system.folders import appending
from alfresco_backup.system.processes import Command, run_starter
from alfresco_backup.system.waiting import wait_until
from alfresco_backup.times import duration_for_people

NAMES = {"alfresco": "Alfresco (Tomcat)", "postgresql": "PostgreSQL"}
MINUTE = 60.0
LEFT_OVER_SECONDS = 10.0
"""What a server's last children and an archive_command need to end once it has."""
BIRTH_SECONDS = 30.0
"""What a service that was started needs to have a process, on a slow machine."""
WORDS_SECONDS = 5.0
"""How long it is waited for facts that belie a script's words."""
_FAILURE = re.compile(r"could not be (?:started|stopped)|cannot be run as (?:root|.root.)")
"""The words of the installer's ctl.sh and of pg_ctl, whose exit code the script does not pass on."""
SERVER_LOG = "server.log"
"""In the data directory: what PostgreSQL says when pg_ctl starts it and its settings name no other log."""


@dataclass(frozen=True)
class ServiceState:
    """A service as seen: the process its pid file names, and whether its port answers.

    `others`: processes that work in PostgreSQL's data directory although its pid file names none of ours.
    """

    service: Service
    pid: int | None
    answers: bool
    pid_file: Path
    endpoint: str
    others: tuple[Worker, ...] = ()

    @property
    def down(self) -> bool:
        return self.pid is None and not self.answers and not self.others

    def sentence(self) -> str:
        process = f"process {self.pid} ({self.pid_file}) runs" if self.pid else f"{self.pid_file}: no process"
        if self.others:
            more = f" as do {len(self.others) - 1} more" if len(self.others) > 1 else ""
            process = (
                f"{self.others[0]} works in {self.pid_file.parent}{more}, and is not the server that "
                f"{self.pid_file.name} names"
            )
        return f"{process}; {self.endpoint} {'answers' if self.answers else 'does not answer'}"


def look_at(host: Host, service: Service) -> ServiceState:
    """Whether a service is up. Raises BackupError when its pid file may not be read."""
    if names := containers_of(service, host.settings):
        return _look_at_containers(host, service, names)
    pid_file = pid_file_of(service, host.installation)
    endpoint = endpoint_of(service, host.settings)
    others: tuple[Worker, ...] = ()
    try:
        if service == "alfresco":
            pid = running_process(pid_file)
        else:
            pid = postmaster(pid_file.parent)
            others = () if pid else workers_in(pid_file.parent)
    except OSError as error:
        raise BackupError(f"{pid_file} cannot be read: {error}", "run it as root") from error
    return ServiceState(service, pid, endpoint.answers(), pid_file, str(endpoint), others)


def _look_at_containers(host: Host, service: Service, names: tuple[str, ...]) -> ServiceState:
    """The engine's own word, and the port. `pid`: the host's number of the first process of one that runs.

    A server in another container, or on the host, is among `others` where it works in the data directory.
    """
    names = () if service == "postgresql" and host.beside else names
    containers = [inspect_container(host.settings, name) for name in names]
    up = [container for container in containers if container.running]
    others: tuple[Worker, ...] = ()
    if service == "postgresql" and not up:
        others = workers_in(host.installation.data_directory)
    place = pid_file_of(service, host.installation)
    if names and not others:
        place = Path(f"container {up[0].name if up else names[-1]}")
    pid = up[0].pid if up else None
    endpoint = endpoint_of(service, host.settings)
    return ServiceState(service, pid, endpoint.answers(), place, str(endpoint), others)


def require_down(host: Host, service: Service) -> None:
    """Raise BackupError naming what runs it when a service that was stopped is up again."""
    state = look_at(host, service)
    if state.down:
        return
    keeper = keeper_of(state.pid) if state.pid else ""
    stop = f"systemctl stop {keeper}" if keeper.endswith(".service") else "stop what starts it"
    raise BackupError(
        f"{NAMES[service]} was stopped and is up again, started by {keeper or 'something else'}: "
        f"{state.sentence()}",
        f"{stop}  # a systemd unit with Restart=, monit, a cron job; and stop {NAMES[service]} until the "
        "restore is over",
    )


def require_server_down(host: Host) -> None:
    """Raise BackupError unless no process works in the data directory and its port is closed.

    To be called before a server is started there, by whatever program: a second one on a live data directory
    destroys it. What a server that has just ended leaves behind gets a moment to end.
    """
    state = _settled(host)
    if not state.down:
        raise BackupError(
            f"PostgreSQL is not started: it is not proven that no server uses the data directory; "
            f"{state.sentence()}",
            _who_works(state),
        )


def _settled(host: Host) -> ServiceState:
    """PostgreSQL's state, once processes of a server that has ended are gone, or have had the time for it."""

    def settled() -> bool:
        return all(each.elsewhere for each in look_at(host, "postgresql").others)

    with suppress(NotInTime):
        wait_until(settled, LEFT_OVER_SECONDS, "")
    return look_at(host, "postgresql")


def _who_works(state: ServiceState) -> str:
    """What shows the processes that keep a server from being started."""
    if state.others:
        return f"ps -o pid,user,lstart,args -p {','.join(str(each.pid) for each in state.others)}"
    return "ss -ltnp  # shows which process listens"


def why_not_controllable(host: Host, service: Service) -> Finding | None:
    """What keeps a service from being stopped, and seen to be down; None for nothing. Changes nothing."""
    state = look_at(host, service)
    name = NAMES[service]
    if state.others:
        state = _settled(host)
    if state.others:
        if host.settings.pg_stop_command and host.settings.pg_start_command:
            return None
        edits = "\n".join(edit_setting(each) for each in ("PG_STOP_COMMAND", "PG_START_COMMAND"))
        what = f"{state.sentence()}: pg_ctl can neither stop it nor prove that it is down"
        return error(
            name, what, f"{_who_works(state)}\n{edits}  # such as docker stop NAME, docker start NAME"
        )
    if state.pid is None and state.answers:
        alfresco = service == "alfresco"
        setting = ("TOMCAT_PORT", "TOMCAT_PID_FILE") if alfresco else ("PGPORT", "PG_DATA_DIR")
        sentence = (
            f"{state.endpoint} answers, but {state.pid_file} names no running process: it cannot be verified "
            f"that {name} is down"
        )
        edits = "\n".join(edit_setting(each) for each in setting)
        return error(name, sentence, f"ss -ltnp  # shows which process listens\n{edits}")
    has_command = bool(control_command(service, "stop", host.settings, host.installation))
    if service == "alfresco" and state.pid is not None and not has_command:
        sentence = "it runs, but there is no alfresco.sh to stop it with"
        return error(name, sentence, edit_setting("ALF_STOP_COMMAND"))
    return None


def stop_service(host: Host, service: Service, log: Path, *, by_pg_ctl: bool = False) -> None:
    """Stop a service and return once it is proven down; does nothing when it is.

    PostgreSQL that its script cannot stop is stopped by pg_ctl in fast mode: the script of 9.4's installer
    waits for every client. `by_pg_ctl`: pg_ctl comes first, for a server that it started, which a systemd
    unit knows nothing of. Raises BackupError within the limit otherwise; nothing is killed.
    """
    if service == "postgresql" and host.settings.pg_container:
        stop_one_off(host, log)
    if look_at(host, service).down:
        return
    contained = bool(containers_of(service, host.settings))
    by_pg_ctl = by_pg_ctl and not contained
    if service == "postgresql" and not contained and not host.settings.pg_stop_command:
        _require_own(host)
    limit = host.settings.service_stop_minutes * MINUTE
    deadline = time.monotonic() + limit
    if by_pg_ctl and not _stop_by_pg_ctl(host, limit / 2, log) and _wait_down(host, service, deadline):
        return
    by_script, account = _command_and_account(host, service, "stop")
    falls_back = service == "postgresql" and not contained
    trouble = ""
    if by_script:
        share = limit / 2 if falls_back else limit
        trouble = _try(by_script, share, log, account)
        patience = 1 if trouble and falls_back else share  # a script may fail and yet have begun to stop it
        if _wait_down(host, service, min(deadline, time.monotonic() + patience)):
            return
    if falls_back:
        by_pg_ctl_trouble = _stop_by_pg_ctl(host, max(1.0, deadline - time.monotonic()), log)
        trouble = by_pg_ctl_trouble or trouble
        patience = WORDS_SECONDS if by_pg_ctl_trouble else limit
        if _wait_down(host, service, min(deadline, time.monotonic() + patience)):
            return
    said = f"; {trouble}" if trouble else ""
    raise BackupError(
        f"{NAMES[service]} did not stop within {duration_for_people(limit)}: "
        f"{look_at(host, service).sentence()}{said}",
        f"less {shlex.quote(str(log))}\n{edit_setting('SERVICE_STOP_MINUTES')}  # the limit",
    )


def _require_own(host: Host) -> None:
    """Raise BackupError where another process than postmaster.pid names works in the data directory."""
    state = _settled(host)
    if state.others:
        raise BackupError(
            f"PostgreSQL cannot be stopped by pg_ctl: {state.sentence()}",
            f"{_who_works(state)}\n{edit_setting('PG_STOP_COMMAND')}",
        )


def start_service(host: Host, service: Service, log: Path) -> None:
    """Start a service and return once it is up: its process lives, its port answers, PostgreSQL is ready.

    What a script says counts as well as its exit code, which the installer's has as 0 when it could start
    nothing. Raises BackupError, with the command that starts it, when it does not come up within
    SERVICE_STOP_MINUTES, when no process of it appears, or when it ends again; and, with nothing started,
    where PostgreSQL is not proven down.
    """
    limit = host.settings.service_stop_minutes * MINUTE
    deadline = time.monotonic() + limit
    try:
        said = _begin_start(host, service, log, limit)
        _wait_up(host, service, deadline, said)
    except BackupError as failure:
        logs = f"{host.installation.home}/tomcat/logs/catalina.out" if service == "alfresco" else ""
        again = f"{start_command(host, service)}  # starts {NAMES[service]}"
        hints = dict.fromkeys(
            (*failure.hint.splitlines(), f"less {shlex.quote(str(log))} {logs}".strip(), again)
        )
        failure.hint = "\n".join(hints)
        raise


def _begin_start(host: Host, service: Service, log: Path, limit: float) -> str:
    """Run what starts a service, unless that has begun; returns its words where they say it could not."""
    if service == "postgresql":
        if look_at(host, service).pid is not None:
            return ""
        require_server_down(host)
    command, account = _command_and_account(host, service, "start")
    if command:
        done = run_starter(Command(command, limit, service_environment(), account), log)
        return done.tail if _FAILURE.search(done.tail) else ""
    if service == "alfresco":
        raise BackupError("there is no alfresco.sh to start Alfresco with", edit_setting("ALF_START_COMMAND"))
    start_by_pg_ctl(host, host.installation.data_directory / SERVER_LOG, wait_seconds=limit)
    return ""


def _wait_up(host: Host, service: Service, deadline: float, said: str) -> None:
    """Wait until a service is up, as long as it has a process. `said`: why its script says it has none."""
    patience = min(deadline, time.monotonic() + (WORDS_SECONDS if said else BIRTH_SECONDS))

    def up() -> bool:
        state = look_at(host, service)
        alive = bool(state.pid or state.others)
        if not alive and time.monotonic() > patience:
            words = f"; what starts it said:\n{said}" if said else ""
            raise BackupError(f"{NAMES[service]} did not come up: {state.sentence()}{words}")
        # A server in crash recovery has its port open, and a script or an engine does not wait for its end.
        return alive and state.answers and (service != "postgresql" or host.database.takes_connections())

    def late() -> str:
        limit = duration_for_people(host.settings.service_stop_minutes * MINUTE)
        state = look_at(host, service)
        rejects = ", and takes no connections yet" if state.answers and service == "postgresql" else ""
        return f"{NAMES[service]} did not come up within {limit}: {state.sentence()}{rejects}"

    wait_until(up, deadline - time.monotonic(), late)


def start_command(host: Host, service: Service) -> str:
    """What a root shell starts a service with, as the account that must start it."""
    command, account = _command_and_account(host, service, "start")
    if command:
        return as_account(account, shlex.join(command))
    if service == "alfresco":
        return edit_setting("ALF_START_COMMAND")
    data_directory = host.installation.data_directory
    try:
        program = server_programs(host, data_directory_version(data_directory)).path("pg_ctl")
    except BackupError:
        program = "pg_ctl"
    argv = (program, "start", "-D", str(data_directory), "-l", str(data_directory / SERVER_LOG))
    return as_account(host.account, shlex.join(argv))


def _command_and_account(host: Host, service: Service, verb: Verb) -> tuple[tuple[str, ...], Account | None]:
    """What starts or stops a service, and the account that could exchange it, which it is run as.

    Empty where that is an installer's script of one account for a server of another, which it cannot control:
    pg_ctl can. And for a server beside the live one, which those commands are of.
    """
    if host.beside and host.settings.pg_container:
        return (), None
    command = control_command(service, verb, host.settings, host.installation)
    account = owner_of_program(_program_of(command)) if command else None
    is_script = bool(command) and command[0] == str(host.installation.control_script)
    if service == "postgresql" and is_script and account and account.uid != host.account.uid:
        return (), None
    return command, account


def _program_of(command: tuple[str, ...]) -> Path:
    """What a command runs: of `sh /opt/alfresco/alfresco.sh start` the script, which is not root's."""
    words = command if Path(command[0]).name in SHELLS | {"env"} else command[:1]
    return next((Path(word) for word in words[1:] if word.startswith("/")), Path(command[0]))


def start_by_pg_ctl(host: Host, log: Path, *, wait_seconds: float = 0) -> None:
    """Start PostgreSQL as the data directory's owner. `wait_seconds` 0: do not wait until it answers.

    Its messages go to `log`, which that account gets, for as long as it runs. Raises BackupError for the
    data directory of a container: the host's libc may sort otherwise, which damages indexes in silence.
    """
    if host.settings.pg_container:
        raise BackupError(
            f"the programs of this host do not start {host.installation.data_directory}: its server runs in "
            f"container {host.settings.pg_container}, with another libc and other collations",
            start_command(host, "postgresql"),
        )
    require_server_down(host)
    data_directory = host.installation.data_directory
    account = owner_of(data_directory)
    try:
        _give_log(log, account)
    except OSError as error:
        raise BackupError(
            f"{log}, to which PostgreSQL's messages go, cannot be written to: {error.strerror}",
            f"ls -l {shlex.quote(str(log))}; move it away",
        ) from error
    waiting = ("-w", "-t", str(max(1, int(wait_seconds)))) if wait_seconds else ("-W",)
    argv = (
        server_programs(host, data_directory_version(data_directory)).path("pg_ctl"),
        *("start", "-D", str(data_directory), "-l", str(log), *waiting),
    )
    limit = wait_seconds + MINUTE
    run_starter(Command(argv, limit, service_environment(), account, hint=f"less {log}"), log)


def server_watch(host: Host) -> Callable[[], bool]:
    """Tells whether the server of the data directory, which was started for a recovery just now, is alive."""
    if host.settings.pg_container:
        return one_off_watch(host)
    return lambda: postmaster(host.installation.data_directory) is not None


def _give_log(log: Path, account: Account) -> None:
    """Make a file for an account to write to, if there is none; in a folder of its own it makes it itself."""
    its_own = owner_of(log.parent).uid == account.uid
    with acting_as(account if its_own else None), appending(log, 0o600) as stream:
        if not its_own and os.geteuid() == 0:
            os.fchown(stream.fileno(), account.uid, account.gid)


def server_programs(host: Host, version: int) -> Programs:
    """The folder with the server's programs of a major version. Raises BackupError naming those found.

    No Refused, which tells that nothing was touched: services are started in the middle of a restore, too.
    """
    found = find_programs(host.settings, "pg_ctl")
    for programs in found:
        if facts_of(programs.version).major == facts_of(version).major and programs.has("postgres"):
            return programs
    listed = ", ".join(f"{item.directory} ({label_of(item.version)})" for item in found) or "none"
    wanted = facts_of(version).label.rpartition(".")[0]
    raise BackupError(
        f"no programs of PostgreSQL {wanted} are on this host; found: {listed}",
        edit_setting("PG_BINDIR"),
    )


def _stop_by_pg_ctl(host: Host, limit: float, log: Path) -> str:
    """It signals what postmaster.pid names, so that must be the server."""
    state = look_at(host, "postgresql")
    if state.pid is None:
        return state.sentence()
    data_directory = host.installation.data_directory
    programs = server_programs(host, data_directory_version(data_directory))
    argv = (
        programs.path("pg_ctl"),
        *("stop", "-D", str(data_directory), "-m", "fast", "-w", "-t", str(max(1, int(limit)))),
    )
    return _try(argv, limit + MINUTE, log, owner_of(data_directory))


def _try(argv: tuple[str, ...], limit: float, log: Path, account: Account | None = None) -> str:
    """Run a command; what went wrong, or an empty string. Whether it worked, the service itself shows."""
    try:
        done = run_starter(Command(argv, limit, service_environment(), account), log)
    except ToolFailed as error:
        return error.message
    return done.tail if _FAILURE.search(done.tail) else ""


def _wait_down(host: Host, service: Service, deadline: float) -> bool:
    """Whether it is down before the deadline (monotonic); otherwise there may be another way to stop it."""
    try:
        left = deadline - time.monotonic()
        return wait_until(lambda: look_at(host, service).down, left, f"{NAMES[service]} did not stop")
    except NotInTime:
        return False
