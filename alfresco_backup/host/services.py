"""Alfresco and PostgreSQL as services of the host: which command stops or starts one, and whether it is up.

A process is known by the pid file its server writes, never by its name. `alfresco.sh` takes the component as
a second word (alfresco.md §5); with an unknown component it prints its help and ends with 1.
"""

import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alfresco_backup.host.containers import stop_and_start_command
from alfresco_backup.host.installation import Installation
from alfresco_backup.settings.model import Settings

Verb = Literal["start", "stop"]
CONNECT_SECONDS = 2.0
CLOCK_SLACK_SECONDS = 5.0
Service = Literal["alfresco", "postgresql"]


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens: a TCP port of this host, or a socket file."""

    host: str
    port: int

    @property
    def socket_file(self) -> Path | None:
        """PostgreSQL's socket, when the host is a directory as libpq takes it."""
        return Path(self.host, f".s.PGSQL.{self.port}") if self.host.startswith("/") else None

    def __str__(self) -> str:
        return str(self.socket_file or f"{self.host}:{self.port}")

    def answers(self) -> bool:
        """Whether somebody accepts connections there."""
        try:
            if self.socket_file:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(CONNECT_SECONDS)
                    probe.connect(os.fspath(self.socket_file))
            else:
                socket.create_connection((self.host, self.port), CONNECT_SECONDS).close()
        except OSError:
            return False
        return True


def endpoint_of(service: Service, settings: Settings) -> Endpoint:
    """Where a service of this host is expected to listen."""
    if service == "alfresco":
        return Endpoint("127.0.0.1", settings.tomcat_port)
    return Endpoint(settings.pghost or "127.0.0.1", settings.pgport)


def pid_file_of(service: Service, installation: Installation) -> Path:
    """The file in which a service's server notes its process."""
    if service == "alfresco":
        return installation.tomcat_pid_file
    return installation.data_directory / "postmaster.pid"


def control_command(
    service: Service, verb: Verb, settings: Settings, installation: Installation
) -> tuple[str, ...]:
    """The command that starts or stops one service alone: the configured one, else the installer's script.

    Empty when there is neither. Containers are their engine's. The script knows PostgreSQL only where the
    installation brought its own.
    """
    if settings.pg_container:
        return stop_and_start_command(settings, containers_of(service, settings), verb)
    prefix = "alf" if service == "alfresco" else "pg"
    configured: str = getattr(settings, f"{prefix}_{verb}_command")
    if configured:
        return tuple(shlex.split(configured))
    script = installation.control_script
    if script is None or (service == "postgresql" and not (installation.home / "postgresql").is_dir()):
        return ()
    return (str(script), verb, "tomcat" if service == "alfresco" else "postgresql")


def containers_of(service: Service, settings: Settings) -> tuple[str, ...]:
    """The containers that a service runs in; none where it runs on the host itself."""
    if not settings.pg_container:
        return ()
    return settings.alf_containers if service == "alfresco" else (settings.pg_container,)


def running_process(pid_file: Path) -> int | None:
    """The process a pid file names, when it is alive and can be the one that wrote it; else None.

    A pid is given again after a while: a process younger than the file is another one, unless it works in the
    file's folder, as a postmaster does (the clock may have been set since). Raises OSError when the file
    cannot be read. Of PostgreSQL's the kernel tells more: see postmaster.py.
    """
    try:
        first = pid_file.read_text(encoding="ascii", errors="replace").split(maxsplit=1)[:1]
        written_at = pid_file.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not first or not first[0].isdecimal() or first[0] == "0":
        return None
    pid = int(first[0])
    started_at = process_start(pid)
    if started_at is None:
        return None
    younger = started_at > written_at + CLOCK_SLACK_SECONDS
    return None if younger and not _works_in(pid, pid_file.parent) else pid


def process_start(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None when there is none, or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    booted_at = next(int(line.split()[1]) for line in boot.splitlines() if line.startswith("btime "))
    return booted_at + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def keeper_of(pid: int) -> str:
    """What looks after a process: its systemd service, else its parent's name; empty where neither tells.

    This process's own service does not count: what was started from here runs in it as well.
    """
    own, service = (_service_of(item) for item in ("self", pid))
    if service and service != own:
        return service
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        parent = int(fields.split()[1])
        return Path(f"/proc/{parent}/comm").read_text(encoding="utf-8").strip() if parent > 1 else ""
    except OSError:
        return ""


def _service_of(pid: int | str) -> str:
    """The systemd service a process belongs to, by its control group; empty for none."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    groups = [line.split(":", 2)[2] for line in lines if line.startswith(("0::", "1:name=systemd:"))]
    found = [name for group in groups for name in group.split("/") if name.endswith(".service")]
    return found[-1] if found else ""


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:
        return False


def service_environment() -> dict[str, str]:
    """The locale a service is started with: this process's own, not the C locale of our tools.

    Java takes its file encoding from it.
    """
    return {name: os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE")}
