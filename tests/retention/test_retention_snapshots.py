"""Retention on snapshots as the snapshot task really makes them."""

from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import utc_now
from tests.support.stores import SampleStore, content


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    """Three snapshots of a store with a loose file, odd names and a day that changes each time."""
    store = SampleStore(tmp_path)
    store.write("2025/1/1/0/0/never-changed.bin")
    store.write("2025/1/2/0/0/first.bin")
    store.write("2025/1/3/0/0/deleted later.bin")
    store.write("loose \udcff file")
    store.snapshot()
    store.write("2025/1/2/0/0/second.bin", when=None)
    (store.live / "2025/1/3/0/0/deleted later.bin").unlink()
    store.snapshot()
    store.write("2025/1/2/0/1/third.bin", when=None)
    (store.live / "loose \udcff file").unlink()
    store.snapshot()
    return store


def settings_of(store: SampleStore) -> Settings:
    root = store.repository.root.parent
    return Settings(pghost="localhost", pguser="alfresco", backup_dir=root, alf_base_dir=root)


def test_what_is_left_of_a_months_snapshots_is_the_newest_and_whole(store):
    live = content(store.live)
    plan = make_retention_plan(settings_of(store), now=utc_now() + timedelta(days=30))
    result = carry_out(plan)
    assert result.counts["snapshot"] == 2
    (snapshot,) = read_catalogue_of(store).snapshots
    assert snapshot.stamp == "20260101T000003Z"
    assert content(snapshot.path) == live
    days = store.repository.days
    left = sorted(str(path.relative_to(days)) for path in days.rglob("*") if path.is_file())
    assert left == [
        "20260101T000001Z.checksums/2025/1/1",
        "20260101T000001Z/2025/1/1/0/0/never-changed.bin",
        "20260101T000002Z.checksums/2025/1/3",
        "20260101T000003Z.checksums/2025/1/2",
        "20260101T000003Z/2025/1/2/0/0/first.bin",
        "20260101T000003Z/2025/1/2/0/0/second.bin",
        "20260101T000003Z/2025/1/2/0/1/third.bin",
    ]


def test_the_next_snapshot_goes_on_from_what_retention_left(store):
    carry_out(make_retention_plan(settings_of(store), now=utc_now() + timedelta(days=30)))
    unchanged = store.snapshot()
    assert (unchanged.new_files, unchanged.new_bytes) == (0, 0)
    store.write("2025/1/3/0/0/another.bin", when=None)
    changed = store.snapshot()
    assert changed.new_files == 1
    assert content(changed.path) == content(store.live)


def test_within_the_window_every_snapshot_keeps_its_own_state(store):
    before = [content(snapshot.path) for snapshot in read_catalogue_of(store).snapshots]
    plan = make_retention_plan(settings_of(store))
    assert plan.removals == ()
    carry_out(plan)
    assert [content(snapshot.path) for snapshot in read_catalogue_of(store).snapshots] == before
    assert before[0] != before[1] != before[2]


def read_catalogue_of(store: SampleStore):
    return read_catalogue(Repository(store.repository.root.parent))
