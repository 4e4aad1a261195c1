"""A repository made by commit cabe697: read, and gone on with by snapshots and retention."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import read_proof
from alfresco_backup.contentstore.plan import Mode, SnapshotOptions, SnapshotRequest
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, metadata_of
from alfresco_backup.repository.pins import read_pins, unpin_set
from alfresco_backup.repository.records import MAIN_STORE, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import parse_stamp
from demo.host import DemoHost
from tasks.backup.contentstore import take_snapshot
from tests.support.commit_cabe697 import (
    expected,
    facts,
    files,
    fingerprint,
    host_amid_restore,
    host_with_repository,
)
from tests.support.restoring import loaded
from tests.support.stores import content, inodes

pytestmark = pytest.mark.slow

FIRST, SECOND = facts()["sets"]
HOURLY = facts()["hourly"]
MADE_AT = datetime.fromisoformat(facts()["proof"]["proven_at"])
NEXT = "20270101T000000Z"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def host() -> Iterator[DemoHost]:
    """For tests that only read."""
    with host_with_repository() as made:
        yield made


@pytest.fixture
def repository(host: DemoHost) -> Repository:
    return loaded(host).repository


def test_the_sets_are_listed_with_all_their_parts(repository: Repository) -> None:
    catalogue = read_catalogue(repository)
    assert [item.stamp for item in catalogue.sets] == [FIRST, SECOND, HOURLY]
    assert [item.stamp for item in catalogue.complete_sets] == [FIRST, SECOND]
    assert (catalogue.problems, catalogue.partials) == ((), ())
    for item in catalogue.complete_sets:
        base, configuration = item.base, item.configuration
        assert base is not None and configuration is not None
        assert (base.postgresql_version // 10000, base.timeline, base.segment_size) == (15, 1, 1 << 20)
        assert (base.host, base.system_identifier) == (facts()["host"], facts()["system_identifier"])
        assert base.stopped_at < item.snapshots[MAIN_STORE].started_at
        assert {file.holds for file in base.files} == {"data", "wal", "manifest"}
        for file in base.files:
            assert hashlib.sha256((base.path / file.name).read_bytes()).hexdigest() == file.sha256
        assert {
            name: files(configuration.path)[name] for name in configuration.digests
        } == configuration.digests
        assert "keystore/keystore" in configuration.digests


def test_the_snapshots_hold_every_file_byte_for_byte_and_share_days(repository: Repository) -> None:
    snapshots = {item.stamp: item for item in read_catalogue(repository).snapshots}
    assert {stamp: item.files for stamp, item in snapshots.items()} == facts()["files"]
    for stamp, snapshot in snapshots.items():
        assert files(snapshot.path) == expected()["snapshots"][stamp]
        assert sum(day.files for day in snapshot.days.values()) == snapshot.files
    versions = [day.version for day in snapshots[HOURLY].days.values()]
    assert versions.count(FIRST) > 30 and versions.count(HOURLY) == 1


def test_the_pin_and_the_proof_are_read(repository: Repository) -> None:
    assert {stamp: pin.reason for stamp, pin in read_pins(repository).items()} == {
        FIRST: facts()["pinned"]["reason"]
    }
    assert read_pins(repository)[FIRST].defect == ""
    assert read_proof(repository.base(FIRST), FIRST) is None
    proof = read_proof(repository.base(SECOND), SECOND)
    assert proof is not None and proof.sound and proof.reread is not None
    written = facts()["proof"]
    assert proof.proven_at == MADE_AT
    assert proof.reached == datetime.fromisoformat(written["asked"])
    assert proof.restorable_until == datetime.fromisoformat(written["restorable_until"])
    assert (proof.documents, proof.missing, proof.findings) == (written["documents"], 0, ())
    assert (proof.rto_seconds, proof.rpo_seconds) == (written["rto_seconds"], written["rpo_seconds"])
    assert dict(proof.steps) == written["steps"]
    reread = written["reread"]
    assert (proof.reread.files, proof.reread.bytes) == (reread["files"], reread["bytes"])
    assert (proof.reread.entries, proof.reread.damaged) == (reread["entries_stored"], 0)


def test_what_can_be_restored_is_what_the_version_that_made_it_said(host: DemoHost) -> None:
    report = read_status(loaded(host).settings, MADE_AT + MINUTE)
    said = facts()["status"]["window"]
    assert report.window == tuple(datetime.fromisoformat(said[name]) for name in ("from", "to"))
    assert report.gaps == () and report.audited
    assert {item.item.stamp: restorable(item.intervals) for item in report.sets} == {
        item["stamp"]: [
            (datetime.fromisoformat(span["from"]), datetime.fromisoformat(span["to"]), span["timeline"])
            for span in item["restorable"]
        ]
        for item in facts()["listed"]
    }
    assert {item.item.stamp: sum(part.bytes or 0 for part in item.parts) for item in report.sets} == {
        item["stamp"]: item["bytes"] for item in facts()["listed"]
    }
    assert [item.item.stamp for item in report.sets if item.pin] == [FIRST]
    assert [item.item.stamp for item in report.sets if item.proof] == [SECOND]
    names = sorted(path.name for path in loaded(host).repository.wal.glob("0" * 7 + "1" + "?" * 16 + "*"))
    assert len([name for name in names if name.endswith(".zst")]) == facts()["wal"]["compressed"] > 0
    assert len([name for name in names if len(name) == 24]) == facts()["wal"]["plain"] > 0


def restorable(intervals) -> list[tuple[datetime, datetime, int]]:
    return [(item.start, item.end, item.timeline) for item in intervals]


def test_fingerprints_are_made_of_what_they_were_made_of(repository: Repository) -> None:
    """The one restated for the test below is that of the recorded times."""
    (snapshot,) = (item for item in read_catalogue(repository).snapshots if item.stamp == HOURLY)
    made = {day: fingerprint(found) for day, found in expected()["directories"].items()}
    assert {day: version.fingerprint for day, version in snapshot.days.items()} == made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Path, Repository]]:
    """The store as it was soon after the newest snapshot, and the repository."""
    with host_amid_restore() as host:
        (former,) = host.layout.contentstore.parent.glob("contentstore.before-restore-*")
        yield former, loaded(host).repository


def as_fingerprinted(store: Path, repository: Repository) -> set[str]:
    """Let the newest snapshot have met the store with the times its directories got when it was unpacked.

    mtime is as it was; ctime cannot be set. Gives the days that changed since that snapshot.
    """
    metadata = metadata_of(repository.contentstore.snapshot(HOURLY))
    document = json.loads(metadata.read_text())
    changed = set()
    for day, found in expected()["directories"].items():
        status = {name: (store / f"{day}{name}").stat() for name, _, _ in found}
        if all(status[name].st_mtime_ns == modified for name, modified, _ in found):
            again = [(name, item.st_mtime_ns, item.st_ctime_ns) for name, item in status.items()]
            document["days"][day]["fingerprint"] = fingerprint(again)
        else:
            changed.add(day)
    metadata.write_text(json.dumps(document))
    return changed


def next_snapshot(store: Path, repository: Repository, log: Path, mode: Mode) -> Snapshot:
    options = SnapshotOptions(parallel_copies=2, tick_seconds=0.02)
    return take_snapshot(
        SnapshotRequest(MAIN_STORE, store, repository.contentstore, NEXT, log, mode, options)
    )


@pytest.mark.parametrize("mode", ["quick", "full", "checksum"])
def test_the_next_snapshot_copies_only_what_changed(
    store: tuple[Path, Repository], tmp_path: Path, mode: Mode
) -> None:
    live, repository = store
    before = next(item for item in read_catalogue(repository).snapshots if item.stamp == HOURLY)
    new = files(live).keys() - files(before.path).keys()
    changed = {"/".join(path.split("/")[:3]) for path in new}
    if mode == "quick":
        touched = as_fingerprinted(
            live, repository
        )  # a restore put two documents back, which are as they were
        assert changed < touched and len(touched) == 3
        changed = touched
    made = next_snapshot(live, repository, tmp_path / "log", mode)
    assert files(made.path) == files(live) == expected()["store before the restore"]
    assert made.new_files == len(new) > 0
    kept = {path: version.version for path, version in before.days.items() if path not in changed}
    assert {path: version.version for path, version in made.days.items()} == kept | dict.fromkeys(
        changed, NEXT
    )
    copied = repository.contentstore.day_trees(NEXT)
    assert {str(path.relative_to(copied)) for path in copied.glob("*/*/*")} == changed


def test_a_snapshot_of_days_that_look_changed_links_to_the_files_of_the_newest(
    store: tuple[Path, Repository], tmp_path: Path
) -> None:
    """As after a restore to another disk: every directory is new, no file is."""
    live, repository = store
    before = repository.contentstore.snapshot(HOURLY)
    made = next_snapshot(live, repository, tmp_path / "log", "quick")
    assert {version.version for version in made.days.values()} >= {NEXT}
    new = files(live).keys() - files(before).keys()
    assert made.new_files == len(new) > 0
    for path in files(before).keys() & files(live).keys():
        assert (made.path / path).samefile(before / path), path
    assert not inodes(live) & inodes(repository.contentstore.day_trees(NEXT))
    assert content(made.path) == content(live)


def test_retention_keeps_the_pinned_set_whole_until_it_is_unpinned() -> None:
    later = parse_stamp(HOURLY) + timedelta(days=30)
    with host_with_repository() as host:
        settings = loaded(host).settings.model_copy(update={"minimum_redundancy": 1})
        repository = loaded(host).repository
        carry_out(make_retention_plan(settings, now=later))
        assert [item.stamp for item in assert_whole(repository).complete_sets] == [FIRST, SECOND]
        (kept,) = (item for item in read_status(settings, later).sets if item.item.stamp == FIRST)
        assert kept.intervals != ()
        unpin_set(repository, FIRST)
        carry_out(make_retention_plan(settings, now=later))
        assert [item.stamp for item in assert_whole(repository).complete_sets] == [SECOND]


def assert_whole(repository: Repository) -> Catalogue:
    """Of every snapshot that is left no file is missing, whichever run had copied it."""
    catalogue = read_catalogue(repository)
    for item in catalogue.snapshots:
        assert files(item.path) == expected()["snapshots"][item.stamp]
    return catalogue
