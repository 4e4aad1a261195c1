"""A set that refers to what is neither here nor off-site is an error, once all else was sent."""

from pathlib import Path

import pytest

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.offsite.copy import (
    Sent,
    Watching,
    begin,
    read_own,
    require_whole,
    send_together,
    with_sent,
)
from alfresco_backup.offsite.shipments import batches
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.system.folders import remove_tree
from tests.support.far_sides import FarDisk
from tests.support.repository_on_disk import DAYS

pytestmark = pytest.mark.slow


def copy(far: FarDisk) -> list[Sent]:
    """What the flow does."""
    there, shipments = begin(far.host, far.engine)
    sent = [
        item
        for batch in batches(shipments)
        for item in send_together(far.host, far.engine, batch, Watching())
    ]
    require_whole(far.host, with_sent(far.host, there, sent))
    return sent


def test_a_lost_day_fails_the_copy_once_all_else_was_sent(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    first, second = far.disk.run("2d"), far.disk.run("1d", copied=DAYS)
    lost = far.repository.contentstore.day_trees(first) / DAYS[1]
    kept = tmp_path / "kept"
    lost.rename(kept)
    for _ in range(2):  # what is there of it does not count the next time either
        with pytest.raises(BackupUnsound) as raised:
            copy(far)
        assert f"sent: {first} refer to contentstore/days/{first}/{DAYS[1]}, which are neither in" in str(
            raised.value
        )
        assert f"ls -ld {lost}" in raised.value.hint and "backup --full" in raised.value.hint
        there = read_own(far.host, far.engine)
        assert there.sets.keys() == {second}
        assert [item.stamp for item in read_catalogue(far.repository).sets if there.has(item)] == [second]
    kept.rename(lost)
    assert [item.stamps for item in copy(far)] == [(first,)]
    assert read_own(far.host, far.engine).sets.keys() == {first, second}
    assert not copy(far)


def test_what_is_off_site_already_is_not_missed_here(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    first = far.disk.run("2d")
    assert [item.stamps for item in copy(far)] == [(first,)]
    remove_tree(far.repository.contentstore.day_trees(first))
    second = far.disk.run("1d", copied=DAYS[:1])
    assert [item.stamps for item in copy(far)] == [(second,)]
