"""How far the sending is, as restic tells it."""

import json
from pathlib import Path

import pytest

from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.far import FarSide, FarSnapshot
from alfresco_backup.times import for_people
from tasks.offsite.copy import set_rows
from tests.support.far_sides import FarDisk, at

LINES: tuple[dict[str, object], ...] = (
    {"message_type": "status", "total_files": 3, "total_bytes": 1200, "bytes_done": 1000},
    {"message_type": "status", "total_bytes": 9_000_000, "bytes_done": 5000, "seconds_remaining": 40},
    {"message_type": "status", "total_bytes": 9_000_000, "bytes_done": 9_000_000},
    {"message_type": "summary", "snapshot_id": "a" * 64, "data_added": 7},
)


def test_a_total_that_is_still_being_counted_is_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "restic").write_text("#!/bin/sh\n" + "".join(f"echo '{json.dumps(line)}'\n" for line in LINES))
    (folder / "restic").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    told: list[tuple[float, float]] = []
    engine = engine_of(FarDisk(tmp_path).host)
    sent = engine.send(
        directory=tmp_path, timeout_seconds=60, on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(5000, 9_000_000), (9_000_000, 9_000_000)]
    assert sent["data_added"] == 7


def test_the_table_tells_of_each_backup_id_whether_it_is_here_there_and_whole(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    first, second = far.disk.run("2d"), far.disk.run("1d", copied=("2026/11/20",))
    gone = "20251122T020000Z"
    there = FarSide(
        "alf1",
        tuple(FarSnapshot("0" * 64, at(1), "alf1", "set", stamp, far.identity) for stamp in (gone, second)),
    )
    since = for_people(at(1))
    assert [tuple(row.values()) for row in set_rows(far.host, there)] == [
        (second, "yes", since, "no"),
        (first, "yes", "not yet", "no"),
        (gone, "no", since, ""),
    ]
