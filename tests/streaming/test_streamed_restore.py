"""A server that is lost with its disk: what was streamed is restored, up to the commits of the last second.

`make test-streaming` repeats it 20 times with each server of this machine.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.postgres.wal_records import Record, open_segment
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.planning.plan_text import plan_markdown
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.streaming.folder import copy_unfinished, read_unfinished
from alfresco_backup.wal.observe import audit_host
from demo.cluster import available_bindirs, default_bindir, stated_version
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_postgres import restore_postgres
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host, wait_until
from tests.support.streaming import CommitWriter, archived, destroy_server, receiving

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


def test_a_target_time_within_the_unfinished_segment_is_planned_from_it_and_reached(
    writer: CommitWriter,
) -> None:
    demo = writer.demo
    writer.receiver.wait_active()
    writer.write(0.5)
    before = set(writer.acknowledged)
    (moment,) = demo.cluster.sql("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')")[0]
    writer.write(0.5)
    destroy_server(demo)
    host, time = load_host(demo.env_file), datetime.fromisoformat(f"{moment}:00")
    catalogue = read_catalogue(host.repository)
    request = RestoreRequest("postgres", target_time=time)
    plan = make_restore_plan(request, catalogue, inspect_host(host, catalogue), "20261122T100000Z")
    assert plan.database is not None and plan.database.unfinished
    assert f"WAL segment {plan.database.unfinished}, as far as it was received from" in plan_markdown(plan)
    restore_postgres(target_time=time.isoformat(), **EXECUTE)
    there = {int(number) for (number,) in demo.cluster.sql("SELECT number FROM committed")}
    assert before <= there
    assert there.isdisjoint(writer.acknowledged.keys() - before)
    writer.receiver.wait_active()


def test_the_receiver_follows_a_server_that_was_restored_to_an_earlier_time(writer: CommitWriter) -> None:
    """As the test before it left it: the stream had gone further than the server is now."""
    demo = writer.demo
    writer.receiver.wait_active()
    name = demo.cluster.switch_segment()
    wait_until(lambda: name in archived(demo), lambda: f"{name} arrives: {writer.receiver.said}", 120)
    assert int(name[:8], 16) > 1
    audit = audit_host(load_host(demo.env_file))
    assert [item.line for item in audit.errors] == []


def test_the_receiver_follows_an_undo_back_to_the_timeline_before(writer: CommitWriter) -> None:
    demo = writer.demo
    writer.write(0.3)
    before = demo.cluster.current_segment()[:8]
    restore_postgres(target_time="latest", **EXECUTE)
    writer.receiver.wait_active()
    assert demo.cluster.current_segment()[:8] > before
    undo_restore(mode="execute", confirm="demo")
    writer.receiver.wait_active()
    writer.write(0.3)
    name = demo.cluster.switch_segment()
    assert name[:8] == before
    wait_until(
        lambda: name in os.listdir(demo.backup_dir / "wal-receiver"),  # noqa: PTH208 - names only
        lambda: f"{name} is received: {writer.receiver.said}",
        120,
    )
    assert audit_host(load_host(demo.env_file)).errors == ()


def test_a_drill_to_the_end_of_wal_verifies_the_unfinished_segment(writer: CommitWriter) -> None:
    writer.receiver.wait_active()
    writer.write(0.3)
    folder = writer.demo.backup_dir / "wal-receiver"
    wait_until(lambda: (found := read_unfinished(folder)) and found.written, "it has been received")
    done = restore_drill(target_time="latest", return_state=True)
    assert done.is_completed(), done.message


def test_a_record_that_was_not_received_whole_is_left_out(writer: CommitWriter, tmp_path: Path) -> None:
    writer.write(0.3)
    found = wait_until(lambda: read_unfinished(writer.demo.backup_dir / "wal-receiver"), "it is received")
    whole, cut = tmp_path / "whole", tmp_path / found.path.name
    _, end = copy_unfinished(found.path, whole)
    size = found.header.segment_size
    cut.write_bytes(whole.read_bytes()[: int(end.at) % size - 20])
    _, shorter = copy_unfinished(cut, tmp_path / "copy")
    assert shorter.at < end.at and shorter.kind in ("unfinished", "cut off")
    assert (tmp_path / "copy").stat().st_size == size
    damaged = bytearray(whole.read_bytes())
    with open_segment(whole) as records:
        begin = records.first()
        first = records.record_at(begin) if isinstance(begin, Lsn) else begin
    assert isinstance(first, Record)
    damaged[int(first.at) % size + 30] ^= 1  # in a record that others follow
    cut.write_bytes(damaged)
    refused = read_unfinished(tmp_path)
    assert refused is not None and refused.defect.startswith("it is damaged at ")
