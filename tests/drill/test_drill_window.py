"""The reported window, taken at its word: what lies in it restores from the archive alone."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow

from alfresco_backup.drill.plan import DrillRequest
from alfresco_backup.errors import Refused
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.host import DemoHost
from flows.backup import backup
from tasks.backup.begin import begin_run
from tasks.drill.drill import inspect_database, plan, restore, scratch_server
from tasks.runs.host_lock import host_lock
from tests.drill.test_restore_drill import archive_all, expected_rows
from tests.support.common import temporary_demo_host

MOMENTS = 20
SEED = 5
SECOND = timedelta(seconds=1)
Span = tuple[datetime, datetime]


@pytest.fixture(scope="module")
def lived(prefect_server: None) -> Iterator[DemoHost]:
    """A host with two sets, and work before, between and after them, each piece of it in another segment."""
    with temporary_demo_host(documents=30) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        host.writer.add(5)  # a month that loses all days of the set would look unmounted
        for _ in range(2):
            backup()
            for _ in range(3):
                host.writer.work(8)
                archive_all(host)
        host.cluster.sql("ALTER SYSTEM SET archive_timeout = 0")  # the window stays as it is
        host.cluster.sql("SELECT pg_reload_conf()")
        yield host


@dataclass(frozen=True)
class Window:
    """What `status --json` says: spans that can be restored, oldest first."""

    spans: tuple[Span, ...]

    @classmethod
    def reported(cls, host: DemoHost) -> "Window":
        argv = [sys.executable, "-m", "alfresco_backup", "status", host.env_file, "--json"]
        done = subprocess.run(argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
        gaps = [(gap["from"], gap["to"]) for gap in report["gaps"]]
        edges = [report["window"]["from"], *(edge for gap in gaps for edge in gap), report["window"]["to"]]
        moments = [datetime.fromisoformat(edge) for edge in edges]
        return cls(tuple(zip(moments[::2], moments[1::2], strict=True)))

    def moments(self, count: int, chance: random.Random) -> list[datetime]:
        """Moments in the spans, each as likely as any other."""
        lengths = [(end - start).total_seconds() for start, end in self.spans]
        chosen = chance.choices(self.spans, lengths, k=count)
        return [start + (end - start) * chance.random() for start, end in chosen]


@flow
def restored_rows(moments: Sequence[datetime]) -> list[dict[str, int]]:
    """What a drill's server holds after recovery to each moment."""
    host, found = load_host(), []
    with host_lock(host):
        for moment in moments:
            run, catalogue = begin_run(host, "restore-drill")
            decided = plan(run, catalogue, DrillRequest(target=moment))
            with scratch_server(run, decided) as drill:
                restore(drill)
                found.append(inspect_database(drill).rows)
    return found


@flow
def refusals(moments: Sequence[datetime]) -> list[str]:
    """Why drills to these moments are refused."""
    host, words = load_host(), []
    with host_lock(host):
        run, catalogue = begin_run(host, "restore-drill")
        for moment in moments:
            with pytest.raises(Refused) as refused:
                plan(run, catalogue, DrillRequest(target=moment))
            words.append(refused.value.message)
    return words


def assert_restorable(host: DemoHost, moments: Sequence[datetime]) -> None:
    for moment, rows in zip(moments, restored_rows(moments), strict=True):
        expected = expected_rows(host, moment)
        assert {table: rows[table] for table in expected} == expected, moment


def test_twenty_random_moments_of_the_reported_window_restore_and_those_outside_are_refused(
    lived: DemoHost,
) -> None:
    window = Window.reported(lived)
    ((start, end),) = window.spans
    moments = window.moments(MOMENTS, random.Random(SEED))
    assert_restorable(lived, moments)
    outside = [start - SECOND, start - timedelta(days=1), end + SECOND]
    assert all("restorable from " in words for words in refusals(outside))


def test_without_a_segment_the_window_splits_around_it(lived: DemoHost) -> None:
    chance = random.Random(SEED)
    whole = Window.reported(lived).spans
    first, second = sorted((lived.backup_dir / "postgres").glob("base-*Z/backup.json"))
    ends, begins = json.loads(first.read_text()), json.loads(second.read_text())
    between = [
        path
        for path in sorted(lived.wal_archive.glob("0*.zst"))
        if ends["stop_wal"] < path.name.partition(".")[0] < begins["start_wal"] and ".backup" not in path.name
    ]
    lost, before = between[1], between[0]
    aside = lost.with_name(f".{lost.name}")
    lost.rename(aside)
    try:
        (old, new) = Window.reported(lived).spans
        assert old == (whole[0][0], written(before))
        assert new == (datetime.fromisoformat(begins["stopped_at"]), whole[0][1])
        inside = [moment for span in (old, new) for moment in Window((span,)).moments(2, chance)]
        assert_restorable(lived, inside)
        gap = Window(((old[1] + SECOND / 1000, new[0]),))
        said = refusals(gap.moments(5, chance))
        assert all(lost.name.partition(".")[0] in words for words in said)
    finally:
        aside.rename(lost)
    assert Window.reported(lived).spans == whole


def written(segment: Path) -> datetime:
    """When a segment was last written to, as the archive keeps it."""
    return datetime.fromtimestamp(segment.stat().st_mtime, datetime.now().astimezone().tzinfo)
