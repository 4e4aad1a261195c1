"""How far behind the stream is, and when a person is told. Pure: what server and receiver say is given."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.settings.model import Settings
from alfresco_backup.streaming.report import judge_streaming
from alfresco_backup.streaming.slot import LONGEST, Slot, must_go, slot_name
from alfresco_backup.streaming.state import ReceiverState

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MIB = 1 << 20


def settings(seconds: int = 300) -> Settings:
    return Settings(
        pghost="localhost",
        pguser="alfresco",
        backup_dir="/backup",
        alf_base_dir="/opt/alfresco",
        alf_host_name="alf-1.example",
        wal_streaming=True,
        wal_streaming_max_lag_seconds=seconds,
    )


GOOD = Slot(
    NOW,
    Lsn(50 * MIB),
    active=True,
    restart=Lsn(48 * MIB),
    status="reserved",
    flushed=Lsn(50 * MIB),
    lag=0.006,
)
HEARD = ReceiverState(slot_name("alf-1.example"), "7000", NOW - timedelta(seconds=20), "0/3200000", 0, 0.006)


def judged(
    slot: Slot | None, state: ReceiverState | None = HEARD, unasked: str = ""
) -> list[tuple[str, str]]:
    found = judge_streaming(settings(), slot, unasked, state, NOW)
    return [(item.level, item.sentence) for item in found]


def test_a_stream_that_is_well_says_how_far_behind_the_commits_are_safe() -> None:
    assert judged(GOOD) == [
        (
            "ok",
            "commits are safe up to 0 bytes behind, 6 ms when last measured; the server keeps 2.0 MiB of WAL "
            "for it, wal_status reserved",
        )
    ]
    [(_, busy)] = judged(replace(GOOD, flushed=Lsn(50 * MIB - 90), silence=0.002))
    assert busy.startswith("commits are safe up to 8 ms behind (90 bytes); ")
    [(_, before_10)] = judged(replace(GOOD, lag=None, status="", flushed=Lsn(49 * MIB)))
    assert before_10.startswith("commits are safe up to 1,048,576 bytes behind; ")


def test_a_receiver_that_is_down_is_an_error_only_once_the_limit_has_passed() -> None:
    down = replace(GOOD, active=False, flushed=None)
    [(level, sentence)] = judged(down)
    assert level == "warning"
    kept = "the receiver is down; the server keeps 2.0 MiB of WAL for it"
    assert sentence.startswith(f"{kept}; commits are safe up to 0/3200000, received until ")
    late = replace(HEARD, heard_at=NOW - timedelta(seconds=301))
    assert judged(down, late)[0][0] == "error"
    assert judged(down, None) == [("error", f"{kept}; it was never seen to have caught up")]


@pytest.mark.parametrize(
    ("silence", "level", "words"), [(270.0, "ok", "4 min 30 s"), (301.0, "error", "5 min 01 s")]
)
def test_a_receiver_that_answers_no_more_is_as_far_behind_as_its_silence_is_long(
    silence: float, level: str, words: str
) -> None:
    """The server goes on stating the lag that it measured last."""
    stuck = replace(GOOD, flushed=Lsn(10 * MIB), lag=0.006, silence=silence)
    [(found, sentence)] = judged(stuck)
    assert found == level
    assert sentence.startswith(f"commits are safe up to {words} behind (41,943,040 bytes); ")
    assert judged(replace(stuck, lag=None))[0][0] == level, "though it has never measured any"
    assert judged(replace(stuck, flushed=stuck.current))[0][0] == "ok", "nothing is missing"


def test_a_receiver_that_is_catching_up_claims_no_time_and_is_an_error_once_the_limit_has_passed() -> None:
    behind = replace(GOOD, flushed=Lsn(10 * MIB), lag=0.006, silence=0.0, catching_up=True)
    [(level, sentence)] = judged(behind)
    words = "the receiver is catching up; 40.0 MiB of WAL is on the server only"
    assert level == "warning"
    assert sentence.startswith(f"{words}; commits are safe up to 0/3200000, received until ")
    late = replace(HEARD, heard_at=NOW - timedelta(seconds=301))
    assert judged(behind, late)[0][0] == "error"
    assert judged(behind, None) == [("warning", words)]
    assert behind.age is None


def test_lag_beyond_the_limit_counts_only_while_something_is_missing() -> None:
    slow = replace(GOOD, lag=400.0, flushed=Lsn(40 * MIB))
    assert judged(slow)[0][0] == "error"
    assert judged(replace(slow, flushed=slow.current))[0][0] == "ok"


def test_a_server_that_is_gone_leaves_what_was_noted() -> None:
    [(level, sentence)] = judged(None, unasked="Connection refused")
    assert level == "warning"
    assert sentence.startswith(
        "the server cannot be asked: Connection refused; commits are safe up to 0/3200000"
    )
    [(level, sentence)] = judged(None)
    assert (level, sentence.partition(";")[0]) == (
        "warning",
        "the server has no replication slot alfresco_backup_alf_1_example",
    )


def test_what_the_archive_does_not_take_and_what_was_lost_is_told_beside_it() -> None:
    refused = replace(
        HEARD,
        failing_since=NOW - timedelta(hours=1),
        error="X exists with other content",
        lost_at=NOW - timedelta(hours=2),
        lost="WAL is received from segment Y on",
    )
    assert [level for level, _ in judged(GOOD, refused)] == ["ok", "error", "warning"]
    assert judged(replace(GOOD, status="lost"))[1][0] == "warning"


@pytest.mark.parametrize(
    ("host", "name"),
    [("alf1", "alfresco_backup_alf1"), ("Alf-1.example.org", "alfresco_backup_alf_1_example_org")],
)
def test_the_slot_is_named_after_the_host(host: str, name: str) -> None:
    assert slot_name(host) == name
    assert len(slot_name("x" * 200)) == LONGEST


def test_the_disk_guard_drops_a_slot_only_where_it_is_what_fills_the_disk() -> None:
    keeping = replace(GOOD, restart=Lsn(0), current=Lsn(2000 * MIB))
    assert must_go(keeping, free=900 * MIB, total=10_000 * MIB)
    assert not must_go(keeping, free=1100 * MIB, total=10_000 * MIB), "more than a tenth is free"
    assert not must_go(keeping, free=2100 * MIB, total=90_000 * MIB), "something else fills the disk"
    assert not must_go(replace(keeping, limited=True), free=1, total=10_000 * MIB), "the server limits it"
