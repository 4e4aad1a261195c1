"""What fails after a snapshot was published does not undo it, nor the runs that follow."""

from pathlib import Path

from tasks.backup.contentstore import take_snapshot
from tests.support.stores import SampleStore


def test_a_latest_that_cannot_be_replaced_is_a_complaint_and_the_snapshot_stands(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    store.write("2022/1/2/3/4/one.bin")
    latest = store.repository.latest
    latest.mkdir(parents=True)
    (latest / "of somebody").touch()
    complaints: list[str] = []
    first = take_snapshot(store.request(), on_complaint=complaints.append)
    second = take_snapshot(store.request(), on_complaint=complaints.append)
    assert first.path.is_dir() and second.path.is_dir()
    expected = [
        f"the snapshot {item.stamp} of contentstore is published, but {latest} does not lead to it: "
        for item in (first, second)
    ]
    assert [words[: len(begin)] for words, begin in zip(complaints, expected, strict=True)] == expected
    assert list(store.repository.root.glob("*.partial")) == []


def test_a_try_that_finds_its_own_snapshot_published_returns_it(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    store.write("2022/1/2/3/4/one.bin")
    request = store.request()
    first = take_snapshot(request)
    store.write("2022/1/2/3/4/two.bin", when=None)
    again = take_snapshot(request)
    assert again == first and again.days == first.days
    assert take_snapshot(store.request()).new_files == 1
