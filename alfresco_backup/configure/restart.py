"""Restarting PostgreSQL for settings that need it: refused beforehand where it could not be done safely.

Alfresco's Tomcat is stopped before and started after, where it runs. Where neither the installation's script
nor configured commands control PostgreSQL, pg_ctl restarts it with the options and the log it runs with now.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.configure.journal import Journal
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import (
    MINUTE,
    NAMES,
    look_at,
    require_server_down,
    server_programs,
    start_command,
    start_service,
    stop_service,
    why_not_controllable,
)
from alfresco_backup.host.services import Service, control_command, keeper_of, service_environment
from alfresco_backup.postgres.programs import data_directory_version
from alfresco_backup.preflight.files import account_can
from alfresco_backup.settings.commands import configure_command, edit_setting
from alfresco_backup.system.processes import Command, run_starter

SERVICES: tuple[Service, ...] = ("alfresco", "postgresql")


def require_restartable(host: Host) -> None:
    """Raise Refused, before anything is changed, where PostgreSQL cannot be restarted safely."""
    for service in SERVICES:
        trouble = why_not_controllable(host, service)
        if trouble:
            raise Refused(f"PostgreSQL cannot be restarted: {trouble.line}", trouble.fix)
    alfresco = look_at(host, "alfresco")
    if not alfresco.down and not _command(host, "alfresco", "start"):
        raise Refused(
            "PostgreSQL cannot be restarted: Alfresco runs, and no command is known to start it afterwards",
            edit_setting("ALF_START_COMMAND"),
        )
    if _by_commands(host):
        return
    server_programs(host, data_directory_version(host.installation.data_directory))
    keeper = keeper_of(look_at(host, "postgresql").pid or 0)
    if keeper.endswith(".service"):
        raise Refused(
            f"PostgreSQL cannot be restarted by pg_ctl: it is a service of systemd ({keeper})",
            "\n".join(
                edit_setting(f"PG_{verb.upper()}_COMMAND", f"systemctl {verb} {keeper}")
                for verb in ("stop", "start")
            ),
        )


@contextmanager
def _telling_what_is_down(host: Host, journal: Journal) -> Iterator[None]:
    """An error within says what is down now, how it is started, and what undoes the changes."""
    try:
        yield
    except BackupError as failure:
        down = [service for service in reversed(SERVICES) if look_at(host, service).down]
        expected = [service for service in down if service == "postgresql" or journal.alfresco]
        if expected:
            failure.message += f"\n{' and '.join(NAMES[each] for each in expected)} must be started by hand"
        starts = (f"{start_command(host, each)}  # starts {NAMES[each]}" for each in expected)
        undo = f"{configure_command('--undo', journal.stamp, '--restart')}  # undoes what configure did"
        failure.hint = "\n".join(dict.fromkeys((*failure.hint.splitlines(), *starts, undo)))
        raise


def restart(host: Host, journal: Journal) -> None:
    """Stop Alfresco where it runs, restart PostgreSQL, start Alfresco again.

    Raises BackupError, which says what is down then and how it is started.
    """
    with _telling_what_is_down(host, journal):
        _restart(host, journal)


def _restart(host: Host, journal: Journal) -> None:
    journal.restart, journal.alfresco = "begun", not look_at(host, "alfresco").down
    journal.server_log = _present_log(host)
    journal.write()
    if journal.alfresco:
        stop_service(host, "alfresco", journal.log)
    if _by_commands(host):
        stop_service(host, "postgresql", journal.log)
        start_service(host, "postgresql", journal.log)
    else:
        _restart_by_pg_ctl(host, journal)
    finish(host, journal)


def resume(host: Host, journal: Journal) -> None:
    """Start what a restart that was broken off has stopped. Raises like restart."""
    with _telling_what_is_down(host, journal):
        if look_at(host, "postgresql").down:
            if _by_commands(host):
                start_service(host, "postgresql", journal.log)
            else:
                _restart_by_pg_ctl(host, journal)
        finish(host, journal)


def finish(host: Host, journal: Journal) -> None:
    if journal.alfresco and look_at(host, "alfresco").down:
        start_service(host, "alfresco", journal.log)
    journal.restart = "done"
    journal.write()


def _by_commands(host: Host) -> bool:
    return bool(_command(host, "postgresql", "stop") and _command(host, "postgresql", "start"))


def _command(host: Host, service: Service, verb: str) -> tuple[str, ...]:
    return control_command(service, "start" if verb == "start" else "stop", host.settings, host.installation)


def _restart_by_pg_ctl(host: Host, journal: Journal) -> None:
    """pg_ctl takes the options from postmaster.opts, Debian's place of the configuration among them.

    Only `restart` does, so that is what starts the server, once it is stopped and proven down.
    """
    stop_service(host, "postgresql", journal.log, by_pg_ctl=True)
    require_server_down(host)
    data_directory = host.installation.data_directory
    limit = host.settings.service_stop_minutes * MINUTE
    programs = server_programs(host, data_directory_version(data_directory))
    argv = [
        programs.path("pg_ctl"),
        "restart",
        "-D",
        str(data_directory),
        "-m",
        "fast",
        "-w",
        "-t",
        str(int(limit)),
    ]
    if journal.server_log:
        argv += ["-l", journal.server_log]
    hint = f"less {journal.server_log or journal.log}"
    run_starter(
        Command(tuple(argv), limit + MINUTE, service_environment(), host.account, hint=hint), journal.log
    )


def _present_log(host: Host) -> str:
    """The file the running server writes its messages to, where its account may go on writing; or empty."""
    pid = look_at(host, "postgresql").pid
    try:
        target = Path(f"/proc/{pid}/fd/2").readlink()
    except OSError:
        return ""
    return str(target) if target.is_file() and account_can(host.account, "-w", target) else ""
