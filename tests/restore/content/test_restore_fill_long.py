"""Filling a content store that lacks millions of files: in rounds, each in the memory of a few thousand."""

import tracemalloc
from pathlib import Path

import pytest

import alfresco_backup.restore.content.fill
import alfresco_backup.restore.content.fill_differences
import alfresco_backup.restore.content.owners
from alfresco_backup.restore.content.fill import times_of
from tests.restore.content.test_restore_fill import Filling, read
from tests.support.restoring import details, differences

pytestmark = pytest.mark.slow


def test_a_fill_in_many_rounds_is_the_same_and_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = Filling(tmp_path)
    monkeypatch.setattr(alfresco_backup.restore.content.fill, "PATHS_AT_ONCE", 2)
    monkeypatch.setattr(alfresco_backup.restore.content.owners, "FOLDERS_KNOWN", 3)
    monkeypatch.setattr(alfresco_backup.restore.content.fill_differences, "BLOCK", 7)
    volume = tmp_path / "disk2/volume"
    volume.mkdir(parents=True)
    (filling.live / "volume2").symlink_to(volume)
    names = [f"{place}2023/11/{day}/9/5/{day}.bin" for place in ("", "volume2/") for day in range(10, 15)]
    for name in names:
        filling.sample.write(name, f"all of {name}")
    snapshot = filling.sample.snapshot()
    for name in names[::2]:
        (filling.live / name).unlink()
        (filling.live / name).parent.rmdir()
    for name in names[1::2]:
        filling.sample.write(name, "all of")
    before = details(filling.live) | details(volume)
    counts = filling.fill(snapshot.path)
    assert (counts.missing, counts.differing) == (5, 5)
    assert {name: read(filling.live / name) for name in names} == {name: f"all of {name}" for name in names}
    filling.undo()
    assert differences(before, details(filling.live) | details(volume)) == []


def test_a_list_of_any_length_takes_the_memory_of_a_block(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 100_000):
        names = (f"2024/1/2/3/4/4e309e94-1111-2222-3333-{number:012}.bin" for number in range(count))
        (tmp_path / "times.0").write_bytes(b"".join(f"{name}\0{len(name)}\0".encode() for name in names))
        tracemalloc.start()
        assert sum(time for _, time in times_of(tmp_path)) == count * 53
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
