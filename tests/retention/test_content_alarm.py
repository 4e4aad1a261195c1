"""Deletions far above the usual, and files changed in place, hold retention until a person accepts."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup.report import losses_of, snapshot_row
from alfresco_backup.errors import Refused
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.retention.apply import carry_out, make_retention_plan, note_holds, with_holds
from alfresco_backup.retention.content import ContentLimits, content_alarm
from alfresco_backup.retention.holds import (
    Hold,
    accept_hold,
    accepted_loss,
    end_refusals,
    open_holds,
    read_holds,
    write_hold,
)
from alfresco_backup.retention.policy import RetentionPlan
from alfresco_backup.status.as_json import status_document
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.system.files import read_json, write_json
from tests.support.catalogues import NOW, a_snapshot
from tests.support.repository_on_disk import DiskRepository, sets_until_an_hour_ago

LIMITS = ContentLimits(10, 100)
QUIET = {f"2026-11-{day:02}": (30, 0) for day in range(8, 22)}


def snapshot_with(**losses: object) -> Snapshot:
    return replace(a_snapshot(NOW), **losses)


@pytest.mark.parametrize(
    ("losses", "alarms"),
    [
        ({"deleted_files": 100}, False),
        ({"deleted_files": 101}, True),
        ({"deleted_files": 300, "deletions": QUIET}, False),
        ({"deleted_files": 301, "deletions": QUIET}, True),
        ({"deleted_files": 301, "deletions": QUIET, "accepted": "20261121T120000Z"}, False),
        ({"deleted_files": 40, "deleted_days": 9}, False),
        ({"deleted_files": 40, "deleted_days": 20}, True),
        ({"deleted_files": 40, "deleted_days": 20, "deletions": {"2026-11-21": (30, 2)}}, False),
        ({"changed_files": 1, "changed": ("2026/1/1/1/1/a.bin",)}, True),
        ({"changed_files": 1, "changed": ("a.bin",), "accepted": "20261121T120000Z"}, True),
    ],
)
def test_an_alarm_is_far_above_the_usual_or_any_change_in_place(
    losses: dict[str, object], alarms: bool
) -> None:
    assert bool(content_alarm(snapshot_with(**losses), LIMITS)) is alarms


def test_hourly_runs_are_measured_by_the_days_before_not_by_the_hours_without_a_cleaner() -> None:
    """The day's own runs are left aside: the first of a day is judged like the last."""
    deletions = {**QUIET, "2026-11-22": (280, 0)}
    assert content_alarm(snapshot_with(deleted_files=280, deletions=deletions), LIMITS) == ""
    assert content_alarm(snapshot_with(deleted_files=310, deletions=deletions), LIMITS)


def test_report_and_last_words_of_a_run_tell_what_is_gone_or_changed() -> None:
    """The last words are what mails and the list of runs show."""
    snapshot = snapshot_with(deleted_files=2000, deleted_days=20, changed_files=1, changed=("a.bin",))
    words = "2,000 files deleted, 20 whole days gone, 1 file changed in place"
    assert words in snapshot_row(snapshot).state
    assert losses_of([snapshot_with(), snapshot]) == f"; contentstore: {words}"


def test_the_alarm_names_files_days_and_what_is_usual() -> None:
    said = content_alarm(
        snapshot_with(
            deleted_files=4000, deleted_days=20, deletions=QUIET, changed_files=2, changed=("a.bin",)
        ),
        LIMITS,
    )
    assert said == (
        "4,000 files and 20 whole days of contentstore are gone since the snapshot before; usual are 30 "
        "files a day; 2 files of contentstore changed in place, which Alfresco never does: a.bin …"
    )


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    """Sets up to an hour ago; the newest run found that 2,000 files in 20 days were gone."""
    disk = sets_until_an_hour_ago(tmp_path)
    noted(disk, deleted_files=2000, deleted_days=20)
    return disk


def newest(disk: DiskRepository) -> Path:
    return sorted(disk.repository.contentstore.root.glob("contentstore-*Z"))[-1]


def stamp_of(disk: DiskRepository) -> str:
    return newest(disk).name.removeprefix("contentstore-")


def noted(disk: DiskRepository, **losses: int) -> None:
    """Have the newest snapshot's metadata say what it lost."""
    file = metadata_of(newest(disk))
    write_json(file, {**read_json(file), **losses})


def planned(disk: DiskRepository, running: str = "") -> RetentionPlan:
    plan = make_retention_plan(disk.settings(), running, now=disk.now)
    return with_holds(plan, disk.settings(), running, None)


def test_retention_is_held_by_any_later_run_until_a_person_accepts(disk: DiskRepository) -> None:
    """The run that found it need not have come to its own retention."""
    plan = planned(disk)
    (hold,) = plan.holds
    assert (hold.run, hold.cause) == (stamp_of(disk), "content")
    assert "2,000 files and 20 whole days of contentstore are gone" in hold.sentence
    note_holds(plan)
    with pytest.raises(Refused, match="retention is on hold") as refused:
        carry_out(plan)
    assert f"accept {hold.run} --reason" in refused.value.hint
    assert [each.run for each in planned(disk).holds] == [hold.run]
    accept_hold(disk.repository, hold.run, "the old years went to the archive", disk.now)
    assert planned(disk).holds == ()
    assert carry_out(planned(disk)).counts["base"] == 2


def test_status_shows_the_hold_its_cause_and_what_releases_it(disk: DiskRepository) -> None:
    note_holds(planned(disk))
    report = read_status(disk.settings(), disk.now)
    text, document = status_text(report), status_document(report)
    assert "2,000 files deleted, 20 whole days gone" in text
    assert "(content)" in text and f"accept {stamp_of(disk)} --reason" in text
    (hold,) = document["holds"]
    assert (hold["run"], hold["cause"]) == (stamp_of(disk), "content")
    assert hold["fix"].endswith(f"accept {stamp_of(disk)} --reason 'why it is as it should be'")
    assert [document["sets"][0][name] for name in ("deleted_files", "deleted_days", "changed_files")] == [
        2000,
        20,
        0,
    ]


def test_a_change_in_place_in_an_older_snapshot_is_not_forgotten(disk: DiskRepository) -> None:
    noted(disk, deleted_files=0, deleted_days=0, changed_files=3)
    found = stamp_of(disk)
    disk.now += timedelta(hours=1)
    disk.run("5m")
    assert [hold.run for hold in planned(disk).holds] == [found]


def test_a_run_with_two_reasons_has_two_holds_and_each_is_accepted_by_itself(
    disk: DiskRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stamp_of(disk)
    monkeypatch.setattr("alfresco_backup.retention.apply.file_system_time", lambda _: disk.now - timedelta(9))
    plan = planned(disk, run)
    assert [(hold.run, hold.cause) for hold in plan.holds] == [(run, "content"), (f"{run}-clock", "clock")]
    note_holds(plan)
    assert [hold.cause for hold in planned(disk, run).holds] == ["clock", "content"]
    accept_hold(disk.repository, run, "moved", disk.now)
    assert [hold.run for hold in planned(disk, run).holds] == [f"{run}-clock"]


def test_a_refused_snapshot_is_accepted_once_or_is_over_with_the_next_one(disk: DiskRepository) -> None:
    place = disk.repository
    write_hold(place, Hold("20991122T023000Z", "missing", "empty now", disk.now, store="contentstore"))
    assert accepted_loss(place, "contentstore", stamp_of(disk)) == ""
    accept_hold(place, "20991122T023000Z", "moved away", disk.now)
    assert accepted_loss(place, "contentstore", stamp_of(disk)) == "20991122T023000Z"
    assert accepted_loss(place, "contentstore", "") == "20991122T023000Z"
    assert accepted_loss(place, "other", stamp_of(disk)) == ""
    assert accepted_loss(place, "contentstore", "20991122T033000Z") == ""
    write_hold(place, Hold("20991123T023000Z", "missing", "empty now", disk.now, store="contentstore"))
    end_refusals(place, "other", "20991124T023000Z")
    assert [hold.run for hold in open_holds(read_holds(place), disk.now)] == ["20991123T023000Z"]
    end_refusals(place, "contentstore", "20991124T023000Z")
    assert open_holds(read_holds(place), disk.now) == ()
    assert [hold.run for hold in read_holds(place)] == ["20991122T023000Z"], (
        "what was accepted stays on record"
    )
