"""Retention of snapshots, their day trees and configurations as cases."""

from dataclasses import replace

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import DAYS
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.times import make_stamp
from tests.support.catalogues import NOW, REPOSITORY, Parts, a_snapshot, age
from tests.support.retention_tables import a_policy, check


def test_a_future_dated_snapshot_does_not_make_the_newest_one_superfluous():
    check("""
        content 20d   remove
        content 9d    keep
        content -3d   keep    dated in the future
    """)


def test_the_content_of_a_kept_set_is_kept_with_it_and_the_rest_goes_with_the_window():
    check("""
        content 20d  remove  started before the recovery window
        set 8d       keep
        content 7d12h remove
        content 7d6h keep    the last snapshot before the recovery window
        content 6d   keep
        set 1d       keep
    """)


def test_the_content_of_a_kept_set_is_kept_even_where_another_one_came_first():
    check("""
        set 8d         keep  the newest base backup before
        content 7d23h30m  keep  the first snapshot that started after base backup
        content 7d1h   keep  the last snapshot before
        set 1d         keep
    """)


def test_the_first_content_after_a_base_without_its_own_is_kept_while_the_base_is():
    check("""
        set 9d parts=base   keep    the newest base backup before
        content 8d23h       keep    the first snapshot that started after base backup
        content 8d22h       remove
        content 7d1h        keep    the last snapshot before
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
        content 20d store=deleted   keep     the last snapshot before
        content 4d2h store=deleted  remove
        content 4d1h store=deleted  keep
        content 30d                 keep     the last snapshot before
    """)


def test_the_newest_snapshot_of_a_store_is_kept_however_old():
    check("content 300d keep")


def test_configuration_stays_with_its_base_and_while_it_is_young():
    check("""
        set 30d parts=configuration  remove  its base backup is not kept
        set 9d                       keep
        set 3d parts=configuration   keep    within
        set 1d                       keep
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


def test_nothing_goes_while_all_bases_are_missing_although_the_archive_knows_of_some():
    check("""
        content 30d  remove  started before the recovery window
        content 20d  keep    the last snapshot before
        content 1d   keep
    """)
    check("""
        set 30d parts=content,configuration  keep  a file system may not be mounted
        content 20d  keep
        content 1d   keep
        walfile 000000010000000000000007.00000028.backup  keep
    """)


@pytest.mark.parametrize("links", [[], None])
def test_day_trees_stay_when_no_link_of_a_snapshot_is_seen_or_understood(links):
    parts = Parts()
    days = {"2026/1/1": DayVersion(make_stamp(NOW - age("1d")), None, 1, 5, 100)}
    parts.snapshots.append(replace(a_snapshot(NOW - age("1d")), days=days))
    parts.add_days(make_stamp(NOW - age("30d")), ["2026/1/1"])
    if links is not None:
        parts.refer(parts.snapshots[0].path, links)
    with pytest.raises(BackupError, match="none of its links leads to days; retention removes nothing"):
        plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), a_policy(), NOW)
