"""The day the disk is full, from what backups recorded as new."""

from dataclasses import replace
from datetime import timedelta

import pytest

from alfresco_backup.status.disk_trend import DiskFigures, Trend, foresee
from tests.support.catalogues import NOW, Parts, a_snapshot, a_wal_file, position, segment_name

GIB = 1 << 30
DAY = timedelta(days=1)
WINDOW = 7 * DAY


def a_life(days: int, *, base: int = 0, content: int = 0, wal: int = 0) -> Parts:
    """A set a day, the newest a moment ago, each with that many new bytes of each kind."""
    parts = Parts()
    for day in range(days, -1, -1):
        started_at = NOW - day * DAY - timedelta(minutes=40)
        parts.add_set(started_at)
        parts.bases[-1] = replace(parts.bases[-1], stored_bytes=base)
        size = 50 * GIB + (days - day) * content
        new = 50 * GIB if day == days else content
        parts.snapshots[-1] = replace(parts.snapshots[-1], new_bytes=new, bytes=size)
        parts.configurations[-1] = replace(parts.configurations[-1], bytes=0)
        written = a_wal_file(segment_name(1, position(started_at)), started_at + timedelta(minutes=30))
        parts.wal.append(replace(written, bytes=wal))
    return parts


def trend_of(parts: Parts, free: int, window: timedelta = WINDOW) -> Trend:
    disk = DiskFigures(total=1000 * GIB, used=1000 * GIB - free, free=free)
    return foresee(parts.catalogue(), parts.wal, disk, window, NOW)


def test_documents_fill_the_disk_at_the_pace_they_came():
    trend = trend_of(a_life(6, content=2 * GIB), free=20 * GIB)
    assert trend.pace.content == pytest.approx(12 * GIB / trend.pace.days)
    assert trend.full_on == NOW + 11 * DAY
    assert "2.0 GiB new a day over the last 6 days" in trend.sentence
    assert trend.sentence.endswith(f"; at this pace it is full about {trend.full_on.astimezone():%Y-%m-%d}")


def test_the_first_full_copy_does_not_count_as_a_pace():
    assert trend_of(a_life(6, content=GIB), free=900 * GIB).pace.content < 1.1 * GIB


def test_base_backups_and_wal_that_leave_the_window_make_room_again():
    steady = trend_of(a_life(7, base=GIB, wal=GIB), free=4 * GIB)
    assert steady.pace.database == pytest.approx(6 * GIB / steady.pace.days)
    assert steady.full_on is None
    assert steady.sentence.endswith("at this pace it is not full within 10 years")


def test_until_the_window_is_full_base_backups_add_up():
    young = trend_of(a_life(3, base=10 * GIB), free=30 * GIB, window=30 * DAY)
    assert young.full_on == NOW + 4 * DAY
    assert trend_of(a_life(3, base=10 * GIB), free=900 * GIB, window=30 * DAY).full_on is None


@pytest.mark.parametrize("days", [0, 1, 2])
def test_less_than_three_days_of_history_are_no_trend(days):
    trend = trend_of(a_life(days, content=GIB), free=GIB)
    assert (trend.pace, trend.full_on) == (None, None)
    assert trend.sentence == f"too little history for a trend: {days + 40 / 1440:.1f} of 3 days"


def test_an_empty_repository_has_no_trend():
    assert trend_of(Parts(), free=GIB).sentence == "too little history for a trend: 0.0 of 3 days"


def test_a_set_that_is_older_than_the_window_stretches_no_history():
    parts = a_life(4, content=GIB)
    parts.add_set(NOW - 400 * DAY)
    assert trend_of(parts, free=900 * GIB).pace.days < 5


def test_snapshots_thinned_out_meanwhile_still_count_by_what_the_store_grew():
    parts = a_life(5, content=0)
    later = a_snapshot(NOW - timedelta(minutes=1))
    parts.snapshots.append(replace(later, new_bytes=0, bytes=parts.snapshots[0].bytes + 10 * GIB))
    trend = trend_of(parts, free=900 * GIB)
    assert trend.pace.content == pytest.approx(10 * GIB / trend.pace.days)


def test_a_full_disk_is_full_today():
    assert trend_of(a_life(5, content=GIB), free=0).full_on == NOW
