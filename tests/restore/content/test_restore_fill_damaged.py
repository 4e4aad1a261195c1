"""Stored files that differ from their recorded checksums replace nothing and come back as nothing."""

import os
from pathlib import Path

import pytest

from tasks.restore.content import StoreRestored
from tests.restore.content.test_restore_fill import Filling
from tests.restore.content.test_restore_fill import filling as filling  # noqa: PLC0414 - a fixture
from tests.support.restoring import details, differences
from tests.support.stores import OLD

ROTTEN = "2023/11/14/9/5/rotten.bin"
SOUND = "2023/11/14/9/5/sound.bin"


def rot(file: Path, content: str) -> None:
    """What a disk does: other bytes, the same inode, name and times."""
    status = file.stat()
    with file.open("r+") as stream:
        stream.truncate()
        stream.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def found(filling: Filling) -> dict[str, str]:
    return {item.path: item.remedy for item in filling.last.stored.found}


@pytest.fixture
def snapshot(filling: Filling) -> Path:
    filling.sample.write(ROTTEN, "1000 EUR")
    filling.sample.write(SOUND, "another document")
    return filling.sample.snapshot().path


@pytest.mark.parametrize("stored", ["9000 EUR", "1000 EUR and more"])
def test_a_rotten_copy_does_not_replace_a_whole_document(
    filling: Filling, snapshot: Path, stored: str
) -> None:
    """The document has another time than its copy, or its copy is longer."""
    rot(snapshot / ROTTEN, stored)
    os.utime(filling.live / ROTTEN, (OLD + 60, OLD + 60))
    (filling.live / SOUND).unlink()
    counts = filling.fill(snapshot)
    assert (filling.live / ROTTEN).read_text() == "1000 EUR"
    assert (filling.live / SOUND).read_text() == "another document"
    assert found(filling) == {ROTTEN: "the store's file was kept"}
    assert (counts.missing, counts.differing) == (1, 0)


@pytest.mark.parametrize("stored", ["9000 EUR", "1000", ""])
def test_a_rotten_copy_of_a_missing_document_does_not_come_back(
    filling: Filling, snapshot: Path, stored: str
) -> None:
    rot(snapshot / ROTTEN, stored)
    (filling.live / ROTTEN).unlink()
    before = details(filling.live)
    counts = filling.fill(snapshot)
    assert not (filling.live / ROTTEN).exists()
    assert found(filling) == {ROTTEN: "not restored"}
    assert counts.missing == 0
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_document_that_is_wrong_in_the_store_too_stays_as_it_is_and_is_listed(
    filling: Filling, snapshot: Path
) -> None:
    rot(snapshot / ROTTEN, "9000 EUR")
    filling.sample.write(ROTTEN, "5000 EUR", when=OLD + 60)
    filling.fill(snapshot)
    assert (filling.live / ROTTEN).read_text() == "5000 EUR"
    assert found(filling) == {ROTTEN: "not restored"}


@pytest.mark.parametrize("live", [None, "10", "5000 EUR"])
def test_another_stored_copy_with_the_recorded_checksum_is_taken(
    filling: Filling, snapshot: Path, live: str | None
) -> None:
    """A run that compared every byte has copied the document again since, into a version of its own."""
    rot(snapshot / ROTTEN, "9000 EUR")
    later = filling.sample.snapshot("checksum").path
    assert (later / ROTTEN).read_text() == "1000 EUR"
    if live is None:
        (filling.live / ROTTEN).unlink()
    else:
        filling.sample.write(ROTTEN, live, when=OLD + 60)
    counts = filling.fill(snapshot)
    assert (filling.live / ROTTEN).read_text() == "1000 EUR"
    assert (filling.live / ROTTEN).stat().st_mtime == OLD
    assert found(filling) == {ROTTEN: "another stored copy was used"}
    assert counts.missing == (live is None)


def test_what_has_no_recorded_checksum_is_taken_as_it_is(filling: Filling, snapshot: Path) -> None:
    """Copies of the predecessor have none until a drill has read them."""
    for file in filling.sample.repository.days.glob("*.checksums/2023/11/14"):
        file.unlink()
    (filling.live / ROTTEN).unlink()
    assert filling.fill(snapshot).missing == 1
    assert found(filling) == {}


def test_a_list_of_checksums_that_cannot_be_read_is_told(filling: Filling, snapshot: Path) -> None:
    """Of its files nothing is proven: the restore that uses them must not look like one that is."""
    (listed,) = filling.sample.repository.days.glob("*.checksums/2023/11/14")
    listed.write_text("damaged\n")
    (filling.live / ROTTEN).unlink()
    assert filling.fill(snapshot).missing == 1
    assert filling.last.stored.unread == {listed}
    told = StoreRestored(
        "contentstore", filling.live, "fill", 1, 1, 0, 0, 8, unread=frozenset(filling.last.stored.unread)
    )
    assert told.sentence().endswith(
        f"; lists of checksums that cannot be read: 1, such as {listed}; "
        "their files were used without a comparison"
    )
