"""Plans where an audit, a restore drill or a backup found something damaged.

Segments that an audit found damaged are not there, whatever is stored; of base backups the plan warns.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import PROOF, Proof, write_proof
from alfresco_backup.errors import Refused
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.request import RestoreRequest, command_of
from alfresco_backup.restore.recovery.observe import found_by_drills
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


FIRST, SECOND, THIRD = base(3), base(20), base(40)
BASES = World([FIRST, SECOND, THIRD], wal_map((1, 1, 50)))
DRILLED = "a restore drill on 2026-11-22 found: the index pg_x is corrupt"


def test_a_plan_names_what_a_drill_found_in_its_base_backup_and_the_newest_without_known_damage() -> None:
    pages = replace(SECOND, damaged_files=("base/1/2", "base/1/3"))
    known = {"found_by_drills": {THIRD.stamp: DRILLED}}
    world = replace(BASES, bases=[FIRST, pages, THIRD], facts=known)
    for request in (
        RestoreRequest("full"),
        RestoreRequest("pitr", target_time=at(45)),
        RestoreRequest("pitr", target_time="latest"),
    ):
        plan = world.ask(request)
        assert plan.database and plan.database.base.stamp == THIRD.stamp
        head = f"base backup {THIRD.stamp}: {DRILLED}; the newest one without known damage is "
        assert plan.warnings[0].startswith(f"{head}{FIRST.stamp}")
        other = replace(request, backup=FIRST.stamp)
        assert plan.warnings[0].endswith(f". HINT: {command_of(other)}")
        chosen = world.ask(other)
        assert chosen.database and chosen.database.base.stamp == FIRST.stamp
        assert not any("base backup" in warning for warning in chosen.warnings)


def test_where_all_base_backups_are_known_to_be_damaged_the_plan_says_so() -> None:
    pages = replace(SECOND, damaged_files=("base/1/2",))
    plan = replace(BASES, bases=[pages], full_sets=True).plan("postgres")
    assert plan.warnings[0] == (
        f"base backup {SECOND.stamp}: the server met pages with wrong checksums in base/1/2 "
        "during the backup; no other base backup without known damage leads there"
    )


def test_what_drills_found_is_read_and_a_result_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    bases = tuple(replace(item, path=tmp_path / item.stamp) for item in (FIRST, SECOND, THIRD))
    for item in bases:
        item.path.mkdir()
    write_proof(bases[0].path, Proof(FIRST.stamp, at(50), None, 60.0, 306, 2))  # missing anywhere else, too
    write_proof(
        bases[1].path, Proof(SECOND.stamp, at(50), None, 60.0, 306, 2, ("the index pg_x is corrupt",))
    )
    (bases[2].path / PROOF).write_text("{")
    assert dict(found_by_drills(Catalogue(bases=bases))) == {SECOND.stamp: DRILLED}
