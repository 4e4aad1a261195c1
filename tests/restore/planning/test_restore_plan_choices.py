"""What a restore's planner chooses: base, timeline, target, where WAL comes from, what is set aside."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.postgres.programs import Programs
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.repository.sets import Problem
from alfresco_backup.restore.planning.facts import SavedWal
from alfresco_backup.restore.planning.plan import Move, Step, Target
from alfresco_backup.restore.recovery.obstacles import _foreign_tablespaces
from tests.support.restore_worlds import (
    BACKUP,
    DATA,
    STAMP,
    World,
    at,
    base,
    configuration,
    live_server,
    local_zone,
    minute,
    short,
    snapshot,
    wal_map,
)

PLAIN = World([base(3), base(20)], wal_map((1, 1, 50)))
SAVED = BACKUP / "restores/alfresco-1" / STAMP / "wal"


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    with local_zone("UTC"):
        yield


def test_the_newest_base_that_ended_before_the_moment_is_taken():
    assert PLAIN.pitr(20.4).database.base.stamp == "20261122T100300Z"
    assert PLAIN.pitr(20.6).database.base.stamp == "20261122T102000Z"


def test_a_base_that_ended_at_the_very_moment_is_too_late():
    assert PLAIN.pitr(20.5).database.base.stamp == "20261122T100300Z"


def test_a_named_base_is_taken_even_if_a_newer_one_would_do():
    assert PLAIN.pitr(40, backup="20261122T100300Z").database.base.stamp == "20261122T100300Z"


def test_wal_is_read_from_the_bases_start_to_the_first_segment_written_after_the_moment():
    database = PLAIN.pitr(33.2).database
    assert (short(database.first_segment), short(database.last_segment)) == ("1:20", "1:34")
    assert database.segments == 15
    assert database.target == Target("time", at(33.2), end_of_wal_suffices=True)
    assert database.wal_sources == (BACKUP / "pg_wal", SAVED)
    assert (database.live_segments, database.set_segments) == ((), ())


def test_an_older_base_serves_when_the_newer_one_lacks_its_wal():
    world = replace(PLAIN, bases=[base(3), base(20, 22)], wal=wal_map((1, 1, 20), (1, 23, 50)))
    assert world.pitr(19).database.base.stamp == "20261122T100300Z"


def test_of_a_damaged_newer_base_the_plan_tells():
    damaged = Problem(BACKUP / "postgres/base-20261122T103000Z", "its metadata backup.json is missing")
    world = replace(PLAIN, problems=[damaged])
    told = "base-20261122T103000Z is newer but cannot be used: its metadata backup.json is missing"
    assert told in world.pitr(40).warnings
    assert told in world.plan("full").warnings
    assert told not in world.pitr(25).warnings


def test_a_full_restore_takes_the_newest_complete_set_to_the_end_of_its_base():
    world = replace(PLAIN, bases=[base(3), base(20, 22)])
    plan = world.plan("full")
    assert plan.database.base.stamp == "20261122T102000Z"
    assert plan.database.target == Target("immediate")
    assert (short(plan.database.first_segment), short(plan.database.last_segment)) == ("1:20", "1:22")
    assert plan.configuration.stamp == "20261122T102000Z"


def test_latest_passes_over_an_incomplete_set_and_one_dated_in_the_future():
    world = World([base(3)], wal_map((1, 1, 50)), now=60)
    future = replace(base(20), stamp="20270101T000000Z")
    only_base = base(30)
    world = replace(
        world,
        bases=[base(3), future, only_base],
        full_sets=False,
        snapshots=[replace(snapshot(4), stamp="20261122T100300Z"), replace(snapshot(21), stamp=future.stamp)],
        configurations=[configuration("20261122T100300Z", 4), configuration(future.stamp, 21)],
    )
    assert world.plan("full").database.base.stamp == "20261122T100300Z"
    assert world.plan("postgres").database.base.stamp == only_base.stamp


def test_restore_postgres_goes_to_a_sets_end_or_to_a_moment_and_leaves_the_content():
    to_the_end = PLAIN.plan("postgres", backup="20261122T100300Z")
    assert (to_the_end.database.target.kind, to_the_end.content) == ("immediate", ())
    to_a_moment = PLAIN.plan("postgres", target_time=at(33))
    assert (to_a_moment.database.target.time, to_a_moment.content) == (at(33), ())
    assert Step.CHECK_CONTENT in [item.step for item in to_a_moment.steps]
    assert Step.RESTORE_CONTENT not in [item.step for item in to_a_moment.steps]


def test_a_set_that_keeps_its_own_wal_restores_without_any_archive():
    world = World([base(3, 5, own_wal=True)], wal_map(), facts={"archive_readable": False})
    plan = world.plan("full")
    assert [short(name) for name in plan.database.set_segments] == ["1:3", "1:4", "1:5"]
    assert plan.database.wal_sources == (SAVED,)
    assert "the WAL archive /backup/pg_wal cannot be read" in plan.warnings[0]


def test_an_archive_without_any_wal_is_not_read_and_begins_anew():
    world = World([base(3, 5, own_wal=True), base(20)], wal_map(), facts={"archive_begun": False})
    plan = world.plan("full", backup="20261122T100300Z")
    assert plan.database.wal_sources == (SAVED,)
    assert any("the WAL archive /backup/pg_wal is empty" in warning for warning in plan.warnings)
    folder = Path("/backup/restores/alfresco-1/old/wal")
    earlier = SavedWal(folder, wal_map((1, 20, 22)))
    again = replace(world, facts={"archive_begun": False, "saved_wal": (earlier,)})
    assert again.plan("full", backup="20261122T102000Z").database.wal_sources == (folder, SAVED)


def test_what_the_archive_lacks_of_a_sets_own_wal_is_taken_from_the_set():
    world = World([base(3, 5, own_wal=True)], wal_map((1, 1, 3), (1, 5, 20)))
    assert [short(name) for name in world.pitr(10).database.set_segments] == ["1:4"]


def test_the_live_servers_wal_makes_the_present_reachable():
    world = replace(PLAIN, live=live_server((1, 49, 53)))
    database = world.pitr(59.5).database
    assert [short(name) for name in database.live_segments] == ["1:51", "1:52", "1:53"]
    assert short(database.last_segment) == "1:53"
    assert database.target == Target("time", at(59.5), end_of_wal_suffices=True)


def test_of_a_stopped_server_everything_is_known_after_its_last_write():
    world = replace(PLAIN, live=live_server((1, 49, 53), running=False))
    assert world.pitr(52.5).database.target.kind == "time"
    assert world.pitr(53.5).database.target == Target("end-of-wal", at(53.5))


def test_an_older_copy_of_the_server_does_not_make_the_present_reachable():
    world = replace(PLAIN, live=live_server((1, 40, 45)))
    assert minute_of_latest(world) == 50
    assert "to 2026-11-22 10:50:00 +00:00 (UTC)" in world.pitr(30).restorable


def test_live_wal_that_does_not_follow_on_the_archive_is_no_use():
    world = replace(PLAIN, live=live_server((1, 53, 55)))
    assert minute_of_latest(world) == 50


def minute_of_latest(world: World) -> int:
    plan = world.plan("pitr", target_time="latest")
    return int(plan.database.last_segment[8:], 16)


def test_the_end_of_all_wal_is_recovery_without_a_target():
    database = PLAIN.plan("pitr", target_time="latest").database
    assert database.target == Target("end-of-wal")
    assert (database.base.stamp, short(database.last_segment)) == ("20261122T102000Z", "1:50")


def test_an_archive_filled_by_a_plain_copy_is_not_trusted_at_its_end():
    world = replace(PLAIN, facts={"archive_keeps_times": False})
    assert world.pitr(39.9).database.target.end_of_wal_suffices
    assert not world.pitr(49.9).database.target.end_of_wal_suffices
    live = replace(world, live=live_server((1, 49, 53)))
    assert live.pitr(49.9).database.target.end_of_wal_suffices


def test_what_is_in_place_is_set_aside_beside_itself():
    space = Tablespace(16400, "fast", "/fast/pg")
    later = Tablespace(16500, "", "/fast/later")
    live = replace(live_server((1, 49, 53)), tablespaces=(replace(space, name=""), later))
    world = World(
        [base(3, tablespaces=(space,))],
        wal_map((1, 1, 50)),
        live=live,
        facts={
            "existing": (DATA, Path("/fast/pg"), Path("/fast/later")),
            "solr_indexes": (Path("/alf/solr4/index"),),
        },
    )
    plan = world.plan("full", contentstore="replace")
    ending = f".before-restore-{STAMP}"
    places = ("/alf/data", "/fast/pg", "/fast/later", "/alf/contentstore", "/alf/solr4/index")
    assert plan.set_aside == tuple(Move(Path(place), Path(place + ending)) for place in places)
    assert [(item.oid, item.restored) for item in plan.database.tablespaces] == [
        (16400, True),
        (16500, False),
    ]


def test_without_a_server_tablespaces_that_recovery_may_make_are_those_of_later_base_backups(tmp_path):
    """Replaying its creation removes what is in the place: files there are an obstacle, as any others."""
    first, second, third = (Tablespace(oid, "", str(tmp_path / str(oid))) for oid in (16400, 16500, 16600))
    bases = [
        base(3, tablespaces=(first,)),
        base(20, tablespaces=(first, second)),
        base(40, tablespaces=(first, second, third)),
        base(45, owner="7000000000000000000", tablespaces=(Tablespace(16700, "", "/other/cluster"),)),
    ]
    place = Path(second.location)
    world = World(bases, wal_map((1, 1, 50)), facts={"existing": (place,)})
    plan = world.pitr(10)
    database = plan.database
    assert database.base == bases[0]
    assert [(item.oid, item.restored, item.set_aside) for item in database.tablespaces] == [
        (16400, True, None),
        (16500, False, place.with_name(f"16500.before-restore-{STAMP}")),
    ]
    place.mkdir()
    assert list(_foreign_tablespaces(database)) == []
    (place / "PG_15_202209061").mkdir()
    (obstacle,) = _foreign_tablespaces(database)
    assert obstacle.sentence.startswith(f"{place} contains files, but the server in place has no tablespace")
    assert [item.oid for item in world.pitr(30).database.tablespaces] == [16400, 16500, 16600]
    to_its_end = world.plan("full", backup=bases[0].stamp).database
    assert [item.oid for item in to_its_end.tablespaces] == [16400]
    served = replace(world, live=live_server((1, 49, 53)))
    assert [item.oid for item in served.pitr(10).database.tablespaces] == [16400]


def test_a_tablespace_inside_the_data_directory_is_set_aside_with_it_and_restored_beside_it():
    inside, later = (Tablespace(oid, "inside", f"{DATA}/{oid}") for oid in (16400, 16500))
    live = replace(live_server((1, 49, 53)), tablespaces=(inside, later))
    existing = (DATA, Path(inside.location), Path(later.location))
    world = World(
        [base(3, tablespaces=(inside,))], wal_map((1, 1, 50)), live=live, facts={"existing": existing}
    )
    plan = world.plan("full")
    assert [(item.recorded, item.location, item.set_aside) for item in plan.database.tablespaces] == [
        (DATA / "16400", Path("/alf/data-tablespace-16400"), None)
    ]
    assert plan.set_aside == (Move(DATA, Path(f"/alf/data.before-restore-{STAMP}")),)


def test_on_an_empty_host_nothing_is_set_aside_or_saved():
    plan = PLAIN.plan("full")
    assert plan.set_aside == ()
    steps = {item.step: item.what for item in plan.steps}
    assert Step.SET_ASIDE_DATABASE not in steps
    assert steps[Step.SAVE_WAL] == "nothing: there is no server whose WAL could be saved"


def test_saving_wal_is_told_by_what_is_needed_of_it():
    live = replace(PLAIN, live=live_server((1, 49, 53))).pitr(59.5)
    saving = next(item.what for item in live.steps if item.step is Step.SAVE_WAL)
    assert saving == "copy WAL that was never archived from pg_wal (3 segments are needed)"
    own = World([base(3, 5, own_wal=True)], facts={"archive_readable": False}).plan("full")
    saving = next(item.what for item in own.steps if item.step is Step.SAVE_WAL)
    assert saving == "extract 3 WAL segments from the backup"


def test_the_steps_of_a_point_in_time_recovery_stand_in_their_order():
    world = replace(PLAIN, live=live_server((1, 49, 53)), facts={"solr_indexes": (Path("/alf/solr4/index"),)})
    plan = world.pitr(40, contentstore="replace")
    assert [item.step for item in plan.steps] == list(Step)


def test_the_steps_of_a_content_restore_leave_the_database_alone():
    plan = replace(PLAIN, live=live_server((1, 49, 53))).plan("contentstore", start_alfresco=False)
    assert [item.step for item in plan.steps] == [
        Step.STOP_ALFRESCO,
        Step.RESTORE_CONTENT,
        Step.CHECK_CONTENT,
    ]
    assert (plan.database, plan.configuration, plan.indexes) == (None, None, ())


def test_programs_of_the_bases_version_are_taken_best_first():
    programs = (Programs(Path("/one/bin"), 160001), Programs(Path("/two/bin"), 160004))
    world = World([base(3, version=160002)], wal_map((1, 1, 50)), facts={"programs": programs})
    assert world.plan("full").database.programs == Path("/one/bin")


def test_a_server_of_another_version_or_cluster_in_place_is_told():
    world = replace(PLAIN, live=live_server((1, 1, 2), version=160000, owner="7000000000000000001"))
    warnings = world.plan("full").warnings
    assert "system identifier mismatch: server in place 7000000000000000001, backup 7" in warnings[0]
    assert "is PostgreSQL 16, the backup is of PostgreSQL 15" in warnings[1]


def test_a_predecessors_set_is_restored_with_the_snapshot_that_followed():
    old = base(3, 5, legacy=True)
    tree = snapshot(6, legacy=True)
    world = World([old], wal_map((1, 1, 50)), [tree], full_sets=False)
    plan = world.plan("full", backup=old.stamp)
    assert plan.content[0].sources[0].snapshot == tree
    assert plan.configuration is None
    assert any("was made by the predecessor" in line for line in plan.warnings)
    assert world.pitr(20).database.base.legacy


def test_the_configuration_is_that_of_before_the_moment():
    assert PLAIN.pitr(19).configuration.stamp == "20261122T100300Z"
    assert PLAIN.pitr(40).configuration.stamp == "20261122T102000Z"


def test_lost_is_everything_written_after_the_target():
    world = replace(PLAIN, live=live_server((1, 49, 53)))
    assert ": 19 WAL segments (19.0 MiB), written until" in world.pitr(34.5).lost
    assert ": part of one WAL segment, written until" in world.pitr(59).lost
    assert world.plan("pitr", target_time="latest").lost.startswith("nothing known after")
    assert "WAL that was never archived is lost" in PLAIN.plan("pitr", target_time="latest").lost
    assert ": 30 WAL segments" in PLAIN.plan("full").lost


def test_planning_twice_gives_the_same_plan():
    assert PLAIN.pitr(34.5) == PLAIN.pitr(34.5)
    assert minute(PLAIN.pitr(34.5).database.target.time) == 34.5
