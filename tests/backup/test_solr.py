"""Solr copies its indexes before the database is copied, and a restore puts those copies back."""

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup import solr
from alfresco_backup.backup.solr import back_up_indexes
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.planning.planner import core_of
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.restoring import loaded
from tests.support.solr import SECRET, FakeSolr, Fault, fake_solr

pytestmark = pytest.mark.slow
CORES = {"alfresco": "workspace", "archive": "archive"}
EXECUTE = {"mode": "execute", "confirm": "demo"}


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    with temporary_demo_host(documents=10) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        yield made


def index_of(host: DemoHost, core: str) -> Path:
    return host.home / "alf_data/solr4/index" / CORES[core] / "SpacesStore/index"


@pytest.fixture
def running(host: DemoHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSolr]:
    with fake_solr({core: index_of(host, core) for core in CORES}) as made:
        monkeypatch.setenv("SOLR_URL", made.address)
        monkeypatch.setenv("SOLR_SECRET", SECRET)
        yield made
    for moved in (host.home / "alf_data/solr4Backup").glob("*.gone"):
        moved.rename(moved.with_suffix(""))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_target_time_gets_the_index_that_solr_copied_before_the_base_backup(
    host: DemoHost, running: FakeSolr
) -> None:
    copied = {core: contents(index_of(host, core)) for core in CORES}
    owner = index_of(host, "alfresco").stat().st_uid
    done = backup(return_state=True)
    assert done.is_completed(), done.message
    configuration = read_catalogue(loaded(host).repository).sets[-1].configuration
    assert configuration and set(configuration.indexes) == set(CORES)
    assert running.calls[0] == "alfresco details"
    for core, relative in configuration.indexes.items():
        assert contents(configuration.path / relative) == copied[core]

    target = host.writer.add().committed_at + timedelta(milliseconds=1)
    for core in CORES:
        (index_of(host, core) / "_9.fdt").write_bytes(b"a segment with later transactions")
    later = {core: contents(index_of(host, core)) for core in CORES}
    host.writer.add()
    host.cluster.switch_segment()
    planned = restore_pitr(target_time=target)
    assert "put back those that Solr copied for backup" in str(planned)
    restored = restore_pitr(target_time=target, return_state=True, **EXECUTE)
    assert restored.is_completed(), restored.message
    for core in CORES:
        assert contents(index_of(host, core)) == copied[core]
        assert index_of(host, core).stat().st_uid == owner
        assert {path.stat().st_uid for path in index_of(host, core).iterdir()} == {owner}
    assert not any((host.home / "alf_data/solr4/model").iterdir())

    undone = undo_restore(return_state=True, **EXECUTE)
    assert undone.is_completed(), undone.message
    assert {core: contents(index_of(host, core)) for core in CORES} == later


def test_of_a_copy_that_cannot_be_put_back_nothing_is_left_in_the_index(
    host: DemoHost, running: FakeSolr, caplog: pytest.LogCaptureFixture
) -> None:
    backup()
    configuration = read_catalogue(loaded(host).repository).sets[-1].configuration
    assert configuration and set(configuration.indexes) == set(CORES)
    shutil.rmtree(configuration.path / configuration.indexes["archive"])
    done = restore_full(return_state=True, **EXECUTE)
    assert done.is_completed(), done.message
    assert "could not be put back, so that Solr rebuilds it" in caplog.text
    assert list(index_of(host, "archive").parent.iterdir()) == []
    assert contents(index_of(host, "alfresco")) == contents(
        configuration.path / configuration.indexes["alfresco"]
    )
    undone = undo_restore(return_state=True, **EXECUTE)
    assert undone.is_completed(), undone.message


def test_a_set_without_a_copy_of_solr_has_its_indexes_rebuilt(host: DemoHost) -> None:
    backup()
    configuration = read_catalogue(loaded(host).repository).sets[-1].configuration
    assert configuration and not configuration.indexes
    assert "Solr rebuilds them from all documents" in str(restore_pitr(target_time="latest"))


FAULTS: dict[Fault, str] = {
    "refuses": r"Solr refuses the call \(403\)",
    "fails": "Solr's copy failed: No space left on device",
    "hangs": "Solr does not answer: timed out",
    "never ends": "Solr did not end its copy in time",
    "half": r"Solr tells of a copy with \d+ files, and .*/alfresco has snapshot\.",
    "gone": "No such file or directory: .*/solr4Backup/alfresco",
    "no solr": "Solr does not answer: Expecting value",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_copy_that_failed_is_told_and_recorded_nowhere(
    host: DemoHost, running: FakeSolr, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.fault = fault
    monkeypatch.setattr(solr, "IDLE_SECONDS", 0.5)
    monkeypatch.setenv("SOLR_BACKUP_MINUTES", "0.02" if fault == "never ends" else "5")
    done = back_up_indexes(loaded(host))
    assert not done.made
    assert [(item.level, item.subject) for item in done.findings] == [
        ("warning", "Solr index alfresco"),
        ("warning", "Solr index archive"),
    ]
    found = done.findings[0]
    assert re.search(FAULTS[fault], found.sentence), found.sentence
    assert "SOLR_" in found.fix and SECRET not in found.with_hint


def test_connections_that_are_reset_cost_no_copy(host: DemoHost, running: FakeSolr) -> None:
    running.cuts = ["details", "details", "backup", "details", "backup"]
    assert set(back_up_indexes(loaded(host)).made) == set(CORES)
    assert not running.cuts
    assert running.calls.count("alfresco backup") == running.calls.count("archive backup") == 1


def test_a_call_that_was_lost_with_its_connection_is_not_waited_for(
    host: DemoHost, running: FakeSolr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solr, "IDLE_SECONDS", 0.5)
    running.cuts = ["backup!"]
    done = back_up_indexes(loaded(host))
    assert set(done.made) == {"archive"}
    assert "Solr does not answer: " in done.findings[0].sentence
    assert running.calls.count("alfresco backup") == 1


def test_a_solr_that_resets_every_connection_is_given_up(host: DemoHost, running: FakeSolr) -> None:
    running.cuts = ["details!"] * 100
    assert not back_up_indexes(loaded(host)).made
    assert running.calls == [f"{core} details" for core in CORES for _ in range(solr.CUTS + 1)]


def test_the_backup_itself_succeeds_and_its_report_warns(
    host: DemoHost, running: FakeSolr, caplog: pytest.LogCaptureFixture
) -> None:
    running.fault = "refuses"
    done = backup(return_state=True)
    assert done.is_completed(), done.message
    assert "Solr index archive: Solr refuses the call (403)" in caplog.text
    configuration = read_catalogue(loaded(host).repository).sets[-1].configuration
    assert configuration and not configuration.indexes


def test_a_list_in_place_of_a_map_is_understood(host: DemoHost, running: FakeSolr) -> None:
    running.flat = True
    assert set(back_up_indexes(loaded(host)).made) == set(CORES)
    assert set(back_up_indexes(loaded(host)).made) == set(CORES)


@pytest.mark.parametrize(
    ("place", "core"),
    [
        ("/opt/alfresco/alf_data/solr4/index/workspace/SpacesStore", "alfresco"),
        ("/opt/alfresco/alf_data/solr4/index/archive/SpacesStore", "archive"),
        ("/opt/alfresco-search-services/data/alfresco", "alfresco"),
        ("/opt/alfresco-search-services/data/archive/index", "archive"),
        ("/opt/alfresco/alf_data/solr4/content", "content"),
    ],
)
def test_the_core_of_an_index_is_known_by_its_place(place: str, core: str) -> None:
    assert core_of(Path(place)) == core
