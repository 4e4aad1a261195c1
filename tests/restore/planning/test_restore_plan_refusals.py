"""Every refusal of a restore's planner: what it says is wrong, and the command it says to type instead."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.repository.sets import Problem
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreRequest, parse_target_time
from alfresco_backup.settings.commands import program_command
from alfresco_backup.wal.chain import WalMap
from tests.support.restore_worlds import (
    BACKUP,
    OWNER,
    SIZE,
    STAMP,
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


def planned_by(hint: str, world: World) -> RestorePlan:
    """What the command of a hint plans."""
    assert hint.startswith(program_command("restore") + " ")
    words = shlex.split(hint.removeprefix(program_command("restore")))
    options = dict(zip(words[::2], words[1::2], strict=True))
    request = RestoreRequest(
        options.pop("--mode"),
        target_time=parse_target_time(options.pop("--target-time")),
        timeline=int(options.pop("--timeline")) if "--timeline" in options else None,
    )
    assert options == {}
    return make_restore_plan(request, world.catalogue, world.host, STAMP)


def refusal(world: World, kind="pitr", **wanted) -> Refused:
    with pytest.raises(Refused) as caught:
        world.plan(kind, **wanted)
    return caught.value


def test_a_moment_before_the_first_base_ended():
    said = refusal(PLAIN, target_time=at(3.5))
    assert said.message == (
        "target time 2026-11-22 11:03:30 +01:00 (10:03:30 UTC) is before the oldest restorable time, "
        f"2026-11-22 11:03:31 +01:00 (10:03:31 UTC); {WINDOW}(no gaps)"
    )
    assert said.exit_code == 3
    assert planned_by(said.hint, PLAIN).database.target.time == at(3.5 + 1 / 60)


def test_a_moment_after_the_last_archived_segment():
    said = refusal(PLAIN, target_time=at(50.5))
    assert said.message == (
        "target time 2026-11-22 11:50:30 +01:00 (10:50:30 UTC) is after the newest restorable time, "
        "2026-11-22 11:50:00 +01:00 (10:50:00 UTC); a later one needs WAL that is not archived; "
        f"{WINDOW}(no gaps)"
    )
    assert planned_by(said.hint, PLAIN).database.target.kind == "end-of-wal"


def test_a_moment_in_the_future():
    said = refusal(PLAIN, target_time=at(61))
    assert said.message.startswith(
        "target time 2026-11-22 12:01:00 +01:00 (11:01:00 UTC) is in the future; choose a target time in the "
        "past, it is now 2026-11-22 12:00:00 +01:00 (11:00:00 UTC); restorable from"
    )
    assert planned_by(said.hint, PLAIN).database.target.kind == "end-of-wal"


def test_a_moment_in_a_gap_names_the_segments_that_are_missing():
    world = replace(PLAIN, wal=wal_map((1, 1, 9), (1, 12, 50)))
    said = refusal(world, target_time=at(15))
    assert said.message == (
        "target time 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) is in a gap of the WAL: "
        "00000001000000000000000A to 00000001000000000000000B (2 segments) missing: nothing from 2026-11-22 "
        "11:09:00 +01:00 until 2026-11-22 11:20:30 +01:00 can be restored; the nearest possible: 2026-11-22 "
        "11:09:00 +01:00 (10:09:00 UTC) and 2026-11-22 11:20:31 +01:00 (10:20:31 UTC); "
        f"{WINDOW}(gap: 2026-11-22 "
        "11:09:00 +01:00 (10:09:00 UTC) to 2026-11-22 11:20:31 +01:00 (10:20:31 UTC))"
    )
    targets = [planned_by(hint, world).database.target.time for hint in said.hint.splitlines()]
    assert targets == [at(9), at(20.5 + 1 / 60)]


def test_a_moment_between_sets_that_are_kept_without_later_wal_names_the_two_nearest_ends():
    """Retention left of the first three their own WAL only; the window begins at minute 35."""
    bases = [base(3), base(10, 11), base(20), base(30), base(40)]
    wal = wal_map((1, 3, 3), (1, 10, 11), (1, 20, 20), (1, 30, 50))
    times = {**wal.times[1], 20: at(20.2)}  # it was switched before its base backup had ended
    world = World(bases, replace(wal, times={1: times}), facts={"window_start": at(35)})
    said = refusal(world, target_time=at(15))
    own_end = "the end of base backup"
    assert said.message == (
        "target time 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) cannot be restored: base backup "
        "20261122T101000Z is kept without later WAL; the nearest possible: 2026-11-22 11:11:30 +01:00 "
        f"(10:11:30 UTC), {own_end} 20261122T101000Z and 2026-11-22 11:20:30 +01:00 (10:20:30 UTC), "
        f"{own_end} 20261122T102000Z; restorable from 2026-11-22 11:30:31 +01:00 (10:30:31 UTC) to "
        "2026-11-22 11:50:00 +01:00 (10:50:00 UTC) (no gaps), and the ends of 3 older base backups"
    )
    program = program_command("restore")
    assert said.hint.splitlines() == [
        f"{program} --mode full --backup 20261122T101000Z",
        f"{program} --mode full --backup 20261122T102000Z",
    ]
    for stamp in ("20261122T100300Z", "20261122T101000Z", "20261122T102000Z"):
        assert world.plan("full", backup=stamp).database.target.kind == "immediate"
    said = refusal(world, target_time=at(2))
    assert (
        f"before the oldest restorable time, 2026-11-22 11:03:30 +01:00 (10:03:30 UTC), {own_end}"
        in said.message
    )
    assert said.hint == f"{program} --mode full --backup 20261122T100300Z"
    said = refusal(world, target_time=at(25))
    assert said.hint.splitlines()[0].endswith("--backup 20261122T102000Z")
    assert planned_by(said.hint.splitlines()[1], world).database.target.time == at(30.5 + 1 / 60)
    assert world.pitr(45).database.base.stamp == bases[4].stamp


def test_what_is_missing_within_the_recovery_window_stays_a_gap_though_it_begins_at_a_base_backups_end():
    world = World([base(3), base(20)], wal_map((1, 3, 3), (1, 20, 50)), facts={"window_start": at(1)})
    said = refusal(world, target_time=at(15))
    assert "is in a gap of the WAL: 000000010000000000000004 to " in said.message
    assert said.message.count("(gap: ") == 1


def test_wal_missing_up_to_the_end_is_named_after_the_last_moment():
    said = refusal(replace(PLAIN, wal=wal_map((1, 1, 30), (1, 32, 50))), target_time=at(40))
    assert "is after the newest restorable time, 2026-11-22 11:30:00 +01:00" in said.message
    assert "00000001000000000000001F missing: nothing from" in said.message


def test_many_gaps_are_counted_beyond_the_first_few():
    bases = [base(number) for number in range(2, 50, 5)]
    holes = wal_map(*((1, number, number + 2) for number in range(1, 50, 5)))
    said = refusal(World(bases, holes), target_time=at(59))
    assert said.message.count("+01:00 (10:") == 14
    assert said.message.endswith(" and 4 more)")


def test_no_base_backup_has_its_wal():
    said = refusal(replace(PLAIN, wal=wal_map((1, 40, 50))), target_time=at(45))
    assert said.message.startswith(
        "target time 2026-11-22 11:45:00 +01:00 (10:45:00 UTC) cannot be restored: "
    )
    assert said.message.endswith("nothing is restorable: no base backup has the WAL it needs")


def test_an_empty_repository():
    assert "nothing is restorable" in refusal(World(), target_time=at(5)).message
    assert "nothing is restorable" in refusal(World(), target_time="latest").message
    said = refusal(World(), "full")
    assert said.message == "no backup is complete enough for a full restore; there is no backup yet"
    assert said.hint == program_command("backup")


def test_an_unknown_backup_is_answered_with_the_known_ones():
    said = refusal(PLAIN, "full", backup="20260101T000000Z")
    assert said.message == (
        "there is no backup 20260101T000000Z; known: 20261122T102000Z (2026-11-22 11:20:00 +01:00), "
        "20261122T100300Z (2026-11-22 11:03:00 +01:00)"
    )
    assert said.hint == program_command("status")


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
        "backup 20261122T103000Z is incomplete: its run left only base-20261122T103000Z.partial"
    )


def test_a_set_without_base_has_nothing_for_the_database():
    world = replace(PLAIN, snapshots=[snapshot(30)])
    stamp = "20261122T103000Z"
    full = refusal(world, "full", backup=stamp)
    assert full.message == f"backup {stamp} is incomplete: it has no base backup and no configuration"
    assert (
        refusal(world, "postgres", backup=stamp).message
        == f"backup {stamp} is incomplete: it has no base backup"
    )
    assert "has no base backup, so no target time can be restored from it" in (
        refusal(world, backup=stamp, target_time=at(40)).message
    )


def test_a_set_without_content_is_not_restored_in_full():
    said = refusal(replace(PLAIN, full_sets=False), "full", backup="20261122T102000Z")
    assert said.message == (
        "backup 20261122T102000Z is incomplete: it has no main content store and no configuration"
    )
    assert refusal(replace(PLAIN, full_sets=False), "full").message.startswith(
        "no backup is complete enough for a full restore; known: 20261122T102000Z"
    )


def test_a_set_without_a_snapshot_has_nothing_for_the_content():
    said = refusal(replace(PLAIN, full_sets=False), "contentstore", backup="20261122T102000Z")
    assert said.message == "backup 20261122T102000Z is incomplete: it has no main content store"


def test_a_moment_not_after_the_end_of_the_base_asked_for():
    said = refusal(PLAIN, backup="20261122T102000Z", target_time=at(10))
    assert said.message.startswith(
        "base backup 20261122T102000Z ended at 2026-11-22 11:20:30 +01:00 (10:20:30 UTC), not before the "
        "target time 2026-11-22 11:10:00 +01:00 (10:10:00 UTC): only later times can be restored from it; "
        "restorable"
    )
    assert planned_by(said.hint, PLAIN).database.base.stamp == "20261122T100300Z"


def test_a_gap_behind_the_base_asked_for_is_told_of_that_base():
    world = replace(PLAIN, wal=wal_map((1, 1, 9), (1, 12, 50)))
    said = refusal(world, backup="20261122T100300Z", target_time=at(30))
    assert "is after the newest restorable time of base backup 20261122T100300Z" in said.message
    assert "00000001000000000000000A to 00000001000000000000000B (2 segments) missing" in said.message


def test_wal_between_start_and_end_of_a_set_is_missing():
    said = refusal(World([base(3, 5)], wal_map((1, 1, 3), (1, 6, 9))), "full")
    assert said.message.startswith(
        "base backup 20261122T100300Z cannot be restored: WAL between its start and its end is missing from "
        "the archive and the base backup contains no WAL itself: 000000010000000000000004, "
        "000000010000000000000005; nothing is restorable"
    )


def test_a_base_of_another_cluster_than_the_archives():
    foreign = "7000000000000000001"
    world = World([base(3, owner=foreign, own_wal=True), base(20)], wal_map((1, 1, 50)))
    for kind, wanted in (("full", {}), ("postgres", {}), ("pitr", {"target_time": at(30)})):
        said = refusal(world, kind, backup="20261122T100300Z", **wanted)
        assert said.message == (
            f"system identifier mismatch: base backup 20261122T100300Z {foreign}, WAL archive /backup/pg_wal "
            f"{OWNER}; this archive has no WAL for that base backup and would refuse the WAL of the restored "
            "server. Restore another backup, or first set the archive aside for a new one"
        )
        assert said.hint.startswith(
            f"mv /backup/pg_wal /backup/pg_wal-of-{OWNER} && mkdir /backup/pg_wal && "
        )


def test_an_archive_whose_marker_is_damaged():
    world = replace(PLAIN, facts={"archive_marker_is_damaged": True})
    for kind, wanted in (("full", {}), ("postgres", {}), ("pitr", {"target_time": at(30)})):
        said = refusal(world, kind, **wanted)
        assert said.message.startswith("/backup/pg_wal/system-identifier is damaged: ")
        assert said.hint == "rm /backup/pg_wal/system-identifier"
    assert world.plan("contentstore").database is None


def test_bases_of_another_cluster_do_not_count_for_a_moment():
    foreign = base(3, owner="7000000000000000001", own_wal=True)
    said = refusal(World([foreign, base(20)], wal_map((1, 1, 50))), target_time=at(10))
    assert "before the oldest restorable time, 2026-11-22 11:20:31 +01:00" in said.message


def test_an_unknown_timeline():
    said = refusal(PLAIN, target_time=at(30), timeline=7)
    assert said.message == "timeline 7 is not in the WAL archive; known: 1"


def test_a_moment_that_is_not_on_the_timeline_asked_for():
    wal = wal_map((1, 1, 20), (2, 9, 29), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    said = refusal(World([base(3)], wal), target_time=at(15), timeline=2)
    assert said.message == (
        "target time 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) is not on timeline 2, which began at "
        "2026-11-22 11:30:00 +01:00 (10:30:00 UTC); it is on timeline 1"
    )
    assert planned_by(said.hint, World([base(3)], wal)).database.timeline == 1


def test_an_abandoned_moment_whose_wal_is_gone_is_a_gap_not_the_new_timelines():
    # Recovery at minute 30 to the state of minute 9.5; timeline 1 was archived up to segment 8 only.
    wal = wal_map((1, 1, 8), (2, 9, 29), histories={2: fork(9)}, promoted={2: 30}, later={2: 22})
    world = World([base(3)], wal)
    assert refusal(world, target_time=at(15)).message.startswith(
        "target time 2026-11-22 11:15:00 +01:00 (10:15:00 UTC) is in a gap of the WAL"
    )
    assert world.pitr(9.4).database.timeline == 2
    assert world.pitr(30.5).database.timeline == 2


def test_wal_of_another_segment_size_is_of_no_use():
    other = wal_map((1, 1, 50))
    wal = WalMap(OWNER, 2 * SIZE, other.times, {}, {}, other.runs)
    assert "nothing is restorable" in refusal(World([base(3)], wal), target_time=at(20)).message


def test_a_refused_live_server_of_another_cluster_lends_no_wal():
    world = replace(PLAIN, live=live_server((1, 40, 59), owner="7000000000000000001"))
    assert "after the newest restorable time" in refusal(world, target_time=at(55)).message


def test_the_history_of_a_sets_own_timeline_that_is_missing_is_put_back_from_the_set():
    world = World([base(10, timeline=2, own_wal=True)], wal_map((2, 9, 30)))
    for kind, wanted in (
        ("full", {}),
        ("pitr", {"target_time": at(20)}),
        ("pitr", {"target_time": "latest"}),
    ):
        with pytest.raises(Refused) as told:
            world.plan(kind, **wanted)
        assert told.value.message == (
            "00000002.history is missing in the WAL archive /backup/pg_wal: PostgreSQL does not recover to "
            "timeline 2 without it"
        )
        assert told.value.hint == (
            "tar -x -I zstd -f /backup/postgres/base-20261122T101000Z/pg_wal.tar.zst -C /backup/pg_wal "
            "--keep-old-files ./00000002.history && "
            "chown -h --reference=/backup/pg_wal /backup/pg_wal/00000002.history"
        )


def test_a_damaged_history_is_moved_away_first():
    world = World([base(10, timeline=2, own_wal=True)], wal_map((2, 9, 30), promoted={2: 9}))
    with pytest.raises(Refused, match=r"00000002\.history is damaged in the WAL archive") as told:
        world.pitr(20)
    assert told.value.hint.splitlines()[0].endswith("mv -n -- 00000002.history /backup/pg_wal-moved/")


def test_a_missing_history_that_the_live_server_or_the_set_supplies_is_no_obstacle():
    alone = World([base(10, timeline=2, own_wal=True)], wal_map((2, 9, 30)))
    live = live_server((2, 28, 30), histories={2: fork(9)})
    assert replace(alone, live=live).pitr(20).database.timeline == 2
    without_wal = World([base(10, timeline=2, own_wal=True)], wal_map())
    assert without_wal.plan("full").database.set_segments
    assert World([base(3)], wal_map((1, 1, 30))).pitr(20).database.timeline == 1


def test_a_time_that_a_lost_history_hides_is_refused_with_its_name():
    world = World([base(3)], wal_map((1, 1, 9), (2, 9, 30)))
    with pytest.raises(Refused) as told:
        world.pitr(20)
    assert "00000002.history is missing or damaged in the WAL archive" in told.value.message
