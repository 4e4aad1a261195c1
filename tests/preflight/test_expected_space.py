"""What a run is expected to need: not so much that nothing runs, nor so little that disks fill."""

from dataclasses import replace

from alfresco_backup.backup.space import Expected, expect_base, expect_content
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.records import BaseBackup, Snapshot
from tests.support.catalogues import NOW, a_base, a_snapshot, age

GIB = 1 << 30


def snapshot(when: str, *, size: int, new: int) -> Snapshot:
    """One with a thousand files a GiB."""
    made = a_snapshot(NOW - age(when))
    return replace(made, files=size * 1000, bytes=size * GIB, new_files=new * 1000, new_bytes=new * GIB)


def base(stored: int, wal: int = 0) -> BaseBackup:
    """One while whose copying so much WAL was written."""
    stop = Lsn(5 * GIB + wal * GIB)
    return replace(a_base(NOW - age("1d")), stored_bytes=stored * GIB, start_lsn=Lsn(5 * GIB), stop_lsn=stop)


def test_after_the_first_copy_of_five_terabytes_the_second_needs_a_hundredth() -> None:
    expected = expect_content("contentstore", [snapshot("2d", size=5000, new=5000)])
    assert expected is not None and expected.bytes == 50 * GIB
    assert expected.why == "contentstore: a hundredth of it"
    assert expected.entries == 100_000


def test_later_ones_need_twice_the_largest_recent_new_content() -> None:
    past = [
        snapshot("3d", size=100, new=100),
        snapshot("2d", size=110, new=10),
        snapshot("1d", size=111, new=1),
    ]
    expected = expect_content("contentstore", past)
    assert expected is not None and expected.bytes == 20 * GIB
    assert expected.why == "contentstore: the largest recent new content, twice"


def test_without_a_snapshot_of_ours_there_is_nothing_to_go_by() -> None:
    assert expect_content("contentstore", []) is None
    assert expect_content("contentstore", [a_snapshot(NOW, legacy=True)]) is None


def test_a_base_backup_is_expected_to_be_as_large_as_the_last_ones_are_stored() -> None:
    assert expect_base(300 * GIB, [base(60)], plain_tars=False).bytes == 90 * GIB
    assert expect_base(300 * GIB, [], plain_tars=False) == Expected(300 * GIB, 0, "the database's size")
    assert expect_base(80 * GIB, [base(60)], plain_tars=False).bytes == 80 * GIB


def test_the_wal_of_a_long_copy_lies_in_the_archive_and_is_gathered_beside_the_base() -> None:
    expected = expect_base(300 * GIB, [base(60, wal=20), base(60)], plain_tars=False)
    import_beside = [base(60), base(60), base(60, wal=300)]
    assert expect_base(300 * GIB, import_beside, plain_tars=False).bytes == 90 * GIB
    assert expected.bytes == 130 * GIB and expected.why.endswith(", twice the WAL of its time")


def test_tars_that_are_compressed_afterwards_need_their_own_size_too() -> None:
    expected = expect_base(300 * GIB, [base(60)], plain_tars=True)
    assert expected.bytes == 390 * GIB and "its plain tars" in expected.why
