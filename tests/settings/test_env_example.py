"""`.env.example` is what administrators read: it must name every setting, and state its true default."""

import re
from pathlib import Path

import pytest

from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings

EXAMPLE = PROJECT_DIRECTORY / ".env.example"
OF_PREFECT = re.compile(r"PREFECT_\w+|DO_NOT_TRACK")
CHOSEN_BY_THE_MACHINE = {"PARALLEL_COPIES"}


def lines_of_settings() -> dict[str, tuple[bool, str]]:
    """Name → (whether the line is in force, the value it states)."""
    found = re.findall(r"^(#?)([A-Z][A-Z_0-9]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    names = [name for _, name, _ in found]
    assert len(names) == len(set(names)), "a setting is named twice"
    return {name: (mark == "", value) for mark, name, value in found if not OF_PREFECT.fullmatch(name)}


def test_every_setting_is_in_the_example_and_none_besides() -> None:
    assert set(lines_of_settings()) == {name.upper() for name in Settings.model_fields}


def test_the_example_can_be_copied_and_used(tmp_path: Path) -> None:
    copy = tmp_path / ".env"
    copy.write_text(EXAMPLE.read_text())
    copy.chmod(0o600)
    assert load_settings(copy).backup_dir == Path("/backup")


def test_the_lines_in_force_are_those_a_host_needs() -> None:
    needed = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    in_force = {name for name, (active, _) in lines_of_settings().items() if active}
    assert needed <= in_force


@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_the_stated_default_is_the_real_one(name: str, tmp_path: Path) -> None:
    active, stated = lines_of_settings()[name]
    if active or name in CHOSEN_BY_THE_MACHINE:
        return
    copy = tmp_path / ".env"
    text = EXAMPLE.read_text()
    copy.write_text(text)
    plain = load_settings(copy)
    copy.write_text(f"{text}\n{name}={stated}\n")
    assert getattr(load_settings(copy), name.lower()) == getattr(plain, name.lower()), f"{name}={stated}"


def test_each_setting_has_an_explanation_above_it() -> None:
    previous = ""
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"#?[A-Z][A-Z_0-9]+=", line):
            assert re.match(r"# |#?[A-Z][A-Z_0-9]+=", previous), f"nothing explains {line}"
        previous = line
