"""Loading the settings from one `.env`: every complaint at once.

The environment overrides the file, as with every tool that reads a `.env`. `PREFECT_…` and other
tools' variables in the file are left alone.
"""

import difflib
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings import ENV_FILE_VARIABLE, PROJECT_DIRECTORY, Settings

logger = logging.getLogger(__name__)


def env_file_path(given: Path | None = None) -> Path:
    """Which `.env` counts: the given one, else ALFRESCO_BACKUP_ENV, else the project's own."""
    named = given or os.environ.get(ENV_FILE_VARIABLE)
    return Path(named).expanduser().absolute() if named else PROJECT_DIRECTORY / ".env"


def load_settings(env_file: Path | None = None) -> Settings:
    """Read and check the settings. Raises SettingsError with every complaint; warns of a readable file."""
    path = env_file_path(env_file)
    values = _merged_values(path)
    complaints = _misspelt(values, path)
    try:
        settings = Settings.model_validate({name.lower(): value for name, value in values.items() if value})
    except ValidationError as error:
        complaints = [_complaint(item) for item in error.errors()] + complaints
    if complaints:
        raise SettingsError(complaints, f"edit {path}; .env.example explains every setting")
    _warn_if_readable(path)
    return settings


def _merged_values(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise SettingsError(
            [f"{path}: this settings file does not exist"],
            f"cp {PROJECT_DIRECTORY}/.env.example {path} && chmod 600 {path}, then fill it in",
        )
    try:
        text = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read: {error}"], f"ls -l {path}") from error
    values = {name.upper(): value or "" for name, value in text.items()}
    known = {name.upper() for name in Settings.model_fields}
    return values | {name: value for name, value in os.environ.items() if name in known}


def _misspelt(values: Mapping[str, str], path: Path) -> list[str]:
    """Name unknown settings that look like known ones; anything else belongs to another tool."""
    known = [name.upper() for name in Settings.model_fields]
    complaints = []
    for name in values:
        if name in known or name.startswith("PREFECT_"):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            complaints.append(f"{name}: unknown setting in {path}; did you mean {close[0]}?")
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
    secret = "password" in name
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    return f"{name.upper()}={'***' if secret else repr(item['input'])}: {message}; {expected}"


def _warn_if_readable(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        logger.warning("%s holds passwords but has mode %04o; next: chmod 600 %s", path, mode, path)
