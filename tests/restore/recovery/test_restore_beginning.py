"""The beginning of a restore: what is made ready for PostgreSQL's account, and what refuses it untouched."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host
from alfresco_backup.restore.journal.journal_record import read_journal
from alfresco_backup.restore.planning.plan import RestorePlan, Step
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.restoration import Restoration, open_restoration
from alfresco_backup.system.accounts import account_for_people, owner_of
from alfresco_backup.wal.archive import archived_path
from demo.host import DemoHost
from tasks.restore.plan import make_plan
from tests.support.common import full_disk, run_on, temporary_demo_host
from tests.support.restoring import loaded


def nothing(_done: float, _total: float) -> None:
    """Progress nobody looks at."""


@pytest.fixture(scope="module")
def demo(slow: None) -> Iterator[DemoHost]:
    """A running host with a base backup. Each test leaves it without a restore."""
    with temporary_demo_host(documents=30) as host:
        base_backup(run_on(host), nothing)
        host.cluster.sql(f"SELECT {loaded(host).server.switch_wal}()")
        host.writer.add()
        host.writer.close()
        yield host


@pytest.fixture
def host(demo: DemoHost) -> Iterator[Host]:
    host = loaded(demo)
    yield host
    shutil.rmtree(host.repository.restores(host.name).parent, ignore_errors=True)


def plan_of(host: Host) -> RestorePlan:
    request = RestoreRequest("postgres", target_time="latest", mode="execute", confirm=host.name)
    return make_plan(host, request)


def mode_of(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_under_a_strict_umask_postgresqls_account_reaches_what_recovery_needs(host: Host) -> None:
    """As the worker's unit has it; and after an earlier run had made the folders so."""
    before = os.umask(0o027)
    try:
        restores = host.repository.restores(host.name)
        restores.mkdir(parents=True)
        assert mode_of(restores) == mode_of(restores.parent) == "0o750"
        restoration = open_restoration(host, plan_of(host))
    finally:
        os.umask(before)
    for folder in (restoration.folder, restores, restores.parent):
        assert mode_of(folder) == "0o755"
    assert mode_of(restoration.restore_wal) == "0o755"
    assert mode_of(restoration.database.saved_wal) == "0o700"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_data_directory_that_was_given_to_root_is_restored_for_postgresqls_account(
    host: Host, demo: DemoHost
) -> None:
    """As a copy made by root leaves it. PostgreSQL does not start for root."""
    data_directory = demo.cluster.directory
    owner = owner_of(data_directory)
    os.chown(data_directory, 0, 0)
    try:
        restoration = open_restoration(host, plan_of(host))
    finally:
        os.chown(data_directory, owner.uid, owner.gid)
    assert restoration.account == owner
    assert owner_of(restoration.database.saved_wal) == owner


def test_a_repository_that_cannot_be_written_to_refuses_the_restore_and_nothing_is_left(host: Host) -> None:
    plan = plan_of(host)
    said = r"where a restore keeps its journal.*File too large"
    with full_disk(), pytest.raises(Refused, match=said) as refusal:
        open_restoration(host, plan)
    assert f"df -h {host.repository.root}" in refusal.value.hint
    assert list(host.repository.restores(host.name).iterdir()) == []


def test_wal_that_postgresqls_account_may_not_read_refuses_the_restore(host: Host, demo: DemoHost) -> None:
    """As on a second machine, where that account has another number."""
    plan = plan_of(host)
    assert plan.database is not None
    ends = (plan.database.first_segment, plan.database.last_segment)
    archived = [path for name in ends if (path := archived_path(host.repository.wal, name))]
    assert archived
    for segment in archived:
        before = segment.stat()
        if os.geteuid() == 0:
            os.chown(segment, 0, 0)
        segment.chmod(0o600 if os.geteuid() == 0 else 0)
        try:
            with pytest.raises(Refused, match=f"cannot read {segment}, which recovery needs") as refusal:
                open_restoration(host, plan)
        finally:
            segment.chmod(before.st_mode)
            if os.geteuid() == 0:
                os.chown(segment, before.st_uid, before.st_gid)
        owner = account_for_people(owner_of(demo.cluster.directory))
        own, shared = refusal.value.hint.splitlines()
        assert own.startswith(f"chown -R {owner} {host.repository.wal}  # unless another server")
        assert shared.startswith(f"setfacl -R -m u:{owner.partition(':')[0]}:rX {host.repository.wal}  # ")
        assert list(host.repository.restores(host.name).iterdir()) == []


def undo_of(restoration: Restoration) -> str:
    """The last line of a hint, once a restore has begun."""
    return f"{restoration.undo}  # undoes the restore: this host is only partly restored"


def test_what_is_refused_within_a_step_of_a_restore_does_not_say_that_nothing_was_changed(host: Host) -> None:
    restoration = open_restoration(host, plan_of(host))
    step = restoration.step(Step.RECOVER_DATABASE)
    with pytest.raises(BackupError, match="no programs here") as failure, step:
        raise Refused("no programs here", "install them")
    assert failure.value.exit_code == 1
    assert failure.value.hint == f"install them\n{undo_of(restoration)}"
    assert read_journal(restoration.journal.path).steps[-1].error == "no programs here"


def test_a_step_that_fails_is_told_of_though_its_journal_can_take_no_more(host: Host) -> None:
    restoration = open_restoration(host, plan_of(host))
    step = restoration.step(Step.RECOVER_DATABASE)
    with ExitStack() as disk, pytest.raises(BackupError, match="no programs here") as failure, step:
        disk.enter_context(full_disk())
        raise BackupError("no programs here", "install them")
    assert failure.value.hint == f"install them\n{undo_of(restoration)}"
    assert read_journal(restoration.journal.path).steps[-1].seconds is None


def test_no_step_begins_that_a_full_disk_keeps_out_of_the_journal(host: Host) -> None:
    restoration = open_restoration(host, plan_of(host))
    step = restoration.step(Step.RECOVER_DATABASE)
    said = r"journal\.jsonl cannot be written: .*File too large"
    with full_disk(), pytest.raises(BackupError, match=said) as failure, step:
        raise AssertionError("it has begun")
    space, undo = failure.value.hint.splitlines()
    assert space == f"df -h {restoration.folder}; df -i {restoration.folder}"
    assert undo == undo_of(restoration)
