"""A page damaged on the server's disk: the backup holds it and says so; it does not end all backups."""

import subprocess

import pytest

from alfresco_backup.backup import base
from alfresco_backup.backup.base import copied_with_wrong_checksums, damaged_file
from alfresco_backup.backup.concerns import damage_warning, warnings_about
from alfresco_backup.backup.make import base_backup
from alfresco_backup.backup.report import backup_report, row_of
from alfresco_backup.repository.catalogue import read_catalogue
from demo.cluster import available_bindirs, major_version
from demo.host import DemoHost
from demo.places import give_to
from tests.support.common import run_on

PAGE = 8192
SERVERS = {major_version(path) // 10000: path for path in available_bindirs()}
WAYS = [(15, "chosen"), (15, "afterwards"), (18, "chosen"), (18, "pipe")]


def damage_a_page(demo: DemoHost) -> str:
    """Turn checksums on and change a byte of a table on disk; returns the table's file."""
    cluster = demo.cluster
    cluster.sql("CREATE TABLE hurt AS SELECT repeat('x', 200) FROM generate_series(1, 2000)", "alfresco")
    cluster.sql("ALTER SYSTEM SET autovacuum = off")
    ((name,),) = cluster.sql("SELECT pg_relation_filepath('hurt')", "alfresco")
    cluster.stop()
    if cluster.version < 180000:
        enable = [cluster.bindir / "pg_checksums", "--enable", "-N", "-D", cluster.directory]
        subprocess.run(enable, check=True, stdout=subprocess.DEVNULL)
        for path in cluster.directory.rglob("*"):
            give_to(path, cluster.account)
    file = cluster.directory / name
    content = bytearray(file.read_bytes())
    content[3 * PAGE + 5000] ^= 0xFF
    file.write_bytes(content)
    cluster.start()
    return name


@pytest.mark.parametrize(
    ("bindir", "way"),
    [
        pytest.param(SERVERS[version], way, id=f"{version}-{way}")
        for version, way in WAYS
        if version in SERVERS
    ],
)
def test_a_page_with_a_wrong_checksum_is_published_with_its_files_name_and_a_warning(
    demo_host: DemoHost, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = damage_a_page(demo_host)
    run_ = run_on(demo_host)
    if way != "chosen":
        monkeypatch.setattr(base, "choose_compression", lambda *_, **__: way)
    backup = base_backup(run_, lambda _done, _total: None)
    assert backup.damaged_files == (name,)
    assert {path.name for path in backup.path.iterdir()} == {
        *("base.tar.zst", "pg_wal.tar.zst", "backup_manifest", "backup.json")
    }
    assert read_catalogue(run_.repository).bases == (backup,)
    warning = damage_warning(backup)
    assert f"wrong checksums in 1 files of the database, and base backup {run_.stamp} contains" in warning
    assert warnings_about([backup], 14) == [warning]
    report = backup_report(run_, [row_of(backup)], [warning], "", "")
    assert f"**Warning**: {warning}" in report and "| 1 files with wrong checksums, WAL 0000" in report
    held = subprocess.run(
        ["tar", "-xO", "-I", "zstd", "-f", backup.path / "base.tar.zst", name],
        check=True,
        capture_output=True,
    )
    assert held.stdout == (demo_host.cluster.directory / name).read_bytes()


def test_a_damaged_file_is_known_by_its_path_in_any_language() -> None:
    said = "WARNUNG:  Prüfsummenüberprüfung fehlgeschlagen in Datei »./base/5/16384.1«, Block 3"
    assert damaged_file(said) == "base/5/16384.1"
    spaced = (
        'WARNING:  checksum verification failed in file "./pg_tblspc/16400/PG_15_202209061/5/1_vm", block 0'
    )
    assert damaged_file(spaced) == "pg_tblspc/16400/PG_15_202209061/5/1_vm"
    assert damaged_file('WARNING: failed in file "./global/1262", block 1') == "global/1262"
    assert damaged_file("10/90 kB (11%), 0/1 tablespace (/backup/base/1/2.partial/base.tar)") == ""
    assert damaged_file("pg_basebackup: initiating base backup, waiting for checkpoint") == ""


def test_only_the_words_of_a_complete_copy_excuse_a_failure() -> None:
    for words in ("pg_basebackup: checksum error occurred", "pg_basebackup: error: checksum error occurred"):
        assert copied_with_wrong_checksums(f"NOTICE:  all WAL archived\n{words}")
    assert not copied_with_wrong_checksums(
        "pg_basebackup: error: could not receive data: checksum error occurred"
    )
