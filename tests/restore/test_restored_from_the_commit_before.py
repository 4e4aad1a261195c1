"""What commit cabe697 left is restored into another place, and a restore that it did not end is undone."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.errors import DocumentsMissing, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.pins import read_pins
from alfresco_backup.restore.journal.journal_record import RestoreState, find_unfinished
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.undo_restore import undo_restore
from tests.support.commit_cabe697 import (
    expected,
    facts,
    files,
    host_amid_restore,
    host_with_repository,
    programs,
    rows,
)
from tests.support.common import wait_until
from tests.support.restoring import loaded, restores_of

pytestmark = pytest.mark.usefixtures("prefect_server")
FIRST, SECOND = facts()["sets"]
HOURLY = facts()["hourly"]
TARGET = datetime.fromisoformat(facts()["target_time"])
INTERRUPTED, FILLED = facts()["interrupted"], facts()["filled"]
EXECUTE = {"mode": "execute", "confirm": facts()["host"]}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoHost]:
    """A host in another place, without data, that has the repository."""
    with host_with_repository(programs()) as made:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        yield made


@pytest.fixture
def halfway(monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoHost]:
    """The host in the middle of its restore. Nothing runs."""
    with host_amid_restore(programs()) as left:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(left.env_file))
        yield left


def assert_holds(host: DemoHost, moment: str) -> None:
    """The rows of a moment, exactly, and the bytes of every document that they refer to."""
    state = host.read_state()
    assert rows(state) == expected()["states"][moment]
    stored = files(host.layout.contentstore)
    known = {
        path: digest for snapshot in expected()["snapshots"].values() for path, digest in snapshot.items()
    }
    known |= expected()["store before the restore"]
    documents = [document.path for document in state.live_documents()]
    assert len(documents) > 30
    assert {path: stored.get(path) for path in documents} == {path: known[path] for path in documents}
    assert host.answer().endswith(" documents")


def test_a_moment_between_the_sets_is_restored_by_plain_and_compressed_wal(host: DemoHost) -> None:
    said = restore_pitr(target_time=TARGET, **EXECUTE)
    assert "all are there" in said
    assert_holds(host, "target")
    (record,) = restores_of(host)
    report = json.loads((record.folder / "restore.json").read_text())
    assert record.state is RestoreState.COMPLETED and report["documents_missing"] == 0


def test_each_set_is_restored_one_after_the_other(host: DemoHost) -> None:
    for stamp in (SECOND, FIRST):
        assert "all are there" in restore_full(backup=stamp, contentstore="replace", **EXECUTE)
        assert_holds(host, stamp)
        assert files(host.layout.contentstore) == expected()["snapshots"][stamp]


def test_the_restored_host_goes_on_backing_up_into_the_repository(host: DemoHost) -> None:
    restore_full(backup=SECOND, **EXECUTE)
    archive_here(host)
    backup(contentstore_mode="full")
    host.writer.add(2)
    host.writer.close()
    catalogue = read_catalogue(loaded(host).repository)
    made = catalogue.sets[-1]
    assert catalogue.problems == () and made.complete and made.base is not None
    assert (made.base.timeline, made.base.system_identifier) == (2, facts()["system_identifier"])
    assert {FIRST, made.stamp} <= {item.stamp for item in catalogue.complete_sets}
    assert FIRST in read_pins(loaded(host).repository)
    (snapshot,) = made.snapshots.values()
    assert snapshot.new_files == 0
    former, newest = (expected()["snapshots"][stamp] for stamp in (SECOND, HOURLY))
    changed = {"/".join(path.split("/")[:3]) for path in former.keys() ^ newest.keys()}
    assert {path for path, day in snapshot.days.items() if day.version == made.stamp} == changed
    assert len(snapshot.days) > 30 > len(changed)
    report = read_status(loaded(host).settings, utc_now())
    assert {interval.timeline for interval in report.sets[0].intervals} == {2}
    restore_full(backup=made.stamp, **EXECUTE)
    assert_holds(host, SECOND)


def archive_here(host: DemoHost) -> None:
    """The WAL commands lie outside of what is restored: say where they are on this host."""
    command = f'"{host.directory}/wal/archive-wal" --zstd "%p" "%f" "{host.wal_archive}"'
    quoted = command.replace("'", "''")
    host.cluster.sql(f"ALTER SYSTEM SET archive_command = '{quoted}'")
    host.cluster.reload()
    wait_until(lambda: host.cluster.sql("SHOW archive_command") == [(command,)], "the command is in force")


def test_the_unfinished_restore_is_seen_and_keeps_backups_and_restores_from_starting(
    halfway: DemoHost,
) -> None:
    (record,) = find_unfinished(loaded(halfway).repository.restores(halfway.name))
    assert (record.restore_id, record.state) == (INTERRUPTED["stamp"], RestoreState.UNFINISHED)
    assert [item.step for item in record.steps if item.seconds is not None] == INTERRUPTED["steps"]
    assert record.about["kind"] == "pitr" and record.recovered and not record.completed
    assert [item.state for item in restores_of(halfway)] == [RestoreState.COMPLETED, RestoreState.UNFINISHED]
    before = files(halfway.backup_dir / "contentstore")
    for flow, parameters in ((backup, {}), (restore_pitr, {"target_time": TARGET, **EXECUTE})):
        with pytest.raises(
            Refused, match=f"{INTERRUPTED['stamp']} of {halfway.name} was interrupted"
        ) as refusal:
            flow(**parameters)
        assert undo_command(INTERRUPTED["stamp"], halfway.name) in refusal.value.hint
    assert files(halfway.backup_dir / "contentstore") == before
    report = read_status(loaded(halfway).settings, utc_now())
    assert any(
        INTERRUPTED["stamp"] in str(problem) and problem.level == "error" for problem in report.problems
    )


def test_the_unfinished_restore_is_undone_and_the_host_backs_up_again(halfway: DemoHost) -> None:
    store, data = halfway.layout.contentstore, halfway.layout.data_directory
    former = {place: aside(place).stat().st_ino for place in (store, data)}
    assert "all are there" in undo_restore(restore=INTERRUPTED["stamp"], **EXECUTE)
    assert {place: place.stat().st_ino for place in (store, data)} == former
    assert_holds(halfway, "before the restore")
    assert files(store) == expected()["store before the restore"]
    assert not aside(store).exists() and not aside(data).exists()
    assert (data.with_name(f"{data.name}.undone-{INTERRUPTED['stamp']}") / "PG_VERSION").is_file()
    assert restores_of(halfway)[-1].state is RestoreState.UNDONE
    backup()
    made = read_catalogue(loaded(halfway).repository).sets[-1]
    assert made.complete and made.base is not None and made.base.timeline == 1
    assert files(made.snapshots["contentstore"].path) == files(store)
    undo_restore(discard=True, restore=INTERRUPTED["stamp"], **EXECUTE)
    assert not list(store.parent.glob(f"*{INTERRUPTED['stamp']}*"))


def aside(place: Path) -> Path:
    """Where the interrupted restore put what it replaced."""
    return place.with_name(f"{place.name}.before-restore-{INTERRUPTED['stamp']}")


def test_a_completed_restore_of_the_content_is_undone_after_it(halfway: DemoHost) -> None:
    store = halfway.layout.contentstore
    undo_restore(restore=INTERRUPTED["stamp"], **EXECUTE)
    assert (store / FILLED["lost"]).is_file()
    with pytest.raises(DocumentsMissing, match="2 documents"):
        undo_restore(restore=FILLED["stamp"], **EXECUTE)
    assert not (store / FILLED["lost"]).exists()
    assert (store / FILLED["cut"]).read_text() == FILLED["cut_to"]
    others = {
        path: digest
        for path, digest in expected()["store before the restore"].items()
        if path not in FILLED.values()
    }
    assert files(store).items() >= others.items()
    assert rows(halfway.read_state()) == expected()["states"]["before the restore"]


def test_the_unfinished_restore_is_accepted_as_it_is(halfway: DemoHost) -> None:
    assert "all are there" in undo_restore(restore=INTERRUPTED["stamp"], accept=True, **EXECUTE)
    assert restores_of(halfway)[-1].state is RestoreState.COMPLETED
    halfway.start("tomcat")
    assert_holds(halfway, "target")
