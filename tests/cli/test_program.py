"""Every verb of the program on a demo host, typed as messages print it: from `/`, without environment."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.cli.commands import VERBS
from alfresco_backup.host.host import load_host
from alfresco_backup.restore.journal.journal_record import RestoreState, list_restores
from alfresco_backup.retention.holds import Hold, open_holds, read_holds, write_hold
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from tests.support.common import temporary_demo_host
from tests.support.restore_command import a_document, newest_set

LIMIT_SECONDS = 600
ELSEWHERE = {
    "drill": "drill/test_drill_command.py",
    "deploy": "support/prefect_site.py",
    "begin-repository": "backup/test_unmounted.py",
    "fleet": "prefect/test_prefect_fleet.py",
    "documents": "documents/test_find.py",
    "offsite": "offsite/test_offsite_fetch.py",
    "serve": "support/prefect_serving.py",
    "wal-receiver": "support/streaming.py",
}
"""The tests that run what takes long, or needs a server of its own."""
EXECUTE = ("--execute", "--confirm", "demo")


def typed(*words: str) -> tuple[int, dict[str, Any]]:
    """Type a command with --json: its exit code, and the one document on standard output."""
    command = program_command(*words, "--json")
    done = subprocess.run(
        ["env", "-i", "sh", "-c", command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    assert (document["schema"], document["exit_code"]) == (2, done.returncode), done.stderr
    assert ("error" in document) is (document["state"] == "error"), document
    return done.returncode, document


def done(*words: str) -> dict[str, Any]:
    code, document = typed(*words)
    assert code == 0, json.dumps(document, indent=1)
    return document


@pytest.fixture(scope="module")
def host(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHost]:
    """A host with one set that `backup` has made. Its settings name the tests' server."""
    with temporary_demo_host(documents=60) as demo, pytest.MonkeyPatch.context() as patch:
        with demo.env_file.open("a") as file:
            file.write(f"PREFECT_API_URL={PREFECT_API_URL.value()}\n")
            file.write(f"PREFECT_HOME={tmp_path_factory.mktemp('prefect')}\n")
        patch.setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        document = done("backup")
        assert (document["state"], document["host"]) == ("done", "demo")
        assert document["text"].startswith(f"# Backup of demo: set {newest_set(demo).stamp}")
        yield demo


def test_what_only_reads_says_how_things_are(host: DemoHost) -> None:
    status = done("status")
    assert (status["state"], status["newest_complete"]) == ("good", newest_set(host).stamp)
    assert done("wal-audit")["text"].startswith("restorable from ")
    assert re.match(r"\d+ documents? checked", done("content-check")["text"])
    code, doctor = typed("doctor")
    assert code in (0, 5, 7) and doctor["findings"]
    code, configured = typed("configure")
    assert (code, configured["state"]) in ((0, "done"), (5, "planned")) and "changes" in configured


def test_a_set_is_pinned_and_unpinned(host: DemoHost) -> None:
    backup_id = newest_set(host).stamp
    pinned = done("pin", backup_id, "--reason", "before the upgrade")
    assert (pinned["backup_id"], pinned["reason"]) == (backup_id, "before the upgrade")
    pin = load_host(host.env_file).repository.pins / f"{backup_id}.json"
    assert pin.is_file()
    assert done("unpin", backup_id)["backup_id"] == backup_id
    assert not pin.exists()


def test_retention_plans_and_removes_once_the_host_was_named(host: DemoHost) -> None:
    needless = host.backup_dir / "contentstore/days/20200101T000000Z"
    needless.mkdir(parents=True)
    text = done("retention")["text"]
    assert needless.name in text and " retention --execute --confirm demo --env " in text
    code, refused = typed("retention", "--execute")
    assert (code, refused["error"]["kind"]) == (3, "Refused")
    assert needless.is_dir()
    assert done("retention", *EXECUTE)["text"].startswith("Retention removed ")
    assert not needless.exists()
    assert newest_set(host).complete


def test_what_holds_retention_is_accepted(host: DemoHost) -> None:
    repository, run = load_host(host.env_file).repository, newest_set(host).stamp
    write_hold(repository, Hold(run, "clock", "the clock was ahead", utc_now()))
    code, held = typed("retention", *EXECUTE)
    assert (code, held["error"]["kind"]) == (3, "Refused")
    assert done("accept", run, "--reason", "it was set by hand")["reason"] == "it was set by hand"
    assert open_holds(read_holds(repository), utc_now()) == ()
    assert done("retention", *EXECUTE)["state"] == "done"


def test_a_document_that_was_changed_in_place_holds_retention_until_that_is_accepted(host: DemoHost) -> None:
    document = host.layout.contentstore / a_document(host, newest_set(host).snapshots["contentstore"])
    content, status = document.read_bytes(), document.stat()
    document.write_bytes(b"x" * len(content))
    told = done("backup", "--only", "contentstore", "--full")["text"]
    run = newest_set(host).stamp
    assert "1 file changed in place" in told and f"accept {run} --reason" in told
    (held,) = done("status")["holds"]
    assert (held["run"], held["cause"]) == (run, "content") and document.name in held["sentence"]
    assert typed("retention", *EXECUTE)[1]["error"]["kind"] == "Refused"
    document.write_bytes(content)  # as a restore puts it back
    os.utime(document, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "1 file changed in place" not in done("backup", "--only", "contentstore", "--full")["text"]
    assert done("accept", run, "--reason", "it was a test")["reason"] == "it was a test"
    assert done("status")["holds"] == []
    assert done("retention", *EXECUTE)["state"] == "done"


def test_a_store_that_looks_unmounted_is_backed_up_once_that_is_accepted(host: DemoHost) -> None:
    volume = min(path for path in host.layout.contentstore.iterdir() if path.is_dir())
    away = volume.rename(host.home / "unmounted")
    volume.mkdir()
    code, refused = typed("backup", "--only", "contentstore")
    assert (code, refused["error"]["kind"]) == (1, "BackupUnsound")
    assert "is empty now" in refused["error"]["message"]
    (held,) = done("status")["holds"]
    assert held["cause"] == "missing" and held["fix"].split(" --reason")[0] in refused["error"]["fix"]
    assert done("accept", held["run"], "--reason", "it was moved away")["state"] == "done"
    assert "gone" in done("backup", "--only", "contentstore")["text"]
    assert newest_set(host).snapshots["contentstore"].accepted == held["run"]
    assert done("status")["holds"] == []
    volume.rmdir()
    away.rename(volume)
    done("backup")


def test_a_restore_is_planned_executed_and_undone(host: DemoHost) -> None:
    restore = ("restore", "--mode", "contentstore")
    lost = host.layout.contentstore / a_document(host, newest_set(host).snapshots["contentstore"])
    lost.unlink()
    planned = done(*restore)
    assert (planned["state"], planned["mode"], lost.exists()) == ("planned", "contentstore", False)
    assert done(*restore, *EXECUTE)["state"] == "done"
    assert lost.is_file()
    assert done("undo")["state"] == "planned"
    code, undone = typed("undo", *EXECUTE)
    assert (code, undone["mode"], undone["error"]["kind"]) == (4, "undo", "DocumentsMissing")
    assert not lost.exists(), "as it was before the restore"
    (record,) = list_restores(load_host(host.env_file).repository.restores("demo"))
    assert record.state is RestoreState.UNDONE
    assert host.answer()


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_is_run_by_a_test(verb: str) -> None:
    file = PROJECT_DIRECTORY / "tests" / ELSEWHERE[verb] if verb in ELSEWHERE else Path(__file__)
    assert f'"{verb}"' in file.read_text()
