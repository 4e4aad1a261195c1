"""Retention of base backups as cases: window, redundancy, timelines, clusters, clocks."""

from dataclasses import replace
from datetime import timedelta

from alfresco_backup.retention.plan import plan_retention
from tests.support.catalogues import NOW, REPOSITORY, Parts, a_base
from tests.support.retention_tables import a_policy, check


def test_one_base_older_than_the_window_is_kept_so_that_the_whole_window_is_reachable():
    check("""
        set 9d  remove  ended before the recovery window of 7 days, whose start a newer base backup reaches
        set 8d  keep    the newest base backup before the recovery window
        set 6d  keep    ended within
        set 1d  keep    ended within
    """)


def test_a_base_counts_by_its_end_and_not_by_its_start():
    check("""
        set 7d10m  keep    ended within
        set 8d     keep    the newest base backup before
        set 9d     remove
        set 1d     keep
    """)


def test_a_base_that_ended_exactly_at_the_edge_of_the_window_is_in_it():
    check("""
        set 9d              remove
        set 8d              keep     the newest base backup before
        set 7d30m           keep     ended within
        set 1d              keep
    """)


def test_a_base_that_ended_a_few_minutes_before_the_window_is_the_anchor():
    check("""
        set 8d              remove
        set 7d40m           keep     the newest base backup before
        set 6d              keep
        set 1d              keep
    """)


def test_the_minimum_redundancy_keeps_old_sets_when_backups_stopped():
    check("""
        set 40d  remove
        set 39d  keep  one of the 3 newest complete sets
        set 38d  keep  one of the 3 newest complete sets
        set 37d  keep  the newest base backup before
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
        set 9d  parts=base                  keep    the newest base backup before
        set 1d  parts=base                  keep    ended within
    """)


def test_a_failed_run_in_the_window_is_kept_because_its_base_still_serves():
    check("""
        set 8d             keep
        set 2d parts=base  keep  ended within
        set 1d             keep
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
        wal 7d lsn-of=8d12h timeline=2    keep    needed from base backup
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
        wal 20d                           remove  no kept base backup needs WAL that old
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
        set 15d                          keep    the newest base backup before
        set 9d lsn-of=10d timeline=2     remove
        set 8d lsn-of=9d timeline=2      keep    the newest base backup before
        wal 2d lsn-of=3d timeline=3      keep
        set 1d lsn-of=2d timeline=3      keep
        set 2h lsn-of=1d timeline=3      keep
    """)


def test_after_pg_upgrade_the_old_cluster_stays_until_the_new_one_covers_the_window():
    check("""
        set 9d cluster=old  keep  of another cluster (old) than the newest base backup, which does not cover
        set 8d cluster=old  keep
        set 5d cluster=old  keep  ended within
        set 3d cluster=new  keep
        set 2d cluster=new  keep
        set 1d cluster=new  keep
    """)


def test_once_the_new_cluster_covers_the_window_the_old_one_goes():
    check("""
        set 10d cluster=old  remove  of another cluster (old) than the newest base backup, which covers
        set 9d cluster=old   remove
        set 8d cluster=new   keep    the newest base backup before
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
        predecessor 9d   keep  the newest base backup before
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


def test_where_a_history_is_lost_what_leads_to_an_earlier_timeline_stays_too():
    check(
        """
        set 15d              remove
        set 14d              keep    whose start on timeline 3 it reaches
        history 2 left=13d   keep
        set 12d              keep    whose start on timeline 3 it reaches
        wal 2d timeline=3    keep
        set 1d timeline=3    keep
    """,
        redundancy=1,
    )
