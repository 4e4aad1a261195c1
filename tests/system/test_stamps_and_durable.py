"""Stamps that order the repository, and files that are whole or not there."""

import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.system.files import publish, read_json, write_json, write_text
from alfresco_backup.times import (
    duration_for_people,
    for_people,
    make_stamp,
    next_stamp,
    parse_stamp,
    size_for_people,
)

MOMENT = datetime(2026, 11, 22, 2, 0, 0, 500000, UTC)


def test_a_stamp_is_utc_whatever_zone_the_moment_has() -> None:
    berlin = timezone(timedelta(hours=1))
    assert make_stamp(MOMENT.astimezone(berlin)) == "20261122T020000Z"
    assert parse_stamp("20261122T020000Z") == MOMENT.replace(microsecond=0)


def test_a_naive_time_has_no_stamp() -> None:
    with pytest.raises(ValueError, match="needs an aware time"):
        make_stamp(MOMENT.replace(tzinfo=None))


def test_the_predecessors_local_stamps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = parse_stamp("2026-11-22_03-00-00")
    assert moment.tzinfo is not None
    assert moment.astimezone().strftime("%H:%M:%S") == "03:00:00"


def test_what_is_no_stamp_is_named() -> None:
    for text in ("latest", "20261122", "../../etc", "20261322T020000Z"):
        with pytest.raises(ValueError, match=r"is no backup ID like"):
            parse_stamp(text)


@pytest.mark.parametrize("newest", ["20261122T020000Z", "20261122T020001Z", "20301122T020001Z"])
def test_a_clock_that_went_back_is_refused(newest: str) -> None:
    with pytest.raises(Refused, match=f"the repository already contains {newest}; backup IDs must increase"):
        next_stamp(MOMENT, newest)


def test_a_later_clock_gives_the_next_stamp() -> None:
    assert next_stamp(MOMENT, "20261122T015959Z") == "20261122T020000Z"
    assert next_stamp(MOMENT, None) == "20261122T020000Z"


def test_people_see_local_time_with_its_offset_and_round_numbers() -> None:
    assert for_people(MOMENT)[-6] in "+-"
    assert [duration_for_people(each) for each in (0.44, 12, 245, 11400)] == [
        "0.4 s",
        "12 s",
        "4 min 05 s",
        "3 h 10 min",
    ]
    assert [size_for_people(each) for each in (512, 1536, 5 << 40)] == ["512 B", "1.5 KiB", "5.00 TiB"]


def test_a_document_is_written_whole_with_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    write_json(path, {"name": "odd \udcff name"})
    assert read_json(path) == {"schema": 1, "name": "odd \udcff name"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_document(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_json(path, {"no json": object()})
    assert path.read_text() == "old"


def test_a_newer_schema_is_not_misread(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    path.write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="has schema 99, this program reads up to 1"):
        read_json(path)


def test_publishing_never_overwrites(tmp_path: Path) -> None:
    partial, final = tmp_path / "base-x.partial", tmp_path / "base-x"
    partial.mkdir()
    final.mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        publish(partial, final)
    assert partial.is_dir()
    final.rmdir()
    publish(partial, final)
    assert final.is_dir() and not partial.exists()


@pytest.mark.parametrize(
    ("zone", "text"),
    [("Europe/Berlin", "2026-11-22 03:00:00 +01:00"), ("America/St_Johns", "2026-11-21 22:30:00 -03:30")],
)
def test_local_times_have_their_offset_set_off(zone: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert for_people(MOMENT) == text
        assert datetime.fromisoformat(text.replace(" -", "-").replace(" +", "+")) == MOMENT.replace(
            microsecond=0
        )
    finally:
        monkeypatch.undo()
        time.tzset()
