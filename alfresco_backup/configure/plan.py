"""The whole plan of `configure`: inspected once, decided by pure functions, shown before anything is done."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from alfresco_backup.configure.access import AccessState, plan_hba, plan_roles, takes_over
from alfresco_backup.configure.changes import ConfigurePlan
from alfresco_backup.configure.places import (
    PlacesState,
    folder_of_commands,
    inspect_places,
    plan_env_superuser,
    plan_places,
)
from alfresco_backup.configure.server import can_alter, inspect_access, inspect_settings, require_primary
from alfresco_backup.configure.settings import (
    Archiving,
    Setting,
    archiving_program,
    plan_settings,
    present_command,
)
from alfresco_backup.configure.streaming import StreamingState, plan_streaming
from alfresco_backup.configure.superuser import find_superuser
from alfresco_backup.errors import HostNotReady
from alfresco_backup.findings import Finding
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import look_at
from alfresco_backup.postgres.database import Database, quoted_literal
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.preflight.files import account_can
from alfresco_backup.repository.marker import require_known
from alfresco_backup.streaming.slot import slot_name
from alfresco_backup.system.accounts import account_for_people
from alfresco_backup.wal.archive_command import ARCHIVE_WAL, check_server_finds


@dataclass(frozen=True)
class ConfigureOptions:
    """What was typed: where the WAL commands go, whether a foreign archive_command is replaced, and whether
    WAL is to be streamed.
    """

    wal_commands: Path | None = None
    replace_archive_command: bool = False
    wal_streaming: bool = False


@dataclass(frozen=True)
class HostState:
    """The host as it is."""

    facts: VersionFacts
    settings: dict[str, Setting]
    alterable: bool
    access: AccessState
    places: PlacesState
    archiving: Archiving
    streaming: StreamingState
    contained: bool = False
    """The server runs in a container."""
    unseen: Finding | None = None
    """The program of archive_command is here, and the server does not find it."""


def inspect_host(host: Host, options: ConfigureOptions) -> HostState:
    """Inspect server and places. Raises HostNotReady where nothing can be decided."""
    _require_account(host)
    if shutil.which("zstd") is None:
        raise HostNotReady("zstd is not installed; archive_command runs it", "apt-get install zstd")
    if host.repository.root.is_dir():
        require_known(host.repository)
    server = look_at(host, "postgresql")
    if server.down:
        raise HostNotReady(
            f"PostgreSQL is down; it must run for this: {server.sentence()}", "start PostgreSQL"
        )
    superuser = find_superuser(host)
    require_primary(superuser)
    facts = facts_of(int(superuser.value("SHOW server_version_num")))
    settings = inspect_settings(host, superuser, facts)
    archive = host.repository.wal
    names = frozenset({str(archive), os.path.realpath(archive)})
    running = archiving_program(present_command(settings), names)
    reachable = running if running and _can_be_run(host, running) else None
    folder = folder_of_commands(host, options.wal_commands, reachable)
    archiving = Archiving(
        program=folder / ARCHIVE_WAL,
        archive=archive,
        renew=_why_renew(running, reachable, folder),
        replace=options.replace_archive_command,
        archive_names=names,
    )
    return HostState(
        facts,
        settings,
        can_alter(superuser),
        inspect_access(host, superuser, facts),
        inspect_places(host, folder),
        archiving,
        _inspect_streaming(host, superuser, facts, asked=options.wal_streaming),
        bool(host.settings.pg_container),
        check_server_finds(superuser, running) if reachable and running and running.exists() else None,
    )


def _inspect_streaming(
    host: Host, superuser: Database, facts: VersionFacts, *, asked: bool
) -> StreamingState:
    name, wanted = slot_name(host.name), host.settings.wal_streaming
    rows = superuser.query(
        "SELECT current_setting('max_replication_slots'), current_setting('wal_level'),"
        f" (SELECT count(*) FROM pg_replication_slots WHERE slot_name = {quoted_literal(name)})"
    )
    slots, level, count = rows[0]
    room = slots != "0" and level in facts.wal_levels
    return StreamingState(
        asked, wanted, name, count != "0", room, facts.reserves_slots, host.settings.pgdatabase
    )


def decide(seen: HostState) -> ConfigurePlan:
    """The plan for what was seen. Pure."""
    places, left_places = plan_places(seen.places)
    roles, left_roles = plan_roles(seen.access, seen.facts)
    hba, left_hba = plan_hba(seen.access)
    settings, left_settings, waiting = plan_settings(
        seen.facts,
        seen.settings,
        None if seen.contained else seen.archiving,
        alterable=seen.alterable,
        streaming=seen.streaming.asked or seen.streaming.wanted,
        streamed=seen.streaming.wanted and seen.streaming.exists,
    )
    streaming = plan_streaming(seen.streaming, seen.places.env_file, seen.places.env_lines)
    if takes_over(seen.access, seen.facts):
        roles.append(plan_env_superuser(seen.places, seen.access.superuser.name, seen.access.user.name))
    plan = ConfigurePlan(
        (*places, *roles, *hba, *settings, *streaming),
        (*left_places, *left_roles, *left_hba, *left_settings, *([seen.unseen] if seen.unseen else [])),
        tuple(waiting),
    )
    if not any(item.subject in ("BACKUP_DIR", "WAL commands") for item in plan.left):
        return plan
    # Nothing may archive by what cannot be run, or to the wrong disk; and copies need a place.
    return replace(plan, changes=(), waiting=())


def _require_account(host: Host) -> None:
    if os.geteuid() not in (0, host.account.uid):
        people = account_for_people(host.account)
        raise HostNotReady(
            f"the data directory belongs to {people}; only root and that account can configure its server",
            f"run it as root or as {people.partition(':')[0]}",
        )


def _can_be_run(host: Host, program: Path) -> bool:
    """Whether the server's account gets to a program; one that is missing there will be put there."""
    return program.is_absolute() and account_can(host.account, "-x", program.parent)


def _why_renew(running: Path | None, reachable: Path | None, folder: Path) -> str:
    """Why an archive_command of ours is to be set again; empty when it is not."""
    if running is None or running.parent == folder:
        return ""
    return f"it is to be run from {folder}" if reachable else f"the server's account cannot run {running}"
