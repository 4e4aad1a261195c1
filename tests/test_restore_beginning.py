"""The beginning of a restore: what is made ready for PostgreSQL's account, and what refuses it untouched."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.host import Host
from alfresco_backup.restore_plan import RestorePlan
from alfresco_backup.restore_request import RestoreRequest
from demo.host import DemoHost
from tasks.base_backup import base_backup
from tasks.restoration import open_restoration
from tasks.restore_plan import make_plan
from tests.restoring import loaded
from tests.support import run_on, temporary_demo_host


def nothing(_done: float, _total: float) -> None:
    """Progress nobody looks at."""


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoHost]:
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
