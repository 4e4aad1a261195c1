"""A copy of the host's server that archives a timeline of its own into the host's archive misleads nobody."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.errors import NotVerified, Refused
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from demo.cluster import Cluster, available_bindirs, free_port, stated_version
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_postgres import restore_postgres
from flows.wal_audit import wal_audit
from tests.support.common import temporary_demo_host, wait_until
from tests.support.damaged_wal import finish_segment
from tests.support.restoring import loaded, undo_latest

pytestmark = pytest.mark.slow

EXECUTE = {"mode": "execute", "confirm": "demo", "start_alfresco": False}


def servers() -> list[Path]:
    """15, the newest before 13 and the newest of all, as far as they are here."""
    found = {stated_version(path) // 10000: path for path in available_bindirs()}
    wanted = [15, max([major for major in found if major < 13], default=15), max(found)]
    return [found[major] for major in dict.fromkeys(wanted) if major in found]


@contextmanager
def promoted_copy(host: DemoHost) -> Iterator[Cluster]:
    """A copy of the server made by hand, and promoted with archive_command as it was."""
    own = host.cluster
    host.stop("postgresql")
    place = own.directory.parent / "copy-by-hand"
    shutil.copytree(own.directory, place / "data", symlinks=True)
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, "postgres", "postgres")
    host.start("postgresql")
    copy = Cluster(own.bindir, place / "data", free_port(), durable=False)
    copy.configure(port=copy.port, unix_socket_directories=str(copy.socket_directory))
    if own.facts.major >= 120000:
        (copy.directory / "standby.signal").touch()
    else:
        (copy.directory / "recovery.conf").write_text("standby_mode = on\n")
    shutil.chown(copy.directory, "postgres", "postgres")
    try:
        copy._run("pg_ctl", "start", "-D", str(copy.directory), "-l", str(copy.log))
        wait_until(
            lambda: "read only connections" in copy.log.read_text().replace("-", " "), "the standby is up"
        )
        copy._run("pg_ctl", "promote", "-D", str(copy.directory))
        wait_until(lambda: copy.sql("SELECT pg_is_in_recovery()") == [("f",)], "the copy is promoted")
        yield copy
    finally:
        copy.destroy()


class Life:
    """A host with a set, commits of its own since, and in its archive a copy's commits of the same time."""

    def __init__(self, host: DemoHost) -> None:
        self.host = host
        backup()
        host.writer.add(3)
        host.writer.close()
        with promoted_copy(host) as copy:
            copy.sql("CREATE TABLE of_the_copy (id int)", "alfresco")
            host.writer.add(3)
            switched = copy.switch_segment()
            assert int(switched[:8], 16) == 2
            self.target = host.writer.add(3).committed_at
            finish_segment(host)
            copy.sql("INSERT INTO of_the_copy VALUES (1)", "alfresco")
            last = copy.switch_segment()
            wait_until(lambda: list(host.wal_archive.glob(f"{last}*")), f"{last} of the copy is archived")
            wait_until(lambda: list(host.wal_archive.glob("00000002.history*")), "so is its history")
        host.writer.add(3)
        finish_segment(host)
        host.writer.close()
        self.lived = host.read_state()

    def has_rows_of_the_copy(self) -> bool:
        query = "SELECT count(*) FROM pg_class WHERE relname = 'of_the_copy'"
        return self.host.cluster.sql(query, "alfresco") != [("0",)]


@pytest.fixture(scope="module", params=servers(), ids=lambda path: str(stated_version(path) // 10000))
def life(prefect_server: None, request: pytest.FixtureRequest) -> Iterator[Life]:
    with temporary_demo_host(request.param, documents=20) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Life(host)


def test_the_audit_and_status_name_the_foreign_timeline_and_count_none_of_its_wal(life: Life) -> None:
    assert "no gaps" in str(wal_audit())
    report = read_status(loaded(life.host).settings, utc_now())
    (found,) = [item for item in report.problems if item.subject == "foreign timeline"]
    assert "timeline 2 is foreign" in found.sentence
    assert "this host's server was on timeline 1" in found.sentence
    assert "mv -n -- 00000002" in found.fix
    assert {each.timeline for item in report.sets for each in item.intervals} == {1}
    assert "timeline 2 is foreign" in status_text(report)


def test_a_target_time_that_both_have_is_refused_until_a_timeline_is_given(life: Life) -> None:
    wal_audit()
    with pytest.raises(Refused) as refused:
        restore_postgres(target_time=life.target, **EXECUTE)
    assert "is on timeline 1 of this host's server and on foreign timeline 2" in refused.value.message
    assert "--timeline 1" in refused.value.hint
    restore_postgres(target_time=life.target, timeline=1, **EXECUTE)
    restored = life.host.read_state().difference(life.host.writer.state_at(life.target))
    copied = life.has_rows_of_the_copy()
    undo_latest(life.host)
    assert (restored, copied) == ([], False)
    assert life.host.read_state().difference(life.lived) == []


def test_after_its_undo_the_timeline_that_a_restore_began_is_not_foreign(life: Life) -> None:
    """Needs the restore of the test before: its server archived timeline 3."""
    recorded = json.loads(loaded(life.host).repository.timelines.read_text())["clusters"]
    ((known),) = recorded.values()
    assert (known["live"], known["earlier"]) == (1, [1, 3])
    wal_audit()
    report = read_status(loaded(life.host).settings, utc_now())
    assert len([item for item in report.problems if item.subject == "foreign timeline"]) == 1


def test_a_drill_of_such_a_time_verifies_the_hosts_own_rows(life: Life) -> None:
    with suppress(NotVerified):  # a wheel's pg_verifybackup crashes
        restore_drill(target_time=life.target)
    (path,) = (life.host.backup_dir / "postgres").glob("base-*/proven.json")
    proof = json.loads(path.read_text())
    assert (proof["findings"], proof["missing"]) == ([], 0)
    assert datetime.fromisoformat(proof["reached"]) == life.target


def test_without_the_server_its_last_audit_decides(life: Life) -> None:
    """The last of these tests: the data directory is lost."""
    wal_audit()
    life.host.stop()
    directory = life.host.cluster.directory
    directory.rename(directory.with_name("lost"))
    with pytest.raises(Refused, match="and on foreign timeline 2"):
        restore_postgres(target_time=life.target, **EXECUTE)
    restore_postgres(target_time="latest", **EXECUTE)
    assert not life.has_rows_of_the_copy()
    last = [commit.committed_at for commit in life.host.writer.commits][-1]
    assert life.host.read_state().difference(life.host.writer.state_at(last)) == []
