"""docs/reference says what the software is: every setting, flow, version and error, and nothing besides."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from alfresco_backup import errors
from alfresco_backup.errors import BackupError
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from tests.support.all_flows import FLOWS, entrypoint
from tests.support.documents import all_documents

REFERENCE = PROJECT_DIRECTORY / "docs/reference"
UNITS = {"_HOURS": "hours", "_MINUTES": "minutes", "_DAYS": "days", "_SECONDS": "seconds", "_MIB": "MiB/s"}
FOUND_OR_DERIVED = {"empty", "found", "the machine's", "`PGPASSWORD`", "`alfresco.sh`", "`SMTP_USER`"}


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row; heads and rulers too."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text, flags=re.MULTILINE)[
        [part.split("\n", 1)[0] for part in re.split(r"^## ", text, flags=re.MULTILINE)].index(title)
    ]


def settings_rows() -> dict[str, list[str]]:
    rows = rows_of((REFERENCE / "settings.md").read_text())
    found = {row[0].strip("`"): row for row in rows if row[0].startswith("`")}
    assert len(found) == len([row for row in rows if row[0].startswith("`")]), "a setting is named twice"
    return found


def test_every_setting_is_in_the_reference_in_the_order_of_the_example() -> None:
    example = (PROJECT_DIRECTORY / ".env.example").read_text()
    names = re.findall(r"^#?([A-Z][A-Z_0-9]+)=", example, re.MULTILINE)
    ours = {name.upper() for name in Settings.model_fields}
    assert list(settings_rows()) == [name for name in names if name in ours]
    assert set(settings_rows()) == ours


@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_default_unit_and_bounds_of_a_setting_are_the_real_ones(name: str) -> None:
    _, default, expected, meaning = settings_rows()[name]
    field = Settings.model_fields[name.lower()]
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if field.is_required():
        assert default == "needed"
    elif name == "PARALLEL_COPIES":
        assert default == "number of cores, 2 to 8"
    elif field.default_factory or value in ("", None, ()):
        assert default in FOUND_OR_DERIVED or default.startswith(("`alfresco.sh`", "`BACKUP_DIR/")), default
    else:
        shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        assert default == f"`{shown}`"
    for suffix, unit in UNITS.items():
        assert (unit in expected) is name.endswith(suffix) or not name.endswith(suffix)
    bounds = [
        str(getattr(item, kind))
        for item in field.metadata
        for kind in ("ge", "gt", "le")
        if hasattr(item, kind)
    ]
    assert [bound for bound in bounds if not re.search(rf"\b{bound}\b", expected)] == []
    assert meaning


def deployments() -> list[dict[str, Any]]:
    text = (PROJECT_DIRECTORY / "prefect.yaml").read_text().replace("{{ $ALF_HOST_NAME }}", "HOST")
    minutes = Settings.model_fields["offsite_wal_minutes"].default
    text = text.replace("{{ $OFFSITE_WAL_MINUTES }}", str(minutes))
    fleet = (PROJECT_DIRECTORY / "deployments/fleet.yaml").read_text()
    found: list[dict[str, Any]] = (
        yaml.safe_load(text)["deployments"][1:] + yaml.safe_load(fleet)["deployments"]
    )
    return found


def test_every_flow_has_its_section_and_none_besides() -> None:
    text = (REFERENCE / "flows.md").read_text()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sorted(titles) == sorted(name.replace("_", "-") for name in FLOWS)
    entrypoints = {item["entrypoint"] for item in deployments()}
    assert entrypoints == {entrypoint(name) for name in FLOWS}


@pytest.mark.parametrize("name", FLOWS)
def test_deployments_and_schedules_of_a_flow_are_those_of_prefect_yaml(name: str) -> None:
    rows = rows_of(section((REFERENCE / "flows.md").read_text(), name.replace("_", "-")))
    told = sorted((row[0].strip("`"), row[1].strip("`")) for row in rows if "/" in row[0])
    real = []
    for item in deployments():
        if item["entrypoint"] == entrypoint(name):
            crons = [schedule["cron"] for schedule in item.get("schedules", [])] or ["none"]
            real += [(f"{name.replace('_', '-')}/{item['name']}", cron) for cron in crons]
    assert told == sorted(real)


@pytest.mark.parametrize("name", FLOWS)
def test_parameters_and_defaults_of_a_flow_are_those_of_its_function(name: str) -> None:
    text = section((REFERENCE / "flows.md").read_text(), name.replace("_", "-"))
    told = {row[0].strip("`"): row[1].strip("`") for row in rows_of(text) if re.fullmatch(r"`\w+`", row[0])}
    function = FLOWS[name].fn
    real = {}
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if default is parameter.empty:
            real[parameter.name] = "needed"
        else:
            real[parameter.name] = default if default and isinstance(default, str) else json.dumps(default)
    assert told == real
    assert real or "No parameters." in text


VERSION_ROWS: dict[str, Callable[[VersionFacts], object]] = {
    "WAL directory": lambda facts: facts.wal_directory,
    "Function that ends a WAL segment": lambda facts: facts.switch_wal,
    "`wal_level` for backups": lambda facts: facts.recommended_wal_level,
    "Restore points may be granted to `PGUSER`": lambda facts: facts.grantable_restore_point,
    "Role that may see the archiver": lambda facts: facts.monitor_role or "superuser",
    "`backup_manifest` with checksums": lambda facts: facts.has_manifest,
    "The server compresses base backups": lambda facts: facts.backup_compression,
    "Recovery settings go to": lambda facts: facts.recovery_file,
    "Signal file": lambda facts: facts.signal_file or "none",
    "Opens at the target by": lambda facts: facts.target_action_line,
    "WAL that ends before the target is fatal": lambda facts: facts.unreached_target_is_fatal,
    "Timeline followed by default": lambda facts: (
        "the base backup's" if facts.timeline_current_is_default else "the newest"
    ),
    "Checks page checksums offline": lambda facts: facts.checksum_program or "none",
    "Checks the records of WAL": lambda facts: facts.wal_dump[0],
    "Setting that keeps WAL": lambda facts: facts.wal_keep_setting,
}
MAJORS = ("9.4", "9.5", "9.6", *map(str, range(10, 19)))


def majors_of(title: str) -> list[str]:
    """`9.4` is one version, `13, 14` are two, `15 to 18` are four."""
    first, to, last = title.partition(" to ")
    return [str(major) for major in range(int(first), int(last) + 1)] if to else first.split(", ")


def test_the_table_of_versions_is_the_one_of_the_software() -> None:
    head, _, *rows = rows_of((REFERENCE / "postgresql-versions.md").read_text())
    assert [major for title in head[1:] for major in majors_of(title)] == list(MAJORS)
    assert [row[0] for row in rows] == list(VERSION_ROWS)
    for title, *cells in rows:
        for versions, cell in zip(head[1:], cells, strict=True):
            for major in majors_of(versions):
                first, _, second = major.partition(".")
                facts = facts_of(int(first) * 10000 + int(second or 0) * 100)
                real = VERSION_ROWS[title](facts)
                stated = {True: "yes", False: "no"}.get(real, real) if isinstance(real, bool) else real
                assert cell.strip("`") == stated, f"{title}, {major}"


def test_every_error_type_has_its_row_with_its_exit_code() -> None:
    types = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, BackupError)
    }
    rows = rows_of(section((REFERENCE / "errors.md").read_text(), "Error types"))[2:]
    assert [row[0].strip("`") for row in rows] == list(types)
    for name, code, meaning, remedy in rows:
        assert int(code) == types[name.strip("`")].exit_code, name
        assert len(meaning) > 20 and len(remedy) > 10, name


def test_every_exit_code_stands_in_the_table() -> None:
    table = rows_of(section((REFERENCE / "errors.md").read_text(), "Exit codes"))[2:]
    real = {
        value for name, value in vars(errors).items() if name.startswith("EXIT_") and name != "EXIT_CODES"
    }
    real |= {
        kind.exit_code
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, BackupError)
    }
    assert sorted(real) == list(errors.EXIT_CODES)
    assert table[: len(real)] == [[str(code), words] for code, words in errors.EXIT_CODES.items()]


def test_no_link_between_documents_leads_nowhere() -> None:
    broken = []
    for document in all_documents():
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        broken += [
            f"{document.relative_to(PROJECT_DIRECTORY)}: {target}"
            for target in re.findall(r"\]\(([^)\s]+)\)", text)
            if not target.startswith("http") and not leads_somewhere(document, target)
        ]
    assert broken == []


def leads_somewhere(document: Path, target: str) -> bool:
    name, _, heading = target.partition("#")
    path = document.parent / name if name else document
    if not heading or not path.exists():
        return path.exists()
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
