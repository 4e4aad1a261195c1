"""Retention plans as cases: what is in the repository, what becomes of it, and why."""

from dataclasses import replace
from datetime import timedelta

import pytest

from alfresco_backup.layout import DAYS
from alfresco_backup.retention import plan_retention
from alfresco_backup.stamps import make_stamp
from tests.catalogues import NOW, REPOSITORY, Parts, a_base, a_snapshot, age
from tests.retention_tables import a_policy, check, plan_of


def test_an_empty_repository_has_an_empty_plan():
    plan = check("")
    assert plan.items == ()
    assert "Nothing to remove" in plan.summary()


def test_the_first_backup_is_kept_with_all_its_wal():
    check("""
        wal 2h   remove   no kept base needs
        set 1h   keep     ended within the recovery window of 7 days
        wal 1h   keep     needed from base
        wal 10m  keep
    """)


def test_wal_without_any_base_is_kept_until_there_is_one():
    check("""
        wal 20d  keep  there is no base backup yet
        wal 1h   keep  there is no base backup yet
    """)


def test_one_base_older_than_the_window_is_kept_so_that_the_whole_window_is_reachable():
    check("""
        set 9d  remove  ended before the recovery window of 7 days, whose start a newer base reaches
        set 8d  keep    the newest base before the recovery window
        set 6d  keep    ended within
        set 1d  keep    ended within
    """)


def test_a_base_counts_by_its_end_and_not_by_its_start():
    check("""
        set 7d10m  keep    ended within
        set 8d     keep    the newest base before
        set 9d     remove
        set 1d     keep
    """)


def test_a_base_that_ended_exactly_at_the_edge_of_the_window_is_in_it():
    check("""
        set 9d              remove
        set 8d              keep     the newest base before
        set 7d30m           keep     ended within
        set 1d              keep
    """)


def test_a_base_that_ended_a_few_minutes_before_the_window_is_the_anchor():
    check("""
        set 8d              remove
        set 7d40m           keep     the newest base before
        set 6d              keep
        set 1d              keep
    """)


def test_the_minimum_redundancy_keeps_old_sets_when_backups_stopped():
    check("""
        set 40d  remove
        set 39d  keep  one of the 3 newest complete sets
        set 38d  keep  one of the 3 newest complete sets
        set 37d  keep  the newest base before
    """, redundancy=3)  # fmt: skip


def test_the_last_good_set_is_never_removed_however_old():
    check("set 400d keep", redundancy=1)


def test_fewer_sets_than_the_minimum_redundancy_are_all_kept():
    check("""
        set 40d  keep  one of the 5 newest complete sets
        set 30d  keep
        set 1d   keep
    """, redundancy=5)  # fmt: skip


def test_incomplete_sets_do_not_count_as_redundancy():
    check("""
        set 30d                             keep    one of the 2 newest complete sets
        set 20d                             keep    one of the 2 newest complete sets
        set 12d parts=base                  remove
        set 11d parts=base,configuration configuration=keep  remove
        set 10d parts=base,content snapshot=keep  remove
        set 9d  parts=base                  keep    the newest base before
        set 1d  parts=base                  keep    ended within
    """)


def test_a_failed_run_in_the_window_is_kept_because_its_base_still_serves():
    check("""
        set 8d             keep
        set 2d parts=base  keep  ended within
        set 1d             keep
    """)


def test_wal_goes_back_to_the_start_of_the_oldest_kept_base():
    check("""
        set 12d   remove
        wal 12d   remove  no kept base needs WAL that old
        wal 8d1h  remove  no kept base needs WAL that old
        set 8d    keep
        wal 8d    keep    needed from base
        wal 7d20h keep
        wal 1h    keep
        set 1d    keep
        set 2d    keep
    """)


def test_the_minimum_redundancy_holds_wal_as_well():
    check("""
        wal 41d  remove
        set 40d  keep
        wal 40d  keep   needed from base
        wal 20d  keep
        set 1d   keep
    """)


def test_compressed_segments_backup_and_partial_files_go_with_their_segments():
    check("""
        set 8d                           keep
        set 1d                           keep
        wal 9d suffix=.zst               remove
        wal 8d suffix=.zst               keep
        wal 10d suffix=.00000028.backup  remove
        wal 7d suffix=.00000028.backup   keep
        wal 10d suffix=.partial          remove
        wal 6d suffix=.partial           keep
    """)


def test_histories_and_foreign_files_in_the_archive_are_never_removed():
    check("""
        set 1d  keep
        history 2 left=30d         keep  never removed
        walfile system-identifier  keep
        walfile README             keep  not a WAL file
        walfile 0000000200000000   keep  not a WAL file
    """)


def test_what_a_killed_archive_wal_left_goes_after_a_day():
    check("""
        walfile .000000010000000000000007.4711.tmp age=25h  remove  left by an archive-wal that was killed
        walfile .000000010000000000000008.4712.tmp age=1m   keep    being written
    """)


def test_a_segment_whose_name_does_not_fit_the_segment_size_is_kept():
    check("""
        set 1d keep
        walfile 0000000100000000FFFFFFFF  keep  needed from base
    """)


def test_after_a_recovery_the_base_that_leads_to_the_new_timeline_is_kept():
    """Recovered a week ago to a moment before the then newest base: only the older one leads there."""
    check("""
        set 12d                           remove
        set 10d                           keep    whose start on timeline 2 it reaches
        set 8d snapshot=keep              remove
        history 2 left=9d                 keep
        wal 11d                           remove
        wal 10d                           keep
        wal 9d                            keep
        wal 7d lsn-of=8d12h timeline=2    keep    needed from base
        wal 6d lsn-of=7d12h timeline=2    keep
        set 5d lsn-of=6d12h timeline=2    keep
        set 4d lsn-of=5d12h timeline=2    keep
    """)


def test_a_timeline_left_within_the_window_keeps_its_own_way_in():
    check("""
        set 9d                           remove
        set 8d                           keep    on timeline 1 it reaches
        wal 5d                           keep
        history 2 left=6d                keep
        wal 4d lsn-of=5d timeline=2      keep
        set 3d lsn-of=4d timeline=2      keep
        set 2d lsn-of=3d timeline=2      keep
    """)


def test_a_timeline_that_nobody_can_reach_any_more_loses_its_wal():
    check("""
        set 30d                           remove
        wal 30d                           remove
        wal 20d                           remove  no kept base needs WAL that old
        history 2 left=25d                keep
        set 9d lsn-of=13d timeline=2      keep    on timeline 2 it reaches
        wal 9d lsn-of=13d timeline=2      keep
        wal 10d lsn-of=14d timeline=2     remove
        set 3d lsn-of=7d timeline=2       keep
        set 2d lsn-of=6d timeline=2       keep
    """)


def test_where_a_history_is_lost_the_newest_base_of_each_older_timeline_is_kept():
    check("""
        set 20d                          remove
        set 15d                          keep    the newest base before
        set 9d lsn-of=10d timeline=2     remove
        set 8d lsn-of=9d timeline=2      keep    the newest base before
        wal 2d lsn-of=3d timeline=3      keep
        set 1d lsn-of=2d timeline=3      keep
        set 2h lsn-of=1d timeline=3      keep
    """)


def test_after_pg_upgrade_the_old_cluster_stays_until_the_new_one_covers_the_window():
    check("""
        set 9d cluster=old  keep  of another cluster (old) than the newest base, which does not cover
        set 8d cluster=old  keep
        set 5d cluster=old  keep  ended within
        set 3d cluster=new  keep
        set 2d cluster=new  keep
        set 1d cluster=new  keep
    """)


def test_once_the_new_cluster_covers_the_window_the_old_one_goes():
    check("""
        set 10d cluster=old  remove  of another cluster (old) than the newest base, which covers
        set 9d cluster=old   remove
        set 8d cluster=new   keep    the newest base before
        set 1d cluster=new   keep
    """)


def test_sets_of_another_cluster_do_not_count_as_redundancy():
    check("""
        set 12d cluster=old             keep  does not cover
        set 11d cluster=old             keep
        set 10d cluster=new             keep
        set 1d cluster=new parts=base   keep
    """)


def test_a_future_dated_set_is_kept_and_counts_for_nothing():
    check("""
        set 20d   keep    one of the 2 newest complete sets
        set 8d    keep
        set -30d  keep    dated in the future
    """)


def test_a_server_whose_clock_is_a_little_ahead_makes_no_future_bases():
    base = replace(a_base(NOW), started_at=NOW + timedelta(minutes=5))
    catalogue = replace(Parts().catalogue(), bases=(base,))
    plan = plan_retention(REPOSITORY, catalogue, Parts().full_inventory(), a_policy(), NOW)
    assert [item.reason for item in plan.items] == ["ended within the recovery window of 7 days"]


def test_a_future_dated_snapshot_does_not_make_the_newest_one_superfluous():
    check("""
        content 20d   remove
        content 9d    keep
        content -3d   keep    dated in the future
    """)


def test_the_order_is_that_of_time_and_never_that_of_names():
    """A predecessor's name sorts before every new one, whatever its year; its set is the newest here."""
    plan = check("""
        set 9d          remove
        set 8d          keep
        predecessor 1d  keep  ended within
    """)
    newest = max(item.path.name for item in plan.items if item.kind == "base")
    assert newest.startswith("base-20261114")
    assert plan.must_remain[0].name.startswith("base-2026-11-2")


def test_the_predecessors_sets_count_and_age_like_all_others():
    check("""
        predecessor 30d  remove
        predecessor 20d  remove
        predecessor 9d   keep  the newest base before
        predecessor 5d   keep  ended within
        set 1d           keep
    """)


def test_a_predecessors_base_without_content_is_no_complete_set():
    check("""
        predecessor 30d                keep   one of the 2 newest complete sets
        predecessor 20d parts=base     remove
        predecessor 9d                 keep
        set 1d parts=base              keep
    """)


def test_the_content_of_a_kept_set_is_kept_with_it_and_the_rest_goes_with_the_window():
    check("""
        content 20d  remove  started before the recovery window
        set 8d       keep
        content 7d12h remove
        content 7d6h keep    the last content before the recovery window
        content 6d   keep
        set 1d       keep
    """)


def test_the_content_of_a_kept_set_is_kept_even_where_another_one_came_first():
    check("""
        set 8d         keep  the newest base before
        content 7d23h30m  keep  the first content that started after base
        content 7d1h   keep  the last content before
        set 1d         keep
    """)


def test_the_first_content_after_a_base_without_its_own_is_kept_while_the_base_is():
    check("""
        set 9d parts=base   keep    the newest base before
        content 8d23h       keep    the first content that started after base
        content 8d22h       remove
        content 7d1h        keep    the last content before
        set 2d              keep
        set 1d              keep
    """)


def test_contentstore_only_runs_are_thinned_to_one_a_day_after_two_days():
    plan = check("""
        set 8d          keep
        content 4d11h   remove  contentstore-only run
        content 4d5h    remove  contentstore-only run
        content 4d1h    keep    within
        content 3d8h    remove
        content 3d7h    keep
        content 1d23h   keep
        content 1d22h   keep
        content 1h      keep
        set 1d          keep
    """)
    kept = make_stamp(NOW - age("4d1h"))
    assert f"{kept} is kept for that day" in " ".join(item.reason for item in plan.removals)


def test_thinning_never_takes_the_content_of_a_set_nor_counts_it_as_the_days_one():
    check("""
        set 8d                keep
        content 4d11h30m      remove
        set 4d6h              keep
        content 4d3h          keep
        set 1d                keep
    """)


def test_thinning_at_once_keeps_the_newest_of_today():
    check("""
        content 3h  remove
        content 2h  remove
        content 1h  keep
    """, thin=0)  # fmt: skip


def test_further_stores_are_thinned_and_aged_by_themselves():
    check("""
        content 30d store=deleted   remove
        content 20d store=deleted   keep     the last content before
        content 4d2h store=deleted  remove
        content 4d1h store=deleted  keep
        content 30d                 keep     the last content before
    """)


def test_the_newest_snapshot_of_a_store_is_kept_however_old():
    check("content 300d keep")


def test_configuration_stays_with_its_base_and_while_it_is_young():
    check("""
        set 30d parts=configuration  remove  its base is not kept
        set 9d                       keep
        set 3d parts=configuration   keep    within
        set 1d                       keep
    """)


def test_left_overs_go_once_a_newer_run_of_their_kind_has_finished():
    check("""
        partial 2d                    remove  left by a run that did not finish
        partial 2d of=base            remove
        partial 2d of=configuration   remove
        partial 2d of=days            remove
        set 1d                        keep
        partial 1h                    keep    the next one takes care of it
        partial 1h of=days            keep
    """)


def test_the_running_runs_parts_and_begun_removals():
    running = make_stamp(NOW - age("1h"))
    check("""
        partial 1h                                keep    belongs to the run in progress
        partial 30d ending=.removed.partial       remove  its removal was begun
        content 10m                               keep
        content 2h                                keep
    """, running=running)  # fmt: skip


def test_metadata_without_its_tree_goes_like_a_left_over():
    check("""
        partial 3d ending=.json  remove
        set 1d                   keep
    """)


def test_a_base_that_cannot_be_read_is_kept_reported_and_keeps_the_wal_of_its_time():
    check("""
        problem 5d  keep    its metadata backup.json is missing
        wal 6d      remove
        wal 5d      keep    a base of that time cannot be read and may need it
        wal 4d      keep
        set 2d      keep
        set 1d      keep
    """)


def test_a_base_that_cannot_be_read_holds_no_wal_once_it_left_the_window():
    check("""
        problem 20d keep
        wal 20d     remove
        set 8d      keep
        set 1d      keep
    """)


def test_logs_go_by_age():
    check("""
        log 91d  remove  older than 90 days
        log 89d  keep    not older than 90 days
    """)


def test_a_day_tree_goes_when_no_kept_snapshot_refers_to_it():
    parts = Parts()
    old, new = (make_stamp(NOW - age(when)) for when in ("20d", "1d"))
    parts.snapshots += [
        a_snapshot(NOW - age("20d")),
        a_snapshot(NOW - age("8d")),
        a_snapshot(NOW - age("1d")),
    ]
    first, changed, gone = parts.add_days(old, ["2026/1/1", "2026/1/2", "2026/1/3"])
    changed_again = parts.add_days(new, ["2026/1/2"])
    parts.refer(parts.snapshots[0].path, [first, changed, gone])
    parts.refer(parts.snapshots[1].path, [first, changed])
    parts.refer(parts.snapshots[2].path, [first, *changed_again])
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    days = {str(item.path): item for item in plan.items if item.kind == "days"}
    assert {path for path, item in days.items() if not item.keep} == {gone}
    folder = str(REPOSITORY.contentstore.root / DAYS / old)
    assert days[folder].reason == "kept snapshots refer to 2 of its days"


def test_all_day_trees_of_a_run_go_in_one_piece():
    parts = Parts()
    parts.snapshots += [a_snapshot(NOW - age("20d")), a_snapshot(NOW - age("1d"))]
    old = parts.snapshots[0].stamp
    parts.refer(parts.snapshots[0].path, parts.add_days(old, ["2026/1/1", "2026/1/2"]))
    parts.refer(parts.snapshots[1].path, parts.add_days(parts.snapshots[1].stamp, ["2026/1/1"]))
    parts.snapshots.insert(1, a_snapshot(NOW - age("9d")))
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    (removed,) = [item for item in plan.removals if item.kind == "days"]
    assert removed.path == REPOSITORY.contentstore.root / DAYS / old


def test_day_trees_of_a_run_that_may_be_continued_are_kept():
    parts = Parts()
    parts.snapshots.append(a_snapshot(NOW - age("1d")))
    parts.add_days(make_stamp(NOW - age("1h")), ["2026/1/1"])
    parts.add_days(make_stamp(NOW - age("2d")), ["2026/1/1"])
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    verdicts = {item.path.name: item.keep for item in plan.items if item.kind == "days"}
    assert verdicts == {make_stamp(NOW - age("1h")): True, make_stamp(NOW - age("2d")): False}


def test_day_trees_of_a_store_without_any_snapshot_are_kept():
    parts = Parts()
    parts.add_days(make_stamp(NOW - age("2d")), ["2026/1/1"])
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    assert [item.keep for item in plan.items] == [True]


def test_a_tree_that_the_catalogue_does_not_list_still_holds_its_day_trees():
    parts = Parts()
    parts.snapshots += [a_snapshot(NOW - age("2d")), a_snapshot(NOW - age("1d"))]
    (day,) = parts.add_days(make_stamp(NOW - age("30d")), ["2026/1/1"])
    damaged = REPOSITORY.contentstore.snapshot(make_stamp(NOW - age("30d")))
    parts.refer(damaged, [day])
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    assert [item.keep for item in plan.items if item.kind == "days"] == [True]


def test_a_link_to_something_deeper_or_higher_than_a_day_holds_it_too():
    parts = Parts()
    parts.snapshots.append(a_snapshot(NOW - age("1d")))
    deeper, higher, loose = parts.add_days(make_stamp(NOW - age("30d")), ["a/b/c", "v/2026/1", "loose.txt"])
    parts.refer(parts.snapshots[0].path, [f"{deeper}/d", higher.removesuffix("/1")])
    plan = plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
    assert [str(item.path) for item in plan.removals] == [loose]


def test_removals_stand_in_the_order_in_which_they_are_safe():
    plan, _ = plan_of("""
        partial 30d      remove
        set 20d          remove
        wal 20d          remove
        wal 20d1h        remove
        log 100d         remove
        set 8d           keep
        set 1d           keep
    """)
    kinds = [item.kind for item in plan.removals]
    assert kinds == ["partial", "snapshot", "configuration", "base", "wal", "wal", "log"]
    wal = [item.path.name for item in plan.removals if item.kind == "wal"]
    assert wal == sorted(wal)


def test_the_plan_reads_well():
    plan, _ = plan_of("""
        set 20d  remove
        wal 20d  remove
        wal 19d  remove
        set 8d   keep
        set 1d   keep
    """)
    summary = plan.summary()
    assert summary.startswith(
        "To remove: 1 snapshot, 1 configuration, 1 base backup, 2 WAL files; at least 33.0 MiB."
    )
    (wal,) = [row for row in plan.rows() if row["what"] == "wal"]
    assert wal["verdict"] == "remove"
    assert wal["size"] == "32.0 MiB"
    assert wal["which"].startswith("pg_wal/000000010000")
    assert wal["which"].endswith("(2)")
    assert {row["verdict"] for row in plan.rows() if row["what"] == "base"} == {"keep", "remove"}


@pytest.mark.parametrize("days", [1, 30, 365])
def test_every_item_has_a_reason_and_stands_once(days):
    lines = "\n".join(
        f"set {number}d keep\ncontent {number}d3h keep\nwal {number}d keep" for number in range(1, 40)
    )
    plan, _ = plan_of(lines, window=days)
    paths = [item.path for item in plan.items]
    assert len(paths) == len(set(paths)) == 39 * 5
    assert all(item.reason for item in plan.items)
    assert plan.window_start == NOW - timedelta(days=days)
