"""Which days a snapshot copies, compares and keeps, and which requests and stores are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.contentstore.plan import (
    Previous,
    SnapshotOptions,
    SnapshotRequest,
    check_request,
    folders_above,
    missing_content,
    plan_snapshot,
    split_shares,
    trusted_fingerprint,
)
from alfresco_backup.contentstore.rsync import RsyncOutput, unescape
from alfresco_backup.contentstore.scan import SECOND_NS, Container, Scan, Seen
from alfresco_backup.errors import Refused
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import StoreRepository

HOUR = 3600
NOW = 1_780_000_000
OPTIONS = SnapshotOptions(hot_window_hours=48, tick_seconds=2)


def seen(fingerprint: str = "a", hours_ago: float = 1000) -> Seen:
    moment = int((NOW - hours_ago * HOUR) * SECOND_NS)
    return Seen(fingerprint, moment, moment, 10)


def scan(**days: Seen) -> Scan:
    return Scan(Path("/store"), NOW * SECOND_NS, {}, days, {})


def previous(hours_ago: float = 24, **fingerprints: str | None) -> Previous:
    days = {path: DayVersion("v1", value, 10, 20, 30) for path, value in fingerprints.items()}
    started = int((NOW - hours_ago * HOUR) * SECOND_NS)
    return Previous("20260101T000000Z", Path("/snapshot"), started, days)


def test_without_a_previous_snapshot_every_day_is_copied() -> None:
    plan = plan_snapshot(scan(day=seen()), None, OPTIONS, "quick")
    assert plan.days.copy == {"day": "not in the previous snapshot"}


def test_an_unchanged_old_day_is_kept_in_its_version() -> None:
    plan = plan_snapshot(scan(day=seen()), previous(day="a"), OPTIONS, "quick")
    assert plan.days.keep == {"day": DayVersion("v1", "a", 10, 20, 30)}
    assert not plan.days.copy and not plan.days.compare


def test_a_day_with_another_fingerprint_is_copied() -> None:
    plan = plan_snapshot(scan(day=seen("b")), previous(day="a"), OPTIONS, "quick")
    assert plan.days.copy == {"day": "changed"}


def test_a_day_without_a_trusted_fingerprint_is_copied() -> None:
    plan = plan_snapshot(scan(day=seen()), previous(day=None), OPTIONS, "quick")
    assert plan.days.copy == {"day": "changed while the previous snapshot began"}


def test_a_day_within_the_hot_window_is_compared() -> None:
    plan = plan_snapshot(scan(day=seen(hours_ago=47)), previous(day="a"), OPTIONS, "quick")
    assert plan.days.compare == {"day": "within the hot window"}


def test_a_day_that_was_hot_at_the_previous_snapshot_is_compared_however_long_ago_that_was() -> None:
    week = 7 * 24
    grew_then = scan(day=seen(hours_ago=week + 1))
    assert plan_snapshot(grew_then, previous(week, day="a"), OPTIONS, "quick").days.compare
    assert plan_snapshot(grew_then, previous(24, day="a"), OPTIONS, "quick").days.keep


def test_a_full_run_compares_every_known_day_and_copies_new_ones() -> None:
    plan = plan_snapshot(scan(old=seen(), new=seen()), previous(old="a"), OPTIONS, "full")
    assert plan.days.compare == {"old": "full run"}
    assert list(plan.days.copy) == ["new"]


def test_a_day_that_is_gone_is_named() -> None:
    assert plan_snapshot(scan(), previous(day="a"), OPTIONS, "quick").days.gone == ("day",)


@pytest.mark.parametrize(("seconds_ago", "trusted"), [(2.1, True), (1.9, False), (0, False), (-60, False)])
def test_a_fingerprint_is_trusted_only_when_clearly_older_than_the_scan(
    seconds_ago: float, trusted: bool
) -> None:
    changed = int((NOW - seconds_ago) * SECOND_NS)
    day = Seen("a", 0, changed, 1)
    assert (trusted_fingerprint(day, scan(), OPTIONS) == "a") is trusted


def test_shares_are_even_and_none_is_trifling() -> None:
    weights = {f"day{number}": 100 + number for number in range(40)}
    shares = split_shares(weights, 4)
    sizes = [sum(weights[path] for path in share) for share in shares]
    assert len(shares) == 4 and max(sizes) - min(sizes) < 150
    assert sorted(path for share in shares for path in share) == sorted(weights)
    assert split_shares({"a": 5, "b": 5}, 4) == [["a", "b"]]


def test_a_snapshot_that_is_not_later_than_the_newest_is_refused(tmp_path: Path) -> None:
    request = SnapshotRequest(
        "contentstore", tmp_path / "live", StoreRepository(tmp_path / "b"), "20260101T000000Z", tmp_path / "l"
    )
    with pytest.raises(Refused, match=r"20260101T000000Z is not later than the newest .* 20260101T000000Z"):
        check_request(request, "20260101T000000Z")
    check_request(request, "20251231T235959Z")


def test_an_unknown_mode_is_refused_with_those_there_are(tmp_path: Path) -> None:
    repository = StoreRepository(tmp_path / "b")
    request = SnapshotRequest(
        "contentstore", tmp_path / "live", repository, "20260101T000000Z", tmp_path / "l", "fast"
    )
    with pytest.raises(Refused, match="mode='fast': one of quick, full, checksum is expected"):
        check_request(request, None)


@pytest.mark.parametrize(("live", "backup"), [("a", "a/backup"), ("a/live", "a"), ("a", "a")])
def test_a_backup_inside_its_store_is_refused(tmp_path: Path, live: str, backup: str) -> None:
    repository = StoreRepository(tmp_path / backup)
    request = SnapshotRequest("contentstore", tmp_path / live, repository, "20260101T000000Z", tmp_path / "l")
    with pytest.raises(Refused, match="are inside each other"):
        check_request(request, None)


def store_of(*days: str, folders: tuple[str, ...] = ()) -> Scan:
    """A store of these days, with their folders and further ones."""
    every = sorted({folder for day in days for folder in folders_above(day)} | {"", *folders})
    containers = {path: Container(path, 0o755, 0, 0, 0, (1, number)) for number, path in enumerate(every)}
    return Scan(Path("/store"), NOW * SECOND_NS, containers, dict.fromkeys(days, seen()), {})


def snapshot_of(*days: str) -> Previous:
    return previous(24, **dict.fromkeys(days, "a"))


HELD = "held content in snapshot 20260101T000000Z and is empty now"
NONE_OF = "days that snapshot 20260101T000000Z holds of"
YEAR = [f"2025/{month}/1" for month in range(1, 13)]


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (store_of("2026/1/1", folders=("volume",)), ["2026/1/1", "volume/2025/1"], f"volume {HELD}"),
        (store_of("a/2026/1", folders=("a/2025",)), ["a/2026/1", "a/2025/1"], f"a/2025 {HELD}"),
        (store_of(folders=("2025", "2025/1")), YEAR, f"the store {HELD}"),
        (store_of("2026/1/1"), YEAR, f"none of the 12 {NONE_OF} the store is there now"),
        (store_of("a/1/1", "b/1/2"), ["a/1/1", "b/1/1", "b/2/1"], f"none of the 2 {NONE_OF} b is there now"),
        (
            store_of("a/1/1", "b/2/1", folders=("b/1",)),
            ["a/1/1", "b/1/1", "b/2/1"],
            f"b/1 {HELD}",
        ),
        (
            store_of(*[f"2024/1/{day}" for day in range(88)]),
            [f"2024/1/{day}" for day in range(98)],
            "10 of the 98 days that snapshot 20260101T000000Z holds are gone",
        ),
    ],
)
def test_a_store_that_lost_much_is_taken_for_unmounted(now: Scan, before: list[str], said: str) -> None:
    assert missing_content(now, snapshot_of(*before)) == f"/store: {said}"
    assert missing_content(now, Previous("2026-01-01_00-00-00", Path("/s"), held=frozenset(before)))


def loose_store(*files: str, folders: tuple[str, ...] = ()) -> Scan:
    """A store of files above the depth of days, with their folders and further ones."""
    found = store_of(*files, folders=folders)
    return Scan(found.source, found.started_ns, found.containers, {}, found.days)


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (loose_store(), ["a.bin", "b.bin"], f"the store {HELD}"),
        (loose_store(), ["a/b.bin"], f"the store {HELD}"),
        (loose_store("c.bin", folders=("a",)), ["c.bin", "a/b.bin"], f"a {HELD}"),
        (loose_store("c.bin"), ["a.bin", "b.bin"], ""),
        (loose_store("c.bin"), ["c.bin", "a/b.bin"], ""),
    ],
)
def test_a_store_without_day_folders_that_was_emptied_is_taken_for_unmounted(
    now: Scan, before: list[str], said: str
) -> None:
    known = replace(snapshot_of(), loose=snapshot_of(*before).days)
    assert missing_content(now, known) == (f"/store: {said}" if said else "")
    legacy = Previous("2026-01-01_00-00-00", Path("/s"), held_loose=frozenset(before))
    assert bool(missing_content(now, legacy)) is bool(said)


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (store_of("2026/1/1"), ["2026/1/1", "2025/1/1", "2025/1/2"]),
        (store_of("2026/1/2"), ["2026/1/1"]),
        (store_of("2026/1/1", folders=("2026/2",)), ["2026/1/1"]),
        (store_of(*YEAR[9:]), YEAR),
        (
            store_of(*[f"2024/1/{day}" for day in range(90)]),
            [f"2024/1/{day}" for day in range(100)],
        ),
    ],
)
def test_days_that_are_deleted_with_their_folders_and_new_ones_are_no_missing_mount(
    now: Scan, before: list[str]
) -> None:
    assert missing_content(now, snapshot_of(*before)) == ""


def test_names_that_rsync_escapes_are_read_back() -> None:
    assert unescape(r"20\#01226/\#134#012/\#303\#274\#377") == "20\n26/\\#012/ü\udcff"


def test_differences_that_rsync_names_are_assigned_to_their_day() -> None:
    output = RsyncOutput(keep_line=lambda line: None)
    for line in (
        ">f.s....... 2026/1/2/3/4/a.bin",
        "*deleting   2026/1/3/3/4/b.bin",
        ".d...p..... 2026/1/4/",
        ".d...p..... 2026/1/",
        'file has vanished: "/store/2026/1/5/6/7/c.bin"',
    ):
        output.on_compare_line(line)
    assert output.differing == {"2026/1/2", "2026/1/3", "2026/1/4"}
    assert output.vanished == 1
