"""The end of a restore and after: Alfresco that does not start, backups in the middle, what was set aside."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.errors import AlfrescoNotStarted, DocumentsMissing, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import make_stamp, parse_stamp
from demo.host import DemoHost
from demo.state import DATABASE
from flows.backup import backup
from flows.restore_contentstore import restore_contentstore
from flows.restore_full import restore_full
from flows.retention import retention
from flows.undo_restore import undo_restore
from flows.wal_audit import wal_audit
from tests.support.common import temporary_demo_host
from tests.support.restore_command import a_document, forget, newest_set
from tests.support.restoring import (
    age,
    details,
    differences,
    forget_slot,
    killed_restore,
    loaded,
    restores_of,
    state_of,
)

EXECUTE = {"mode": "execute", "confirm": "demo"}
LOGS = ("logs",)
"""The audit keeps its index there, and any run looks whether another one holds the repository."""
DESCRIPTOR = """
SELECT u.content_url FROM alf_content_url u JOIN alf_content_data d ON d.content_url_id = u.id
  JOIN alf_node_properties p ON p.long_value = d.id JOIN alf_qname q ON q.id = p.qname_id
 WHERE q.local_name = 'versionProperties'
"""


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    """A running host with one set. Each test leaves it running and whole."""
    with temporary_demo_host(documents=40) as demo, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        backup()
        demo.writer.close()
        yield demo


def report_of(host: DemoHost) -> dict[str, object]:
    return json.loads((restores_of(host)[-1].folder / "restore.json").read_text())  # type: ignore[no-any-return]


def test_alfresco_that_refuses_to_start_without_its_descriptor_is_a_missing_document_above_all(
    host: DemoHost,
) -> None:
    ((url,),) = host.cluster.sql(DESCRIPTOR, DATABASE)
    path = url.removeprefix("store://")
    kept = forget(host, newest_set(host).snapshots["contentstore"], path)
    state = restore_contentstore(**EXECUTE, return_state=True)
    for file, content in kept.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert state.is_failed() and "DocumentsMissing: 1 document missing (" in str(state.message)
    with pytest.raises(DocumentsMissing) as missing:
        state.result()
    assert missing.value.exit_code == 4
    assert "Alfresco did not start, possibly because of that" in missing.value.message
    assert "System content not found in content store" in missing.value.message
    assert "only partly restored" not in str(missing.value)
    report = report_of(host)
    assert report["documents_missing"] == 1
    assert path in Path(str(report["findings"])).read_text()
    assert "System content not found" in str(report["not_started"])
    assert restores_of(host)[-1].state is RestoreState.COMPLETED
    host.start()


def test_alfresco_that_does_not_start_for_another_reason_is_named_with_what_starts_it(host: DemoHost) -> None:
    program = host.home / "tomcat/bin/stand_in_tomcat.py"
    away = program.rename(program.with_suffix(".away"))
    with pytest.raises(AlfrescoNotStarted) as failure:
        restore_contentstore(**EXECUTE)
    away.rename(program)
    record = restores_of(host)[-1]
    said = f"restore {record.restore_id} is complete and its data is in place, but Alfresco did not start: "
    assert failure.value.message.startswith(said)
    assert "No such file" in failure.value.message
    start, undo = failure.value.hint.splitlines()[-2:]
    assert start.startswith(f"{host.layout.control_script} start tomcat  # starts Alfresco")
    assert undo == f"{undo_command(record.restore_id, record.host)}  # or undo the restore"
    assert "only partly restored" not in str(failure.value)
    assert (record.state, failure.value.exit_code) == (RestoreState.COMPLETED, 1)
    assert report_of(host)["documents_missing"] == 0
    assert "**Alfresco did not start**" in (record.folder / "restore.md").read_text()
    host.start("tomcat")
    assert host.answer().endswith(" documents")


def rotten(host: DemoHost) -> tuple[Path, Path, bytes]:
    """A document, its stored copy in which a byte has changed on disk, and what the document contains."""
    snapshot = newest_set(host).snapshots["contentstore"]
    path = a_document(host, snapshot)
    live, stored = host.layout.contentstore / path, snapshot.path / path
    content, status = live.read_bytes(), stored.stat()
    stored.write_bytes(bytes([content[0] ^ 8]) + content[1:])
    os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))
    return live, stored, content


def put_right(stored: Path, content: bytes) -> None:
    status = stored.stat()
    stored.write_bytes(content)
    os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("contentstore", ["fill", "replace"])
def test_a_document_outlives_the_rot_of_its_stored_copy_and_the_run_says_so(
    host: DemoHost, contentstore: str
) -> None:
    live, stored, content = rotten(host)
    os.utime(live, (0, 0))
    said = restore_contentstore(contentstore=contentstore, **EXECUTE)
    assert live.read_bytes() == content
    assert "1 file of the backup is damaged and not used (1: the store's file was kept), see " in said
    listed = restores_of(host)[-1].folder / "damaged-contentstore.txt"
    assert listed.read_text() == f"{stored.resolve()}: the store's file was kept\n"
    put_right(stored, content)
    host.start()


@pytest.mark.parametrize("contentstore", ["fill", "replace"])
def test_a_document_of_which_only_a_rotten_copy_is_left_does_not_come_back(
    host: DemoHost, contentstore: str
) -> None:
    live, stored, content = rotten(host)
    live.unlink()
    with pytest.raises(DocumentsMissing, match="1 document missing") as missing:
        restore_contentstore(contentstore=contentstore, **EXECUTE)
    assert not live.exists()
    assert "1 file of the backup is damaged and not used (1: not restored)" in missing.value.message
    assert "1 file of the backup is damaged" in str(report_of(host)["content"])
    put_right(stored, content)
    assert "all are there" in restore_contentstore(**EXECUTE)
    assert live.read_bytes() == content


def test_while_a_restore_is_unfinished_nothing_is_backed_up_or_removed(host: DemoHost) -> None:
    entry = {"entry": "step-end", "step": Step.EXTRACT_DATABASE.value}
    assert killed_restore(host, "restore_full", entry, 1, EXECUTE)
    forget_slot(host)
    record = restores_of(host)[-1]
    home, repository = state_of(host), details(host.backup_dir, without=LOGS)
    for attempt in (backup, lambda: backup(components=["contentstore"]), lambda: retention(mode="execute")):
        with pytest.raises(Refused, match="was interrupted; this host is only partly restored") as refusal:
            attempt()
        assert refusal.value.hint.startswith(undo_command(record.restore_id, record.host))
    retention(mode="plan")
    wal_audit()
    assert differences(repository, details(host.backup_dir, without=LOGS)) == []
    assert differences(home, state_of(host)) == []
    undo_restore(**EXECUTE)
    assert host.answer().endswith(" documents")
    backup(components=["contentstore"])


def test_a_backup_removes_what_was_set_aside_at_its_age_and_says_so(host: DemoHost, monkeypatch) -> None:
    restore_full(**EXECUTE)
    record = restores_of(host)[-1]
    asides = [act.target for act in record.acts if ".before-restore-" in str(getattr(act, "target", ""))]
    assert asides and all(path.exists() for path in asides)
    monkeypatch.setenv("SET_ASIDE_DAYS", "30")
    assert "SET_ASIDE_DAYS" not in backup(components=["contentstore"])
    assert all(path.exists() for path in asides)
    old = make_stamp(parse_stamp(record.restore_id) - timedelta(days=31))
    aged = record.folder.rename(record.folder.with_name(old))
    journal = aged / "journal.jsonl"
    journal.write_text(journal.read_text().replace(record.restore_id, old))
    age(journal, 31)
    moved = [path.rename(str(path).replace(record.restore_id, old)) for path in asides]
    said = backup(components=["contentstore"])
    assert "set aside by a restore over 30 days ago (SET_ASIDE_DAYS)" in said
    assert all(str(path) in said and not path.exists() for path in moved)
    aged_record = next(item for item in restores_of(host) if item.restore_id == old)
    assert aged_record.state is RestoreState.DISCARDED
    assert read_catalogue(loaded(host).repository).sets
    assert host.answer().endswith(" documents")
