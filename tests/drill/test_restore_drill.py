"""Drills on a demo host under a writer: what they prove, what they find, and that nobody else notices."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.backup.proof import read_proof
from alfresco_backup.errors import BackupError, BackupUnsound, DocumentsMissing, Refused
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from tests.support.common import temporary_demo_host, wait_until
from tests.support.restoring import differences, forget_slot, state_of_running

TABLES = ("alf_node", "alf_content_url", "alf_content_data", "alf_transaction")


@pytest.fixture(scope="module")
def lived(prefect_server: None) -> Iterator[DemoHost]:
    """A host with two sets and work between and after them; the last work is in the WAL only."""
    with temporary_demo_host(documents=60) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        patch.setenv("DRILL_READ_CYCLE", "1")
        backup()
        host.writer.work(15)
        backup()
        host.writer.work(15)
        backup(components=["contentstore"])
        archive_all(host)
        yield host


def archive_all(host: DemoHost) -> None:
    """Switch to a new segment and wait until all before it are in the archive."""
    name = host.cluster.current_segment()
    host.cluster.switch_segment()
    wait_until(lambda: list(host.wal_archive.glob(f"{name}*")), f"{name} is archived")


@pytest.fixture
def proof(lived: DemoHost) -> Iterator[Path]:
    """Where the newest base's proof will be; the live host is compared before and after."""
    before = state_of_running(lived)
    newest = max((lived.backup_dir / "postgres").glob("base-*Z"))
    (newest / "proven.json").unlink(missing_ok=True)
    yield newest / "proven.json"
    assert differences(before, state_of_running(lived)) == []
    assert list((lived.backup_dir / "drill").iterdir()) == []
    assert not _processes_below(lived.backup_dir / "drill")


def _processes_below(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{folder}/" in line and str(os.getpid()) != entry.parent.name:
            found.append(line)
    return found


def expected_rows(host: DemoHost, moment: datetime) -> dict[str, int]:
    state = host.writer.state_at(moment)
    return {table: len(state.tables[table]) for table in TABLES}


def test_a_drill_to_a_moment_proves_its_rows_and_documents(lived: DemoHost, proof: Path) -> None:
    moment = lived.writer.commits[-8].committed_at
    said = restore_drill(target_time=moment)
    assert "all are there" in said
    written = json.loads(proof.read_text())
    for table, rows in expected_rows(lived, moment).items():
        assert re.search(rf"^\| `{table}` +\| {rows:,} +\|$", said, re.MULTILINE)
    assert (
        "- every file agrees with the manifest of the base backup" in said
    ) == lived.cluster.facts.has_manifest
    assert datetime.fromisoformat(written["reached"]) == moment
    assert (written["missing"], written["findings"]) == (0, [])
    assert written["documents"] > 50
    assert set(written["steps"]) == {*STEPS}
    reread = written["reread"]
    assert reread["files"] >= written["documents"] and reread["bytes"] > 0
    assert (reread["damaged"], reread["recorded"], reread["cycle"]) == (0, 0, 1)
    assert reread["entries"] == reread["entries_stored"] > 0
    until, proven = (datetime.fromisoformat(written[name]) for name in ("restorable_until", "proven_at"))
    assert moment <= until <= proven and 0 <= written["rpo_seconds"] <= (proven - until).total_seconds()
    assert "read again: " in said and " old (RPO)" in said
    assert re.search(r"^- [1-9]\d* of \d+ WAL segments verified again, 0 damaged$", said, re.MULTILINE)


@pytest.mark.parametrize("target", ["end", "latest", "random"])
def test_a_drill_needs_no_moment_of_its_own(lived: DemoHost, proof: Path, target: str) -> None:
    assert "all are there" in restore_drill(target_time=target)
    proofs = list(proof.parent.parent.glob("base-*Z/proven.json"))
    assert proof.exists() or (target == "random" and proofs)


def test_a_missing_and_a_truncated_document_are_named(lived: DemoHost, proof: Path) -> None:
    stored = _stored_documents(lived)
    first, second = stored[0], stored[1]
    kept = lived.directory / "kept"
    status, content = second.stat(), second.read_bytes()
    first.rename(kept)
    second.write_bytes(content[:-1])
    try:
        with pytest.raises(DocumentsMissing, match="2 documents") as found:
            restore_drill(target_time="end")
    finally:
        kept.rename(first)
        overwrite(second, content, status)
    size = len(content)
    assert f"{first} is missing (in " in found.value.message
    assert f"{second} has {size - 1:,} bytes of {size:,} (in " in found.value.message
    assert found.value.message.count("; whole in the live store") == 2
    listed = max(lived.backup_dir.glob("logs/restore-drill-*.csv")).read_text()
    assert first.name in listed and second.name in listed and "wrong size" in listed
    assert json.loads(proof.read_text())["missing"] == 2


def test_a_flipped_byte_is_named_with_where_the_file_is_whole(lived: DemoHost, proof: Path) -> None:
    file = _stored_documents(lived)[2]
    status, content = file.stat(), file.read_bytes()
    overwrite(file, content[:-1] + bytes([content[-1] ^ 1]), status)
    try:
        with pytest.raises(BackupUnsound, match=f"{file} differs from .*; whole in the live store"):
            restore_drill(target_time="end")
    finally:
        overwrite(file, content, status)
    written = json.loads(proof.read_text())
    assert written["missing"] == 0 and written["reread"]["damaged"] == 1
    assert str(file) in max(lived.backup_dir.glob("logs/restore-drill-*.log")).read_text()


def test_damage_in_a_snapshot_or_a_segment_that_is_not_the_sets_does_not_count_against_it(
    lived: DemoHost, proof: Path
) -> None:
    """A document that only the last run copied, and WAL from before the base backup: PostgreSQL asks the
    archive for one segment more than it needs."""
    start = json.loads((proof.parent / "backup.json").read_text())["start_wal"]
    archived = [path for path in lived.wal_archive.glob("0*.zst") if ".backup" not in path.name]
    segment = max(path for path in archived if path.name < start)
    stores = lived.backup_dir / "contentstore"
    newest = max(stores.glob("contentstore-*Z"))
    own, all_of = (
        {name: Path(at, name) for at, _, names in os.walk(place, followlinks=True) for name in names}
        for place in (stores / proof.parent.name.replace("base-", "contentstore-"), newest)
    )
    document = min(path.resolve() for name, path in all_of.items() if name not in own)
    kept = {path: (path.read_bytes(), path.stat()) for path in (segment, document)}
    for path, (
        content,
        status,
    ) in kept.items():  # the last byte: a look at a segment's beginning sees nothing
        overwrite(path, content[:-1] + bytes([content[-1] ^ 1]), status)
    try:
        with pytest.raises(BackupUnsound, match="found no damage in its set, but elsewhere: ") as found:
            restore_drill(target_time="end")
    finally:
        for path, (content, status) in kept.items():
            overwrite(path, content, status)
        (lived.backup_dir / "logs/wal-seen.json").unlink()
    assert f"WAL segment {segment.name} is damaged" in found.value.message
    assert f"{document} differs from its checksum" in found.value.message
    result = read_proof(proof.parent, proof.parent.name.removeprefix("base-"))
    assert result is not None and result.sound and len(result.elsewhere) == 2
    assert restore_drill(target_time="end")


def test_a_drill_out_of_time_is_no_damage_and_what_was_verified_before_stays(
    lived: DemoHost, proof: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = proof.parent.name.removeprefix("base-")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.restore.database.HOUR", 1e-9)
        with pytest.raises(BackupError, match="did not end within its limit"):
            restore_drill(target_time="end")
        result = read_proof(proof.parent, stamp)
        assert result is not None and not result.damaged and not result.sound
        assert "did not end within its limit" in result.unverified[0]
    restore_drill(target_time="end")
    verified = read_proof(proof.parent, stamp)
    assert verified is not None and verified.sound
    monkeypatch.setattr("tasks.restore.database.HOUR", 1e-9)
    with pytest.raises(BackupError, match="did not end within its limit"):
        restore_drill(target_time="end")
    after = read_proof(proof.parent, stamp)
    assert after is not None and "did not end within its limit" in after.later[0]
    assert after == replace(verified, later=after.later)


def test_a_base_archive_in_which_a_byte_changed_is_damage_of_its_set(lived: DemoHost, proof: Path) -> None:
    """Its size is as recorded: only reading shows it, and then the decompressor ends first."""
    tar = proof.parent / "base.tar.zst"
    content, status = tar.read_bytes(), tar.stat()
    middle = len(content) // 2
    overwrite(tar, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], status)
    try:
        with pytest.raises(BackupUnsound, match=r"is damaged: checksum mismatch in base\.tar\.zst"):
            restore_drill(target_time="end")
    finally:
        overwrite(tar, content, status)
    written = json.loads(proof.read_text())
    assert "checksum mismatch in base.tar.zst" in written["findings"][0] and written["unverified"] == []


def overwrite(file: Path, content: bytes, status: os.stat_result) -> None:
    """Change a file in place as a bad disk does: neither inode nor times tell."""
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _stored_documents(host: DemoHost) -> list[Path]:
    """Files of the newest set's snapshot that the oldest documents have."""
    newest = max((host.backup_dir / "postgres").glob("base-*Z")).name.removeprefix("base-")
    snapshot = host.backup_dir / f"contentstore/contentstore-{newest}"
    found = [Path(folder, name) for folder, _, names in os.walk(snapshot, followlinks=True) for name in names]
    live = {row["content_url"].rpartition("/")[2] for row in _rows(host)}
    return sorted(path.resolve() for path in found if path.name in live)


def _rows(host: DemoHost) -> list[dict[str, str]]:
    query = (  # an orphaned URL is of no document
        "SELECT content_url FROM alf_content_url WHERE id IN (SELECT content_url_id FROM alf_content_data)"
    )
    return [{"content_url": row[0]} for row in host.cluster.sql(query, "alfresco")]


def test_a_base_archive_that_was_cut_is_named(lived: DemoHost, proof: Path) -> None:
    tar = proof.parent / "base.tar.zst"
    whole = tar.read_bytes()
    with tar.open("r+b") as stream:
        stream.truncate(len(whole) // 2)
    try:
        with pytest.raises(
            BackupUnsound, match=rf"{proof.parent.name} is newer but cannot be used: .*base\.tar"
        ):
            restore_drill(target_time="end")
    finally:
        with tar.open("r+b") as stream:
            stream.write(whole)
    assert not proof.exists()
    older = min(proof.parent.parent.glob("base-*Z"))
    result = read_proof(older, older.name.removeprefix("base-"))
    assert result is not None and result.sound, "the older one was restored without fault"
    (told,) = result.elsewhere
    assert f"{proof.parent.name} is newer but cannot be used: " in told


def test_wal_that_is_missing_is_a_refusal_naming_the_gap(lived: DemoHost, proof: Path) -> None:
    moment = lived.writer.commits[-8].committed_at
    segments = sorted(path for path in lived.wal_archive.glob("0*.zst") if ".backup" not in path.name)
    base = json.loads((proof.parent / "backup.json").read_text())
    wanted = next(path for path in segments if path.name > f"{base['stop_wal']}.zst")
    aside = wanted.with_name(f".{wanted.name}")
    wanted.rename(aside)
    try:
        with pytest.raises(Refused, match="restorable from"):
            restore_drill(target_time=moment)
    finally:
        aside.rename(wanted)


def test_another_keystore_than_the_live_one_is_named(lived: DemoHost, proof: Path) -> None:
    file = next(path for path in sorted(lived.layout.keystore.iterdir()) if path.is_file())
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(b"another key")
    try:
        with pytest.raises(BackupUnsound, match=f"the keystore differs from that of backup .*{file.name}"):
            restore_drill(target_time="end")
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.utime(file.parent, ns=(status.st_atime_ns, file.parent.stat().st_mtime_ns))


def test_a_damaged_keystore_of_the_set_is_named(lived: DemoHost, proof: Path) -> None:
    stamp = proof.parent.name.removeprefix("base-")
    folder = lived.backup_dir / f"configuration/configuration-{stamp}/keystore"
    file = next(path for path in sorted(folder.iterdir()) if path.is_file())
    status, content = file.stat(), file.read_bytes()
    overwrite(file, b"another key", status)
    try:
        words = f"the keystore of backup {stamp} is damaged: .*{file.name}"
        with pytest.raises(BackupUnsound, match=words):
            restore_drill(target_time="end")
    finally:
        overwrite(file, content, status)
    assert file.name in json.loads(proof.read_text())["findings"][0]


def test_a_drill_in_a_live_place_is_refused(lived: DemoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lived.layout.contentstore
    for place in (store, store / "2020", lived.directory, lived.wal_archive):
        env = lived.directory / "other.env"
        shutil.copy(lived.env_file, env)
        with env.open("a") as stream:
            stream.write(f"\nDRILL_DIR={place}\n")
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(env))
        with pytest.raises(Refused, match=r"which belongs to the live host"):
            restore_drill(target_time="end")
        env.unlink()


def test_a_row_without_file_between_two_snapshots_is_found(lived: DemoHost) -> None:
    commit = lived.writer.add()
    url = lived.cluster.sql("SELECT content_url FROM alf_content_url ORDER BY id DESC LIMIT 1", "alfresco")[
        0
    ][0]
    file = lived.layout.contentstore / url.removeprefix("store://")
    content, moment = file.read_bytes(), commit.committed_at
    file.unlink()
    lived.writer.add()
    backup(components=["contentstore"])
    archive_all(lived)
    try:
        with pytest.raises(DocumentsMissing, match="1 document missing"):
            restore_drill(target_time=moment + timedelta(microseconds=1))
    finally:
        file.write_bytes(content)


KILLED = """
import os, signal, sys
import alfresco_backup.contentstore.reread as content
import tasks.drill.drill as drill
at = sys.argv[1]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if at == "what was read":
    content.write_json = die
step = drill.Drill.step
def dying(self, name):
    if name == at:
        die()
    return step(self, name)
drill.Drill.step = dying
from flows.restore_drill import restore_drill
restore_drill(target_time="end")
"""


STEPS = ("extract", "verify", "recover", "look", "content check", "keystore", "pages", "re-read", "WAL")
SERVER_RUNS = STEPS[3:7]


@pytest.mark.parametrize("step", [*STEPS, "what was read"])
def test_a_killed_drill_leaves_the_host_as_it_was_and_the_next_one_cleans_up(
    lived: DemoHost, proof: Path, step: str
) -> None:
    forget_slot(lived)
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    argv = [sys.executable, "-c", KILLED, step]
    done = subprocess.run(argv, cwd=PROJECT_DIRECTORY, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    (left,) = (lived.backup_dir / "drill").iterdir()
    assert bool(_processes_below(left)) == (step in SERVER_RUNS)
    forget_slot(lived)
    assert "all are there" in restore_drill(target_time="end")
    assert proof.exists()


def test_documents_in_another_place_are_in_report_proof_and_status_as_not_checked(
    lived: DemoHost, proof: Path
) -> None:
    """In the live host the URLs of most documents are another protocol's, as with S3."""
    said = restore_drill(target_time="latest")
    whole = json.loads(proof.read_text())["documents"]
    lived.cluster.sql(
        "UPDATE alf_content_url SET content_url = replace(content_url, 'store://', 's3v2://bucket/') "
        "WHERE id % 2 = 0 AND content_url LIKE 'store://%'",
        "alfresco",
    )
    try:
        archive_all(lived)
        said = restore_drill(target_time="latest")
    finally:
        lived.cluster.sql(
            "UPDATE alf_content_url SET content_url = replace(content_url, 's3v2://bucket/', 'store://')",
            "alfresco",
        )
    written = json.loads(proof.read_text())
    left = written["not_checked"]["s3v2://bucket/"]
    assert left > 10 and written["documents"] + left == whole
    assert f"{written['documents']:,} of {whole:,} documents checked" in said
    assert f"{left:,} documents in s3v2://bucket/ not checked" in said
    words = read_proof(proof.parent, written["stamp"]).sentence
    assert f"{left:,} not checked ({left:,} in s3v2://bucket/)" in words
