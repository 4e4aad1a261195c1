"""A server on a later timeline whose history never reached the archive: archiving was off, or began anew."""

import shutil
import subprocess

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import ArchivingBroken
from alfresco_backup.findings import Finding
from alfresco_backup.preflight.host import inspect_host
from alfresco_backup.repository.catalogue import read_catalogue
from demo.host import DemoHost
from demo.places import give_to
from tests.support.common import run_on, wait_until

NAME = "00000002.history"


def promote_without_archiving(demo: DemoHost) -> None:
    """Bring the server to timeline 2 while archiving is off, then give it a new archive."""
    cluster = demo.cluster
    cluster.stop()
    cluster.configure(archive_mode="off", restore_command="false")
    signal = cluster.directory / "recovery.signal"
    signal.touch()
    give_to(signal, cluster.account)
    cluster.start()
    wait_until(lambda: cluster.sql("SELECT pg_is_in_recovery()") == [("f",)], "the server is promoted")
    cluster.stop()
    shutil.rmtree(demo.wal_archive)
    demo.wal_archive.mkdir()
    give_to(demo.wal_archive, cluster.account)
    cluster.configure(archive_mode="on")
    cluster.start()


def timeline_finding(demo: DemoHost) -> Finding:
    run_ = run_on(demo)
    found = inspect_host(run_, ("postgres",), read_catalogue(run_.repository))
    (finding,) = (item for item in found if item.subject == "timeline")
    return finding


def test_a_history_that_was_never_archived_is_taken_from_the_server_or_named_before_the_copy(
    demo_host: DemoHost,
) -> None:
    promote_without_archiving(demo_host)
    own, archived = demo_host.cluster.directory / "pg_wal" / NAME, demo_host.wal_archive / NAME
    hidden = own.with_name("hidden")
    own.rename(hidden)
    finding = timeline_finding(demo_host)
    assert finding.level == "error" and f"timeline 2, {NAME}, is not in the archive" in finding.sentence
    assert f" --zstd {own} {NAME} {demo_host.wal_archive} < " in finding.fix
    run_ = run_on(demo_host)
    with pytest.raises(ArchivingBroken, match="does not exist or is no file"):
        base_backup(run_, lambda _done, _total: pytest.fail("something was copied"))
    hidden.rename(own)
    assert timeline_finding(demo_host).sentence == "is 2; its history is archived"
    assert archived.read_bytes() == own.read_bytes()
    assert archived.stat().st_uid == own.stat().st_uid
    archived.unlink()
    wait_until(lambda: run_on(demo_host).stamp > run_.stamp, "the next second")
    backup = base_backup(run_on(demo_host), lambda _done, _total: None)
    assert backup.timeline == 2 and archived.is_file()
    tar = ["tar", "-t", "-I", "zstd", "-f", backup.path / "pg_wal.tar.zst"]
    listing = subprocess.run(tar, check=True, capture_output=True, text=True).stdout.split()
    assert f"./{NAME}" in listing
