"""What prefect.yaml becomes for a host."""

from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from deployments.bootstrap import template_variables
from deployments.template import (
    OFFSITE,
    VARIABLE,
    WINDOW_MINUTES,
    minutes_later,
    nightly_time,
    of_a_host,
    staggered,
    without_tag,
)
from tests.support.all_flows import FLOWS, entrypoint


def test_only_the_flows_of_the_off_site_copy_and_the_drill_are_left_out_where_they_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "host.env"
    file.write_text(f"PGHOST=x\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}\n")
    file.chmod(0o600)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(file))
    monkeypatch.setenv("BACKUP_TIMEZONE", "Europe/Berlin")
    filled = of_a_host(template_variables(load_settings(), file))

    def left_out(tag: str) -> set[str]:
        kept = {item["entrypoint"] for item in without_tag(filled, tag)["deployments"]}
        return {item["entrypoint"] for item in filled["deployments"]} - kept

    assert left_out(OFFSITE) == {entrypoint(name) for name in FLOWS if name.startswith("offsite_")}


def filled_in() -> dict[str, Any]:
    names = set(VARIABLE.findall((PROJECT_DIRECTORY / "prefect.yaml").read_text()))
    return of_a_host({name: 5 if name == "OFFSITE_WAL_MINUTES" else name for name in names})


def crons(filled: dict[str, Any]) -> dict[str, str]:
    schedules = [entry for item in filled["deployments"] for entry in item.get("schedules", ())]
    return {f"{entry['slug']} {entry.get('parameters', '')}": entry["cron"] for entry in schedules}


def test_the_minute_of_a_host_follows_from_its_name_and_hosts_spread_over_the_hour() -> None:
    assert [minutes_later(f"alf{number}") for number in (1, 2, 3)] == [29, 11, 53]
    found = [minutes_later(f"alfresco-{number}.example.org") for number in range(600)]
    assert set(found) == set(range(WINDOW_MINUTES)) and max(map(found.count, found)) < 30


def test_what_begins_once_a_day_or_week_is_later_and_what_begins_every_hour_is_not() -> None:
    plain, later = crons(filled_in()), crons(staggered(filled_in(), 47))
    assert later.keys() == plain.keys()
    changed = {name.split()[0]: cron for name, cron in later.items() if cron != plain[name]}
    assert changed == {
        "nightly": "17 3 * * *",
        "weekly-full-comparison": "17 6 * * 0",
        "monthly-checksum-comparison": "47 6 1 * *",
        "weekly-drill": "17 12 * * 0",
        "weekly-check": "17 12 * * 6",
        "weekly-prune": "17 16 * * 6",
    }
    assert nightly_time(staggered(filled_in(), 47)) == "03:17"


@pytest.mark.parametrize("minutes", [0, 47])
def test_a_time_chosen_in_the_settings_wins_for_the_nightly_set(minutes: int) -> None:
    chosen = crons(staggered(filled_in(), minutes, "23:05"))
    others = crons(staggered(filled_in(), minutes))
    assert {name.strip(): cron for name, cron in chosen.items() if cron != others[name]} == {
        "nightly": "5 23 * * *"
    }
