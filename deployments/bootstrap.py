"""Make everything a host needs at its Prefect server: the verb `deploy`. Run twice, it changes nothing.

Checks the settings and the server, then makes what is missing: work pool, concurrency limit, mail block,
deployments with their schedules and automations (prefect.yaml). Prints a line for each, with what it did.
"""

import os
import tomllib
import zoneinfo
from pathlib import Path

from alfresco_backup.cli.entry import say as show
from alfresco_backup.errors import SettingsError
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.times import LOCALTIME, machine_zone
from deployments.template import OFFSITE, Value, fill_in, without_tag

FLEET = "fleet"
"""Deployment, work pool and tag of what concerns all hosts; no host may have this name."""


def bootstrap(settings: Settings, env_file: Path, *, take_over: bool = False) -> list[str]:
    """Bring the Prefect server up to date for this host; says what was done, and returns these lines.

    Raises Refused where the server knows another machine under this name, unless `take_over` is set.
    """
    # Prefect reads the environment when it is imported, and main has prepared that only now.
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from deployments import server_side  # noqa: PLC0415
    from tasks.runs.embedded_server import require_answer  # noqa: PLC0415

    if settings.alf_host_name == FLEET:
        raise SettingsError([f"ALF_HOST_NAME={FLEET} is the name of what concerns all hosts"])
    variables = template_variables(settings, env_file)
    filled = fill_in((PROJECT_DIRECTORY / "prefect.yaml").read_text(encoding="utf-8"), variables)
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
        say("identity", server_side.ensure_identity(load_host(env_file), take_over=take_over))
        say("work pool", server_side.ensure_work_pool(client, settings.alf_host_name))
        say("concurrency limit", server_side.ensure_limit(client, settings.alf_host_name))
        say("mail block", server_side.ensure_mail_block(settings))
        done, *differing = server_side.ensure_deployments(client, settings.alf_host_name, filled)
        say("deployments", f"{done}; times in {variables['BACKUP_TIMEZONE']}")
        for words in differing:
            say("", words)
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
