"""What a restore may be asked for: times with their offset, choices that exist, a confirmation."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.restore.planning.request import (
    LATEST,
    RestoreRequest,
    aware_target,
    check_request,
    forms_with_offset,
    parse_target_time,
)
from tests.support.restore_worlds import HOST, at, local_zone

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
def test_a_time_with_its_offset_names_one_moment_however_it_is_written(typed):
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
        "target_time 2026-11-22 03:00:00 has no offset from UTC, so it names no moment"
    )
    assert refusal.value.hint == (
        "write 2026-11-22T03:00:00+01:00 (this host's time) or 2026-11-22T03:00:00Z (UTC)"
    )


def test_a_naive_datetime_is_refused_as_a_typed_one_is():
    with pytest.raises(Refused, match="has no offset from UTC"):
        aware_target(datetime(2026, 11, 22, 3))  # noqa: DTZ001 - that is the case


def test_in_the_repeated_hour_both_offsets_are_named():
    assert forms_with_offset(datetime(2026, 10, 25, 2, 30)) == (  # noqa: DTZ001 - that is the case
        "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00 (this host's time) "
        "or 2026-10-25T02:30:00Z (UTC)"
    )


def test_what_is_no_time_is_refused_with_an_example():
    with pytest.raises(Refused, match="target_time 'yesterday' is not understood") as refusal:
        parse_target_time("yesterday")
    assert refusal.value.hint.startswith("write it like 20")
    assert refusal.value.hint.endswith("(UTC), or latest")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (RestoreRequest("pitr"), "target_time is missing: restore-pitr needs the moment to go back to"),
        (RestoreRequest("full", target_time=at(1)), "target_time does not go with restore-full"),
        (RestoreRequest("contentstore", target_time=LATEST), "does not go with restore-contentstore"),
        (
            RestoreRequest("everything"),
            "kind 'everything': full or pitr or postgres or contentstore is expected",
        ),
        (RestoreRequest("full", contentstore="move"), "contentstore 'move': fill or replace is expected"),
        (RestoreRequest("full", mode="dry"), "mode 'dry': plan or execute is expected"),
        (
            RestoreRequest("full", backup="/backup/base-1"),
            "a stamp like 20261122T020000Z or latest is expected",
        ),
        (RestoreRequest("full", timeline=2), "timeline goes with target_time only"),
        (RestoreRequest("pitr", target_time=at(1), timeline=0), "timeline 0: a whole number from 1 on"),
        (
            RestoreRequest("full", mode="execute"),
            "confirm is missing: to execute a restore it must be the host's name, alfresco-1",
        ),
        (
            RestoreRequest("full", mode="execute", confirm="alfresco-2"),
            "confirm is 'alfresco-2': to execute a restore it must be the host's name, alfresco-1",
        ),
        (
            RestoreRequest("pitr", target_time=datetime(2026, 11, 22, 3)),  # noqa: DTZ001 - that is the case
            "target_time 2026-11-22 03:00:00 has no offset from UTC",
        ),
    ],
    ids=lambda value: None if isinstance(value, RestoreRequest) else value[:40],
)
def test_a_request_that_contradicts_itself_is_refused(request_, message):
    with pytest.raises(Refused) as refusal:
        check_request(request_, HOST)
    assert message in refusal.value.message


def test_a_confirmed_request_comes_back_with_its_target_in_utc():
    asked = RestoreRequest("pitr", target_time=at(5).astimezone(), mode="execute", confirm=HOST)
    checked = check_request(asked, HOST)
    assert checked.moment == at(5)
    assert checked.moment.tzinfo is UTC
    assert check_request(RestoreRequest("pitr", target_time=LATEST), HOST).moment is None
