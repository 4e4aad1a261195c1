"""restore-pitr on a live host: the rows committed by the moment, no later ones, all their documents."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import cycle
from zoneinfo import ZoneInfo

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from demo.state import State
from demo.writer import Writer
from flows.backup import backup
from flows.restore_pitr import restore_pitr
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.restoring import restores_of

MICROSECOND = timedelta(microseconds=1)
MOMENTS = 20
STARTED_EACH = 5
ZONES = tuple(map(ZoneInfo, ("Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata")))


class Life:
    """A host that was backed up twice under a writer, and what its database held at every moment."""

    def __init__(self, host: DemoHost) -> None:
        self.host = host
        self.writer: Writer = host.writer

    def live(self) -> None:
        """Two sets and a copy of the content; documents come, change, go between, and are purged."""
        backup()
        self.work(25)
        backup()
        self.work(25)
        backup(components=["contentstore"])
        assert self.writer.purge(limit=1000) is not None
        self.work(10)

    def work(self, transactions: int) -> None:
        """The writer's mix without purges: those come when every file is in a snapshot."""
        for number in range(transactions):
            (self.writer.add, self.writer.update, self.writer.add, self.writer.delete)[number % 4]()

    def moments(self, count: int) -> list[datetime]:
        """Random moments since the first set; some right at a commit, some a microsecond before one."""
        chance = random.Random(20261122)
        commits = self.writer.commits
        first = commits[0].committed_at
        span = (commits[-1].committed_at - first).total_seconds()
        found = [first + timedelta(seconds=chance.uniform(0, span)) for _ in range(count - 4)]
        exact = chance.sample(commits[1:], 4)
        return [
            *map(self.certain, found),
            *(commit.committed_at for commit in exact[:2]),
            *(commit.earliest - MICROSECOND for commit in exact[2:]),
        ]

    def certain(self, moment: datetime) -> datetime:
        """The moment, or where it is not known whether a commit came before it, the end of that doubt."""
        doubtful = (item for item in self.writer.commits if item.earliest <= moment < item.committed_at)
        return next((item.committed_at for item in doubtful), moment)


@pytest.fixture(scope="module")
def life(prefect_server: None) -> Iterator[Life]:
    with temporary_demo_host(documents=150) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Life(host)


def restore_to(life: Life, moment: datetime, *, start: bool = True) -> State:
    """Restore and say what the database must hold then."""
    said = restore_pitr(target_time=moment, mode="execute", confirm=life.host.name, start_alfresco=start)
    assert "all are there" in said
    return life.writer.state_at(moment)


def assert_restored(life: Life, expected: State, *, started: bool = True) -> None:
    assert life.host.read_state().difference(expected) == []
    assert life.host.missing_documents(expected) == []
    if started:
        assert life.host.answer() == f"{len(expected.tables['alf_content_data'])} documents"


def test_a_busy_host_goes_back_and_is_put_forward_again_by_undo(life: Life) -> None:
    life.live()
    life.writer.one = life.writer.add  # type: ignore[method-assign]
    life.writer.start(per_second=40)
    moment = life.writer.commits[-3].committed_at
    expected = restore_to(life, moment)
    with pytest.raises(Exception, match=r"server closed the connection|terminat|connection to server"):
        life.writer.close()
    assert life.writer.commits[-1].committed_at > moment
    assert_restored(life, expected)
    undo_restore(mode="execute", confirm=life.host.name)
    assert_restored(life, life.writer.state)
    assert [record.state for record in restores_of(life.host)] == [RestoreState.UNDONE]


def test_twenty_moments_across_two_base_backups_in_three_time_zones_each_after_another_recovery(
    life: Life,
) -> None:
    zones = cycle(ZONES)
    life.writer.close()
    for number, moment in enumerate(life.moments(MOMENTS), 1):
        starts = number % STARTED_EACH == 0
        expected = restore_to(life, moment.astimezone(next(zones)), start=starts)
        assert_restored(life, expected, started=starts)
    bases = {record.about["asked"] for record in restores_of(life.host)}
    assert len(bases) == MOMENTS + 1


def test_a_moment_on_the_timeline_that_a_recovery_began_is_reached(life: Life) -> None:
    back = life.writer.commits[5].committed_at
    restore_to(life, back)
    life.writer.rewind(back)
    life.work(12)
    life.writer.close()
    moment = life.writer.commits[-5].committed_at
    assert_restored(life, restore_to(life, moment))


def test_the_present_moment_is_reached_where_nothing_was_committed_since_the_last_transaction(
    life: Life,
) -> None:
    """No commit after the moment: PostgreSQL 13 and later stop with an error, earlier ones open silently."""
    life.writer.rewind(life.writer.commits[-5].committed_at)
    life.work(3)
    life.writer.close()
    moment = life.writer.commits[-1].committed_at + MICROSECOND
    assert_restored(life, restore_to(life, moment))


def test_a_moment_in_the_future_is_refused_and_nothing_is_touched(life: Life) -> None:
    count = len(restores_of(life.host))
    later = life.writer.commits[-1].committed_at + timedelta(days=1)
    with pytest.raises(Refused, match="is in the future"):
        restore_pitr(target_time=later, mode="execute", confirm=life.host.name)
    assert len(restores_of(life.host)) == count
    assert life.host.answer()
