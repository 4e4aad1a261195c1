"""Stored content read again: damage is found and named with where the file is whole; new lists are made."""

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.contentstore import reread_day
from alfresco_backup.contentstore.checksums import digest_of, read_list
from alfresco_backup.contentstore.reread import Reread, StoredContent, read_share, state_file
from alfresco_backup.contentstore.reread_day import Reader
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.times import utc_now
from tests.retention.test_retention_snapshots import settings_of
from tests.support.stores import SampleStore, content, state

pytestmark = pytest.mark.slow

FILE = "2022/1/2/3/4/one.bin"


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    store = SampleStore(tmp_path)
    store.write(FILE, "one")
    store.write("2022/1/2/3/5/two.bin", "two")
    store.write("2022/1/3/3/4/three.bin", "three")
    store.write("2022/1/4/3/4/four\nnot utf-8 \udcff.bin", "four")
    store.write("loose.txt", "loose")
    return store


def read_again(store: SampleStore, cycle: int = 1, live: Path | None = None) -> tuple[Reread, list[str]]:
    """One drill's reading; what it tells."""
    told: list[str] = []

    def tell(sentence: str, _: Sequence[str]) -> None:
        told.append(sentence)

    snapshots = read_catalogue(Repository(store.repository.root.parent)).snapshots_of("contentstore")
    with ThreadPoolExecutor(2) as pool:
        read = read_share(StoredContent(store.repository, snapshots, live), cycle, Reader(pool), tell)
    return read, told


def stored(store: SampleStore, stamp: str, name: str = FILE) -> Path:
    return store.repository.snapshot(stamp) / name


def overwrite(file: Path, text: bytes) -> None:
    """As a bad disk does it: neither inode nor times tell."""
    status = file.stat()
    file.write_bytes(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_whole_content_is_read_once_and_nothing_is_changed(store: SampleStore) -> None:
    store.snapshot()
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    before = {**state(second.path), **state(store.repository.day_trees(second.stamp))}
    read, told = read_again(store)
    assert told == []
    assert (read.files, read.recorded, read.damaged, read.entries) == (6, 0, 0, 4)
    assert read.bytes == sum(len(item) for item in content(store.live).values() if item)
    assert {**state(second.path), **state(store.repository.day_trees(second.stamp))} == before
    assert read.oldest is not None


DAMAGES = {
    "flipped": (b"onE", "differs from its checksum of when it was copied (3 bytes)"),
    "cut": (b"on", "has 2 bytes of 3"),
    "empty": (b"", "has 0 bytes of 3"),
    "longer": (b"one more", "has 8 bytes of 3"),
    "missing": (None, "is missing"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named_with_the_live_store_that_has_it(store: SampleStore, kind: str) -> None:
    text, words = DAMAGES[kind]
    stamp = store.snapshot().stamp
    file = stored(store, stamp)
    if text is None:
        file.unlink()
    else:
        overwrite(file, text)
    for _ in range(2):  # damage is no news the second time, yet still damage
        read, told = read_again(store, live=store.live)
        tree = store.repository.day_trees(stamp)
        assert told == [f"{tree}/{FILE} {words} (in {stamp}); whole in the live store"]
        assert read.damaged == 1


def test_a_file_that_the_live_store_does_not_have_is_nowhere_else(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    overwrite(stored(store, stamp), b"onE")
    overwrite(store.live / FILE, b"oNe")
    _, (told,) = read_again(store, live=store.live)
    assert told.endswith("(3 bytes) (in 20260101T000001Z); no other copy of it is known")
    (store.live / FILE).unlink()
    assert read_again(store, live=store.live)[1] == [told]


def test_a_damaged_inode_is_one_finding_for_all_versions_that_link_to_it(store: SampleStore) -> None:
    first = store.snapshot()
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    third = store.snapshot()
    overwrite(stored(store, first.stamp), b"onE")
    read, (told,) = read_again(store)
    assert f"(in {first.stamp}, {second.stamp}, {third.stamp})" in told
    assert read.damaged == 1


def test_another_version_with_a_copy_of_its_own_is_where_the_file_is_whole(store: SampleStore) -> None:
    first = store.snapshot()
    overwrite(stored(store, first.stamp), b"onE")
    second = store.snapshot("checksum")
    assert second.new_files == 1
    third = store.snapshot()
    tree = store.repository.day_trees(first.stamp)
    words = "differs from its checksum of when it was copied (3 bytes)"
    whole = f"snapshots {second.stamp}, {third.stamp}"
    assert read_again(store)[1] == [f"{tree}/{FILE} {words} (in {first.stamp}); whole in {whole}"]
    _, (told,) = read_again(store, live=store.live)
    assert told.endswith(f"; whole in {whole} and the live store")


def test_a_copy_that_is_damaged_too_is_not_called_whole(store: SampleStore) -> None:
    first = store.snapshot()
    overwrite(stored(store, first.stamp), b"onE")
    second = store.snapshot("checksum")
    overwrite(stored(store, second.stamp), b"oNe")
    _, told = read_again(store)
    assert len(told) == 2 and all("no other copy of it is known" in item for item in told)


def test_a_whole_day_that_is_missing_is_named_file_by_file(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    shutil.rmtree(store.repository.day_trees(stamp) / "2022/1/2")
    read, told = read_again(store, live=store.live)
    assert read.damaged == 2
    assert [("one.bin is missing" in item, "two.bin is missing" in item) for item in sorted(told)] == [
        (True, False),
        (False, True),
    ]


def test_a_missing_day_without_a_list_is_named_by_itself(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    shutil.rmtree(store.repository.day_trees(stamp) / "2022/1/2")
    shutil.rmtree(store.repository.checksums(stamp))
    _, told = read_again(store)
    tree = store.repository.day_trees(stamp)
    assert told == [f"{tree}/2022/1/2 is missing (in {stamp}); no other copy of it is known"]


def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = store.snapshot().stamp
    bad = os.fsencode(store.repository.day_trees(stamp) / FILE)

    def failing(file: bytes, length: int) -> bytes:
        if file == bad:
            raise OSError(5, "Input/output error", file)
        return digest_of(file, length)

    monkeypatch.setattr(reread_day, "digest_of", failing)
    read, (told,) = read_again(store, live=store.live)
    assert f"{FILE} cannot be read: Input/output error (in {stamp}); whole in the live store" in told
    assert read.damaged == 1


def test_an_odd_name_is_told_in_one_line_that_can_be_encoded(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    overwrite(stored(store, stamp, "2022/1/4/3/4/four\nnot utf-8 \udcff.bin"), b"FOUR")
    _, (told,) = read_again(store, live=store.live)
    assert "/2022/1/4/3/4/four\\nnot utf-8 \\xff.bin differs from its checksum" in told
    assert told.encode() and "\n" not in told


def test_without_lists_the_first_reading_records_and_the_next_one_compares(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    kept = {path: read_list(path) for path in store.repository.checksums(stamp).rglob("*") if path.is_file()}
    shutil.rmtree(store.repository.checksums(stamp))
    read, told = read_again(store)
    assert (read.recorded, read.damaged, told) == (5, 0, [])
    assert "5 had no checksum from when they were copied; one is recorded now" in read.sentence
    assert {path: read_list(path) for path in kept} == kept
    overwrite(stored(store, stamp), b"onE")
    read, told = read_again(store)
    assert (read.recorded, read.damaged, len(told)) == (0, 1, 1)


def test_a_file_without_a_line_gets_that_of_its_link_and_not_what_was_read(store: SampleStore) -> None:
    first = store.snapshot()
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    (store.repository.checksums(second.stamp) / "2022/1/2").unlink()
    overwrite(stored(store, first.stamp), b"onE")
    read, told = read_again(store)
    assert (read.damaged, read.recorded, len(told)) == (1, 1, 1)
    digests = read_list(store.repository.checksums(second.stamp) / "2022/1/2")
    assert digests is not None and digests[FILE.encode()] == digest_of(os.fsencode(store.live / FILE))


def test_a_damaged_list_is_named_set_aside_and_made_anew(store: SampleStore) -> None:
    stamp = store.snapshot().stamp
    file = store.repository.checksums(stamp) / "2022/1/2"
    text = file.read_bytes()
    file.write_bytes(text[:70] + b"0" + text[71:])
    read, told = read_again(store)
    damaged = f"the list of checksums {file}.damaged was damaged"
    assert told == [f"{damaged}; it was replaced by a list of what was just read"]
    assert (read.damaged, read.recorded) == (0, 2)
    assert file.read_bytes() == text
    assert read_again(store)[1] == []


def test_the_predecessors_trees_are_recorded_and_nothing_is_written_into_them(store: SampleStore) -> None:
    tree = store.repository.root / "contentstore-2025-11-01_02-00-00"
    shutil.copytree(store.live, tree)
    before = state(tree)
    read, told = read_again(store)
    assert (read.files, read.recorded, told) == (5, 5, [])
    assert state(tree) == before
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    snapshot = store.snapshot()
    assert snapshot.new_files == 1
    overwrite(tree / FILE, b"onE")
    read, (told_now,) = read_again(store, live=store.live)
    assert told_now.startswith(f"{tree}/{FILE} differs from its checksum")
    assert f"(in 2025-11-01_02-00-00, {snapshot.stamp}); whole in the live store" in told_now
    assert read.recorded == 0


def test_each_reading_takes_its_turn_and_a_lost_state_begins_anew(store: SampleStore) -> None:
    store.snapshot()
    read = [read_again(store, cycle=2)[0] for _ in range(2)]
    assert [item.oldest is None for item in read] == [True, False]
    assert sum(item.files for item in read) == 5
    for text in ("", "no metadata", json.dumps({"schema": 1, "drill": "x"})):
        state_file(store.repository).write_text(text)
        assert read_again(store, cycle=2)[0].oldest is None
    assert json.loads(state_file(store.repository).read_text())["drill"] == 1


def test_after_retention_the_rest_is_read_as_before(store: SampleStore) -> None:
    store.snapshot()
    (store.live / FILE).unlink()
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    store.snapshot()
    (store.live / "2022/1/3/3/4/three.bin").unlink()
    third = store.snapshot()
    assert read_again(store)[0].files == 6
    result = carry_out(make_retention_plan(settings_of(store), now=utc_now() + timedelta(days=30)))
    assert result.counts["snapshot"] == 2
    read, told = read_again(store)
    assert (read.files, read.damaged, read.recorded, told) == (third.files, 0, 0, [])
    trees = {path for path in store.repository.days.glob("*/*/*/*") if ".checksums" not in str(path)}
    lists = {path for path in store.repository.days.glob("*/*/*/*") if ".checksums" in str(path)}
    assert {str(path).replace(".checksums", "") for path in lists} == {str(path) for path in trees}
