"""How far WAL reaches from a base backup, as readable cases: made-up segments, one a minute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.postgres.wal_files import Lsn, Segment
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.wal.chain import WalMap, make_map
from alfresco_backup.wal.window import gaps_of, segments_needed, window
from tests.support.wal_files import OWNER, base_backup

SIZE = 1 << 20
DAY = datetime(2026, 11, 22, 10, tzinfo=UTC)


def at(minute: float) -> datetime:
    """A moment of the made-up day. Segment n of timeline 1 is finished at minute n."""
    return DAY + timedelta(minutes=minute)


def base(
    first: int, stop: int | None = None, timeline: int = 1, *, ended: float, own_wal: bool = False
) -> BaseBackup:
    """A base backup from the middle of segment `first` to the middle of `stop`, that ended at a minute."""
    stop = first if stop is None else stop
    files = (BaseFile("pg_wal.tar.zst", 1, "", "wal"),) if own_wal else ()
    return base_backup(
        Lsn(first * SIZE + 40),
        Lsn(stop * SIZE + 400),
        timeline,
        stopped_at=at(ended),
        files=files,
        segment_size=SIZE,
    )


def archive(
    *runs: tuple[int, int, int], histories: dict[int, str] | None = None, **promoted: float
) -> WalMap:
    """Segments as (timeline, first, last); histories by timeline; promoted as t2=minute."""
    usable = {
        Segment(timeline, number): at(number)
        for timeline, first, last in runs
        for number in range(first, last + 1)
    }
    paths = {timeline: parse_history(timeline, text) for timeline, text in (histories or {}).items()}
    return make_map(
        OWNER, SIZE, usable, paths, {int(key[1:]): at(minute) for key, minute in promoted.items()}
    )


def windows(base_: BaseBackup, wal: WalMap) -> list[tuple[float, float, int, str]]:
    minutes = timedelta(minutes=1)
    return [
        ((item.start - DAY) / minutes, (item.end - DAY) / minutes, item.timeline, item.last_segment[-2:])
        for item in window(base_, wal)
    ]


def fork(segment: int, parents: str = "") -> str:
    """The history of a timeline that left timeline 1 in the middle of a segment."""
    return f"{parents}1\t{Lsn(segment * SIZE + 500)}\tbefore 2026-11-22\n"


def test_a_base_is_restorable_from_its_end_to_the_newest_segment():
    assert windows(base(3, 4, ended=4.5), archive((1, 1, 20))) == [(4.5, 20, 1, "14")]


def test_segments_before_the_base_do_not_matter():
    wal = archive((1, 1, 1), (1, 3, 20))
    assert windows(base(3, 4, ended=4.5), wal) == [(4.5, 20, 1, "14")]
    assert gaps_of(base(3, 4, ended=4.5), wal, [], 1) == ()


def test_a_gap_ends_the_window_and_names_what_is_lost():
    wal = archive((1, 1, 9), (1, 13, 20))
    early = base(3, 4, ended=4.5)
    assert windows(early, wal) == [(4.5, 9, 1, "09")]
    (gap,) = gaps_of(early, wal, [early], 1)
    assert (gap.first, gap.last, gap.count) == ("00000001000000000000000A", "00000001000000000000000C", 3)
    assert (gap.before, gap.after, gap.lost_until, gap.current) == (at(9), at(13), None, True)
    assert "until a new base backup is made" in gap.sentence


def test_a_newer_base_behind_the_gap_limits_what_is_lost():
    wal = archive((1, 1, 9), (1, 13, 20))
    early, late = base(3, 4, ended=4.5), base(15, 16, ended=16.5)
    (gap,) = gaps_of(early, wal, [early, late], 1)
    assert gap.lost_until == at(16.5)
    assert windows(late, wal) == [(16.5, 20, 1, "14")]
    assert gaps_of(late, wal, [early, late], 1) == ()


def test_every_gap_behind_a_base_is_found():
    gaps = gaps_of(base(3, ended=3.5), archive((1, 1, 4), (1, 6, 6), (1, 8, 9)), [], 1)
    assert [(gap.first[-2:], gap.last[-2:]) for gap in gaps] == [("05", "05"), ("07", "07")]


def test_a_base_without_its_own_wal_needs_the_archive_from_start_to_stop():
    wal = archive((1, 1, 3), (1, 5, 20))
    assert windows(base(3, 5, ended=5.5), wal) == []
    (gap,) = gaps_of(base(3, 5, ended=5.5), wal, [], 1)
    assert (gap.first[-2:], gap.before) == ("04", at(5.5))


def test_a_base_that_keeps_its_own_wal_needs_the_archive_from_its_stop_only():
    wal = archive((1, 1, 3), (1, 5, 20))
    assert windows(base(3, 5, ended=5.5, own_wal=True), wal) == [(5.5, 20, 1, "14")]


def test_a_base_that_keeps_its_own_wal_is_restorable_to_its_end_without_any_archive():
    assert windows(base(3, 5, ended=5.5, own_wal=True), archive()) == [(5.5, 5.5, 1, "05")]
    assert windows(base(3, 5, ended=5.5), archive()) == []


def test_wal_of_another_cluster_is_of_no_use_to_a_base():
    wal = archive((1, 1, 20))
    foreign = WalMap("7000000000000000000", SIZE, wal.times, {}, {}, wal.runs)
    assert windows(base(3, 5, ended=5.5), foreign) == []
    assert windows(base(3, 5, ended=5.5, own_wal=True), foreign) == [(5.5, 5.5, 1, "05")]


def test_the_timelines_of_another_cluster_say_nothing_of_a_base():
    wal = archive((1, 1, 20), (2, 20, 40), histories={2: fork(20)}, t2=20)
    mine = base(3, 5, timeline=2, ended=5.5, own_wal=True)
    assert windows(mine, wal) == []
    assert windows(replace(mine, system_identifier="42"), wal) == [(5.5, 5.5, 2, "05")]


def test_the_end_of_a_base_in_the_segment_of_the_fork_is_no_proof_of_missing_wal():
    """Restored to the end of a set: its first segment is not archived yet, and nothing is missing."""
    wal = archive((1, 1, 5), histories={2: fork(5)}, t2=6)
    early, last = base(3, ended=3.5, own_wal=True), base(5, ended=5.5, own_wal=True)
    assert gaps_of(early, wal, [early, last], 2) == gaps_of(last, wal, [early, last], 2) == ()


def test_after_a_recovery_to_an_earlier_moment_both_lives_can_be_restored():
    # Life 1 went on to minute 20; recovery at minute 30 went back to segment 9 and began timeline 2.
    wal = archive((1, 1, 20), (2, 9, 40), histories={2: fork(9)}, t2=30)
    assert windows(base(3, ended=3.5), wal) == [(3.5, 20, 1, "14"), (30, 40, 2, "28")]


def test_after_a_promotion_without_a_second_life_no_moment_is_left_out():
    wal = archive((1, 1, 8), (2, 9, 40), histories={2: fork(9)}, t2=10)
    assert windows(base(3, ended=3.5), wal) == [(3.5, 8, 1, "08"), (8, 40, 2, "28")]


def test_the_segment_of_the_fork_is_the_second_timelines_even_where_the_base_keeps_the_first_ones():
    wal = archive((1, 1, 20), (2, 6, 40), histories={2: fork(5)}, t2=30)
    early = base(4, 5, ended=5.4, own_wal=True)
    assert windows(early, wal) == [(5.4, 20, 1, "14")]
    (gap,) = gaps_of(early, wal, [early], 2)
    assert gap.first == gap.last == "000000020000000000000005" and gap.current
    whole = archive((1, 1, 20), (2, 5, 40), histories={2: fork(5)}, t2=30)
    assert windows(early, whole) == [(5.4, 20, 1, "14"), (30, 40, 2, "28")]


def test_a_base_on_the_second_timeline_starts_there():
    wal = archive((1, 1, 20), (2, 9, 40), histories={2: fork(9)}, t2=30)
    assert windows(base(33, timeline=2, ended=33.5), wal) == [(33.5, 40, 2, "28")]


def test_a_base_made_after_the_fork_on_the_old_timeline_does_not_lead_to_the_new_one():
    wal = archive((1, 1, 20), (2, 9, 40), histories={2: fork(9)}, t2=30)
    assert windows(base(12, ended=12.5), wal) == [(12.5, 20, 1, "14")]


def test_without_its_history_file_a_timeline_is_not_reached():
    wal = archive((1, 1, 20), (2, 9, 40))
    assert windows(base(3, ended=3.5), wal) == [(3.5, 20, 1, "14")]


def test_a_gap_before_the_fork_keeps_from_both_timelines_and_one_after_it_from_one():
    histories = {2: fork(9)}
    before = archive((1, 1, 4), (1, 6, 20), (2, 9, 40), histories=histories, t2=30)
    assert windows(base(3, ended=3.5), before) == [(3.5, 4, 1, "04")]
    abandoned = archive((1, 1, 12), (1, 15, 20), (2, 9, 40), histories=histories, t2=30)
    assert windows(base(3, ended=3.5), abandoned) == [(3.5, 12, 1, "0C"), (30, 40, 2, "28")]
    (gap,) = gaps_of(base(3, ended=3.5), abandoned, [], 2)
    assert (gap.first[-2:], gap.last[-2:], gap.current) == ("0D", "0E", False)


def test_the_fork_segment_must_be_there_on_the_new_timeline():
    wal = archive((1, 1, 20), (2, 10, 40), histories={2: fork(9)}, t2=30)
    assert windows(base(3, ended=3.5), wal) == [(3.5, 20, 1, "14")]
    (gap,) = gaps_of(base(3, ended=3.5), wal, [], 2)
    assert (gap.first, gap.current) == ("000000020000000000000009", True)
    assert gap.before == at(30), "the first life is restorable as far as it went"
    crashed = archive((1, 1, 8), (2, 10, 40), histories={2: fork(9)}, t2=30)
    (gap,) = gaps_of(base(3, ended=3.5), crashed, [], 2)
    assert gap.before == at(8), "the end of the first life is in the missing segment only"


def test_a_third_timeline_may_leave_the_first_directly():
    wal = archive((1, 1, 20), (2, 9, 40), (3, 12, 60), histories={2: fork(9), 3: fork(12)}, t2=30, t3=50)
    assert windows(base(3, ended=3.5), wal) == [(3.5, 20, 1, "14"), (30, 40, 2, "28"), (50, 60, 3, "3C")]


def test_a_chain_of_three_timelines_is_followed():
    second = fork(9)
    third = f"{second}2\t{Lsn(35 * SIZE + 100)}\tx\n"
    wal = archive((1, 1, 8), (2, 9, 34), (3, 35, 60), histories={2: second, 3: third}, t2=9, t3=35)
    assert windows(base(3, ended=3.5), wal) == [(3.5, 8, 1, "08"), (8, 34, 2, "22"), (34, 60, 3, "3C")]


def numbers(base_: BaseBackup, minute: float, timeline: int, wal: WalMap) -> list[str]:
    return [f"{item.timeline}:{item.number}" for item in segments_needed(base_, at(minute), timeline, wal)]


def test_a_recovery_reads_from_the_bases_start_to_the_first_segment_written_after_the_moment():
    wal = archive((1, 1, 20))
    assert numbers(base(3, ended=3.5), 6.5, 1, wal) == ["1:3", "1:4", "1:5", "1:6", "1:7"]
    assert numbers(base(3, ended=3.5), 20, 1, wal)[-1] == "1:20"


def test_a_recovery_reads_at_least_to_the_bases_stop():
    assert numbers(base(3, 6, ended=6.5, own_wal=True), 6.5, 1, archive((1, 1, 20)))[-2:] == ["1:6", "1:7"]


def test_a_recovery_across_a_fork_reads_each_segment_from_its_timeline():
    wal = archive((1, 1, 20), (2, 9, 40), histories={2: fork(9)}, t2=30)
    assert numbers(base(7, ended=7.5), 30.5, 2, wal)[:4] == ["1:7", "1:8", "2:9", "2:10"]
    assert numbers(base(7, ended=7.5), 30.5, 2, wal)[-1] == "2:31"


@pytest.mark.parametrize(("minute", "timeline"), [(3, 1), (9.1, 1), (30, 1), (30, 2)])
def test_a_moment_that_cannot_be_reached_is_refused_with_what_can(minute, timeline):
    with pytest.raises(Refused, match="base backup 20261122T100000Z cannot be recovered to") as refusal:
        segments_needed(base(3, ended=3.5), at(minute), timeline, archive((1, 1, 9), (1, 11, 20)))
    assert ("it can be recovered only from 2026-11-22" in refusal.value.message) == (timeline == 1)
