"""A server that is lost with its disk: what was streamed is restored, up to the commits of the last second.

`make test-streaming` repeats it 20 times with each server of this machine.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.cluster import available_bindirs, default_bindir, stated_version
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_postgres import restore_postgres
from tests.support.common import temporary_demo_host
from tests.support.streaming import CommitWriter, destroy_server, receiving

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("STREAMING_CASES", "2"))
EXECUTE = {"mode": "execute", "confirm": "demo", "start_alfresco": False}
SERVERS = available_bindirs() if CASES > 2 else [default_bindir()]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda path: str(stated_version(path) // 10000))
def writer(request: pytest.FixtureRequest, prefect_server: None) -> Iterator[CommitWriter]:
    """A host with one base backup and a receiver that is never restarted."""
    bindir: Path = request.param
    with ExitStack() as stack:
        demo = stack.enter_context(temporary_demo_host(bindir, documents=10))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        receiver = stack.enter_context(receiving(demo))
        backup()
        yield CommitWriter(demo, receiver)


@pytest.mark.parametrize("number", range(CASES))
def test_a_lost_server_costs_at_most_the_last_second_of_commits(writer: CommitWriter, number: int) -> None:
    demo: DemoHost = writer.demo
    writer.receiver.wait_active()
    writer.write(1.0 + number % 5)
    killed_at = destroy_server(demo)
    restore_postgres(target_time="latest", **EXECUTE)
    count, age = writer.lost(killed_at)
    rate = len(writer.acknowledged)
    sys.stdout.write(
        f"\n{stated_version(demo.cluster.bindir)}: {count} of {rate} commits lost, {age:.3f} s\n"
    )
    assert age <= 1.0
    writer.acknowledged.clear()
