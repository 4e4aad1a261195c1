"""Loading the settings from one `.env`: every complaint at once.

The environment overrides the file, as with every tool that reads a `.env`. `PREFECT_…` and other
tools' variables in the file are left alone.
"""

import difflib
import io
import logging
import os
import re
import shlex
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import Original, parse_stream
from pydantic import ValidationError

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.libpq import NOT_PASSED_ON, PASSED_ON
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY, Settings
from alfresco_backup.settings.offsite import is_for_restic
from alfresco_backup.system.accounts import account_for_people, known_account
from alfresco_backup.system.folders import reading

logger = logging.getLogger(__name__)
_CUT_OFF = re.compile(r"[^=]*=\s*[^\s'\"#][^\n]*\s#")
WRITABLE_BY_OTHERS, READABLE_BY_ALL = 0o022, 0o004
"""Bits of a file's mode. A group may read the passwords: that of an account that runs flows besides root."""
MAY_CONTAIN_A_PASSWORD = ("offsite_repository", "alf_api_url", "alert_urls", "ping_url", "solr_url")
"""Addresses: a wrong value of them is not shown."""
KNOWN = tuple(name.upper() for name in Settings.model_fields)


def env_file_path(given: Path | None = None) -> Path:
    """Which `.env` counts: the given one, else ALFRESCO_BACKUP_ENV, else the project's own."""
    named = given or os.environ.get(ENV_FILE_VARIABLE)
    return Path(named).expanduser().absolute() if named else PROJECT_DIRECTORY / ".env"


def load_settings(env_file: Path | None = None, defaults: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings. Raises SettingsError with every complaint; warns of a readable file.

    `defaults` are for settings that are otherwise demanded, and not needed for what is done. The file names
    commands that this account runs, so one that another account can change is refused.
    """
    path = env_file_path(env_file)
    written, complaints = _read(path)
    complaints += _misspelt(written, path)
    values = {**(defaults or {}), **written, **_given(written, KNOWN)}
    try:
        settings = Settings.model_validate({name.lower(): value for name, value in values.items() if value})
    except ValidationError as error:
        complaints = [_complaint(item) for item in error.errors()] + complaints
    if complaints:
        raise SettingsError(complaints, f"edit {path}  # .env.example explains every setting")
    settings.libpq.update(_given(written, PASSED_ON))
    settings.offsite_variables.update(_given(written, list(filter(is_for_restic, (*written, *os.environ)))))
    _warn_if_readable(path)
    return settings


def _given(written: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """The values of these names: the file's, and the environment's, which win."""
    both = {**written, **{name: value for name, value in os.environ.items() if value}}
    return {name: value for name, value in both.items() if name in names and value}


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    """What the file says, and the lines not understood: skipping one would silently mean a default."""
    try:
        if not path.is_file():
            raise SettingsError(
                [f"{path}: this settings file does not exist"],
                f"install -m 600 {shlex.join((f'{PROJECT_DIRECTORY}/.env.example', str(path)))}\nedit {path}",
            )
        with reading(path) as stream:
            _require_trusted(path, os.fstat(stream.fileno()))
            text = stream.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"{path}: cannot be read: {error}"], f"ls -l {shlex.quote(str(path))}"
        ) from error
    values: dict[str, str] = {}
    complaints = []
    for line in parse_stream(io.StringIO(text)):
        name = (line.key or "").upper()
        if line.error or (name and line.value is None):
            complaints.append(_complaint_about_line(line.original, path))
        elif name in (*KNOWN, *PASSED_ON) and name in values and values[name] != line.value:
            complaints.append(f"{name} is set twice in {path}, to different values; expected once")
        elif name:
            values[name] = line.value or ""
            if "PASSWORD" in name and _CUT_OFF.match(line.original.string):
                complaints.append(f"{name}: ' #' begins a comment; put a value with it in single quotes")
    return values, complaints


def _require_trusted(path: Path, status: os.stat_result) -> None:
    """Raise SettingsError for a file that others can write to, or that belongs to a third account."""
    place, owner = shlex.quote(str(path)), account_for_people(known_account(status.st_uid, status.st_gid))
    seen = f"{path} belongs to {owner} and has mode {stat.S_IMODE(status.st_mode):04o}"
    fixes = []
    if status.st_uid not in (0, os.geteuid()):
        fixes.append(f"chown {known_account(os.geteuid(), os.getegid()).name or os.geteuid()} {place}")
    if status.st_mode & WRITABLE_BY_OTHERS:
        fixes.append(f"chmod go-w {place}")
    if fixes:
        raise SettingsError(
            [f"{seen}; another account can change which commands are run with it"], " && ".join(fixes)
        )


def _complaint_about_line(original: Original, path: Path) -> str:
    """The value is left out: it may be a password."""
    first = original.string.strip().splitlines()[0]
    start = re.split(r"[=\s]", first, maxsplit=1)[0]
    return (
        f"line {original.line} of {path}, {start}…, is not understood; expected NAME=value, a "
        "value with spaces, # or quotes in single quotes, \\' for one within"
    )


def _misspelt(values: Mapping[str, str], path: Path) -> list[str]:
    """Name unknown settings that look like known ones; anything else belongs to another tool.

    All that begins with PG is for PostgreSQL's programs: passing over one would mean a connection that is
    less safe than the file says.
    """
    complaints = []
    for name in values:
        if name in KNOWN or name in PASSED_ON or name.startswith("PREFECT_") or is_for_restic(name):
            continue
        close = difflib.get_close_matches(name, (*KNOWN, *PASSED_ON), n=1, cutoff=0.8)
        if name in NOT_PASSED_ON:
            complaints.append(f"{name} in {path}: it is not passed on to PostgreSQL's programs; remove it")
        elif close:
            complaints.append(f"{name}: unknown setting in {path}; did you mean {close[0]}?")
        elif name.startswith("PG"):
            complaints.append(f"{name}: unknown setting in {path}, and no variable of PostgreSQL's programs")
    return complaints


def _complaint(item: Any) -> str:
    """One pydantic error as a sentence: the setting, its value, what is expected."""
    if not item["loc"]:
        return str(item["msg"]).removeprefix("Value error, ")
    name = str(item["loc"][0])
    field = Settings.model_fields[name]
    expected = f"expected: {field.description}"
    if item["type"] == "missing":
        return f"{name.upper()} is missing; {expected}"
    secret = "password" in name or name in MAY_CONTAIN_A_PASSWORD
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    return f"{name.upper()}={'***' if secret else repr(item['input'])}: {message}; {expected}"


def _warn_if_readable(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & READABLE_BY_ALL:
        fix = f"chmod 600 {shlex.quote(str(path))}"
        logger.warning("%s contains passwords and has mode %04o; HINT: %s", path, mode, fix)
