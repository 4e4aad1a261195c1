"""On which timeline a restore's planner takes a moment, after recoveries, their undoing, and crashes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.wal.timelines import OwnTimelines
from tests.support.restore_worlds import (
    BACKUP,
    World,
    at,
    base,
    fork,
    live_server,
    local_zone,
    saved,
    short,
    wal_map,
)


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    with local_zone("UTC"):
        yield


# Recovery at minute 30 to the state of minute 9.5: timeline 2, whose segment 9 is finished at minute 31.
TWO_LIVES = World(
    [base(3)],
    wal_map((1, 1, 28), (2, 9, 29), histories={2: fork(9)}, promoted={2: 30}, later={2: 22}),
)


@pytest.mark.parametrize(
    ("target", "timeline", "last"), [(8, 1, "1:9"), (15, 1, "1:16"), (27.5, 1, "1:28"), (35, 2, "2:14")]
)
def test_a_moment_is_taken_on_the_timeline_it_was_lived_on(target, timeline, last):
    database = TWO_LIVES.pitr(target).database
    assert (database.timeline, short(database.last_segment)) == (timeline, last)


def test_the_path_of_a_second_timeline_crosses_the_fork():
    database = TWO_LIVES.pitr(35).database
    assert (short(database.first_segment), database.segments) == ("1:3", 12)


def test_a_base_of_the_second_timeline_is_preferred_once_there_is_one():
    world = replace(TWO_LIVES, bases=[base(3), base(10, timeline=2, later=22)])
    assert world.pitr(35).database.base.timeline == 2
    assert world.pitr(15).database.base.timeline == 1


def test_a_base_of_the_abandoned_life_is_not_used_for_the_new_one():
    world = replace(TWO_LIVES, bases=[base(3), base(12)])
    assert world.pitr(35).database.base.stamp == "20261122T100300Z"
    assert world.pitr(20).database.base.stamp == "20261122T101200Z"


def test_wal_saved_by_the_earlier_restore_reaches_the_end_of_the_old_life():
    world = replace(
        TWO_LIVES, facts={"saved_wal": (saved("/backup/restores/alfresco-1/old/wal", (1, 29, 29)),)}
    )
    database = world.pitr(28.5).database
    assert short(database.last_segment) == "1:29"
    assert database.wal_sources[-1] == Path("/backup/restores/alfresco-1/old/wal")
    assert database.wal_sources[0] == BACKUP / "pg_wal"


def test_a_moment_after_an_undone_recovery_is_on_the_old_timeline_again():
    # Undone at minute 40: timeline 1 goes on to segment 55, timeline 2 ends at minute 38.
    wal = wal_map((1, 1, 55), (2, 9, 16), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    world = World([base(3)], wal)
    assert world.pitr(35).database.timeline == 2
    assert any("the target time is on timeline 1 as well" in line for line in world.pitr(35).warnings)
    assert world.pitr(50).database.timeline == 1
    assert any("timeline 2 began at" in line for line in world.pitr(50).warnings)
    assert world.pitr(35, timeline=1).database.timeline == 1
    assert world.pitr(35, timeline=1).warnings == ()
    assert world.plan("pitr", target_time="latest").database.timeline == 1


def test_a_full_restore_of_an_older_set_stays_on_the_sets_own_timeline():
    world = replace(TWO_LIVES, bases=[base(3), base(10, timeline=2, later=22)])
    assert world.plan("full", backup="20261122T100300Z").database.timeline == 1
    assert world.plan("full").database.timeline == 2


def test_after_a_crash_without_recovery_target_no_moment_is_left_out():
    wal = wal_map(
        (1, 1, 8),
        (2, 9, 50),
        histories={2: fork(9, "no recovery target specified")},
        promoted={2: 12},
        later={2: 4},
    )
    assert World([base(3)], wal).pitr(11).database.timeline == 2


def test_a_target_that_the_wal_ended_before_left_nothing_out_either():
    wal = wal_map(
        (1, 1, 8), (2, 9, 50), histories={2: fork(9, "before 2000-01-01 00:00:00+00")}, promoted={2: 12}
    )
    assert World([base(3)], wal).pitr(11).database.timeline == 2


def test_after_a_full_restore_the_moments_given_up_stay_on_the_old_timeline():
    # The set of minute 3 was restored at minute 30.
    history = fork(3, "reached consistency")
    wal = wal_map((1, 1, 28), (2, 3, 20), histories={2: history}, promoted={2: 30}, later={2: 28})
    world = World([base(3, own_wal=True)], wal)
    assert [world.pitr(target).database.timeline for target in (4, 20, 31)] == [1, 1, 2]
    unarchived = wal_map((2, 3, 20), histories={2: history}, promoted={2: 30}, later={2: 28})
    with pytest.raises(Refused, match="target time 2026-11-22 10:20:00") as refusal:
        replace(world, wal=unarchived).pitr(20)
    assert "is in a gap of the WAL; the nearest possible: 2026-11-22 10:03:30" in refusal.value.message
    assert "; restorable from" in refusal.value.message
    assert replace(world, wal=unarchived).pitr(31).database.timeline == 2


def test_lost_counts_the_life_that_is_given_up_not_the_one_given_up_before():
    assert ": 21 WAL segments" in TWO_LIVES.pitr(8).lost  # segments 9 to 29 of timeline 2


def seen(world: World, timeline: int, when: float, *earlier: int) -> World:
    """The same where the last audit saw the server on a timeline."""
    own = OwnTimelines(timeline, at(when), frozenset({timeline, *earlier}))
    witnessed = {each.timeline for each in world.bases}
    foreign = own.foreign(world.wal.timelines, world.wal.paths, witnessed)
    return replace(world, wal=replace(world.wal, own=own, foreign=foreign))


# A copy left timeline 1 in segment 9, was promoted at minute 12 and archives timeline 2 beside the server.
COPIED = World(
    [base(3)],
    wal_map((1, 1, 30), (2, 9, 40), histories={2: fork(9, "no recovery target specified")}, promoted={2: 12}),
)


def test_a_target_time_on_the_own_and_a_foreign_timeline_needs_a_timeline():
    world = seen(COPIED, 1, 29)
    with pytest.raises(
        Refused, match="on timeline 1 of this host's server and on foreign timeline 2"
    ) as told:
        world.pitr(20)
    assert "on timeline 1 at 2026-11-22 10:29:00" in told.value.message
    assert "--timeline 1" in told.value.hint
    assert world.pitr(20, timeline=1).database.timeline == 1
    foreign = world.pitr(20, timeline=2)
    assert foreign.database.timeline == 2
    assert any(
        "timeline 2 is foreign, the rows of another server are restored" in w for w in foreign.warnings
    )


def test_before_the_copy_was_promoted_there_is_only_the_own_timeline():
    assert seen(COPIED, 1, 29).pitr(11).database.timeline == 1


def test_what_only_a_foreign_timeline_has_is_not_restorable_and_not_latest():
    world = seen(COPIED, 1, 29)
    with pytest.raises(Refused, match="after the newest restorable time, 2026-11-22 10:30:00") as told:
        world.pitr(35)
    assert "it is on foreign timeline 2" in told.value.message
    assert world.pitr(35, timeline=2).database.timeline == 2
    latest = world.plan("pitr", target_time="latest")
    assert (latest.database.timeline, short(latest.database.last_segment)) == (1, "1:30")
    assert "to 2026-11-22 10:30:00" in latest.restorable
    assert not any("undo" in warning for warning in latest.warnings)


def test_a_timeline_that_began_after_the_last_audit_of_a_lost_server_is_not_judged():
    """The server may have changed to it; the live server's own word would decide."""
    world = seen(COPIED, 1, 11)
    with pytest.raises(Refused, match="timeline 2 in the WAL archive began after it") as told:
        world.plan("pitr", target_time="latest")
    assert "--timeline 1" in told.value.hint
    assert "--timeline 2" in told.value.hint
    alive = replace(world, live=replace(live_server((1, 28, 30)), timeline=1))
    assert alive.plan("pitr", target_time="latest").database.timeline == 1


def test_timelines_that_a_restore_began_or_a_base_backup_is_of_are_own():
    assert seen(TWO_LIVES, 2, 40).wal.foreign == frozenset()
    assert seen(TWO_LIVES, 1, 40, 2).wal.foreign == frozenset()
    assert seen(TWO_LIVES, 1, 40).wal.foreign == {2}
    assert seen(replace(TWO_LIVES, bases=[base(10, timeline=2)]), 1, 40).wal.foreign == frozenset()


def test_where_no_server_was_ever_asked_no_timeline_is_called_foreign():
    assert OwnTimelines().foreign([1, 2], {}, [1]) == frozenset()


def test_where_the_own_history_is_lost_lower_timelines_are_not_called_foreign():
    assert OwnTimelines(3, at(1)).foreign([1, 2, 3, 4], {}, [3]) == {4}


def test_the_latest_state_is_that_of_the_timeline_in_use_though_an_undone_one_reaches_further():
    # Restored at minute 30, undone at 33; timeline 2's last segment came late, timeline 1 is idle since.
    wal = wal_map((1, 1, 28), (2, 9, 12), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    world = seen(World([base(3)], wal), 1, 40, 2)
    assert world.plan("pitr", target_time="latest").database.timeline == 1
