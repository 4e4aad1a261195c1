"""What runs note of the off-site copy is what is there, and how they ended."""

from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.host.installation import find_installation
from alfresco_backup.offsite.engine import FarSideAway
from alfresco_backup.offsite.far import FarSide, FarSnapshot
from alfresco_backup.offsite.state import OffsiteState, note_sets, noted, reach_of_wal, read_state
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from tests.support.far_sides import at
from tests.support.repository_on_disk import DiskRepository
from tests.support.restorable_repositories import restorable_repository


def host_of(disk: DiskRepository, repository: str = "rest:https://me:secret@nas/alf1") -> Host:
    settings = disk.settings(alf_host_name="alf1", offsite_repository=repository, offsite_password="x")
    return Host(settings, find_installation(settings), disk.repository)


def there(*stamps: str) -> FarSide:
    """A far side with the snapshots of these IDs."""
    snapshot = FarSnapshot("0" * 64, at(1), "alf1", "set", "", "identity")
    return FarSide("alf1", tuple(replace(snapshot, stamp=stamp) for stamp in stamps))


def state_of(host: Host) -> OffsiteState:
    state = read_state(host.repository)
    assert state is not None
    return state


def test_a_set_counts_as_off_site_with_the_days_it_refers_to_only(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path / "backup", utc_now())
    first, second = disk.run("2d"), disk.run("1d", copied=("2026/11/20",))
    host = host_of(disk)
    note_sets(host, there(second))
    assert (state_of(host).whole, state_of(host).newest_complete, state_of(host).sets) == ((), "", 2)
    note_sets(host, there(first))
    assert state_of(host).newest_complete == first
    note_sets(host, there(first, second))
    state = state_of(host)
    assert (state.whole, state.newest_complete) == ((first, second), second)
    assert state.newest_complete_at and state.newest_complete_at > state.begun_at
    note_sets(host, there(first, second))
    assert state_of(host).newest_complete_at == state.newest_complete_at
    assert "secret" not in (host.repository.offsite / "state.json").read_text()


def test_failures_are_noted_since_the_first_until_a_success(tmp_path: Path) -> None:
    host = host_of(DiskRepository(tmp_path / "backup", utc_now()))
    for words in ("no route", "connection refused"):
        with pytest.raises(FarSideAway), noted(host, "wal"):
            raise FarSideAway(words, "ping nas")
    failed = state_of(host).run("wal")
    assert failed.failing_since and failed.failed_at and failed.failing_since < failed.failed_at
    assert (failed.error, failed.fix, failed.succeeded_at) == ("connection refused", "ping nas", None)
    with pytest.raises(HostBusy), noted(host, "wal"):
        raise HostBusy("the repository is locked")
    assert state_of(host).run("wal") == failed
    with noted(host, "copy") as note:
        note.sentence, note.sent_bytes = "all sent", 7
    assert state_of(host).run("wal") == failed
    with noted(host, "wal"):
        pass
    state = state_of(host)
    assert state.run("wal").failing_since is None and state.run("wal").succeeded_at
    assert (state.run("copy").sentence, state.run("copy").sent_bytes) == ("all sent", 7)


def test_another_place_and_a_damaged_note_begin_anew(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path / "backup", utc_now())
    first = disk.run("2d")
    host = host_of(disk)
    note_sets(host, there(first))
    other = host_of(disk, "s3:https://s3.example.org/alf1")
    with noted(other, "copy"):
        pass
    assert (state_of(other).repository, state_of(other).whole) == ("s3:https://s3.example.org/alf1", ())
    (host.repository.offsite / "state.json").write_text('{"repository": 7')
    with pytest.raises(ValueError):
        read_state(host.repository)
    note_sets(other, there(first))
    assert state_of(other).whole == (first,)


def test_the_reach_of_the_archive_is_the_end_of_what_status_can_restore(tmp_path: Path) -> None:
    disk = restorable_repository(tmp_path / "backup", utc_now(), ("1d", "3h"))
    reached, window = reach_of_wal(host_of(disk)), read_status(disk.settings(), utc_now()).window
    assert reached and window and reached.end == window[1]
    newest = max(path.name for path in disk.repository.wal.glob("0*"))
    assert reached.last_segment == newest.removesuffix(".zst")
    empty = DiskRepository(tmp_path / "empty", utc_now())
    assert reach_of_wal(host_of(empty)) is None and read_catalogue(empty.repository).sets == ()
