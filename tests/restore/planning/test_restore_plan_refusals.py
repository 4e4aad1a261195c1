"""Every refusal of a restore's planner: what it says is wrong, and what it says can be had instead."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.repository.sets import Problem
from alfresco_backup.wal.chain import WalMap
from tests.support.restore_worlds import (
    BACKUP,
    OWNER,
    SIZE,
    World,
    at,
    base,
    fork,
    live_server,
    local_zone,
    snapshot,
    wal_map,
)

WINDOW = (
    "restorable from 2026-11-22 11:03:31 +01:00 (10:03:31 UTC) to 2026-11-22 11:50:00 +01:00 (10:50:00 UTC) "
)
PLAIN = World([base(3), base(20)], wal_map((1, 1, 50)))


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


def refusal(world: World, kind="pitr", **wanted) -> Refused:
    with pytest.raises(Refused) as caught:
        world.plan(kind, **wanted)
    return caught.value


def test_a_moment_before_the_first_base_ended():
    said = refusal(PLAIN, target_time=at(3.5))
    assert said.message == (
        "target 2026-11-22 11:03:30 +01:00 (10:03:30 UTC) is before the first moment that can be reached, "
        f"2026-11-22 11:03:31 +01:00 (10:03:31 UTC); {WINDOW}(no gaps)"
    )
    assert said.exit_code == 3


def test_a_moment_after_the_last_archived_segment():
    said = refusal(PLAIN, target_time=at(50.5))
    assert said.message == (
        "target 2026-11-22 11:50:30 +01:00 (10:50:30 UTC) is after the last moment that can be reached, "
        f"2026-11-22 11:50:00 +01:00 (10:50:00 UTC); {WINDOW}(no gaps)"
    )
    assert said.hint.startswith("target_time latest restores all there is")


def test_a_moment_in_the_future():
    said = refusal(PLAIN, target_time=at(61))
    assert said.message.startswith(
        "target 2026-11-22 12:01:00 +01:00 (11:01:00 UTC) lies in the future: "
        "it is 2026-11-22 12:00:00 +01:00 (11:00:00 UTC) now; restorable from"
    )


def test_a_moment_in_a_gap_names_the_segments_that_are_missing():
    world = replace(PLAIN, wal=wal_map((1, 1, 9), (1, 12, 50)))
    said = refusal(world, target_time=at(15))
    assert said.message == (
        "target 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) lies in a gap: 00000001000000000000000A to "
        "00000001000000000000000B (2 segments) missing: nothing from 2026-11-22 11:09:00 +01:00 until "
        f"2026-11-22 11:20:30 +01:00 can be restored; {WINDOW}"
        "(gap: 2026-11-22 11:09:00 +01:00 (10:09:00 UTC) to 2026-11-22 11:20:31 +01:00 (10:20:31 UTC))"
    )


def test_wal_missing_up_to_the_end_is_named_after_the_last_moment():
    said = refusal(replace(PLAIN, wal=wal_map((1, 1, 30), (1, 32, 50))), target_time=at(40))
    assert "is after the last moment that can be reached, 2026-11-22 11:30:00 +01:00" in said.message
    assert "00000001000000000000001F missing: nothing from" in said.message


def test_many_gaps_are_counted_beyond_the_first_few():
    bases = [base(number) for number in range(2, 50, 5)]
    holes = wal_map(*((1, number, number + 2) for number in range(1, 50, 5)))
    said = refusal(World(bases, holes), target_time=at(59))
    assert said.message.count("+01:00 (10:") == 14
    assert said.message.endswith(" and 4 more)")


def test_no_base_backup_has_its_wal():
    said = refusal(replace(PLAIN, wal=wal_map((1, 40, 50))), target_time=at(45))
    assert said.message.startswith("target 2026-11-22 11:45:00 +01:00 (10:45:00 UTC) cannot be reached: ")
    assert said.message.endswith("no moment can be restored: no base backup has the WAL it needs")


def test_an_empty_repository():
    assert "no moment can be restored" in refusal(World(), target_time=at(5)).message
    assert "no moment can be restored" in refusal(World(), target_time="latest").message
    said = refusal(World(), "full")
    assert said.message == "there is no backup for restore-full; there is no backup yet"
    assert said.hint == "python backup.py makes one"


def test_an_unknown_backup_is_answered_with_the_known_ones():
    said = refusal(PLAIN, "full", backup="20260101T000000Z")
    assert said.message == (
        "backup 20260101T000000Z is not known; known: 20261122T102000Z (2026-11-22 11:20:00 +01:00), "
        "20261122T100300Z (2026-11-22 11:03:00 +01:00)"
    )
    assert said.hint == "python restore.py lists the backups"


def test_of_many_backups_the_newest_ten_are_named():
    many = World([base(number) for number in range(1, 40, 3)], wal_map((1, 1, 50)))
    assert refusal(many, "full", backup="20260101T000000Z").message.endswith(" and 3 older")


def test_a_damaged_backup_is_answered_with_its_damage():
    damaged = Problem(
        BACKUP / "postgres/base-20261122T103000Z", "base.tar.zst has 7 bytes, its metadata says 9"
    )
    said = refusal(replace(PLAIN, problems=[damaged]), "full", backup="20261122T103000Z")
    assert said.message == (
        "backup 20261122T103000Z cannot be used: /backup/postgres/base-20261122T103000Z: "
        "base.tar.zst has 7 bytes, its metadata says 9"
    )


def test_a_backup_that_was_killed_is_told_from_an_unknown_one():
    left = BACKUP / "postgres/base-20261122T103000Z.partial"
    said = refusal(replace(PLAIN, partials=[left]), "full", backup="20261122T103000Z")
    assert said.message == (
        "backup 20261122T103000Z was never finished: only base-20261122T103000Z.partial is left of it"
    )


def test_a_set_without_base_has_nothing_for_the_database():
    world = replace(PLAIN, snapshots=[snapshot(30)])
    stamp = "20261122T103000Z"
    full = refusal(world, "full", backup=stamp)
    assert full.message == f"set {stamp} is incomplete: it lacks its base backup and the configuration"
    assert (
        refusal(world, "postgres", backup=stamp).message
        == f"set {stamp} is incomplete: it lacks its base backup"
    )
    assert "has no base backup, so no moment is reached from it" in (
        refusal(world, backup=stamp, target_time=at(40)).message
    )


def test_a_set_without_content_is_not_restored_in_full():
    said = refusal(replace(PLAIN, full_sets=False), "full", backup="20261122T102000Z")
    assert said.message == (
        "set 20261122T102000Z is incomplete: it lacks the main content store and the configuration"
    )
    assert refusal(replace(PLAIN, full_sets=False), "full").message.startswith(
        "there is no backup for restore-full; known: 20261122T102000Z"
    )


def test_a_set_without_a_snapshot_has_nothing_for_the_content():
    said = refusal(replace(PLAIN, full_sets=False), "contentstore", backup="20261122T102000Z")
    assert said.message == "set 20261122T102000Z is incomplete: it lacks the main content store"


def test_a_moment_not_after_the_end_of_the_base_asked_for():
    said = refusal(PLAIN, backup="20261122T102000Z", target_time=at(10))
    assert said.message.startswith(
        "base 20261122T102000Z ended at 2026-11-22 11:20:30 +01:00 (10:20:30 UTC), not before the target "
        "2026-11-22 11:10:00 +01:00 (10:10:00 UTC): nothing before its end is reached from it; restorable"
    )
    assert said.hint == "leave backup out: the newest base before the moment is taken"


def test_a_gap_behind_the_base_asked_for_is_told_of_that_base():
    world = replace(PLAIN, wal=wal_map((1, 1, 9), (1, 12, 50)))
    said = refusal(world, backup="20261122T100300Z", target_time=at(30))
    assert "is after the last moment that can be reached from base 20261122T100300Z" in said.message
    assert "00000001000000000000000A to 00000001000000000000000B (2 segments) missing" in said.message


def test_wal_between_start_and_end_of_a_set_is_missing():
    said = refusal(World([base(3, 5)], wal_map((1, 1, 3), (1, 6, 9))), "full")
    assert said.message.startswith(
        "base 20261122T100300Z cannot be restored: WAL between its start and its end is missing from the "
        "archive and it keeps no WAL itself: 000000010000000000000004, 000000010000000000000005; no moment"
    )


def test_a_base_of_another_cluster_than_the_archives():
    foreign = "7000000000000000001"
    world = World([base(3, owner=foreign, own_wal=True), base(20)], wal_map((1, 1, 50)))
    for kind, wanted in (("full", {}), ("postgres", {}), ("pitr", {"target_time": at(30)})):
        said = refusal(world, kind, backup="20261122T100300Z", **wanted)
        assert said.message == (
            f"base 20261122T100300Z is of the cluster with system identifier {foreign}, the WAL archive "
            f"/backup/pg_wal of {OWNER}: it holds no WAL for it, and would take none after the restore"
        )
        assert said.hint.startswith(
            f"set that archive aside first: mv /backup/pg_wal /backup/pg_wal-of-{OWNER}"
        )


def test_an_archive_whose_marker_is_damaged():
    world = replace(PLAIN, facts={"archive_marker_is_damaged": True})
    for kind, wanted in (("full", {}), ("postgres", {}), ("pitr", {"target_time": at(30)})):
        said = refusal(world, kind, **wanted)
        assert said.message.startswith("/backup/pg_wal/system-identifier is damaged: ")
        assert said.hint.startswith("rm /backup/pg_wal/system-identifier; ")
    assert world.plan("contentstore").database is None


def test_bases_of_another_cluster_do_not_count_for_a_moment():
    foreign = base(3, owner="7000000000000000001", own_wal=True)
    said = refusal(World([foreign, base(20)], wal_map((1, 1, 50))), target_time=at(10))
    assert "before the first moment that can be reached, 2026-11-22 11:20:31 +01:00" in said.message


def test_an_unknown_timeline():
    said = refusal(PLAIN, target_time=at(30), timeline=7)
    assert said.message == "timeline 7 is not known to the WAL archive; known: 1"


def test_a_moment_that_is_not_on_the_timeline_asked_for():
    wal = wal_map((1, 1, 20), (2, 9, 29), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    said = refusal(World([base(3)], wal), target_time=at(15), timeline=2)
    assert said.message == (
        "target 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) is not on timeline 2, which began at "
        "2026-11-22 11:30:00 +01:00 (10:30:00 UTC); it is on timeline 1"
    )
    assert said.hint == "leave timeline out, or give timeline 1"


def test_an_abandoned_moment_whose_wal_is_gone_is_a_gap_not_the_new_timelines():
    # Recovery at minute 30 to the state of minute 9.5; timeline 1 was archived up to segment 8 only.
    wal = wal_map((1, 1, 8), (2, 9, 29), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    world = World([base(3)], wal)
    assert refusal(world, target_time=at(15)).message.startswith(
        "target 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) lies in a gap"
    )
    assert world.pitr(9.4).database.timeline == 2
    assert world.pitr(30.5).database.timeline == 2


def test_wal_of_another_segment_size_is_of_no_use():
    other = wal_map((1, 1, 50))
    wal = WalMap(OWNER, 2 * SIZE, other.times, {}, {}, other.runs)
    assert "no moment can be restored" in refusal(World([base(3)], wal), target_time=at(20)).message


def test_a_refused_live_server_of_another_cluster_lends_no_wal():
    world = replace(PLAIN, live=live_server((1, 40, 59), owner="7000000000000000001"))
    assert "after the last moment that can be reached" in refusal(world, target_time=at(55)).message
