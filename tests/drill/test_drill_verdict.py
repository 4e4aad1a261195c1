"""What a drill finds counts against its set where it is about the set; one without a result counts not."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.drill.drill
from alfresco_backup.backup.proof import Proof, read_proof, write_proof, write_unfinished
from alfresco_backup.contentstore.check import ContentCheckResult
from alfresco_backup.drill.verdict import is_damage, needs_segment, require_whole
from alfresco_backup.errors import (
    BackupError,
    BackupUnsound,
    DocumentsMissing,
    NotInTime,
    NotVerified,
    RecoveryNotReached,
    ToolFailed,
    ToolTimedOut,
)
from alfresco_backup.repository.records import BaseFile
from alfresco_backup.restore.planning.plan import Target
from tests.support.catalogues import NOW, a_base

STAMP = "20261122T023000Z"
END, LATER = Target("immediate"), Target("time", NOW)
VERIFIED = Proof(STAMP, NOW, None, 60.0, 10, 0, elsewhere=("another",))
DAMAGED = replace(VERIFIED, findings=("a page is damaged",))
NO_RESULT = replace(VERIFIED, documents=0, elsewhere=("a third",), unverified=("the disk is full",))


@pytest.mark.parametrize(
    ("error", "target", "expected"),
    [
        (BackupUnsound("x"), LATER, True),
        (DocumentsMissing("x"), LATER, True),
        (RecoveryNotReached("x"), END, True),
        (RecoveryNotReached("x"), LATER, False),
        (NotVerified("x"), END, False),
        (ToolFailed("tar", 2, "No space left on device"), END, False),
        (ToolTimedOut("zstd", 1.0, ""), END, False),
        (BackupError("PostgreSQL does not stop"), END, False),
        (NotInTime("recovery did not end within 6 h (RECOVERY_LIMIT_HOURS)"), END, False),
        (ToolFailed("psql", 1, 'ERROR:  relation "alf_node" does not exist'), LATER, True),
        (ToolFailed("psql", 1, 'ERROR:  invalid page in block 3 of relation "base/5/16"'), END, True),
        (ToolFailed("psql", 1, "ERROR:  missing chunk number 0 for toast value 17"), END, True),
        (BackupError("FATAL:  could not locate a valid checkpoint record"), LATER, True),
        (BackupError('PANIC:  could not open file "pg_xact/0000": No such file or directory'), END, True),
        (BackupError('FATAL:  could not open file "server.key": No such file or directory'), END, False),
        (BackupError("DETAIL:  The cluster was initialized with PG_CONTROL_VERSION 0, but"), END, True),
        (BackupError("FATAL:  database files are incompatible with operating system"), END, False),
        (ToolFailed("psql", 1, "could not read block 3 in file: Input/output error"), END, False),
        (BackupError('could not open file "base/5/16": No space left on device'), END, False),
        (BackupError("FATAL:  out of memory; invalid memory alloc request size 9"), END, False),
        (ToolTimedOut("psql", 1.0, "WARNING:  page verification failed"), END, False),
    ],
    ids=lambda value: getattr(value, "kind", None) or type(value).__name__,
)
def test_only_what_is_about_the_set_is_damage_of_it(
    error: BackupError, target: Target, expected: bool
) -> None:
    assert is_damage(error, target) == expected


@pytest.mark.parametrize("earlier", [VERIFIED, DAMAGED], ids=["verified", "damaged"])
def test_a_drill_without_a_result_leaves_that_of_an_earlier_one(tmp_path: Path, earlier: Proof) -> None:
    write_proof(tmp_path, earlier)
    write_unfinished(tmp_path, NO_RESULT)
    kept = replace(earlier, later=("the disk is full",), elsewhere=("another", "a third"))
    after = read_proof(tmp_path, STAMP)
    assert after is not None and after == kept
    assert after.sentence.count("a later drill ended without a result: the disk is full") == 1


@pytest.mark.parametrize(
    "earlier",
    [None, replace(NO_RESULT, unverified=("before",)), replace(VERIFIED, stamp="20261121T023000Z")],
    ids=["none", "without a result", "of another set"],
)
def test_where_no_earlier_one_had_a_result_it_is_not_verified(tmp_path: Path, earlier: Proof | None) -> None:
    if earlier:
        write_proof(tmp_path, earlier)
    write_unfinished(tmp_path, NO_RESULT)
    assert read_proof(tmp_path, STAMP) == NO_RESULT
    assert not NO_RESULT.sound and not NO_RESULT.damaged


def test_damage_that_a_drill_found_before_it_ended_replaces_an_earlier_result(tmp_path: Path) -> None:
    write_proof(tmp_path, VERIFIED)
    found = replace(DAMAGED, unverified=("the disk is full",))
    write_unfinished(tmp_path, found)
    assert read_proof(tmp_path, STAMP) == found


def test_missing_documents_that_a_drill_found_are_not_lost_where_a_later_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_proof(tmp_path, VERIFIED)
    database = SimpleNamespace(base=replace(a_base(NOW), path=tmp_path), target=END)
    decided: Any = SimpleNamespace(
        database=database, damaged=(), scratch=None, restorable_until=None, rpo_seconds=None
    )
    for name in ("open_drill", "owner", "remove_drill"):
        monkeypatch.setattr(tasks.drill.drill, name, lambda *_: None)
    run_: Any = SimpleNamespace(host=None, log=None)
    with (
        pytest.raises(ToolTimedOut),
        tasks.drill.drill.scratch_server(run_, decided) as drill,
    ):
        drill.checked = ContentCheckResult(10, 2, 0, 0, 0, {}, {}, 1.0, None, ())
        raise ToolTimedOut("pg_checksums", 1.0, "")
    after = read_proof(tmp_path, a_base(NOW).stamp)
    assert after is not None and (after.documents, after.missing, after.damaged) == (10, 2, True)
    assert after.unverified[0].startswith("pg_checksums did not end within its limit")


def test_archived_wal_is_the_sets_only_from_its_start_to_its_end_and_where_it_has_none_itself() -> None:
    base = replace(a_base(NOW), start_wal=f"{1:08X}{0:08X}{5:08X}", stop_wal=f"{1:08X}{0:08X}{6:08X}")
    without = replace(base, files=())
    names = [f"{timeline:08X}{0:08X}{number:08X}.zst" for timeline in (1, 2) for number in (4, 5, 6, 7)]
    assert [name for name in names if needs_segment(without, name)] == names[1:3]
    with_wal = replace(base, files=(BaseFile("pg_wal.tar.zst", 1, "", "wal"),))
    assert not any(needs_segment(with_wal, name) for name in names)


def test_what_could_not_be_extracted_is_damaged_where_its_checksum_or_gzip_says_so(tmp_path: Path) -> None:
    full = ToolFailed("tar", 2, "No space left on device")
    (tmp_path / "base.tar.zst").write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    whole = replace(a_base(NOW), path=tmp_path, files=(BaseFile("base.tar.zst", 3, sha256, "data"),))
    require_whole(whole, full)
    (tmp_path / "base.tar.zst").write_bytes(b"abd")
    with pytest.raises(BackupUnsound, match=r"checksum mismatch in base\.tar\.zst \(tar: tar ended with"):
        require_whole(whole, full)
    (tmp_path / "base.tar.zst").unlink()
    require_whole(whole, full)  # its disk may be away
    old = replace(whole, legacy=True, files=(BaseFile("base.tar.gz", 3, "", "data"),))
    require_whole(old, full)
    require_whole(old, ToolFailed("gzip", -13, ""))
    with pytest.raises(BackupUnsound, match="a file cannot be decompressed"):
        require_whole(old, ToolFailed("gzip", 1, "crc error"))
