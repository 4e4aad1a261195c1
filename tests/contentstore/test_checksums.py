"""Checksums that a snapshot records: of every file, as it was copied, such that sha1sum can check them."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from alfresco_backup.contentstore.checksums import digest_of, entries_of, line_of, list_text, read_list
from alfresco_backup.errors import ToolFailed
from alfresco_backup.repository.layout import metadata_of, partial_of
from alfresco_backup.repository.records import Snapshot
from tests.support.stores import OLD, SampleStore

pytestmark = pytest.mark.slow  # each starts many programs
ODD = (
    "with space",
    "new\nline",
    "carriage\rreturn",
    "back\\slash",
    "\\#012",
    "not\udcffutf8",
    "ümlaut",
    " lead",
)


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    store = SampleStore(tmp_path)
    store.write("2022/1/2/3/4/one.bin", "one")
    store.write("2022/1/2/3/5/two.bin", "two")
    store.write("2022/1/3/3/4/three.bin", "three")
    store.write("loose.txt", "loose")
    store.write("2022/1/loose.txt", "loose too")
    return store


def recorded(store: SampleStore, snapshot: Snapshot) -> dict[bytes, bytes]:
    """Name in the store → digest, of all that a snapshot holds."""
    found: dict[bytes, bytes] = {}
    for path, entry in {**snapshot.days, **snapshot.loose}.items():
        digests = read_list(store.repository.checksums(entry.version) / path)
        assert digests is not None, path
        found |= digests
    return found


def true_digests(store: SampleStore) -> dict[bytes, bytes]:
    root = os.fsencode(store.live)
    names = (folder + b"/" + name for folder, _, files in os.walk(root) for name in files)
    return {os.path.relpath(name, root): digest_of(name) for name in names}


def check_by_hand(store: SampleStore, version: str) -> str:
    """What sha1sum says of a version's lists."""
    lists = [path for path in sorted(store.repository.checksums(version).rglob("*")) if path.is_file()]
    argv = ["sha1sum", "--check", "--strict", *lists]
    done = subprocess.run(argv, cwd=store.repository.day_trees(version), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def test_every_file_has_the_checksum_that_sha1sum_gives(store: SampleStore) -> None:
    snapshot = store.snapshot()
    assert recorded(store, snapshot) == true_digests(store)
    assert check_by_hand(store, snapshot.stamp).count(": OK\n") == 5


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_recorded_as_it_is(store: SampleStore, name: str) -> None:
    store.write(f"2022/1/2/3/4/{name}", "odd")
    snapshot = store.snapshot()
    assert recorded(store, snapshot) == true_digests(store)
    check_by_hand(store, snapshot.stamp)


def test_a_new_version_of_a_day_keeps_the_checksums_of_what_it_links(store: SampleStore) -> None:
    first = store.snapshot()
    stored = store.repository.day_trees(first.stamp) / "2022/1/2/3/4/one.bin"
    status = stored.stat()
    stored.write_bytes(b"bad")  # as a disk does it: neither size nor time tell
    os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))
    expected = true_digests(store)
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    assert second.days["2022/1/2"].version == second.stamp
    assert expected.items() < recorded(store, second).items()
    assert recorded(store, second) == true_digests(store)


def test_a_file_copied_again_for_its_mode_keeps_its_checksum(store: SampleStore) -> None:
    store.snapshot()
    (store.live / "2022/1/2/3/4/one.bin").chmod(0o600)
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    assert recorded(store, store.snapshot()) == true_digests(store)


def test_an_unchanged_store_writes_no_list(store: SampleStore) -> None:
    store.snapshot()
    before = sorted(store.repository.days.rglob("*"))
    store.snapshot()
    assert sorted(store.repository.days.rglob("*")) == before


def test_files_deleted_in_the_store_leave_the_list_of_the_new_version_only(store: SampleStore) -> None:
    first = store.snapshot()
    before = recorded(store, first)
    (store.live / "2022/1/2/3/4/one.bin").unlink()
    second = store.snapshot()
    assert recorded(store, second) == true_digests(store)
    assert recorded(store, first) == before


@pytest.mark.parametrize("mode", ["full", "checksum"])
def test_full_runs_record_what_they_copy(store: SampleStore, mode: str) -> None:
    store.snapshot()
    changed = store.live / "2022/1/2/3/4/one.bin"
    changed.write_text("ONE")
    if mode == "checksum":
        os.utime(changed, (OLD, OLD))
    second = store.snapshot(mode)  # type: ignore[arg-type]
    assert second.new_files == 1
    assert recorded(store, second) == true_digests(store)


def test_a_try_that_is_continued_keeps_the_checksums_of_the_first(
    store: SampleStore, make_unreadable: Callable[[Path], None]
) -> None:
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    stamp = "20260101T000000Z"
    with pytest.raises(ToolFailed):
        store.snapshot(stamp=stamp)
    bad.unlink()
    snapshot = store.snapshot(stamp=stamp)
    assert snapshot.new_files == 0
    assert recorded(store, snapshot) == true_digests(store)
    assert sorted(path.name for path in store.repository.days.iterdir()) == [stamp, f"{stamp}.checksums"]


def test_what_another_killed_run_copied_keeps_its_checksums(
    store: SampleStore, make_unreadable: Callable[[Path], None]
) -> None:
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    with pytest.raises(ToolFailed):
        store.snapshot()
    bad.unlink()
    snapshot = store.snapshot()
    assert snapshot.new_files == 0
    assert recorded(store, snapshot) == true_digests(store)


def test_without_older_lists_only_what_is_copied_is_recorded(store: SampleStore) -> None:
    first = store.snapshot()
    shutil.rmtree(store.repository.checksums(first.stamp))
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    digests = read_list(store.repository.checksums(second.stamp) / "2022/1/2")
    assert digests is not None and list(digests) == [b"2022/1/2/3/4/new.bin"]


def test_a_damaged_list_does_not_hinder_a_backup(store: SampleStore) -> None:
    first = store.snapshot()
    file = store.repository.checksums(first.stamp) / "2022/1/2"
    file.write_bytes(file.read_bytes().replace(b"one", b"own"))
    with pytest.raises(ValueError, match="the checksum of all other lines, does not match"):
        read_list(file)
    store.write("2022/1/2/3/4/new.bin", "new", when=None)
    second = store.snapshot()
    digests = read_list(store.repository.checksums(second.stamp) / "2022/1/2")
    assert digests is not None and list(digests) == [b"2022/1/2/3/4/new.bin"]


def test_lines_are_read_as_they_were_written_and_torn_ones_are_none() -> None:
    names = [os.fsencode(name) for name in ODD]
    lines = [line_of(name, bytes(20)) for name in names]
    assert [name for name, _ in entries_of(lines)] == names
    torn = [lines[0][:-1], lines[0][5:], b"\0" * 60 + b"\n", b"# comment\n", b""]
    assert list(entries_of(torn)) == []


def test_a_list_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    text = list_text({}).replace(b'"schema": 1', b'"schema": 9')
    body = text[: text.rindex(b"# ")]
    (tmp_path / "list").write_bytes(
        body + b"# " + hashlib.sha1(body, usedforsecurity=False).hexdigest().encode() + b"\n"
    )
    with pytest.raises(ValueError, match="schema 9"):
        read_list(tmp_path / "list")
    assert read_list(tmp_path / "none") is None


@pytest.mark.parametrize("published", ["day trees", "day trees and checksums"])
def test_a_try_killed_while_it_published_keeps_its_checksums(store: SampleStore, published: str) -> None:
    first = store.snapshot()
    shutil.rmtree(first.path)
    metadata_of(first.path).unlink()
    lists = store.repository.checksums(first.stamp)
    if published == "day trees":
        lists.rename(partial_of(lists))
    again = store.snapshot(stamp=first.stamp)
    assert again.new_files == 0
    assert recorded(store, again) == true_digests(store)
    names = sorted(path.name for path in store.repository.days.iterdir())
    assert names == [first.stamp, f"{first.stamp}.checksums"]
