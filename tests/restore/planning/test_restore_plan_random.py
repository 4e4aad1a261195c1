"""Plans for random lives: whatever a host went through, a plan leads to what was there at its moment."""

import random

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.restore.planning.plan import RestorePlan
from tests.support.restore_lives import Life
from tests.support.restore_worlds import SIZE, World, at, minute

MOMENTS = 12
LIVES = 30


def planned(life: Life, world: World, moment: float) -> RestorePlan | None:
    try:
        return world.pitr(moment)
    except Refused as refusal:
        assert "restorable from" in refusal.message or "nothing is restorable" in refusal.message
        return None


def check(life: Life, world: World, moment: float, plan: RestorePlan) -> None:
    """The promises of a plan for a moment."""
    database = plan.database
    assert minute(database.base.stopped_at) < moment
    path = life.path(database.timeline)
    assert path.why_not(database.base.timeline, database.base.start_lsn, database.base.stop_lsn) == ""
    first = parse_segment_name(database.first_segment, SIZE)
    assert first == path.segment(int(database.base.start_lsn) // SIZE, SIZE)
    held = {Segment(line, number) for line, times in world.wal.times.items() for number in times}
    for folder in world.host.saved_wal:
        held |= {Segment(line, number) for line, times in folder.wal.times.items() for number in times}
    held |= {parse_segment_name(name, SIZE) for name in (*database.live_segments, *database.set_segments)}
    for number in range(first.number, first.number + database.segments):
        assert path.segment(number, SIZE) in held
    assert path.segment(first.number + database.segments - 1, SIZE).name(SIZE) == database.last_segment
    newer = [item for item in life.bases if database.base.stopped_at < item.stopped_at < at(moment)]
    for item in newer:  # passed over for a reason: off the way, or its WAL is not there
        off_path = path.why_not(item.timeline, item.start_lsn, item.stop_lsn)
        assert off_path or path.segment(int(item.start_lsn) // SIZE, SIZE) not in held


def check_content(world: World, moment: float, plan: RestorePlan) -> None:
    """The sources lie around the moment with no other snapshot between, or the store fills the rest."""
    started = [item.started_at for item in world.catalogue.snapshots]
    by_role = {item.role: item.snapshot for store in plan.content for item in store.sources}
    after = min((item for item in started if item >= at(moment)), default=None)
    before = max((item for item in started if item < at(moment)), default=None)
    if not started:
        assert plan.content == ()
        return
    assert (by_role["after"].started_at if "after" in by_role else None) == after
    assert (by_role["before"].started_at if "before" in by_role else None) == before
    assert ("live" in by_role) == (after is None)


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_plan_leads_to_exactly_what_was_committed_by_its_moment(seed):
    dice = random.Random(seed)
    life = Life(dice, loses=dice.choice([0.0, 0.05])).live_on(dice.randrange(10, 90))
    world = life.world(live=dice.random() < 0.6, saved=dice.random() < 0.7)
    for _ in range(MOMENTS):
        moment = dice.uniform(0.5, life.now)
        plan = planned(life, world, moment)
        if plan is not None:
            check(life, world, moment, plan)
            check_content(world, moment, plan)
            told = any("in use again since an undo" in line for line in plan.warnings)
            ambiguous = told and life.undone  # which life a moment is from is then for the operator to say
            assert life.recovered(plan, world) == life.truth(moment) or ambiguous


@pytest.mark.parametrize("seed", range(LIVES))
def test_where_nothing_was_lost_every_moment_since_the_first_base_can_be_restored(seed):
    dice = random.Random(1000 + seed)
    life = Life(dice, undoes=0).live_on(dice.randrange(10, 90))
    world = life.world(live=True, saved=True)
    first = minute(life.bases[0].stopped_at)
    for _ in range(MOMENTS):
        moment = dice.uniform(first + 0.02, life.now)
        if not any(start <= moment < end for start, end in life.down):
            assert life.recovered(world.pitr(moment), world) == life.truth(moment)
