"""Retention of the WAL archive as cases."""

from tests.support.retention_tables import check


def test_wal_without_any_base_is_kept_until_there_is_one():
    check("""
        wal 20d  keep  there is no base backup yet
        wal 1h   keep  there is no base backup yet
    """)


def test_wal_goes_back_to_the_start_of_the_oldest_kept_base():
    check("""
        set 12d   remove
        wal 12d   remove  no kept base backup needs WAL that old
        wal 8d1h  remove  no kept base backup needs WAL that old
        set 8d    keep
        wal 8d    keep    needed from base backup
        wal 7d20h keep
        wal 1h    keep
        set 1d    keep
        set 2d    keep
    """)


def test_the_minimum_redundancy_holds_wal_as_well():
    check("""
        wal 41d  remove
        set 40d  keep
        wal 40d  keep   needed from base backup
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
        walfile 0000000100000000FFFFFFFF  keep  needed from base backup
    """)


def test_a_base_that_cannot_be_read_is_kept_reported_and_keeps_the_wal_of_its_time():
    check("""
        problem 5d  keep    its metadata backup.json is missing
        wal 6d      remove
        wal 5d      keep    a base backup of that time cannot be read and may need it
        wal 4d      keep
        set 2d      keep
        set 1d      keep
    """)


def test_the_wal_of_the_window_stays_while_the_base_that_leads_into_it_cannot_be_read():
    check("""
        problem 12d  keep
        wal 11d      remove
        problem 9d   keep
        wal 9d       keep    a base backup of that time cannot be read and may need it
        wal 6d       keep
        wal 3d       keep
        set 2d       keep
        set 1d       keep
    """)


def test_a_base_that_cannot_be_read_holds_no_wal_once_it_left_the_window():
    check("""
        problem 20d keep
        wal 20d     remove
        set 8d      keep
        set 1d      keep
    """)


def test_wal_of_the_window_stays_from_a_base_on_that_postgresql_noted_and_that_is_not_seen():
    check("""
        wal 6d                          remove  no kept base backup needs WAL that old
        wal 5d                          keep    is missing; a file system may not be mounted
        wal 5d suffix=.00000028.backup  keep    is missing; a file system may not be mounted
        wal 4d                          keep    is missing; a file system may not be mounted
        wal 1d suffix=.00000028.backup  keep    needed from base backup
        wal 1d                          keep    needed from base backup
        set 1d                          keep
    """)


def test_a_noted_base_that_is_not_seen_holds_no_wal_once_it_left_the_window():
    check("""
        wal 9d suffix=.00000028.backup  remove
        wal 9d                          remove
        wal 2d                          remove
        set 1d                          keep
    """)


def test_the_wal_of_a_base_that_cannot_be_read_stays_where_the_servers_clock_is_behind():
    """Less than an hour between two clocks is no reason for retention to wait."""
    check("""
        problem 5d  keep
        wal 5d2h    remove
        wal 5d50m   keep    a base backup of that time cannot be read and may need it
        set 2d      keep
        set 1d      keep
    """)


def test_a_base_of_another_timeline_does_not_stand_for_one_that_cannot_be_read():
    check("""
        set 12d timeline=2 keep    whose start on timeline 2 it reaches
        history 2 left=13d keep
        wal 2d timeline=2  keep
        problem 9d         keep
        wal 8d             keep    a base backup of that time cannot be read and may need it
        set 2d             keep
        set 1d             keep
    """)
