"""Preflight on real hosts: every finding in one report, and what it says mends it does fix it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.contentstore.plan import SnapshotRequest
from alfresco_backup.findings import Finding
from alfresco_backup.host.host import Run, load_host
from alfresco_backup.postgres.database import quoted_name
from alfresco_backup.preflight.files import check_data_directory, check_file_system
from alfresco_backup.preflight.host import check_configuration, check_repository, inspect_host
from alfresco_backup.preflight.rules import judge_inodes
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.settings.commands import configure_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.accounts import account_for_people
from alfresco_backup.times import make_stamp, size_for_people, utc_now
from demo.cluster import Cluster
from demo.host import DemoHost
from tasks.backup.contentstore import take_snapshot

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what another account cannot read")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run_with` changes in it is restored."""
    monkeypatch.setenv(ENV_FILE_VARIABLE, "")


def run_with(demo: DemoHost, **settings: str) -> Run:
    """A run of the host with some settings of its .env changed."""
    text = demo.env_file.read_text()
    for name, value in settings.items():
        text = re.sub(rf"^{name}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
    env = demo.directory / ".env-of-a-test"
    env.touch(0o600)
    env.write_text(text)
    os.environ[ENV_FILE_VARIABLE] = str(env)  # as the program does, so that commands name it
    host = load_host(env)
    host.repository.logs.mkdir(exist_ok=True)
    return Run(host, make_stamp(utc_now()), host.repository.logs / "test.log")


def take_snapshot_of(run_: Run, store: str) -> Snapshot:
    place = run_.repository.store(store)
    return take_snapshot(
        SnapshotRequest(store, run_.host.installation.stores[store], place, run_.stamp, run_.log)
    )


def bad_findings(run_: Run, *components: str) -> dict[str, Finding]:
    found = inspect_host(run_, components or ("postgres",), read_catalogue(run_.repository))
    return {item.subject: item for item in found if item.level != "ok"}


@pytest.fixture
def odd_role(shared_demo_host: DemoHost) -> Iterator[str]:
    """A role without rights whose name needs quoting everywhere."""
    cluster, name = shared_demo_host.cluster, "o'per \"x"
    cluster.sql(f"CREATE ROLE {quoted_name(name)} LOGIN PASSWORD 'p'")
    yield name
    cluster.sql(f"DROP OWNED BY {quoted_name(name)}", "alfresco")
    cluster.sql(f"DROP ROLE {quoted_name(name)}")


def test_a_superuser_that_cannot_connect_does_not_hide_the_other_findings(
    shared_demo_host: DemoHost,
) -> None:
    shared_demo_host.cluster.sql("ALTER ROLE alfresco NOREPLICATION")
    try:
        found = bad_findings(run_with(shared_demo_host, PGSUPERPASSWORD="wrong-7781"))
    finally:
        shared_demo_host.cluster.sql("ALTER ROLE alfresco REPLICATION")
    assert set(found) == {"PGSUPERUSER", "replication"}
    assert "cannot connect" in found["PGSUPERUSER"].sentence and "wrong-7781" not in str(found)


def needs_grantable_restore_point(demo: DemoHost) -> None:
    if not demo.cluster.facts.grantable_restore_point:
        pytest.skip("before 9.6 only a superuser makes restore points")


def test_a_superuser_that_cannot_connect_is_to_be_named_or_replaced(shared_demo_host: DemoHost) -> None:
    env = shared_demo_host.directory / ".env-of-a-test"
    edits = [f"edit {env}: PGSUPERUSER=...", f"edit {env}: PGSUPERPASSWORD=..."]
    finding = bad_findings(run_with(shared_demo_host, PGSUPERPASSWORD="wrong"))["PGSUPERUSER"]
    swapped = [edits[1], f"{edits[0]}  # if PGSUPERPASSWORD is right"]
    assert finding.fix.splitlines() == swapped
    if shared_demo_host.cluster.facts.monitor_role:
        run_ = run_with(shared_demo_host, PGSUPERPASSWORD="", PGSUPERUSER="nobody")
        configure = f"{configure_command('--apply')}  # gives alfresco the rights instead"
        assert bad_findings(run_)["PGSUPERUSER"].fix.splitlines() == [configure, *swapped]


def test_the_rights_that_are_named_suffice_for_a_role_that_is_no_superuser(
    shared_demo_host: DemoHost, odd_role: str
) -> None:
    if not shared_demo_host.cluster.facts.monitor_role:
        pytest.skip("before 10 only a superuser does all that a backup needs")
    run_ = run_with(shared_demo_host, PGSUPERUSER="'o\\'per \"x'", PGSUPERPASSWORD="p")
    found = bad_findings(run_)
    assert set(found) == {"PGSUPERUSER"} and found["PGSUPERUSER"].fix == configure_command("--apply")
    _, _, lacking = found["PGSUPERUSER"].sentence.partition(" lacks ")
    for right in lacking.split(", "):
        shared_demo_host.cluster.sql(f"GRANT {right} TO {quoted_name(odd_role)}", "alfresco")
    assert bad_findings(run_) == {}


def test_what_is_said_to_fix_replication_fixes_it(shared_demo_host: DemoHost, odd_role: str) -> None:
    cluster = shared_demo_host.cluster
    run_ = run_with(shared_demo_host, PGUSER="'o\\'per \"x'", PGPASSWORD="p")
    hba = cluster.directory / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host replication all 0.0.0.0/0 reject\n{before}")
    cluster.reload()
    try:
        finding = bad_findings(run_)["replication"]
        assert finding.sentence.startswith(f"{odd_role} may not replicate: ")
        subprocess.run(["sh", "-c", finding.fix], check=True)
        assert "replication" not in bad_findings(run_)
    finally:
        hba.write_text(before)
        cluster.reload()


def test_a_file_system_that_runs_out_of_inodes_is_found_before_anything_is_copied(
    demo_host: DemoHost,
) -> None:
    run_ = run_with(demo_host)
    before = read_catalogue(run_.repository)
    numbers = os.statvfs(run_.repository.root)
    found = {item.subject: item for item in inspect_host(run_, ("contentstore",), before)}
    if numbers.f_files:
        needed = sum(1 + len(names) for _, _, names in os.walk(demo_host.layout.contentstore)) + 1000
        assert f"about {needed:,} needed" in found["inodes"].sentence
    short = judge_inodes(999, 1000, Path("/backup"))
    assert (short.level, short.sentence) == ("error", "999 inodes free on /backup, about 1,000 needed")
    assert judge_inodes(9_999, 1000, Path("/backup")).level == "warning"
    assert judge_inodes(10_000, 1000, Path("/backup")).level == "ok"


@as_root
def test_a_folder_the_server_cannot_enter_is_found_and_fixed(shared_demo_host: DemoHost) -> None:
    run_ = run_with(shared_demo_host)
    folder = shared_demo_host.cluster.directory / "lost + found"
    folder.mkdir(mode=0o700)
    try:
        finding = bad_findings(run_)["data directory"]
        assert f"1 file cannot be read by {shared_demo_host.cluster.account.name}" in finding.sentence
        subprocess.run(["sh", "-c", finding.fix], check=True)
        assert bad_findings(run_) == {}
    finally:
        folder.rmdir()


@as_root
def test_a_file_the_server_may_read_by_its_group_is_no_finding(shared_demo_host: DemoHost) -> None:
    account = shared_demo_host.cluster.account
    group = next((item for item in os.getgrouplist(account.name, account.gid) if item != account.gid), None)
    if group is None:
        pytest.skip(f"{account.name} has no further group here")
    key = shared_demo_host.cluster.directory / "server.key"
    key.write_text("a key")
    os.chown(key, 0, group)
    key.chmod(0o640)
    try:
        assert bad_findings(run_with(shared_demo_host)) == {}
    finally:
        key.unlink()


def test_a_wal_archive_that_is_missing_is_named_with_the_command_that_makes_it(demo_host: DemoHost) -> None:
    run_ = run_with(demo_host)
    demo_host.wal_archive.rename(demo_host.backup_dir.with_name("moved"))
    finding = bad_findings(run_)["WAL archive"]
    assert finding.sentence == f"{demo_host.wal_archive} does not exist; is the disk mounted?"
    mount, new = finding.fix.splitlines()
    assert mount == f"mount {demo_host.backup_dir}"  # no folder is made where a disk may be missing
    if os.geteuid() == 0:
        subprocess.run(["sh", "-c", new], env={"PATH": os.environ["PATH"]}, check=True)
        assert bad_findings(run_) == {}


@as_root
def test_a_repository_postgresql_cannot_enter_is_named_with_the_folders_to_open(
    shared_demo_host: DemoHost,
) -> None:
    run_ = run_with(shared_demo_host)
    shared_demo_host.backup_dir.chmod(0o700)
    try:
        finding = bad_findings(run_)["BACKUP_DIR"]
        assert finding.fix == f"chmod o+x {shared_demo_host.backup_dir}"
        subprocess.run(["sh", "-c", finding.fix], check=True)
        assert bad_findings(run_) == {}
    finally:
        shared_demo_host.backup_dir.chmod(0o755)


@as_root
def test_a_repository_of_another_account_is_a_warning(shared_demo_host: DemoHost) -> None:
    run_ = run_with(shared_demo_host)
    os.chown(shared_demo_host.backup_dir, 1, 1)
    try:
        finding = bad_findings(run_)["BACKUP_DIR"]
    finally:
        os.chown(shared_demo_host.backup_dir, 0, 0)
    assert finding.level == "warning" and "who could change or remove backups" in finding.sentence


def test_an_empty_archive_command_is_fixed_by_what_the_finding_says(demo_host: DemoHost) -> None:
    demo_host.cluster.sql("ALTER SYSTEM SET archive_command = ''")
    demo_host.cluster.reload()
    run_ = run_with(demo_host)
    fix = bad_findings(run_)["archive_command"].fix
    assert fix == configure_command("--apply")
    subprocess.run(["sh", "-c", f"{fix} --wal-commands {demo_host.directory}/wal"], check=True)
    assert bad_findings(run_) == {}


def test_content_of_a_store_without_a_snapshot_counts_whole_even_behind_links(demo_host: DemoHost) -> None:
    volume = demo_host.directory / "volume"
    (volume / "2026/1").mkdir(parents=True)
    (volume / "2026/1/large.bin").write_bytes(b"x" * (3 << 20))
    store = demo_host.directory / "second"
    store.mkdir()
    (store / "linked").symlink_to(volume)
    run_ = run_with(demo_host, EXTRA_CONTENT_DIRS=f"second={store}")
    snapshot_of_main = take_snapshot_of(run_, "contentstore")
    found = inspect_host(run_, ("contentstore",), read_catalogue(run_.repository))
    (space,) = (item.sentence for item in found if item.subject == "space")
    assert snapshot_of_main.new_bytes > 0
    needed = int(snapshot_of_main.bytes * 0.01) + (3 << 20)
    assert f"about {size_for_people(needed)} needed" in space
    assert "contentstore: a hundredth of it" in space and "second: all of it" in space


def test_an_hourly_run_whose_backup_disk_is_not_mounted_copies_nothing(demo_host: DemoHost) -> None:
    run_ = run_with(demo_host)
    demo_host.wal_archive.rename(demo_host.backup_dir.with_name("moved"))
    finding = bad_findings(run_, "contentstore")["WAL archive"]
    what = f"{demo_host.wal_archive} does not exist; is the disk mounted?"
    assert (finding.level, finding.sentence) == ("error", what)
    new = f"{configure_command('--apply')}  # for a new one"
    assert finding.fix.splitlines() == [f"mount {demo_host.backup_dir}", new]
    demo_host.wal_archive.write_text("no folder")
    finding = bad_findings(run_, "contentstore", "configuration")["WAL archive"]
    assert finding.sentence == f"{demo_host.wal_archive} cannot be listed: Not a directory"


def test_a_store_whose_disk_of_snapshots_is_not_mounted_is_not_copied_onto_the_disk_below(
    demo_host: DemoHost,
) -> None:
    second = demo_host.directory / "second"
    second.mkdir()
    (second / "a.bin").write_text("a")
    run_ = run_with(demo_host, EXTRA_CONTENT_DIRS=f"second={second}")
    place = run_.repository.contentstore.root
    place.mkdir()
    assert bad_findings(run_, "contentstore") == {}, "nothing is backed up yet"
    take_snapshot_of(run_, "second")
    finding = bad_findings(run_, "contentstore")["BACKUP_DIR"]
    what = f"{place} is empty, which no run leaves; is its disk mounted?"
    assert (finding.level, finding.sentence) == ("error", what)
    mount, remove = finding.fix.splitlines()
    assert mount == f"mount {place}"
    subprocess.run(["sh", "-c", remove], check=True)
    assert bad_findings(run_, "contentstore") == {}
    take_snapshot_of(run_, "contentstore")
    assert bad_findings(run_, "contentstore") == {}


def test_the_hourly_run_of_a_clone_does_not_get_into_the_backups_of_its_original(demo_host: DemoHost) -> None:
    base_backup(run_with(demo_host), lambda _done, _total: None)
    clone = run_with(demo_host, ALF_HOST_NAME="clone")
    found = bad_findings(clone, "contentstore")["BACKUP_DIR"]
    assert found.level == "error"
    assert found.sentence.startswith("its newest base backup is of host demo, this is clone; ")
    assert "BACKUP_DIR" not in bad_findings(run_with(demo_host), "contentstore")
    base_backup(run_with(demo_host, ALF_HOST_NAME="clone"), lambda _done, _total: None)
    assert "BACKUP_DIR" not in bad_findings(clone, "contentstore"), "a full set is how a host is renamed"


def test_a_first_copy_that_was_broken_off_needs_only_the_rest(demo_host: DemoHost) -> None:
    run_ = run_with(demo_host)
    catalogue = read_catalogue(run_.repository)
    whole = _needed(run_, catalogue)
    left = run_.repository.contentstore.days / "20261122T023000Z.partial"
    shutil.copytree(demo_host.layout.contentstore, left)
    kept = sum(path.lstat().st_blocks * 512 for path in left.rglob("*") if path.is_file())
    found = _needed(run_, catalogue)
    assert f"{size_for_people(kept)} of it copied already" in found
    assert found != whole


def _needed(run_: Run, catalogue: Catalogue) -> str:
    found = inspect_host(run_, ("contentstore",), catalogue)
    return next(item.sentence for item in found if item.subject == "space")


@as_root
def test_a_file_system_without_links_is_an_error_before_anything_is_copied(
    shared_demo_host: DemoHost, tmp_path: Path
) -> None:
    """The kernel's mqueue file system has files, but no folders and links."""
    host = run_with(shared_demo_host, BACKUP_DIR=str(tmp_path)).host
    host.repository.logs.rmdir()
    if subprocess.run(
        ["mount", "-t", "mqueue", "none", tmp_path], check=False, capture_output=True
    ).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (finding,) = check_file_system(host)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert (
        finding.level == "error" and "cannot be made and removed: Operation not permitted" in finding.sentence
    )
    assert finding.fix == f"findmnt --target {tmp_path}  # use ext4, xfs or the like"


def test_trying_the_file_system_leaves_nothing_behind(shared_demo_host: DemoHost) -> None:
    host = run_with(shared_demo_host).host
    before = set(shared_demo_host.backup_dir.iterdir())
    (finding,) = check_file_system(host)
    assert finding.level == "ok"
    assert set(shared_demo_host.backup_dir.iterdir()) == before


def test_a_data_directory_of_another_server_than_the_one_that_answers_is_an_error(
    shared_demo_host: DemoHost, cluster: Cluster
) -> None:
    """A restore would replace it; what was backed up is another one."""
    run_ = run_with(shared_demo_host, PG_DATA_DIR=str(cluster.directory))
    found = bad_findings(run_)
    assert set(found) == {"data directory"}
    meant = shared_demo_host.cluster
    assert found["data directory"].level == "error"
    assert found["data directory"].sentence == (
        f"system identifier mismatch: {cluster.directory} is {cluster.system_identifier}, the server at "
        f"127.0.0.1, port {meant.port}, is {meant.system_identifier} in {meant.directory}"
    )
    first, second = found["data directory"].fix.splitlines()
    assert first.endswith(f": PG_DATA_DIR={meant.directory}") and second.endswith(": PGPORT=...")


def test_a_solr_backup_of_the_settings_that_is_not_there_is_a_warning(shared_demo_host: DemoHost) -> None:
    there, absent = shared_demo_host.home / "alf_data/solr4Backup/alfresco", shared_demo_host.home / "solr b"
    run_ = run_with(shared_demo_host, SOLR_BACKUP_DIRS=f"'{there},{absent}'")
    (finding,) = bad_findings(run_, "contentstore").values()
    assert (finding.level, finding.sentence) == ("warning", f"{absent} is no directory; no set contains it")
    mount, edit = finding.fix.splitlines()
    assert mount == f"mount '{absent}'" and edit.endswith(": SOLR_BACKUP_DIRS=...  # without it")


@as_root
def test_an_account_that_is_neither_root_nor_the_owner_is_told_so(shared_demo_host: DemoHost) -> None:
    run_ = run_with(shared_demo_host, PG_DATA_DIR=str(shared_demo_host.cluster.directory))
    account = account_for_people(run_.host.account)
    os.seteuid(12345)
    try:
        finding = check_data_directory(run_.host)
    finally:
        os.seteuid(0)
    assert (finding.level, finding.sentence) == ("error", f"belongs to {account}")
    assert finding.fix == f"run it as root or as {account.partition(':')[0]}"


def test_a_configuration_that_cannot_be_read_is_found_before_hours_of_copying(
    shared_demo_host: DemoHost,
) -> None:
    run_ = run_with(shared_demo_host)
    closed = [shared_demo_host.layout.keystore / name for name in ("a", "folder")]
    dangling = shared_demo_host.layout.keystore / "dangling"
    closed[0].touch(0)
    closed[1].mkdir(0)
    dangling.symlink_to("nowhere")
    with looking_as_nobody():
        (finding,) = check_configuration(run_.host)
    closed[1].rmdir()
    closed[0].unlink()
    assert (finding.level, finding.subject) == ("error", "configuration keystore")
    assert re.fullmatch(rf"{closed[0]} and \d more cannot be read", finding.sentence)
    assert finding.fix == f"namei -l {closed[0]}  # run it as root or as its owner"
    assert check_configuration(run_.host) == []
    dangling.unlink()


def test_a_repository_within_the_data_directory_is_an_error(shared_demo_host: DemoHost) -> None:
    data_directory = shared_demo_host.cluster.directory
    inside, link = data_directory / "backup", shared_demo_host.directory / "link"
    inside.mkdir(0o755)
    link.symlink_to(inside)
    try:
        (finding,) = check_repository(run_with(shared_demo_host, BACKUP_DIR=str(link)).host)
    finally:
        link.unlink()
        shutil.rmtree(inside)
    assert (finding.level, finding.subject) == ("error", "BACKUP_DIR")
    assert finding.sentence.startswith(f"{link} is in the data directory {data_directory}; each base backup")
    assert finding.fix.endswith(": BACKUP_DIR=...")


@contextmanager
def looking_as_nobody() -> Iterator[None]:
    """Access is judged by the real user, which root can change for a while."""
    account = os.getuid()
    if account == 0:
        os.setreuid(65534, -1)
    try:
        yield
    finally:
        os.setreuid(account, -1)
