"""Retention of left-overs and logs as cases, and the plan as people see it."""

from datetime import timedelta

import pytest

from alfresco_backup.times import make_stamp
from tests.support.catalogues import NOW, age
from tests.support.retention_tables import check, plan_of


def test_an_empty_repository_has_an_empty_plan():
    plan = check("")
    assert plan.items == ()
    assert plan.text().startswith("Nothing to remove: the recovery window begins 2026-11-1")
    assert "keep" not in plan.text()


def test_the_first_backup_is_kept_with_all_its_wal():
    check("""
        wal 2h   remove   no kept base backup needs
        set 1h   keep     ended within the recovery window of 7 days
        wal 1h   keep     needed from base backup
        wal 10m  keep
    """)


def test_left_overs_go_once_a_newer_run_of_their_kind_has_finished():
    check("""
        partial 2d                    remove  left by a run that did not finish
        partial 2d of=base            remove
        partial 2d of=configuration   remove
        partial 2d of=days            remove
        set 1d                        keep
        partial 1h                    keep    the next one continues or removes it
        partial 1h of=days            keep
    """)


def test_the_running_runs_parts_and_begun_removals():
    running = make_stamp(NOW - age("1h"))
    check("""
        partial 1h                                keep    belongs to the run in progress
        partial 30d ending=.removed.partial       remove  its removal has begun
        content 10m                               keep
        content 2h                                keep
    """, running=running)  # fmt: skip


def test_metadata_without_its_tree_goes_like_a_left_over():
    check("""
        partial 3d ending=.json  remove
        set 1d                   keep
    """)


def test_logs_go_by_age():
    check("""
        log 91d  remove  older than 90 days
        log 89d  keep    not older than 90 days
    """)


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
        "To remove: 1 snapshot, 1 configuration, 1 base backup, 2 WAL files, at least 33.0 MiB."
    )
    (wal,) = [row for row in plan.rows() if row["what"] == "WAL file"]
    assert wal["verdict"] == "remove"
    assert wal["size"] == "32.0 MiB"
    assert wal["which"].startswith("pg_wal/000000010000")
    assert wal["which"].endswith("(2)")
    assert {row["verdict"] for row in plan.rows() if row["what"] == "base backup"} == {"keep", "remove"}


def test_the_plan_on_a_terminal_names_what_goes_before_what_stays():
    plan, _ = plan_of("""
        set 20d  remove
        set 8d   keep
        set 1d   keep
    """)
    gone, kept = plan.text().split("\nkeep:\n")
    assert gone.startswith(plan.summary())
    assert "\nremove:\n  contentstore/contentstore-20261102T120000Z\n      started before" in gone
    assert "  postgres/base-20261102T120000Z  976.6 KiB\n      ended before the recovery window" in gone
    assert "  postgres/base-20261121T120000Z  976.6 KiB\n      ended within the recovery window" in kept


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
