"""Make everything a host needs at its Prefect server: the verb `deploy`. Run twice, it changes nothing.

Checks the settings and the server, then makes what is missing: work pool, concurrency limit, mail block,
deployments with their schedules and automations (prefect.yaml). Prints a line for each, with what it did.
"""

import os
import shlex
import tomllib
import zoneinfo
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values

from alfresco_backup.cli.entry import say as show
from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.host.host import load_host
from alfresco_backup.repository.marker import note_file
from alfresco_backup.restore.planning.request import require_confirmed
from alfresco_backup.settings.commands import configure_command, remove_host_command, stop_host_command
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY, Settings
from alfresco_backup.times import LOCALTIME, machine_zone
from deployments.folder import name_server, read_folder
from deployments.template import (
    OFFSITE,
    Value,
    fill_in,
    nightly_time,
    of_a_host,
    staggered,
    without_tag,
)

FLEET = "fleet"
"""Deployment, work pool and tag of what concerns all hosts; no host may have this name."""


def bootstrap(
    settings: Settings,
    env_file: Path,
    *,
    take_over: bool = False,
    beside: Collection[str] = (),
) -> list[str]:
    """Bring the Prefect server up to date for this host; says what was done, and returns these lines.

    `beside` are hosts that are deployed by the same command, maybe from another machine: then the identity is
    left to the runs of its worker. Raises Refused where the server knows another machine under this name,
    unless `take_over` is set.
    """
    # Prefect reads the environment when it is imported, and main has prepared that only now.
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from deployments import server_side  # noqa: PLC0415
    from tasks.runs.embedded_server import require_answer  # noqa: PLC0415

    if settings.alf_host_name == FLEET:
        raise SettingsError([f"ALF_HOST_NAME={FLEET} is the name of what concerns all hosts"])
    variables = template_variables(settings, env_file)
    filled = of_a_host(variables)
    if not settings.offsite_repository:
        filled = without_tag(filled, OFFSITE)
    require_answer(server_side.configured_address())
    said: list[str] = []

    def say(what: str, words: str) -> None:
        said.append(f"{what and what + ':':19}{words}")
        show(said[-1])

    with get_client(sync_client=True) as client:
        server_side.check_server(client)
        say("server", f"{client.api_url} keeps concurrency leases in files")
        if beside:
            say("identity", "compared by the runs of its worker")
        else:
            say("identity", server_side.ensure_identity(load_host(env_file), take_over=take_over))
        say("work pool", server_side.ensure_work_pool(client, settings.alf_host_name))
        say("concurrency limit", server_side.ensure_limit(client, settings.alf_host_name))
        say("mail block", server_side.ensure_mail_block(settings))
        minutes = server_side.ensure_minutes_later(client, settings.alf_host_name, beside)
        filled = staggered(filled, minutes, settings.nightly_time)
        done, *differing = server_side.ensure_deployments(client, settings.alf_host_name, filled)
        times = f"nightly at {nightly_time(filled)}, times in {variables['BACKUP_TIMEZONE']}"
        say("deployments", f"{done}; {times}")
        for words in differing:
            say("", words)
    return said


def bootstrap_folder(folder: Path) -> list[str]:
    """Bring the Prefect server up to date for each host whose `.env` is in a directory; returns what it said.

    Nothing is written before all files are found good. Raises SettingsError for those that are not,
    BackupError with the names of hosts that could not be deployed, once the others are.
    """
    hosts = read_folder(folder)
    name_server(folder, hosts)
    said, failed = [], []
    for file, settings in hosts.items():
        os.environ[ENV_FILE_VARIABLE] = str(file)  # what messages tell to type is of this host
        said.append(f"{settings.alf_host_name}, {file}:")
        show(said[-1])
        try:
            said += bootstrap(settings, file, beside=[item.alf_host_name for item in hosts.values()])
        except BackupError as error:
            failed.append((settings.alf_host_name, error))
    if failed:
        names = ", ".join(name for name, _ in failed)
        words = "\n".join(f"{name}: {error.message}" for name, error in failed)
        raise BackupError(
            f"{len(failed)} of {len(hosts)} hosts could not be deployed: {names}\n{words}",
            "\n".join(dict.fromkeys(error.hint for _, error in failed)),
        )
    return said


def bootstrap_fleet(env_file: Path, page: str) -> list[str]:
    """Make the deployment `fleet-status/fleet` and its pool; says what was done, and returns these lines.

    `page` is the file it writes, empty for none. No host's settings are needed.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - as above

    from deployments import server_side  # noqa: PLC0415 - as above
    from tasks.runs.embedded_server import require_answer  # noqa: PLC0415 - as above

    text = (PROJECT_DIRECTORY / "deployments/fleet.yaml").read_text(encoding="utf-8")
    filled = fill_in(text, common_variables(env_file))
    filled["deployments"][0]["parameters"] = {"page": str(Path(page).absolute()) if page else ""}
    require_answer(server_side.configured_address())
    with get_client(sync_client=True) as client:
        server_side.check_server(client)
        pool = server_side.ensure_work_pool(client, FLEET, "Runs on the Prefect server's machine")
        done = server_side.ensure_deployments(client, FLEET, filled)
    said = [f"work pool: {pool}", f"deployments: {'; '.join(done)}"]
    for line in said:
        show(line)
    return said


def remove_host(host: str, *, execute: bool, confirm: str) -> tuple[str, list[dict[str, str]]]:
    """Show, or with `execute` remove, what the server has of a host: what to tell, and what that is.

    No good settings of the host are needed. Raises Refused where it is not confirmed, or still in service.
    """
    if env_file_path().is_dir():
        name_server(env_file_path(), read_folder(env_file_path()))
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - as above

    from deployments import server_side  # noqa: PLC0415 - as above
    from deployments.removal import plan_removal, remove  # noqa: PLC0415 - as above
    from tasks.runs.embedded_server import require_answer  # noqa: PLC0415 - as above

    if execute:
        require_confirmed("deploy --remove", confirm, host)
    require_answer(server_side.configured_address())
    with get_client(sync_client=True) as client:
        removal = plan_removal(client, host)
        if execute and removal.items:
            remove(client, removal)
    items = [{"kind": item.kind, "name": item.name} for item in removal.items]
    if not items:
        return removal.text(), items
    if execute:
        return "\n".join([removal.text(), "All of it is removed.", what_stays(host)]), items
    later = [f"not now: {item.words}" for item in removal.obstacles]
    words = [*later, f"Nothing was removed. To remove it: {remove_host_command(host)}"]
    return "\n".join([removal.text(), *words, what_stays(host)]), items


def what_stays(host: str) -> str:
    """What no `deploy --remove` touches, and what removes it: with its names, if the `.env` is the host's."""
    env_file = env_file_path()
    values = dotenv_values(env_file, interpolate=False) if env_file.is_file() else {}
    commands = [stop_host_command(host)]
    place = "BACKUP_DIR of its .env"
    if values.get("ALF_HOST_NAME") == host and values.get("BACKUP_DIR"):
        place = str(values["BACKUP_DIR"])
        commands += [
            configure_command("--undo", "--restart"),
            shlex.join(("rm", "-f", str(env_file), str(note_file(env_file)))),
        ]
    stays = f"the history of its runs, its backups in {place}, its .env, its units, PostgreSQL's archiving"
    guide = f"{PROJECT_DIRECTORY}/docs/how-to/uninstall.md"
    return "\n".join([f"What stays: {stays}. On {host}, {guide}:", *(f"  {line}" for line in commands)])


def common_variables(env_file: Path) -> dict[str, Value]:
    """What every template refers to."""
    project = tomllib.loads((PROJECT_DIRECTORY / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        "ALFRESCO_BACKUP_ENV": str(env_file),
        "BACKUP_HOME": str(PROJECT_DIRECTORY),
        "BACKUP_VERSION": project["project"]["version"],
        "BACKUP_TIMEZONE": schedule_zone(),
    }


def template_variables(settings: Settings, env_file: Path) -> dict[str, Value]:
    """What prefect.yaml refers to. None of it is secret."""
    return {
        **common_variables(env_file),
        "ALF_HOST_NAME": settings.alf_host_name,
        "BACKUP_MAX_AGE_HOURS": f"{settings.backup_max_age_hours:g}",
        "BACKUP_MAX_AGE_SECONDS": round(settings.backup_max_age_hours * 3600),
        "OFFSITE_WAL_MINUTES": settings.offsite_wal_minutes,
    }


def schedule_zone(localtime: Path = LOCALTIME) -> str:
    """The zone of the schedules: BACKUP_TIMEZONE, else TZ, else the machine's. Raises SettingsError."""
    named = os.environ.get("BACKUP_TIMEZONE") or machine_zone(localtime)
    if named not in zoneinfo.available_timezones():
        raise SettingsError(
            [f"BACKUP_TIMEZONE={named!r}: a time zone like Europe/Berlin is expected"],
            "timedatectl list-timezones",
        )
    return named
