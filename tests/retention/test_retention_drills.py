"""Retention knows what restore drills found: a damaged set never replaces a sound one."""

from datetime import timedelta
from pathlib import Path

from alfresco_backup.backup.proof import Proof, write_proof
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from tests.support.catalogues import NOW
from tests.support.repository_on_disk import DiskRepository
from tests.support.retention_tables import check


def test_nine_damaged_sets_do_not_replace_the_older_one_that_a_drill_verified():
    damaged = "".join(f"        set {age}d  drill=damaged  keep\n" for age in range(1, 9))
    check(f"""
        set 12d drill=damaged   remove
        set 11d drill=verified  keep    the newest set that a restore drill verified
{damaged}
    """)


def test_the_wal_from_a_verified_set_on_is_kept_while_every_newer_base_backup_is_damaged():
    check("""
        set 11d drill=verified  keep    the newest base backup before the recovery window
        wal 12d                 remove
        wal 10d                 keep
        set 8d  drill=damaged   keep
        wal 8d                  keep
        set 1d  drill=damaged   keep
    """)


def test_with_a_newer_sound_base_backup_a_verified_set_keeps_its_own_wal_only():
    check("""
        set 11d drill=verified  keep    the newest set that a restore drill verified
        wal 10d                 remove
        set 8d                  keep    the newest base backup before the recovery window
        wal 7d20h               keep
        set 1d                  keep
    """)


def test_a_verified_set_goes_once_a_newer_one_is_verified():
    check("""
        set 11d drill=verified  remove
        set 8d                  keep
        set 2d  drill=verified  keep    ended within
    """)


def test_damaged_sets_do_not_count_for_the_minimum_redundancy_where_there_are_others():
    check(
        """
        set 30d                 remove
        set 25d                 keep    one of the 2 newest complete sets
        set 20d                 keep    the newest base backup before the recovery window
        set 12d drill=damaged   remove
        set 10d drill=damaged   keep    the newest base backup
    """,
        window=1,
    )


def test_damaged_sets_are_kept_where_there_are_no_others():
    check(
        """
        set 12d drill=damaged   keep
        set 10d drill=damaged   keep
    """,
        window=1,
    )


def test_retention_reads_the_results_of_drills_from_the_repository(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path)
    stamps = [disk.run("30d"), disk.run("20d"), disk.run("2d"), disk.run("1d")]
    for stamp, missing in zip(stamps[1:], (0, 2, 2), strict=True):
        base = disk.repository.postgres / f"base-{stamp}"
        write_proof(base, Proof(stamp, NOW - timedelta(hours=1), None, 60.0, 10, missing))
    carry_out(make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW))
    left = sorted(path.name.removeprefix("base-") for path in disk.repository.postgres.iterdir())
    assert left == stamps[1:]


def test_the_last_sets_not_found_damaged_stay_although_they_are_of_another_cluster():
    check("""
        set 11d cluster=old             keep  which does not cover the recovery window of 7 days safely yet
        set 10d cluster=old             keep
        set 9d cluster=new drill=damaged  remove
        set 8d cluster=new drill=damaged  keep
        set 1d cluster=new drill=damaged  keep
    """)


def test_without_a_history_the_newest_sound_base_backup_of_each_timeline_before_stays():
    check(
        """
        set 14d                   remove
        set 12d                   keep    whose start on timeline 3 it reaches
        set 9d drill=damaged      keep    whose start on timeline 3 it reaches
        wal 2d timeline=3         keep
        set 1d timeline=3         keep
    """,
        redundancy=1,
    )
