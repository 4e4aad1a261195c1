"""What a restore may be asked for: times with their offset, choices that exist, a confirmation."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.restore.planning.request import (
    LATEST,
    RestoreRequest,
    aware_target,
    forms_with_offset,
    parse_target_time,
    require_confirmed,
)
from alfresco_backup.settings.commands import program_command
from tests.support.restore_worlds import HOST, World, at, base, local_zone, wal_map

THREE_IN_BERLIN = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


@pytest.mark.parametrize(
    "typed",
    [
        "2026-11-22T03:00:00+01:00",
        "2026-11-22 03:00:00+01:00",
        " 2026-11-22T02:00:00Z ",
        "20261122T020000Z",
        "2026-11-22T07:30+05:30",
        "2026-11-21 22:00:00.000000-0400",
    ],
)
def test_a_time_with_its_offset_is_one_time_however_it_is_written(typed):
    assert parse_target_time(typed) == THREE_IN_BERLIN
    assert parse_target_time(typed).tzinfo is UTC


def test_the_end_of_all_wal_can_be_asked_for():
    assert parse_target_time(" Latest ") == LATEST


def test_fractions_of_a_second_are_kept():
    assert parse_target_time("2026-11-22T02:00:00.123456Z").microsecond == 123456


def test_a_time_without_offset_is_refused_with_the_forms_of_that_very_time():
    with pytest.raises(Refused) as refusal:
        parse_target_time("2026-11-22 03:00:00")
    assert refusal.value.message == (
        "target time 2026-11-22 03:00:00 has no time zone; add a UTC offset such as +01:00"
    )
    assert refusal.value.hint == (
        "type 2026-11-22T03:00:00+01:00 (this host's time zone) or 2026-11-22T03:00:00Z (UTC)"
    )


def test_a_naive_datetime_is_refused_as_a_typed_one_is():
    with pytest.raises(Refused, match="has no time zone"):
        aware_target(datetime(2026, 11, 22, 3))  # noqa: DTZ001 - that is the case


def test_in_the_repeated_hour_both_offsets_are_named():
    assert forms_with_offset(datetime(2026, 10, 25, 2, 30)) == (  # noqa: DTZ001 - that is the case
        "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00 (this host's time zone) "
        "or 2026-10-25T02:30:00Z (UTC)"
    )


def test_what_is_no_time_is_refused_with_an_example():
    with pytest.raises(
        Refused, match="target time 'yesterday' is not a date and time in ISO 8601"
    ) as refusal:
        parse_target_time("yesterday")
    assert refusal.value.hint.startswith("type 20")
    assert refusal.value.hint.endswith("(UTC), or latest")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (partial(RestoreRequest, "pitr"), "a pitr restore needs a target time"),
        (partial(RestoreRequest, "full", target_time=at(1)), "a full restore takes no target time"),
        (
            partial(RestoreRequest, "contentstore", target_time=LATEST),
            "a contentstore restore takes no target time",
        ),
        (
            partial(RestoreRequest, "everything"),
            "kind 'everything' is not valid; expected full or pitr or postgres or contentstore",
        ),
        (
            partial(RestoreRequest, "full", contentstore="move"),
            "contentstore 'move' is not valid; expected fill or replace",
        ),
        (
            partial(RestoreRequest, "full", mode="dry"),
            "mode 'dry' is not valid; expected plan or execute",
        ),
        (
            partial(RestoreRequest, "full", backup="/backup/base-1"),
            "backup ID '/backup/base-1' is not valid; expected one like 20261122T020000Z, or latest",
        ),
        (partial(RestoreRequest, "full", timeline=2), "a timeline needs a target time"),
        (
            partial(RestoreRequest, "pitr", target_time=at(1), timeline=0),
            "timeline 0 is not valid; expected a whole number from 1 on",
        ),
        (
            partial(RestoreRequest, "pitr", target_time=datetime(2026, 11, 22, 3)),  # noqa: DTZ001 - the case
            "target time 2026-11-22 03:00:00 has no time zone",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_request_that_contradicts_itself_is_refused(asked, message):
    with pytest.raises(Refused) as refusal:
        asked()
    assert message in refusal.value.message


def test_what_is_refused_names_the_command_for_what_is_possible():
    with pytest.raises(Refused) as refusal:
        RestoreRequest("full", target_time=at(1), start_alfresco=False)
    target = ("--target-time", at(1).isoformat())
    assert refusal.value.hint == program_command("restore", "--mode", "pitr", *target, "--no-start")
    with pytest.raises(Refused) as refusal:
        RestoreRequest("pitr", contentstore="replace")
    words = ("--target-time", "latest", "--contentstore", "replace")
    assert refusal.value.hint == program_command("restore", "--mode", "pitr", *words)


@pytest.mark.parametrize(("typed", "given"), [("", "is missing"), ("alfresco-2", "is 'alfresco-2'")])
def test_what_changes_the_host_is_refused_without_the_hosts_name(typed, given):
    with pytest.raises(Refused) as refusal:
        require_confirmed("a restore", typed, HOST)
    said = f"confirm {given}; to execute a restore it must be the host's name, alfresco-1"
    assert refusal.value.message == said
    require_confirmed("a restore", HOST, HOST)


def test_a_requests_target_time_is_kept_in_utc():
    asked = RestoreRequest("pitr", target_time=at(5).astimezone(), mode="execute", confirm=HOST)
    assert asked.exact_time == at(5)
    assert asked.exact_time.tzinfo is UTC
    assert RestoreRequest("pitr", target_time=LATEST).exact_time is None


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59-12:00",  # year 10000 in UTC
        "9999-12-31T23:59:59Z",  # year 10000 in the time zones east of Greenwich
        "9999-12-31T23:59:59",
        "0001-01-01T00:00:00+12:00",
        "0001-01-01T00:00:00",
        "1969-12-31T23:59:59Z",
    ],
)
def test_a_time_that_cannot_be_put_into_utc_is_refused_with_what_is_possible(text):
    with (
        local_zone("Asia/Kolkata"),
        pytest.raises(Refused, match="expected a year from 1970 to 9998") as told,
    ):
        parse_target_time(text)
    assert "status" in told.value.hint


def test_a_far_time_that_is_possible_is_refused_as_one_in_the_future():
    with local_zone("Pacific/Kiritimati"), pytest.raises(Refused, match="is in the future"):
        World([base(3)], wal_map((1, 1, 9))).plan(
            "pitr", target_time=parse_target_time("9998-12-31T23:59:59+12:00")
        )
