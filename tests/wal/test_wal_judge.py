"""Whether a segment is the one its name says, where one timeline leaves another."""

import pytest

from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.postgres.wal_files import Lsn, Segment, SegmentHeader
from alfresco_backup.wal.judge import judge_header
from tests.support.wal_files import MAGIC_16, OWNER

SIZE = 16 << 20
PATHS = {3: parse_history(3, "1\t0/8000000\tbefore 2000-01-01 00:00:00+00\n")}


@pytest.mark.parametrize(
    ("number", "page_timeline", "problem"),
    [
        (6, 1, "misnamed"),
        (7, 1, ""),  # PostgreSQL 9.4 copies it, whole, under the new timeline's name (measured)
        (7, 2, "misnamed"),
        (8, 1, ""),
        (8, 3, ""),
        (9, 1, "misnamed"),
    ],
)
def test_where_a_timeline_ended_with_a_segment_its_child_may_begin_with_a_copy_of_that(
    number: int, page_timeline: int, problem: str
) -> None:
    header = SegmentHeader(MAGIC_16, page_timeline, Lsn(number * SIZE), OWNER, SIZE)
    assert judge_header(Segment(3, number).name(SIZE), header, OWNER, SIZE, PATHS) == problem


def test_where_a_timeline_ended_within_a_segment_only_that_one_is_copied() -> None:
    paths = {2: parse_history(2, "1\t0/8000028\tno recovery target specified\n")}
    said = {
        number: judge_header(
            Segment(2, number).name(SIZE),
            SegmentHeader(MAGIC_16, 1, Lsn(number * SIZE), OWNER, SIZE),
            OWNER,
            SIZE,
            paths,
        )
        for number in (7, 8, 9)
    }
    assert said == {7: "misnamed", 8: "", 9: "misnamed"}
