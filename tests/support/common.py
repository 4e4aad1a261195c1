"""What several tests need: clusters and hosts that clean up, waiting, a full disk."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from alfresco_backup.errors import NotInTime
from alfresco_backup.host.host import Run, load_host
from alfresco_backup.system import waiting
from alfresco_backup.times import make_stamp, utc_now
from demo.cluster import Cluster, available_bindirs, stated_version
from demo.host import DemoHost
from tests.support.places import reachable_directory

T = TypeVar("T")

every_version = pytest.mark.parametrize(
    "bindir", [pytest.param(path, id=str(stated_version(path) // 10000)) for path in available_bindirs()]
)
"""Run a test that uses `bindir`, `cluster` or `demo_host` with each PostgreSQL server of this machine."""


@contextmanager
def temporary_cluster(bindir: Path, **settings: object) -> Iterator[Cluster]:
    """A running cluster; `settings` go into postgresql.conf before its start."""
    with reachable_directory() as directory:
        cluster = Cluster(bindir, directory / "data", durable=False).create()
        cluster.configure(**settings)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.destroy()


@contextmanager
def temporary_demo_host(
    bindir: Path | None = None, documents: int = 300, name: str = "demo"
) -> Iterator[DemoHost]:
    """A running demo host; see DemoHost.create."""
    with reachable_directory() as directory:
        host = DemoHost.create(directory / "host", bindir, documents, name=name, durable=False)
        try:
            yield host
        finally:
            host.destroy()


@contextmanager
def full_disk(largest: int = 0) -> Iterator[None]:
    """No file gets larger than so many bytes: to this process a disk that is full, for root as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wait_until(
    condition: Callable[[], T], what: str | Callable[[], str], seconds: float = 300.0, every: float = 0.05
) -> T:
    """Poll until `condition()` is true, and return it; fails with `what` when it does not become so.

    The time is long, since it is no promise: on a machine ten times slower the condition still comes true.
    """
    try:
        return waiting.wait_until(condition, seconds, what, every=every)
    except NotInTime as late:
        pytest.fail(f"still not after {seconds:g} s: {late.message}")


def run_on(demo: DemoHost) -> Run:
    """A run that begins now on a demo host, for the functions below the flows."""
    host = load_host(demo.env_file)
    host.repository.logs.mkdir(exist_ok=True)
    return Run(host, make_stamp(utc_now()), host.repository.logs / "test.log")
