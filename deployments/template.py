"""prefect.yaml with its variables filled in, strictly.

Prefect 3.9.1 leaves an unset variable in the text as it stands, and makes text of every value, which it then
refuses as the number of seconds of an automation. So this is done here, before Prefect sees the file.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.model import PROJECT_DIRECTORY

Value = str | int
BRACES = re.compile(r"\{\{.*?\}\}", re.DOTALL)
VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")
EVENT_TEMPLATE = "__prefect_kind"
"""Marks a text that Prefect's server fills in itself when an automation fires."""
OFFSITE = "offsite"
"""Tag of the deployments that exist only where OFFSITE_REPOSITORY is set."""

NIGHTLY = "nightly"
"""The schedule of the nightly set."""
WINDOW_MINUTES = 60
"""The nightly sets of a fleet begin within so many minutes."""


def fill_in(template: str, variables: Mapping[str, Value]) -> dict[str, Any]:
    """The contents of prefect.yaml; a text that is one variable and nothing else becomes its value, typed.

    Raises SettingsError naming every variable without a value and everything else in braces.
    """
    complaints: dict[str, None] = {}
    filled = _fill(yaml.safe_load(template), variables, complaints)
    if complaints:
        raise SettingsError(sorted(complaints), f"correct {PROJECT_DIRECTORY}/prefect.yaml")
    assert isinstance(filled, dict)
    return filled


def of_a_host(variables: Mapping[str, Value]) -> dict[str, Any]:
    """The contents of prefect.yaml, filled in, without the entry that stops `prefect deploy --all`."""
    filled = fill_in((PROJECT_DIRECTORY / "prefect.yaml").read_text(encoding="utf-8"), variables)
    return {**filled, "deployments": filled["deployments"][1:]}


def without_tag(filled: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """The contents of prefect.yaml without the deployments that have a tag."""
    return {**filled, "deployments": [item for item in filled["deployments"] if tag not in item["tags"]]}


def minutes_later(host: str) -> int:
    """How many minutes later than a host alone one of several begins: by its name, so others move nobody."""
    return zlib.crc32(host.encode()) % WINDOW_MINUTES


def staggered(filled: Mapping[str, Any], minutes: int, nightly: str = "") -> dict[str, Any]:
    """The contents of prefect.yaml with all that begins at one time of day so many minutes later.

    What begins every hour or more often stays. `nightly`, as `HH:MM`, is the time of the nightly set whatever
    `minutes` are.
    """

    def moved(entry: Mapping[str, Any]) -> dict[str, Any]:
        minute, hour, days = str(entry["cron"]).split(" ", 2)
        if not (minute.isdecimal() and hour.isdecimal()):
            return dict(entry)
        later = int(hour) * 60 + int(minute) + minutes
        if nightly and entry["slug"] == NIGHTLY:
            later = int(nightly[:2]) * 60 + int(nightly[3:])
        return {**entry, "cron": f"{later % 60} {later // 60} {days}"}

    deployments = []
    for item in filled["deployments"]:
        schedules = (
            {"schedules": [moved(entry) for entry in item["schedules"]]} if "schedules" in item else {}
        )
        deployments.append({**item, **schedules})
    return {**filled, "deployments": deployments}


def nightly_time(filled: Mapping[str, Any]) -> str:
    """When the nightly set begins: `02:30`."""
    entries = [entry for item in filled["deployments"] for entry in item.get("schedules", ())]
    [cron] = [entry["cron"] for entry in entries if entry["slug"] == NIGHTLY]
    minute, hour = map(int, cron.split()[:2])
    return f"{hour:02}:{minute:02}"


def unwrapped(text: str) -> str:
    """Paragraphs in one line each: Prefect's user interface makes a paragraph of every line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))


def _fill(node: Any, variables: Mapping[str, Value], complaints: dict[str, None]) -> Any:
    if isinstance(node, dict):
        if EVENT_TEMPLATE in node:
            return node
        return {name: _fill(value, variables, complaints) for name, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, variables, complaints) for value in node]
    return _fill_text(node, variables, complaints) if isinstance(node, str) else node


def _fill_text(text: str, variables: Mapping[str, Value], complaints: dict[str, None]) -> Value:
    pieces = BRACES.findall(text)
    for piece in pieces:
        named = VARIABLE.fullmatch(piece)
        if not named:
            complaints[f"{piece} in prefect.yaml: {{{{ $NAME }}}} is expected"] = None
        elif variables.get(named[1]) in (None, ""):
            complaints[f"{named[1]} is missing; prefect.yaml refers to it"] = None
    if complaints:
        return text
    if pieces == [text]:
        return variables[VARIABLE.fullmatch(text)[1]]  # type: ignore[index]
    return VARIABLE.sub(lambda found: str(variables[found[1]]), text)
