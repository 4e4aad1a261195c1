"""Base backups of real servers of every version here: each must restore by tar and pg_ctl alone."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.backup.base import (
    choose_compression,
    client_has_zstd,
    judge_members,
    judge_tablespaces,
    parse_progress,
)
from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import ArchivingBroken, BackupUnsound
from alfresco_backup.host.host import Run, load_host
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.preflight.host import inspect_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.records import BaseBackup, Tablespace
from alfresco_backup.system.files import set_umask
from alfresco_backup.times import make_stamp, utc_now
from demo.cluster import Cluster
from demo.host import DemoHost
from demo.places import give_to
from tests.support.common import every_version, run_on, wait_until
from tests.support.places import reachable_directory

ROWS = "SELECT count(*), sum(content_size), max(content_url) FROM alf_content_url"


def nothing(_done: float, _total: float) -> None:
    """Progress nobody looks at."""


def findings_about(run_: Run, subject: str) -> list[str]:
    found = inspect_host(run_, ("postgres",), read_catalogue(run_.repository))
    return [f"{item.level}: {item.sentence} | {item.fix}" for item in found if item.subject == subject]


def start_from_tars(base: Path, demo: DemoHost, place: Path) -> Cluster:
    """Restore as the README says it goes without this software: tar and pg_ctl, no archive."""
    copy = Cluster(demo.cluster.bindir, place / "copy/data", durable=False)
    copy.directory.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-I", "zstd", "-f", base / "base.tar.zst", "-C", copy.directory], check=True)
    wal = copy.directory / facts_of(copy.version).wal_directory
    wal.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x", "-I", "zstd", "-f", base / "pg_wal.tar.zst", "-C", wal], check=True)
    subprocess.run(["chmod", "-R", "u=rwX,go=", place / "copy"], check=True)
    if copy.account and os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{copy.account.uid}:{copy.account.gid}", place / "copy"], check=True)
    copy.configure(port=copy.port, archive_mode="off", unix_socket_directories=str(copy.socket_directory))
    copy.start()
    return copy


@every_version
def test_a_base_backup_says_what_a_restore_needs_and_starts_elsewhere_from_its_tars_alone(
    demo_host: DemoHost, reachable_path: Path
) -> None:
    run_ = run_on(demo_host)
    (found,) = findings_about(run_, "archiving")
    assert found.startswith("ok: works: segment 0000000100000000")
    backup = base_backup(run_, nothing)
    assert read_catalogue(run_.repository).bases == (backup,)
    assert_metadata_is_true(backup, demo_host, run_)
    expected = demo_host.cluster.sql(ROWS, "alfresco")
    demo_host.cluster.sql("UPDATE alf_content_url SET content_size = content_size + 1", "alfresco")
    assert_tablespaces_travel_along(demo_host)
    shutil.rmtree(demo_host.wal_archive)
    copy = start_from_tars(backup.path, demo_host, reachable_path)
    try:
        assert copy.sql(ROWS, "alfresco") == expected
        assert demo_host.cluster.sql(ROWS, "alfresco") != expected
    finally:
        copy.destroy()


def assert_metadata_is_true(backup: BaseBackup, demo_host: DemoHost, run_: Run) -> None:
    assert backup.postgresql_version == demo_host.cluster.version
    assert (backup.system_identifier, backup.timeline) == (demo_host.cluster.system_identifier, 1)
    assert backup.start_lsn.value < backup.stop_lsn.value
    assert backup.started_at < backup.stopped_at <= utc_now()
    assert (run_.repository.wal / f"{backup.stop_wal}.zst").is_file()
    assert {item.name for item in backup.files} >= {"base.tar.zst", "pg_wal.tar.zst"}
    assert backup.damaged_files == () and "damaged" not in (backup.path / "backup.json").read_text()
    expects_manifest = facts_of(backup.postgresql_version).has_manifest
    assert ("backup_manifest" in {item.name for item in backup.files}) is expects_manifest
    for item in backup.files:
        path = backup.path / item.name
        digest = subprocess.run(
            ["sha256sum", path], check=True, capture_output=True, text=True
        ).stdout.split()[0]
        assert (path.stat().st_size, digest) == (item.bytes, item.sha256)


def assert_tablespaces_travel_along(demo_host: DemoHost) -> None:
    """Tablespaces get tars of their own, however zstd is reached."""
    with reachable_directory() as place:
        give_to(place, demo_host.cluster.account)
        demo_host.cluster.sql(f"CREATE TABLESPACE aside LOCATION '{place}'")
        fill = "CREATE TABLE kept TABLESPACE aside AS SELECT generate_series(1, 1000) AS n"
        demo_host.cluster.sql(fill, "alfresco")
        backup = base_backup(run_on(demo_host), nothing)
        (space,) = backup.tablespaces
        assert (space.name, space.location) == ("aside", str(place))
        assert (backup.path / f"{space.oid}.tar.zst").stat().st_size > 1000
        assert not list(backup.path.glob("*.tar"))
        demo_host.cluster.sql("DROP TABLE kept", "alfresco")
        demo_host.cluster.sql("DROP TABLESPACE aside")


def test_a_file_the_server_cannot_read_is_found_before_anything_is_copied(demo_host: DemoHost) -> None:
    if os.geteuid() != 0:
        pytest.skip("as an ordinary user the server's owner is the only one who can make such a file")
    run_ = run_on(demo_host)
    stray = run_.host.installation.data_directory / "postgresql.conf.backup"
    stray.write_text("left by sudo")
    stray.chmod(0o600)
    (finding,) = findings_about(run_, "data directory")
    assert finding.startswith("error: 1 file cannot be read by ") and str(stray) in finding
    assert f"| chown postgres:postgres {stray}" in finding or "| chown nobody" in finding


def test_a_file_the_server_cannot_read_is_found_by_an_ordinary_user_too(demo_host: DemoHost) -> None:
    run_ = run_on(demo_host)
    stray = run_.host.installation.data_directory / "postgresql.conf.backup"
    stray.write_text("without any permission")
    stray.chmod(0o000)
    give_to(stray, demo_host.cluster.account)
    (finding,) = findings_about(run_, "data directory")
    assert "1 file cannot be read by" in finding
    with pytest.raises(Exception, match="Permission denied"):
        base_backup(run_, nothing)
    assert read_catalogue(run_.repository).bases == ()


def test_a_tar_without_pg_control_is_no_backup() -> None:
    whole = {"backup_label": 200, "PG_VERSION": 3, "global/pg_control": 8192, "base/1/1247": 8192}
    judge_members(whole, None)
    with pytest.raises(BackupUnsound, match="the base backup lacks global/pg_control; it cannot be restored"):
        judge_members({name: size for name, size in whole.items() if "control" not in name}, None)
    with pytest.raises(
        BackupUnsound,
        match=re.escape(
            "1 files of the base backup differ from its manifest: base/1/1247 (8192, manifest says 16384)"
        ),
    ):
        judge_members(whole, {"base/1/1247": 16384, "pg_wal/000000010000000000000001": 5})


def test_archiving_that_fails_or_loses_segments_ends_a_backup_unpublished(demo_host: DemoHost) -> None:
    demo_host.cluster.sql("ALTER SYSTEM SET archive_command = 'echo no such disk >&2; exit 1'")
    demo_host.cluster.reload()
    (finding,) = findings_about(run_on(demo_host), "archiving")
    assert finding.startswith("error: archive_command fails, so 0000000100000000")
    assert "failed" in finding and "server's log" in finding
    demo_host.cluster.sql("ALTER SYSTEM SET archive_command = 'true'")
    demo_host.cluster.reload()
    env = demo_host.env_file
    env.write_text(env.read_text().replace('ARCHIVE_WAIT_MINUTES="1"', 'ARCHIVE_WAIT_MINUTES="0.05"'))
    run_ = run_on(demo_host)
    with pytest.raises(
        ArchivingBroken, match=r"did not reach .* within \d+\.\d s; the server archived \d+ segments"
    ):
        base_backup(run_, nothing)
    catalogue = read_catalogue(run_.repository)
    assert catalogue.bases == ()
    assert [path.name for path in catalogue.partials] == [f"base-{run_.stamp}.partial"]


@pytest.mark.parametrize(
    ("setting", "value", "subject", "expected"),
    [
        ("archive_mode", "off", "archive_mode", "error: is off; no WAL reaches the archive | cd "),
        (
            "wal_level",
            "minimal",
            "wal_level",
            "error: is minimal; expected {levels} | cd ",
        ),
        ("archive_timeout", "0", "archive_timeout", "warning: is 0; on a quiet server"),
    ],
)
def test_the_servers_own_settings_are_asked(
    shared_demo_host: DemoHost, setting: str, value: str, subject: str, expected: str
) -> None:
    cluster = shared_demo_host.cluster
    others = {"archive_mode": "off", "max_wal_senders": "0"} if setting == "wal_level" else {}
    for name, wanted in {**others, setting: value}.items():
        cluster.sql(f"ALTER SYSTEM SET {name} = '{wanted}'")
    cluster.stop()
    cluster.start()
    try:
        (finding,) = findings_about(run_on(shared_demo_host), subject)
        assert finding.startswith(expected.format(levels=" or ".join(cluster.facts.wal_levels)))
    finally:
        cluster.sql("ALTER SYSTEM RESET ALL")
        cluster.stop()
        cluster.start()


def test_a_role_without_replication_is_told_the_command_that_gives_it(shared_demo_host: DemoHost) -> None:
    shared_demo_host.cluster.sql("ALTER ROLE alfresco NOREPLICATION")
    try:
        (finding,) = findings_about(run_on(shared_demo_host), "replication")
    finally:
        shared_demo_host.cluster.sql("ALTER ROLE alfresco REPLICATION")
    assert finding.startswith("error: alfresco may not replicate")
    assert finding.endswith("-m alfresco_backup configure --apply"), "it changes the role and pg_hba.conf"


def test_a_wrong_password_is_a_finding_without_the_password(
    shared_demo_host: DemoHost, tmp_path: Path
) -> None:
    text = shared_demo_host.env_file.read_text()
    wrong = re.sub(r"^PGPASSWORD=.*$", 'PGPASSWORD="geheim-7781"', text, flags=re.MULTILINE)
    env = tmp_path / "env"
    env.write_text(wrong)
    env.chmod(0o600)
    run_ = Run(load_host(env), make_stamp(utc_now()), tmp_path / "log")
    (finding,) = findings_about(run_, "server")
    assert "password authentication failed" in finding and "geheim-7781" not in finding


def test_a_repository_others_may_write_to_is_an_error(shared_demo_host: DemoHost) -> None:
    run_ = run_on(shared_demo_host)
    mode = run_.repository.root.stat().st_mode
    run_.repository.root.chmod(0o777)
    try:
        (finding,) = findings_about(run_, "BACKUP_DIR")
    finally:
        run_.repository.root.chmod(mode)
    assert "has mode 0777" in finding and f"| chmod go-w {run_.repository.root}" in finding


def test_a_killed_copy_leaves_only_a_partial_and_no_child(demo_host: DemoHost) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.backup.test_base_backup import *\n"
        "class Host: env_file = Path(sys.argv[1])\n"
        "base_backup(run_on(Host), nothing)\n"
    )
    env = demo_host.env_file
    env.write_text(env.read_text() + "BANDWIDTH_LIMIT_MIB=1\n")
    demo_host.cluster.sql(
        "CREATE TABLE large AS SELECT md5(n::text) FROM generate_series(1, 300000) AS n", "alfresco"
    )
    project = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", code, str(env)], cwd=project)
    repository = load_host(env).repository
    try:
        wait_until(lambda: _has_data(repository.postgres), "no data yet")
    finally:
        child.kill()
        child.wait()
    wait_until(
        lambda: not _running("pg_basebackup", str(repository.root)), "pg_basebackup outlived its parent"
    )
    catalogue = read_catalogue(repository)
    assert catalogue.bases == () and len(catalogue.partials) == 1


def _has_data(folder: Path) -> bool:
    return any(tar.stat().st_size for tar in folder.glob("*.partial/base.tar.zst"))


def _running(program: str, argument: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if line[0].endswith(program.encode()) and any(argument.encode() in part for part in line):
            return True
    return False


def test_where_zstd_runs_is_asked_not_inferred() -> None:
    new, old = facts_of(180004), facts_of(130023)
    cases = {
        (new, True, False, True): "client-zstd",
        (new, False, True, True): "server-zstd",
        (new, False, False, False): "pipe",
        (new, False, False, True): "afterwards",
        (old, True, True, False): "pipe",
        (old, True, True, True): "afterwards",
    }
    for (server, client, at_server, tablespaces), expected in cases.items():
        assert (
            choose_compression(server, client_zstd=client, server_zstd=at_server, tablespaces=tablespaces)
            == expected
        )


def test_a_client_whose_zstd_has_no_threads_is_asked_again_without_workers(demo_host: DemoHost) -> None:
    """Its words are PostgreSQL's own; all else is done by the real program."""
    run_ = run_on(demo_host)
    programs = run_.host.backup_client()
    if not (run_.host.server.backup_compression and client_has_zstd(programs)):
        pytest.skip("this pg_basebackup has no zstd")
    with reachable_directory() as place:
        for program in programs.directory.iterdir():
            (place / program.name).symlink_to(program)
        wrapped, told = place / "pg_basebackup", place / "told"
        told.touch()
        told.chmod(0o666)
        wrapped.unlink()
        wrapped.write_text(f"""#!/bin/sh
echo "$*" >> {told}
case "$*" in *,workers=*)
    echo "pg_basebackup: error: could not set compression worker count to 2: Unsupported parameter" >&2
    exit 1
esac
exec {programs.path("pg_basebackup")} "$@"
""")
        wrapped.chmod(0o755)
        settings = run_.settings.model_copy(update={"pg_bindir": place})
        run_ = replace(run_, host=replace(run_.host, settings=settings))
        backup = base_backup(run_, nothing)
        copies = [line for line in told.read_text().splitlines() if "--compress=" in line]
    assert [",workers=" in line for line in copies] == [True, False]
    assert read_catalogue(run_.repository).bases == (backup,)


def test_progress_lines_are_understood() -> None:
    line = " 12345/ 98765 kB (12%), 0/1 tablespace (…/base.tar)"
    assert parse_progress(line.replace("/ ", "/")) == (12345 * 1024, 98765 * 1024)
    assert parse_progress("pg_basebackup: checkpoint completed") is None


def test_a_file_with_an_odd_name_in_the_data_directory_does_not_spoil_a_backup(demo_host: DemoHost) -> None:
    stray = demo_host.cluster.directory / "server ä\\101\n.key"
    stray.write_text("kept")
    give_to(stray, demo_host.cluster.account)
    backup = base_backup(run_on(demo_host), nothing)
    names = subprocess.run(
        ["tar", "-t", "-I", "zstd", "-f", backup.path / "base.tar.zst", "--quoting-style=literal"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert stray.name in names


def test_a_tablespace_made_or_lost_during_the_copy_is_no_backup() -> None:
    space = Tablespace(16400, "aside", "/srv/aside")
    judge_tablespaces({"16400"}, [space])
    with pytest.raises(BackupUnsound, match="has no tar of tablespace aside in /srv/aside"):
        judge_tablespaces(set(), [space])
    with pytest.raises(BackupUnsound, match="a tar of tablespace 16401, which was made meanwhile"):
        judge_tablespaces({"16400", "16401"}, [space])


def test_the_umask_of_whoever_starts_it_neither_breaks_nor_opens_a_repository(demo_host: DemoHost) -> None:
    for umask in (0o077, 0o000):
        shutil.rmtree(demo_host.backup_dir / "postgres", ignore_errors=True)
        before = os.umask(umask)
        try:
            set_umask()
            backup = base_backup(run_on(demo_host), nothing)
        finally:
            os.umask(before)
        modes = {path: path.stat().st_mode & 0o777 for path in (backup.path.parent, *backup.path.iterdir())}
        assert not any(mode & 0o022 for mode in modes.values()), modes
        wait_until(lambda made=backup.stamp: make_stamp(utc_now()) > made, "the next second")
