"""Timeline histories, and whether a base backup lies on the way to a timeline."""

from datetime import UTC, datetime

import pytest
import zstandard

from alfresco_backup.postgres.timelines import parse_history, path_to, read_histories
from alfresco_backup.postgres.wal_files import Lsn, Segment, list_archive
from alfresco_backup.repository.layout import Repository
from alfresco_backup.wal.timelines import OwnTimelines, TimelineRecord, read_timelines, write_timelines

MIB = 1 << 20
THREE = (
    "1\t0/5000060\tbefore 2026-11-22 10:00:00+00\n\n# a remark\n2\t0/9000000\tno recovery target specified\n"
)


def lsn(text: str) -> Lsn:
    return Lsn.parse(text)


def test_a_history_names_each_ancestor_where_it_was_left_and_why():
    path = parse_history(3, THREE)
    assert [(span.timeline, str(span.start), str(span.end) if span.end else None) for span in path.spans] == [
        (1, "0/0", "0/5000060"),
        (2, "0/5000060", "0/9000000"),
        (3, "0/9000000", None),
    ]
    assert [span.reason for span in path.spans] == [
        "before 2026-11-22 10:00:00+00",
        "no recovery target specified",
        "",
    ]
    assert (path.timeline, path.fork) == (3, lsn("0/9000000"))


@pytest.mark.parametrize(
    ("number", "size", "timeline"),
    [
        (4, 16, 1),
        (5, 16, 2),  # left within segment 5: the new timeline's file holds both parts
        (8, 16, 2),
        (9, 16, 3),  # left at the first byte of segment 9
        (4, 1, 1),
        (0x50, 1, 2),
        (0x8F, 1, 2),
        (0x90, 1, 3),
    ],
)
def test_recovery_reads_the_fork_segment_from_the_newer_timeline(number, size, timeline):
    assert parse_history(3, THREE).segment(number, size * MIB) == Segment(timeline, number)


def test_two_forks_within_one_segment_leave_it_to_the_newest_timeline():
    path = parse_history(4, "1\t0/5000060\tx\n2\t0/5000100\ty\n3\t0/5000200\tz\n")
    assert path.segment(5, 16 * MIB) == Segment(4, 5)
    assert path.segment(4, 16 * MIB) == Segment(1, 4)


@pytest.mark.parametrize(
    ("timeline", "text", "words"),
    [
        (3, "1\n", "line 1 of timeline 3's history is no 'timeline position reason'"),
        (3, "one\t0/5000060\tx\n", "line 1 of timeline 3's history is no"),
        (3, "1\t0/5000060\tx\n\nrubbish\n", "line 3 of timeline 3's history is no"),
        (3, "3\t0/5000060\tx\n", "line 1 of timeline 3's history names timeline 3 out of order"),
        (
            4,
            "2\t0/5000060\tx\n1\t0/6000000\tx\n",
            "line 2 of timeline 4's history names timeline 1 out of order",
        ),
        (2, "", "timeline 2's history is empty: it names no timeline before it"),
        (2, "# a comment\n", "timeline 2's history is empty"),
        (4, "1\t0/5000060\tx\n2\t0/4000000\tx\n", "goes back from 0/5000060 to 0/4000000"),
    ],
)
def test_a_history_that_makes_no_sense_is_refused_with_its_line(timeline, text, words):
    with pytest.raises(ValueError, match=words):
        parse_history(timeline, text)


@pytest.mark.parametrize(
    ("timeline", "start", "stop", "words"),
    [
        (1, "0/2000028", "0/2000100", ""),
        (1, "0/4FFFFFF", "0/5000060", ""),
        (1, "0/4000028", "0/5000061", "leaves timeline 1 at 0/5000060, before the base ended at 0/5000061"),
        (1, "0/6000028", "0/6000100", "leaves timeline 1 at 0/5000060, before the base ended at 0/6000100"),
        (2, "0/6000028", "0/6000100", ""),
        (2, "0/4000028", "0/6000100", "started at 0/4000028, before timeline 2 began at 0/5000060"),
        (3, "0/9000028", "0/9000100", ""),
        (4, "0/9000028", "0/9000100", "timeline 3 does not descend from timeline 4"),
    ],
)
def test_a_base_leads_to_a_timeline_only_if_it_ended_before_the_fork(timeline, start, stop, words):
    answer = parse_history(3, THREE).why_not(timeline, lsn(start), lsn(stop))
    assert words in answer
    assert bool(answer) == bool(words)


def test_a_timeline_without_history_has_no_known_ancestors():
    path = path_to(2, {})
    assert [span.timeline for span in path.spans] == [2]
    assert (
        path.why_not(1, lsn("0/2000028"), lsn("0/2000100")) == "timeline 2 does not descend from timeline 1"
    )
    assert path.why_not(2, lsn("0/2000028"), lsn("0/2000100")) == ""


def test_histories_are_read_from_the_archive_and_bad_ones_reported(tmp_path):
    (tmp_path / "00000002.history").write_text("1\t0/5000060\tx\n")
    (tmp_path / "00000003.history.zst").write_bytes(zstandard.compress(THREE.encode()))
    (tmp_path / "00000004.history").write_text("what is this")
    (tmp_path / "00000005.history").write_bytes(b"\xff\xfe")
    histories = read_histories(tmp_path, list_archive(tmp_path))
    assert {timeline: len(path.spans) for timeline, path in histories.paths.items()} == {2: 2, 3: 3}
    assert set(histories.unreadable) == {"00000004.history", "00000005.history"}
    assert "line 1 of timeline 4's history" in histories.unreadable["00000004.history"]


def test_what_audits_and_restores_recorded_is_read_as_it_was_written(tmp_path):
    when = datetime(2026, 11, 22, 10, tzinfo=UTC)
    record = TimelineRecord().with_live("7123", 2, when).with_earlier("7123", [4]).with_live("7123", 1, when)
    write_timelines(Repository(tmp_path), record)
    assert read_timelines(Repository(tmp_path)) == record
    assert record.of("7123") == OwnTimelines(1, when, frozenset({1, 2, 4}))
    assert record.of("7124") == OwnTimelines()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 1}',
        '{"schema": 1, "clusters": []}',
        '{"schema": 1, "clusters": {"7": 1}}',
        '{"schema": 1, "clusters": {"7": {"live": 0, "seen_at": null, "earlier": []}}}',
        '{"schema": 1, "clusters": {"7": {"live": 1, "seen_at": "2026-11-22", "earlier": []}}}',
        '{"schema": 1, "clusters": {"7": {"live": 1, "seen_at": null, "earlier": [4294967296]}}}',
    ],
)
def test_a_damaged_record_is_none_and_says_so(tmp_path, text):
    Repository(tmp_path).timelines.write_text(text)
    assert read_timelines(Repository(tmp_path)) == TimelineRecord(defect="is damaged")
