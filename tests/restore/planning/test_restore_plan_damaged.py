"""Plans where an audit found segments of the archive damaged: those are not there, whatever is stored."""

from dataclasses import replace

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.restore.recovery.recovery_settings import restore_wal_command
from tests.support.restore_worlds import SIZE, World, at, base, live_server, short, wal_map

NAME = Segment(1, 11).name(SIZE)
DAMAGED = replace(wal_map((1, 1, 10), (1, 12, 20)), damaged=frozenset({Segment(1, 11)}))
WORLD = World([base(3)], DAMAGED)


def test_latest_is_refused_where_the_wal_goes_on_damaged_and_the_last_target_time_is_offered() -> None:
    with pytest.raises(Refused) as refused:
        WORLD.plan("pitr", target_time="latest")
    assert refused.value.message.endswith(f"segment {NAME} after it is damaged")
    assert refused.value.hint.endswith(f"--target-time {at(10).isoformat()}")
    assert short(WORLD.pitr(10).database.last_segment) == "1:10"


def test_a_damaged_segment_is_named_by_the_refusal_of_a_target_time_in_it() -> None:
    with pytest.raises(Refused, match=f"{NAME} damaged: nothing from "):
        WORLD.pitr(10.5)


def test_a_sound_copy_of_the_server_takes_the_place_of_a_damaged_segment() -> None:
    plan = replace(WORLD, live=live_server((1, 11, 21))).plan("pitr", target_time="latest").database
    assert (short(plan.last_segment), plan.skipped_segments) == ("1:21", (NAME,))
    assert NAME in plan.live_segments
    assert WORLD.pitr(9).database.skipped_segments == ()
    command = restore_wal_command(plan.saved_wal / "restore-wal", plan.wal_sources, plan.skipped_segments)
    assert f'restore-wal --skip {NAME} "%f" "%p" ' in command
