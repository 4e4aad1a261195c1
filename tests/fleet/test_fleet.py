"""All hosts in one report: trouble first, silence is trouble, a record that lies is refused."""

import json
import re
from datetime import timedelta

import pytest
from prefect.types import MAX_VARIABLE_VALUE_LENGTH

from alfresco_backup.fleet.assess import FleetReport, Published, make_fleet
from alfresco_backup.fleet.record import (
    HostRecord,
    Problem,
    read_host_record,
    record_document,
    record_of,
)
from alfresco_backup.fleet.show import fleet_document, fleet_page, fleet_rows, fleet_text
from alfresco_backup.host.identity import HostIdentity
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from tests.status.test_status_page import EVIL, Page
from tests.support.catalogues import NOW
from tests.support.fleets import HOUR, a_record
from tests.support.restorable_repositories import restorable_repository

OWN = HostIdentity("machine-alf1", "system-alf1")


def fleet(*records: HostRecord, silent: tuple[str, ...] = ()) -> FleetReport:
    published = [Published(item.host, item) for item in records]
    return make_fleet([*published, *(Published(host, None) for host in silent)], NOW)


def test_hosts_in_trouble_come_first_and_the_sentence_says_of_how_many():
    warned = a_record("b", problems=(Problem("warning", "disk", "full soon"),), problem_count=1)
    partly = a_record("z", unfinished_restore="restore-pitr 2026: is unfinished")
    report = fleet(a_record("a"), warned, partly, silent=("never",))
    assert [host.name for host in report.hosts] == ["never", "z", "b", "a"]
    assert report.sentence == "3 of 4 hosts have reported in the last 26 hours; in trouble: never, z"
    assert (report.state, report.exit_code) == ("attention", 5)
    assert (fleet(a_record("a"), warned).exit_code, fleet().exit_code) == (0, 5)


def test_silence_for_more_than_26_hours_is_trouble_and_a_minute_less_is_not():
    old = a_record("old", reported_at=NOW - 26 * HOUR - timedelta(minutes=1))
    young = a_record("young", reported_at=NOW - 26 * HOUR + timedelta(minutes=1))
    report = fleet(young, old)
    assert [host.name for host in report.hosts] == ["old", "young"]
    assert report.hosts[0].findings[0].sentence == "the last one is 26 h 01 min old; the limit is 26 h"
    assert report.sentence.startswith("1 of 2 hosts have reported") and not report.hosts[1].findings
    never = fleet(silent=("new",)).hosts[0]
    assert (
        never.findings[0].sentence == "it has deployments, and none of its runs has ever published its state"
    )


def test_a_set_that_has_become_too_old_since_the_record_is_trouble():
    late = a_record("alf1", newest_complete_at=NOW - 27 * HOUR)
    (found,) = fleet(late).hosts[0].findings
    assert (found.level, found.subject) == (
        "error",
        "newest backup",
    ) and "the limit is 26 h" in found.sentence


def test_a_row_has_everything_that_is_asked_of_a_host():
    (row,) = fleet_rows(fleet(a_record("alf1", holds=("3 days are gone",), full_on=NOW + 400 * HOUR)))
    assert row["age"] == "6 h 00 min" and row["WAL lag"] == "5 min 00 s"
    assert row["last restore drill"] == "RTO 14 min 00 s"
    assert row["off-site"] == "ok: newest complete set there 5 h 00 min ago"
    assert row["disk full on"] == f"{(NOW + 400 * HOUR).astimezone():%Y-%m-%d}"
    assert (row["unfinished restore"], row["on hold"]) == ("none", "3 days are gone")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "alf2"}, "it says that it is of host 'alf2'"),
        ({"machine_id": "another"}, "it is of another machine: machine id another, recorded machine-alf1"),
        ({"system_identifier": "7"}, "it is of another machine: system identifier 7"),
        ({"schema": 2}, "its schema is 2; 1 is expected"),
        ({"state": "splendid"}, "state: "),
        ({"reported_at": "2999-01-01T00:00:00+00:00"}, "it is dated in the future"),
        ({"history": "many"}, "history: "),
        ({"drill": {"backup_id": 3}}, "drill"),
    ],
)
def test_a_record_that_lies_or_is_damaged_is_refused(change, words):
    document = record_document(a_record("alf1")) | change
    with pytest.raises(ValueError, match=re.escape(words)):
        read_host_record(document, "alf1", OWN, NOW)


def test_a_record_survives_json_and_unknown_fields_are_ignored():
    record = a_record("alf1", problems=(Problem("error", "WAL gap", "lost"),), problem_count=1)
    document = json.loads(json.dumps(record_document(record) | {"newer": 1}))
    assert read_host_record(document, "alf1", OWN, NOW) == record
    assert read_host_record(document, "alf1", None, NOW) == record


def test_a_host_with_a_month_of_sets_and_problems_is_more_than_a_variable_takes():
    problems = tuple(Problem("warning", f"set {number}", "x" * 200) for number in range(20))
    points = a_record("alf1").history * 3
    text = json.dumps(record_document(a_record("alf1", problems=problems, history=points)))
    assert len(text) > MAX_VARIABLE_VALUE_LENGTH


def test_a_refused_record_is_trouble_of_the_host_in_every_form():
    report = make_fleet([Published("alf1", None, "it says that it is of host 'alf2'")], NOW)
    words = "what was published as this host's state is refused: it says that it is of host 'alf2'"
    assert words in fleet_text(report) and words in Page(fleet_page(report)).words
    assert fleet_document(report)["hosts"][0]["findings"][0]["sentence"] == words
    assert fleet_rows(report)[0]["state"] == "ERROR: report"


def test_what_a_host_publishes_is_escaped_in_the_page():
    evil = a_record(
        EVIL,
        headline=EVIL,
        run=EVIL,
        holds=(EVIL,),
        unfinished_restore=EVIL,
        problems=(Problem("error", EVIL, EVIL),),
        problem_count=7,
    )
    page = Page(fleet_page(fleet(evil)))
    assert not page.all("img") and page.words.count(EVIL) >= 6
    assert "6 further ones are in the host's own status" in page.words
    assert len(page.all("svg")) == 3


def test_the_record_of_a_status_has_what_the_status_says(tmp_path):
    disk = restorable_repository(tmp_path / "backup", utc_now(), ("2d", "1d", "3h"))
    report = read_status(disk.settings(alf_host_name="alf1"), disk.now)
    record = record_of(report, OWN, "backup", 26)
    assert record.window_from and (record.window_from, record.window_to) == report.window
    assert [item.backup_id for item in record.history] == [item.item.stamp for item in report.sets[::-1]]
    assert (record.state, record.headline, record.offsite_level) == (report.state, report.headline, None)
    assert read_host_record(json.loads(json.dumps(record_document(record))), "alf1", OWN, disk.now) == record
