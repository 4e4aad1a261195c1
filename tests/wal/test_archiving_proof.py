"""What a backup takes for working archiving: segments that arrive, are this server's, and are new."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.backup.server import ask_patiently
from alfresco_backup.errors import ArchivingBroken
from alfresco_backup.postgres.wal_files import read_segment_header
from alfresco_backup.wal.archive import (
    archived_path,
    prove_archiving,
    refuse_foreign_segment,
    wait_for_archive,
    watch_archiver,
)
from demo.host import DemoHost
from tests.support.common import run_on, temporary_cluster, wait_until


def wait_minutes(demo: DemoHost, minutes: float) -> None:
    text = demo.env_file.read_text()
    demo.env_file.write_text(text.replace('ARCHIVE_WAIT_MINUTES="1"', f'ARCHIVE_WAIT_MINUTES="{minutes}"'))


def current_segment(demo: DemoHost) -> str:
    return demo.cluster.current_segment()


def test_a_segment_that_is_archived_before_it_is_written_is_another_servers(demo_host: DemoHost) -> None:
    name = current_segment(demo_host)
    stale = demo_host.wal_archive / name
    stale.write_bytes(b"left by the cluster before")
    with pytest.raises(ArchivingBroken, match=f"{name} is in the archive already, while the server is still"):
        prove_archiving(run_on(demo_host).host, "20261122T020000Z", 30)
    stale.unlink()
    assert prove_archiving(run_on(demo_host).host, "20261122T020001Z", 30) == name


def test_a_segment_of_another_cluster_never_gets_into_a_set(demo_host: DemoHost) -> None:
    host = run_on(demo_host).host
    name = prove_archiving(host, "20261122T020000Z", 30)
    mine = read_segment_header(demo_host.wal_archive / f"{name}.zst").system_identifier
    with temporary_cluster(demo_host.cluster.bindir) as other:
        first = other.current_segment()
        foreign = demo_host.directory / first
        shutil.copy(other.directory / other.facts.wal_directory / first, foreign)
    theirs = read_segment_header(foreign).system_identifier
    with pytest.raises(ArchivingBroken, match=f"system identifier mismatch: server {mine}, segment {theirs}"):
        refuse_foreign_segment(foreign, first, mine)
    misnamed = f"{first[:-1]}F"
    foreign.rename(foreign.with_name(misnamed))
    with pytest.raises(ArchivingBroken, match=r"its WAL begins at 0/[0-9A-F]+, not at 0/F000000"):
        refuse_foreign_segment(foreign.with_name(misnamed), misnamed, theirs)


def test_a_cut_off_segment_never_gets_into_a_set(demo_host: DemoHost, tmp_path: Path) -> None:
    host = run_on(demo_host).host
    name = current_segment(demo_host)
    whole = host.installation.data_directory / demo_host.cluster.facts.wal_directory / name
    cut = tmp_path / name
    cut.write_bytes(whole.read_bytes()[:100_000])
    owner = read_segment_header(whole).system_identifier
    refuse_foreign_segment(whole, name, owner)
    with pytest.raises(ArchivingBroken, match="it has 100000 of 16777216 bytes"):
        refuse_foreign_segment(cut, name, owner)


@pytest.mark.parametrize("squeeze", ["cat", "zstd -q -c"])
def test_a_segment_that_is_seen_while_it_is_being_archived_is_waited_for(
    demo_host: DemoHost, squeeze: str
) -> None:
    archive, go_on = demo_host.wal_archive, demo_host.cluster.directory / "go_on"
    target = f"{archive}/%f" + (".zst" if "zstd" in squeeze else "")
    waiting = f"for i in $(seq 600); do [ -e {go_on} ] && break; sleep 0.1; done"
    growing = f"{squeeze} %p > %p.all; head -c 300 %p.all > {target}; {waiting}; mv %p.all {target}"
    demo_host.cluster.sql(f"ALTER SYSTEM SET archive_command = '{growing}'")
    demo_host.cluster.reload()
    name = current_segment(demo_host)
    with ThreadPoolExecutor(1) as pool:
        proving = pool.submit(prove_archiving, run_on(demo_host).host, "20261122T020000Z", 30)
        wait_until(lambda: archived_path(archive, name), "the segment is not archived")
        assert not proving.done()
        go_on.touch()
        assert proving.result() == name


def test_a_segment_that_is_compressed_while_it_is_waited_for_is_found_by_its_new_name(
    demo_host: DemoHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = demo_host.wal_archive
    name = prove_archiving(run_on(demo_host).host, "20261122T020000Z", 30)
    squeezed, plain = archive / f"{name}.zst", archive / name
    whole = squeezed.rename(demo_host.cluster.directory / "whole")
    plain.write_bytes(b"cut off")

    def compress(seconds: float) -> None:
        whole.rename(squeezed)
        plain.unlink()

    monkeypatch.setattr(time, "sleep", compress)
    assert wait_for_archive(run_on(demo_host).host, name, 30) == squeezed


def test_an_archiver_that_works_off_a_long_queue_is_waited_for(demo_host: DemoHost) -> None:
    """Files are archived in order: behind a bulk import the newest comes last, later than the limit."""
    limit, queued = 10.0, demo_host.directory / "queued"
    slow = f"until [ -e {queued} ]; do sleep 0.1; done; sleep 2; cp %p {demo_host.wal_archive}/%f"
    demo_host.cluster.sql(f"ALTER SYSTEM SET archive_command = '{slow}'")
    demo_host.cluster.reload()
    for number in range(5):
        demo_host.cluster.sql(f"SELECT pg_create_restore_point('queue {number}')")
        demo_host.cluster.switch_segment()
    started = time.monotonic()
    queued.touch()
    name = prove_archiving(run_on(demo_host).host, "20261122T020000Z", limit)
    assert (demo_host.wal_archive / name).exists() and time.monotonic() - started > limit


def test_a_file_that_will_never_come_is_given_up_though_others_are_archived(demo_host: DemoHost) -> None:
    """Somebody's cleanup has removed it, or the archive_command leaves it out."""
    wait_minutes(demo_host, 0.1)
    never = "0000000100000000000000FF"

    def archive_another(seconds: float) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(time, "sleep", wait_really)  # psql is waited for, too
            demo_host.cluster.sql("SELECT pg_create_restore_point('another')")
            demo_host.cluster.switch_segment()
        wait_really(seconds)

    wait_really = time.sleep
    told = f"{never} did not reach"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ArchivingBroken, match=told):
        patch.setattr(time, "sleep", archive_another)
        wait_for_archive(run_on(demo_host).host, never)


def test_an_archive_command_that_hangs_ends_a_backup_within_the_limit(demo_host: DemoHost) -> None:
    wait_minutes(demo_host, 0.02)
    demo_host.cluster.sql("ALTER SYSTEM SET archive_command = 'exec sleep 600'")
    demo_host.cluster.reload()
    look = watch_archiver(run_on(demo_host).host)
    look()
    demo_host.cluster.sql("SELECT pg_create_restore_point('x')")
    demo_host.cluster.switch_segment()

    def gave_up() -> bool:
        try:
            look()
        except ArchivingBroken as error:
            assert "no WAL segment was archived for" in str(
                error
            ) and "archive_command fails or hangs" in str(error)
            return True
        return False

    wait_until(gave_up, "the archiver hangs unnoticed")


def test_a_server_that_cannot_be_asked_for_a_moment_does_not_end_a_long_copy(demo_host: DemoHost) -> None:
    look = watch_archiver(run_on(demo_host).host)
    demo_host.cluster.sql("ALTER ROLE alfresco CONNECTION LIMIT 0")
    look()
    demo_host.cluster.sql("ALTER ROLE alfresco CONNECTION LIMIT -1")
    assert base_backup(run_on(demo_host), lambda _done, _total: None).stop_wal


def test_a_backup_label_archived_compressed_is_read(demo_host: DemoHost) -> None:
    archive = demo_host.wal_archive
    command = f"zstd -q %p -o {archive}/%f.tmp && mv {archive}/%f.tmp {archive}/%f.zst"
    demo_host.cluster.sql(f"ALTER SYSTEM SET archive_command = '{command}'")
    demo_host.cluster.reload()
    backup = base_backup(run_on(demo_host), lambda _done, _total: None)
    assert list(archive.glob("*.backup.zst")) and backup.stop_wal >= backup.start_wal


def test_a_failure_in_between_does_not_throw_a_finished_copy_away(demo_host: DemoHost) -> None:
    archive, failed = demo_host.wal_archive, demo_host.cluster.directory / "failed"
    command = (
        f"case %f in *.backup) test -e {failed} || {{ touch {failed}; exit 1; }};; esac; cp %p {archive}/%f"
    )
    demo_host.cluster.sql(f"ALTER SYSTEM SET archive_command = '{command}'")
    demo_host.cluster.reload()
    backup = base_backup(run_on(demo_host), lambda _done, _total: None)
    assert failed.exists() and backup.path.is_dir()
    ((count,),) = demo_host.cluster.sql("SELECT failed_count FROM pg_stat_archiver")
    assert int(count) >= 1


def test_a_finished_copy_asks_a_server_that_refuses_for_a_moment_again(demo_host: DemoHost) -> None:
    cluster, host = demo_host.cluster, run_on(demo_host).host
    asked: list[bool] = []

    def question() -> str:
        asked.append(True)
        if len(asked) == 2:
            cluster.sql("ALTER ROLE alfresco CONNECTION LIMIT -1")
        return host.database.value("SELECT 'an answer'")

    cluster.sql("ALTER ROLE alfresco CONNECTION LIMIT 0")
    assert ask_patiently(question) == "an answer"
    assert len(asked) == 2
