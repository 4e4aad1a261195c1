"""A directory of `.env` files, one for each host: what `deploy --env DIRECTORY` reads. It writes nothing.

Every file is judged before anything is deployed, so that what is wrong with any of them is told at once.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from dotenv import dotenv_values

from alfresco_backup.cli.entry import prefect_values
from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import Settings

FLEET_ENV = "fleet.env"
"""Names the server and its password for all hosts (docs/how-to/fleet.md)."""
OF_THE_SERVER = ("PREFECT_API_", "PREFECT_CLIENT_")

Hosts = Mapping[Path, Settings]


def read_folder(folder: Path) -> Hosts:
    """The settings of each host, by file. Files `*.env` with nothing but settings of Prefect are no host's.

    Raises SettingsError with the complaints about all files, each with its file's name.
    """
    files = [file for file in sorted(folder.absolute().glob("*.env")) if not file.is_dir()]
    found: dict[Path, Settings] = {}
    complaints: list[str] = []
    fixes: dict[str, None] = {}
    for file in files:
        if only_prefect(file):
            continue
        try:
            found[file] = load_settings(file)
        except SettingsError as error:
            complaints += [f"{file.name}: {complaint}" for complaint in error.complaints]
            fixes.update(dict.fromkeys(error.hint.splitlines()))
    if not files or not (found or complaints):
        complaints.append(f"{folder} contains no host's settings: files whose names end in .env are expected")
        fixes[f"ls -l {shlex.quote(str(folder))}"] = None
    complaints += clashes(found)
    if complaints:
        raise SettingsError(complaints, "\n".join(fixes) or f"ls -l {shlex.quote(str(folder))}")
    return found


def only_prefect(file: Path) -> bool:
    """Whether a file names a server and no host, as fleet.env and prefect-server.env do."""
    try:
        names = dotenv_values(file, interpolate=False).keys()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(names) and all(name.startswith("PREFECT_") for name in names)


def clashes(hosts: Hosts) -> Iterator[str]:
    """Two files of one name, and two hosts of this machine with one repository.

    Prefect's keys know neither capitals nor the difference of dot and dash. That two hosts with one
    BACKUP_DIR are on one machine is known only where it has the homes of both: elsewhere each usually has
    /backup.
    """
    for (file, one), (other_file, other) in combinations(hosts.items(), 2):
        pair = f"{file.name} and {other_file.name}"
        if _key(one) == _key(other):
            names = dict.fromkeys((one.alf_host_name, other.alf_host_name))
            yield f"{pair}: ALF_HOST_NAME={', '.join(names)}: each host needs a name of its own"
        elif _share_repository(one, other):
            yield f"{pair}: BACKUP_DIR={one.backup_dir}: two hosts of this machine need one each"


def _key(settings: Settings) -> str:
    return settings.alf_host_name.lower().replace(".", "-")


def _share_repository(one: Settings, other: Settings) -> bool:
    homes = {one.alf_base_dir, other.alf_base_dir}
    same = one.backup_dir.resolve() == other.backup_dir.resolve()
    return same and len(homes) == 2 and all(home.is_dir() for home in homes)


def name_server(folder: Path, hosts: Hosts) -> None:
    """Have this process use the server of fleet.env, else the one that all hosts name.

    What the environment names wins. Raises SettingsError where the hosts name different ones.
    """
    common = folder / FLEET_ENV
    by_file = {file: prefect_values(file) for file in ([common] if common.is_file() else hosts)}
    names = {name for values in by_file.values() for name in values if name.startswith(OF_THE_SERVER)}
    complaints = []
    for name in sorted(names - os.environ.keys()):
        files: dict[str, list[str]] = {}
        for file, values in by_file.items():
            files.setdefault(values.get(name, ""), []).append(file.name)
        if len(files) > 1:
            groups = " / ".join(", ".join(group) for group in files.values())
            complaints.append(f"{name} is not the same in all files: {groups}")
        else:
            os.environ[name] = next(iter(files))
    if complaints:
        raise SettingsError(complaints, f"edit {common}: the server of all hosts, as it is named from here")
