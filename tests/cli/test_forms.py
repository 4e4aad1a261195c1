"""The fields of Prefect's form: what they show, and what they take for a time."""

import json
from datetime import UTC, datetime

import pytest
from prefect.exceptions import ParameterTypeError

from alfresco_backup.cli.forms import ZONE
from alfresco_backup.errors import Refused
from flows.restore_drill import restore_drill
from flows.restore_pitr import restore_pitr
from flows.restore_postgres import restore_postgres
from tests.support.all_flows import FLOWS
from tests.support.restore_worlds import local_zone


@pytest.mark.parametrize("name", FLOWS)
def test_no_field_is_of_type_none_or_presets_another_zone_than_the_host_has(name: str) -> None:
    schema = FLOWS[name].parameters.model_dump()
    text = json.dumps(schema)
    assert '"type": "null"' not in text  # shown as `Property is type "None"`
    assert '"format": "date-time"' not in text  # a field that presets UTC
    for field in schema["properties"].values():
        assert "anyOf" not in field or field["title"] == "Timeline"
        assert ("time like" not in field.get("description", "")) or f", in {ZONE} or" in field["description"]
    assert None not in [field.get("default", "") for field in schema["properties"].values()]


@pytest.mark.parametrize(
    ("zone", "typed", "expected"),
    [
        ("Europe/Berlin", "2026-11-23 09:22:10", (2026, 11, 23, 8, 22, 10)),
        ("Europe/Berlin", "2026-07-23 09:22", (2026, 7, 23, 7, 22)),  # the field for times would say +01:00
        ("America/St_Johns", "2026-07-23T09:22", (2026, 7, 23, 11, 52)),
        ("America/St_Johns", "2026-07-23T09:22+05:45", (2026, 7, 23, 3, 37)),
        ("Asia/Kathmandu", "2026-11-23T09:22:10Z", (2026, 11, 23, 9, 22, 10)),
    ],
)
def test_a_time_that_is_typed_without_offset_is_of_the_hosts_zone(
    zone: str, typed: str, expected: tuple[int, ...]
) -> None:
    with local_zone(zone):
        for flow in (restore_pitr, restore_postgres, restore_drill):
            taken = flow.validate_parameters({"target_time": typed})["target_time"]
            assert taken == datetime(*expected, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("typed", ["2026-10-25 02:30", "2026-03-29 02:30"])
def test_an_hour_that_the_hosts_clock_shows_twice_or_never_needs_its_offset(typed: str) -> None:
    with local_zone("Europe/Berlin"), pytest.raises(Refused, match="add a UTC offset") as refused:
        restore_pitr.validate_parameters({"target_time": typed})
    assert "T01:30:00+01:00" in str(refused.value.hint) or "T02:30:00+02:00 or" in str(refused.value.hint)


def test_what_stands_for_a_value_that_is_left_out_is_taken_for_none() -> None:
    preset = {name: field.get("default") for name, field in restore_postgres.parameters.properties.items()}
    assert (preset["target_time"], preset["timeline"]) == ("", "automatic")
    assert restore_postgres.validate_parameters(preset) == restore_postgres.validate_parameters({})
    assert restore_postgres.validate_parameters({"timeline": "3"})["timeline"] == 3
    assert restore_drill.validate_parameters({"target_time": "end"})["target_time"] == "end"
    assert restore_pitr.validate_parameters({"target_time": "latest"})["target_time"] == "latest"


@pytest.mark.parametrize("typed", ["", None])
def test_a_restore_to_a_target_time_needs_one(typed: object) -> None:
    with pytest.raises((ParameterTypeError, Refused)):
        restore_pitr.validate_parameters({"target_time": typed})
