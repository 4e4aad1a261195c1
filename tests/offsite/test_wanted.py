"""What a fetch brings: WAL from the base backup to the target time, on every timeline; days of a run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.offsite.wanted import Piece, Unit, wal_needed
from alfresco_backup.postgres.wal_files import ArchivedFile, Lsn, named_file
from tests.support.catalogues import a_base

START = datetime(2026, 11, 22, 2, tzinfo=UTC)
SIZE = 16 << 20
BASE = replace(a_base(START), segment_size=SIZE, start_lsn=Lsn(3 * SIZE + 40), stop_lsn=Lsn(4 * SIZE + 8))


def archive(*, marker: bool = True) -> list[ArchivedFile]:
    """A segment a minute from number 1 on; at 8 a second timeline begins."""
    files = [segment(1, number) for number in range(1, 9)] + [segment(2, number) for number in range(8, 12)]
    files.append(named_file("00000002.history", 40, START))
    files.append(named_file("000000010000000000000003.00000028.backup", 300, START))
    return [*files, *([named_file("system-identifier", 20, START)] if marker else [])]


def segment(timeline: int, number: int) -> ArchivedFile:
    name = f"{timeline:08X}00000000{number:08X}.zst"
    return named_file(name, 100, START + timedelta(minutes=number))


def numbers(files: list[ArchivedFile]) -> list[str]:
    return [f"{file.name[7]}-{file.name[23]}" for file in files if file.kind == "segment"]


def needed(until: datetime | None, *, marker: bool = True) -> list[ArchivedFile]:
    return list(wal_needed(archive(marker=marker), BASE, until))


def test_without_a_target_time_all_from_the_start_of_the_base_backup_on() -> None:
    assert numbers(needed(None)) == ["1-3", "1-4", "1-5", "1-6", "1-7", "1-8", "2-8", "2-9", "2-A", "2-B"]


def test_to_a_target_time_the_first_segment_written_after_it_and_the_next_one_of_each_timeline() -> None:
    assert numbers(needed(START + timedelta(minutes=5))) == ["1-3", "1-4", "1-5", "1-6", "1-7", "2-8", "2-9"]


def test_never_less_than_the_base_backup_itself_needs() -> None:
    assert numbers(needed(START))[:3] == ["1-3", "1-4", "1-5"]


def test_histories_labels_and_the_marker_always_come() -> None:
    names = {file.name for file in needed(START + timedelta(minutes=5)) if file.kind != "segment"}
    assert names == {
        "00000002.history",
        "000000010000000000000003.00000028.backup",
        "system-identifier",
    }


def test_an_archive_that_a_plain_cp_filled_does_not_tell_when_a_segment_was_written_so_all_of_it_comes() -> (
    None
):
    assert numbers(needed(START, marker=False)) == numbers(needed(None))


def piece(days: int) -> Piece:
    """A run's days with their lists, and its snapshot."""
    paths = [
        f"contentstore/days/{where}/2026/11/{day}" for day in range(days) for where in ("S", "S.checksums")
    ]
    return Piece("S", "1a2b", tuple(Unit(Path(path), 1) for path in (*paths, "contentstore/contentstore-S")))


def test_of_a_run_with_thousands_of_wanted_days_restic_is_asked_for_all_of_them_by_two_paths() -> None:
    assert len(piece(20).included) == 41
    assert piece(2000).included == (
        "/contentstore/days/S",
        "/contentstore/days/S.checksums",
        "/contentstore/contentstore-S",
    )
