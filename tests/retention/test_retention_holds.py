"""Retention removes nothing on the word of one clock; a hold stays until somebody accepts it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.retention.apply import carry_out, make_retention_plan, note_holds, with_holds
from alfresco_backup.retention.clock import Witnesses, clock_disagreement
from alfresco_backup.retention.holds import Hold, accept_hold, open_holds, read_holds, write_hold
from alfresco_backup.retention.policy import RetentionPlan
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import make_stamp
from tests.support.catalogues import NOW
from tests.support.repository_on_disk import DiskRepository, listing, sets_until_an_hour_ago

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
GAP = 3 * DAY


def disagreement(now: datetime, **witnesses: object) -> str:
    return clock_disagreement(now, Witnesses(**witnesses), GAP)


@pytest.mark.parametrize("ahead", [4 * DAY, 40 * DAY, 1700 * DAY])
def test_a_clock_that_was_put_forward_disagrees_with_the_newest_backup(ahead: timedelta) -> None:
    said = disagreement(NOW + ahead, newest_part=NOW - HOUR)
    assert "there is neither backup nor WAL between" in said


def test_wal_that_was_written_by_the_same_wrong_clock_is_no_witness_for_it() -> None:
    wal = tuple(NOW + 40 * DAY - minutes * HOUR / 60 for minutes in range(1, 50, 5))
    assert disagreement(NOW + 40 * DAY, newest_part=NOW - HOUR, wal=wal)


def test_wal_all_the_time_since_the_newest_backup_agrees_with_the_clock() -> None:
    wal = tuple(NOW - hours * HOUR for hours in range(0, 240, 12))
    assert disagreement(NOW, newest_part=NOW - 10 * DAY, wal=wal) == ""
    assert disagreement(NOW, newest_part=NOW - 10 * DAY)


@pytest.mark.parametrize("name", ["server", "file_system"])
@pytest.mark.parametrize("apart", [2 * HOUR, -2 * HOUR, 40 * DAY])
def test_another_clock_that_is_read_at_the_same_time_must_tell_the_same(name: str, apart: timedelta) -> None:
    assert "apart" in disagreement(NOW, newest_part=NOW - HOUR, **{name: NOW + apart})
    assert disagreement(NOW, newest_part=NOW - HOUR, **{name: NOW + HOUR / 2}) == ""


def test_a_first_run_has_nothing_to_compare_with() -> None:
    assert disagreement(NOW) == ""


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    return sets_until_an_hour_ago(tmp_path)


def planned(disk: DiskRepository, now: datetime, running: str = "") -> RetentionPlan:
    plan = make_retention_plan(disk.settings(), running, now=now)
    return with_holds(plan, disk.settings(), running, None)


def wrong_clock(disk: DiskRepository, patch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """The file system of a machine whose clock is ahead tells what its clock does."""
    patch.setattr("alfresco_backup.retention.apply.file_system_time", lambda _: disk.now + ahead)


def test_with_the_clock_right_retention_removes_what_is_old(disk: DiskRepository) -> None:
    assert planned(disk, disk.now).holds == ()
    assert carry_out(planned(disk, disk.now)).counts["base"] == 2


def test_a_clock_that_is_ahead_removes_nothing_not_even_in_the_runs_that_follow_it(
    disk: DiskRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_clock(disk, monkeypatch, 40 * DAY)
    later = disk.now + 40 * DAY
    running = make_stamp(later)
    disk.run("-40d")  # the run that plans has made a set by the same clock, and it has ended
    plan = planned(disk, later + HOUR / 2, running)
    note_holds(plan)
    before = listing(disk.repository.root)
    with pytest.raises(Refused, match="retention is on hold"):
        carry_out(plan)
    following = planned(disk, later + HOUR / 2, make_stamp(later + HOUR))
    assert [hold.run for hold in following.holds] == [running]
    with pytest.raises(Refused) as refused:
        carry_out(following)
    assert f"accept {running} --reason" in refused.value.hint
    assert listing(disk.repository.root) == before


def test_once_the_clock_is_right_again_the_hold_is_over(
    disk: DiskRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        wrong_clock(disk, patch, 40 * DAY)
        note_holds(planned(disk, disk.now + 40 * DAY))
    assert planned(disk, disk.now + HOUR / 4).holds == ()


def test_after_months_without_a_backup_a_person_says_that_the_clock_is_right(
    disk: DiskRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_clock(disk, monkeypatch, 90 * DAY)  # here the clock is right: 90 days have passed
    later = disk.now + 90 * DAY
    plan = planned(disk, later)
    note_holds(plan)
    (hold,) = plan.holds
    accept_hold(disk.repository, hold.run, "the host was off", later)
    assert planned(disk, later + HOUR).holds == ()
    disk.run("-90d")
    assert planned(disk, later + HOUR / 2).holds == ()


def test_who_accepts_vanished_documents_has_not_said_that_the_clock_is_right(
    disk: DiskRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_clock(disk, monkeypatch, 40 * DAY)
    later = disk.now + 40 * DAY
    write_hold(disk.repository, Hold("20261122T023000Z", "content", "20 day folders vanished", disk.now))
    accept_hold(disk.repository, "20261122T023000Z", "moved elsewhere", later)
    (hold,) = planned(disk, later + HOUR).holds
    assert hold.cause == "clock"


def test_status_names_a_hold_with_the_command_that_ends_it(disk: DiskRepository) -> None:
    hold = Hold("20261122T023000Z", "content", "20 of 200 day folders vanished", disk.now)
    write_hold(disk.repository, hold)
    problems = read_status(disk.settings(), disk.now).problems
    (found,) = [item for item in problems if item.subject == "retention"]
    assert "20 of 200 day folders vanished" in found.sentence
    assert found.fix.endswith("accept 20261122T023000Z --reason 'why it is as it should be'")


def test_a_hold_whose_file_is_damaged_holds(disk: DiskRepository) -> None:
    disk.repository.holds.mkdir()
    (disk.repository.holds / "20261122T023000Z.json").write_text("{")
    with pytest.raises(Refused, match="for a reason that cannot be read"):
        carry_out(planned(disk, disk.now))
    accept_hold(disk.repository, "20261122T023000Z", "looked at", disk.now)
    assert open_holds(read_holds(disk.repository), disk.now) == ()


@pytest.mark.parametrize(
    ("accept", "said"),
    [
        (lambda disk: accept_hold(disk.repository, "20261122T023000Z", " ", disk.now), "needs a reason"),
        (
            lambda disk: accept_hold(disk.repository, "20260101T000000Z", "x", disk.now),
            "runs that do: 20261122T023000Z",
        ),
    ],
)
def test_accept_wants_a_reason_and_a_run_that_holds(
    disk: DiskRepository, accept: Callable[[DiskRepository], Hold], said: str
) -> None:
    write_hold(disk.repository, Hold("20261122T023000Z", "clock", "a step", disk.now))
    with pytest.raises(Refused, match=said):
        accept(disk)
