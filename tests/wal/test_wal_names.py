"""WAL positions, segment names and headers."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import (
    Lsn,
    Segment,
    SegmentHeader,
    check_segment_size,
    list_archive,
    parse_header,
    parse_segment_name,
    read_segment_header,
    segments_between,
)
from tests.support.wal_files import OWNER, archive_segment, segment_bytes

MIB = 1 << 20

# name, segment size in MiB, timeline, number
NAMES = [
    ("000000010000000000000001", 16, 1, 1),
    ("0000000100000000000000FF", 16, 1, 255),
    ("000000010000000100000000", 16, 1, 256),
    ("0000000A00000123000000AB", 16, 10, 0x123 * 256 + 0xAB),
    ("000000010000000000000FFF", 1, 1, 4095),
    ("000000010000000100000000", 1, 1, 4096),
    ("00000001000000000000003F", 64, 1, 63),
    ("000000010000000100000000", 64, 1, 64),
    ("000000010000000000000003", 1024, 1, 3),
    ("FFFFFFFF0000000200000001", 1024, 0xFFFFFFFF, 9),
]


@pytest.mark.parametrize(("name", "mib", "timeline", "number"), NAMES)
def test_a_segment_name_is_read_and_written_by_its_segment_size(name, mib, timeline, number):
    segment = parse_segment_name(name, mib * MIB)
    assert segment == Segment(timeline, number)
    assert segment.name(mib * MIB) == name


@pytest.mark.parametrize(
    ("name", "mib", "words"),
    [
        ("000000010000000000000100", 16, "cannot name a segment of 16777216 bytes"),
        ("000000010000000000000004", 1024, "cannot name a segment of 1073741824 bytes"),
        ("00000001000000000000001", 16, "expected 24 hexadecimal digits"),
        ("00000001000000000000000g", 16, "expected 24 hexadecimal digits"),
        ("000000010000000000000001.partial", 16, "expected 24 hexadecimal digits"),
        ("000000000000000000000001", 16, "timeline 0 is out of range"),
    ],
)
def test_what_is_no_segment_name_is_refused_by_name(name, mib, words):
    with pytest.raises(ValueError, match=words):
        parse_segment_name(name, mib * MIB)


@pytest.mark.parametrize("size", [0, MIB // 2, 3 * MIB, 16 * MIB + 1, 2048 * MIB])
def test_a_segment_size_is_a_power_of_two_from_1_mib_to_1_gib(size):
    with pytest.raises(ValueError, match=f"WAL segment size {size} is wrong"):
        check_segment_size(size)


def test_the_segment_after_the_last_of_a_step_begins_the_next_step():
    assert parse_segment_name("0000000100000007000000FF", 16 * MIB).next().name(16 * MIB) == (
        "000000010000000800000000"
    )


def test_segments_of_one_timeline_are_ordered_and_those_of_two_refuse():
    assert Segment(1, 4) < Segment(1, 5) <= Segment(1, 5)
    assert Segment(1, 6) > Segment(1, 5) >= Segment(1, 5)
    with pytest.raises(ValueError, match="segments of timelines 1 and 2 have no order"):
        assert Segment(1, 4) < Segment(2, 5)
    with pytest.raises(ValueError, match="have no order"):
        sorted([Segment(2, 1), Segment(1, 1)])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0/0", 0), ("0/2000028", 0x2000028), ("16/B374D848", 0x16B374D848), ("a/b", 0xA0000000B)],
)
def test_a_wal_position_is_read_as_postgresql_writes_it(text, value):
    position = Lsn.parse(text)
    assert int(position) == value
    assert str(position) == f"{position}" == text.upper()


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "0-2000028", "0/200002800", " 0/1"])
def test_what_is_no_wal_position_is_refused(text):
    with pytest.raises(ValueError, match="is not a WAL position"):
        Lsn.parse(text)


def test_wal_positions_have_order_distance_and_a_segment():
    low, high = Lsn.parse("0/1000000"), Lsn.parse("0/1FFFFFF")
    assert low < high
    assert high - low == 0xFFFFFF
    assert low + 0xFFFFFF == high
    assert (low.segment(16 * MIB), high.segment(16 * MIB), high.segment(MIB)) == (1, 1, 31)
    assert Segment(3, 1).start(16 * MIB) == low


@pytest.mark.parametrize(
    ("start", "stop", "numbers"),
    [
        ("0/2000028", "0/2000100", [2]),
        ("0/2000028", "0/3000000", [2]),
        ("0/2000028", "0/3000001", [2, 3]),
        ("0/2000028", "0/5000060", [2, 3, 4, 5]),
        ("0/2000000", "0/2000000", [2]),
    ],
)
def test_a_stop_at_the_end_of_a_segment_does_not_need_the_next(start, stop, numbers):
    segments = segments_between(1, Lsn.parse(start), Lsn.parse(stop), 16 * MIB)
    assert [segment.number for segment in segments] == numbers


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", [MIB, 16 * MIB, 64 * MIB])
def test_the_header_of_a_plain_or_compressed_segment_is_read(tmp_path, size, compressed):
    path = archive_segment(tmp_path, Segment(3, 77), size, compressed=compressed)
    assert read_segment_header(path) == SegmentHeader(0xD110, 3, Lsn(77 * size), OWNER, size)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes are too few"),
        (bytes(8192), "filled with zeros"),
        (b"hello, this is no WAL page, but it is long enough", "is no WAL"),
        (segment_bytes(Segment(1, 1), MIB)[:39], "39 bytes are too few"),
    ],
)
def test_what_does_not_begin_as_a_segment_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        parse_header(content)


def test_a_header_of_something_else_that_is_compressed_is_refused(tmp_path):
    path = tmp_path / "000000010000000000000001.zst"
    path.write_bytes(b"not compressed at all, in spite of the name")
    with pytest.raises(ValueError, match="cannot be decompressed"):
        read_segment_header(path)


def test_the_listing_of_an_archive_tells_kinds_sizes_and_times(tmp_path: Path):
    names = {
        "000000010000000000000001": "segment",
        "000000010000000000000002.zst": "segment",
        "000000010000000000000003.partial": "partial",
        "000000010000000000000003.partial.zst": "partial",
        "00000002.history": "history",
        "000000010000000000000002.00000028.backup": "backup",
        "system-identifier": "marker",
        ".000000010000000000000004.4711.tmp": "temporary",
        "notes.txt": "other",
        "00000001000000000000000z": "other",
    }
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    (tmp_path / "lost+found").mkdir()
    files = list_archive(tmp_path)
    assert {file.name: file.kind for file in files} == names
    assert [file.name for file in files] == sorted(names)
    assert {file.bytes for file in files} == {5}
    assert {file.modified for file in files} == {datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}
    assert {file.wal_name for file in files if file.compressed} == {
        "000000010000000000000002",
        "000000010000000000000003.partial",
    }


def test_an_archive_that_does_not_exist_is_an_error_not_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        list_archive(tmp_path / "unmounted")
