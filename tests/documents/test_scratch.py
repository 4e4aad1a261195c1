"""The recovered database of a search: kept, replayed further, gone with its run; the live host untouched."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.documents.nodes import ContentFile, Node
from alfresco_backup.documents.results import Findings
from alfresco_backup.documents.scratch import kept_databases, note_used, remove_abandoned
from alfresco_backup.errors import HostBusy, HostNotReady, RecoveryNotReached, Refused
from alfresco_backup.host.host import load_host
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.recovery.observe import free_space
from alfresco_backup.restore.recovery.recovery_log import RecoveryLog
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.times import make_stamp, utc_now
from demo.host import DemoHost
from demo.library import Library
from flows.backup import backup
from flows.documents import find_document
from flows.offsite import offsite_copy
from tasks.restore.recovery import require_paused
from tests.support.common import run_on, temporary_demo_host, wait_until
from tests.support.restoring import differences, forget_slot, state_of_running

pytestmark = pytest.mark.slow
HOME = "/Company Home/Sites/hr/documentLibrary"
LIMIT_SECONDS = 600


@dataclass
class Lived:
    """A host with a library, one backup, and work after it with times to search as of."""

    host: DemoHost
    library: Library
    moments: list[datetime] = field(default_factory=list)
    doomed: list[str] = field(default_factory=list)

    @property
    def drills(self) -> Path:
        return self.host.backup_dir / "drill"

    def roots(self) -> list[Path]:
        return sorted(self.drills.glob("documents-*"))

    def clear(self) -> None:
        host = load_host(self.host.env_file)
        for kept in kept_databases(host):
            note_used(kept, utc_now() - timedelta(hours=100))
        remove_abandoned(host, utc_now(), self.drills / "log")

    def state_at(self, moment: datetime) -> dict[str, Node]:
        return {uuid: one.node for uuid, one in self.library.state_at(moment).items()}

    def archive_all(self) -> None:
        name = self.host.cluster.current_segment()
        self.host.cluster.switch_segment()
        wait_until(lambda: list(self.host.wal_archive.glob(f"{name}*")), f"{name} is archived")

    def pause(self) -> datetime:
        """A time between two commits."""
        time.sleep(0.05)
        moment = datetime.now(UTC)
        time.sleep(0.05)
        return moment


@pytest.fixture(scope="module")
def lived(prefect_server: None) -> Iterator[Lived]:
    with temporary_demo_host(documents=20) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        library = Library(host.cluster, host.layout.contentstore, seed=15)
        made = Lived(host, library)
        site = library.make_site("hr")
        made.doomed = [library.add(site, f"doomed {number}.txt") for number in range(3)]
        folders = [library.make_folder(site, f"folder {number}") for number in range(4)]
        for number in range(60):
            library.add(folders[number % 4], f"document {number}.txt")
        backup()
        for node in made.doomed:
            made.moments.append(made.pause())
            library.delete(node)
            library.items.pop(node)  # the work that follows leaves it where it is
        for _ in range(2):
            made.moments.append(made.pause())
            library.work(70)
        library.close()
        backup(components=["contentstore"])
        made.archive_all()
        yield made
        library.close()


@pytest.fixture
def untouched(lived: Lived) -> Iterator[None]:
    """The live host is the same before and after, and no server is left."""
    before = state_of_running(lived.host)
    yield
    assert differences(before, state_of_running(lived.host)) == []
    assert processes_below(lived.drills) == []


def processes_below(folder: Path) -> list[str]:
    """What works below a folder, or was started with a path below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ")
            place = os.readlink(entry / "cwd")  # noqa: PTH115
            if entry.name != str(os.getpid()) and (f"{folder}/" in words or place.startswith(f"{folder}/")):
                found.append(words)
    return found


def find(**asked: object) -> Findings:
    findings = find_document(**asked)
    assert isinstance(findings, Findings)
    return findings


def names(findings: Findings) -> list[str]:
    return sorted(hit.node.name for hit in findings.hits)


def test_a_hundred_documents_are_found_as_they_were_at_the_time(lived: Lived, untouched: None) -> None:
    """Deleted, overwritten, renamed and moved ones, with a kept database at increasing times."""
    chance, looked, now = random.Random(8), 0, lived.state_at(datetime.now(UTC))
    kept: set[Path] = set()
    for moment in lived.moments:
        then = {uuid: node for uuid, node in lived.state_at(moment).items() if not node.in_trashcan}
        other = [uuid for uuid, node in then.items() if node.content and now.get(uuid) != node]
        chosen = chance.sample(sorted(other), min(30, len(other)))
        later = [uuid for uuid in now if uuid not in lived.state_at(moment)]
        findings = find(as_of=moment, node=[*chosen, *later])
        found = {hit.node.uuid: hit.node for hit in findings.hits}
        assert set(found) == set(chosen)
        for uuid in chosen:
            assert found[uuid] == then[uuid]
        looked += len(chosen)
        kept.update(lived.roots())
    assert looked >= 100
    gone = find(as_of=moment, missing=True, path="/Company Home")
    assert {hit.node.uuid for hit in gone.hits if hit.node.content} == set(other)
    assert len(kept) == 1


def test_a_later_time_goes_on_from_the_kept_database_and_an_earlier_one_does_not(
    lived: Lived, untouched: None
) -> None:
    lived.clear()
    first = find(as_of=lived.moments[0], name="doomed*", missing=True)
    (root,) = lived.roots()
    (control,) = root.glob("data/global/pg_control")
    born = (root / "pg_hba.conf").stat().st_ino
    assert names(first) == ["doomed 0.txt", "doomed 1.txt", "doomed 2.txt"]
    assert {hit.now for hit in first.hits} == {"in the trashcan"}
    again = find(as_of=lived.moments[0], name="doomed*")
    assert names(again) == names(first)
    log = next(root.glob("restores/*/wal/recovery.log"))
    second = find(as_of=lived.moments[1], name="doomed*", path=HOME)
    assert names(second) == ["doomed 1.txt", "doomed 2.txt"]
    assert lived.roots() == [root]
    assert (root / "pg_hba.conf").stat().st_ino == born
    assert control.exists()
    assert log.read_text().count("pausing at the end of recovery") >= 3
    assert "selected new timeline" not in log.read_text()
    earlier = find(as_of=lived.moments[0], name="doomed*")
    assert names(earlier) == names(first)
    assert root not in lived.roots()
    assert len(lived.roots()) == 1


def test_a_kept_database_needs_no_archive_to_be_searched_again(lived: Lived, untouched: None) -> None:
    """Retention may have removed the WAL by then."""
    lived.clear()
    before = names(find(as_of=lived.moments[2], name="doomed*"))
    archive, away = lived.host.wal_archive, lived.host.wal_archive.with_name("away")
    archive.rename(away)
    try:
        assert names(find(as_of=lived.moments[2], name="doomed*")) == before
    finally:
        away.rename(archive)


def test_after_a_restore_of_the_host_a_kept_database_is_not_searched_any_more(
    lived: Lived, untouched: None
) -> None:
    """The same time may be on another timeline by then."""
    lived.clear()
    before = names(find(as_of=lived.moments[0], name="doomed*"))
    (root,) = lived.roots()
    restores = load_host(lived.host.env_file).repository.restores(lived.host.name)
    restore = restores / make_stamp(utc_now() + timedelta(seconds=2))
    restore.mkdir(parents=True)
    try:
        assert names(find(as_of=lived.moments[0], name="doomed*")) == before
        assert root not in lived.roots()
    finally:
        restore.rmdir()


def test_a_database_that_a_kill_left_half_way_to_a_later_time_is_not_searched(
    lived: Lived, untouched: None
) -> None:
    lived.clear()
    find(as_of=lived.moments[0], name="doomed*")
    (root,) = lived.roots()
    assert killed(lived, "recover", lived.moments[1]) == -signal.SIGKILL
    wait_until(lambda: not processes_below(lived.drills), "the server is gone")
    assert lived.roots() == [root]
    assert not (root / "scratch.json").exists()
    forget_slot(lived.host)
    assert len(names(find(as_of=lived.moments[0], name="doomed*"))) == 3
    assert root not in lived.roots()


KILLED = """
import os, signal, sys, time
from datetime import datetime
import tasks.documents.find as finding
import tasks.documents.scratch as scratch
step, number, as_of = sys.argv[1], int(sys.argv[2]), datetime.fromisoformat(sys.argv[3])

def end(*_, **__):
    os.kill(os.getpid(), number)
    time.sleep(600)

def after(function):
    def called(*given, **more):
        result = function(*given, **more)
        end()
        return result
    return called

if step == "extract":
    scratch.extract = after(scratch.extract)
elif step == "recover":
    start = scratch.ScratchServer.start
    scratch.ScratchServer.start = after(start)
elif step == "recovered":
    scratch.reach = after(scratch.reach)
from flows.documents import find_document
from flows.offsite import offsite_copy
if step == "search":
    finding.search = after(finding.search)
find_document(as_of=as_of, name="doomed*")
"""


def killed(lived: Lived, step: str, as_of: datetime, number: int = signal.SIGKILL) -> int:
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    argv = [sys.executable, "-c", KILLED, step, str(int(number)), as_of.isoformat()]
    done = subprocess.run(
        argv,
        cwd=PROJECT_DIRECTORY,
        env=environment,
        capture_output=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    return done.returncode


@pytest.mark.parametrize("step", ["extract", "recover", "recovered", "search"])
def test_no_server_outlives_a_killed_search_and_the_next_run_removes_what_it_left(
    lived: Lived, untouched: None, step: str
) -> None:
    lived.clear()
    forget_slot(lived.host)
    assert killed(lived, step, lived.moments[0]) == -signal.SIGKILL
    wait_until(lambda: not processes_below(lived.drills), "the server is gone")
    (left,) = lived.roots()
    run = run_on(lived.host)
    complete = step == "search"
    assert remove_abandoned(run.host, utc_now(), run.log) == ([] if complete else [left.name])
    hours = run.settings.documents_scratch_hours
    late = utc_now() + timedelta(hours=hours, minutes=1)
    assert remove_abandoned(run.host, late, run.log) == ([left.name] if complete else [])
    assert lived.roots() == []
    forget_slot(lived.host)


@pytest.mark.parametrize("step", ["recover", "search"])
def test_an_interrupted_search_leaves_no_server(lived: Lived, untouched: None, step: str) -> None:
    lived.clear()
    assert killed(lived, step, lived.moments[0], signal.SIGTERM) not in (0, -signal.SIGKILL)
    assert processes_below(lived.drills) == []
    assert len(lived.roots()) == (step == "search")


def test_a_backup_removes_what_a_killed_search_left(lived: Lived) -> None:
    lived.clear()
    left = lived.drills / "documents-20261128T000000Z"
    (left / "data").mkdir(parents=True)
    backup(components=["contentstore"])
    assert lived.roots() == []


def test_a_kept_database_makes_room_for_another_time_and_space_is_checked_before(
    lived: Lived, untouched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for one database, counting the kept one, and for none beside it."""
    lived.clear()
    find(as_of=lived.moments[1], name="doomed*")
    (root,) = lived.roots()
    monkeypatch.setattr(
        "tasks.documents.scratch.free_space", lambda path: replace(free_space(path), free_bytes=16 << 20)
    )
    assert len(find(as_of=lived.moments[0], name="doomed*").hits) == 3
    assert root not in lived.roots()
    lived.clear()
    with pytest.raises(Refused, match="not enough space"):
        find(as_of=lived.moments[0], name="doomed*")
    assert lived.roots() == []


def test_a_second_search_is_refused_and_names_the_first(lived: Lived, untouched: None) -> None:
    lived.clear()
    code = "\n".join(
        (
            "import sys; from alfresco_backup.documents.scratch import searching",
            "from alfresco_backup.host.host import load_host",
            "with searching(load_host()): print('held', flush=True); sys.stdin.read()",
        )
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(
        argv, cwd=PROJECT_DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout
        assert first.stdin
        try:
            assert first.stdout.readline() == "held\n"
            with pytest.raises(HostBusy, match=f"another search .* process {first.pid}"):
                find(as_of=lived.moments[0], name="doomed*")
            run = run_on(lived.host)
            (lived.drills / "documents-20261128T000000Z").mkdir()
            assert remove_abandoned(run.host, utc_now(), run.log) == []
        finally:
            first.stdin.close()
            first.wait(60)
    lived.clear()
    assert lived.roots() == []


def test_a_target_in_wal_that_is_not_archived_yet_is_refused_as_by_a_restore(lived: Lived) -> None:
    moment = lived.pause()
    with pytest.raises(Refused, match="a later one needs WAL that is not archived"):
        find(as_of=moment, name="doomed*")


def test_while_a_restore_is_unfinished_documents_are_found_and_a_backup_is_refused(
    lived: Lived, caplog: pytest.LogCaptureFixture
) -> None:
    folder = lived.host.backup_dir / "restores/demo/20261128T000000Z"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text(
        '{"schema": 1, "entry": "begin", "stamp": "20261128T000000Z", "host": "demo", "kind": "pitr", '
        '"asked": "x", "steps": [], "at": "2026-11-28T00:00:00+00:00"}\n'
    )
    try:
        with pytest.raises(Refused, match="interrupted"):
            backup(components=["contentstore"])
        assert names(find(as_of=lived.moments[0], name="doomed*")) != []
        assert "the live host is not whole" in caplog.text
    finally:
        (folder / "journal.jsonl").unlink()
        folder.rmdir()


def test_content_that_is_nowhere_here_is_found_off_site_or_is_lost_with_the_snapshots_named(
    lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = lived.state_at(datetime.now(UTC))
    there, never = sorted(
        (node for node in now.values() if node.content and not node.in_trashcan and node.name[0] == "d"),
        key=lambda node: node.name,
    )[:2]
    assert there.content
    assert never.content
    snapshots = sorted(lived.host.backup_dir.glob("contentstore/contentstore-*Z"))
    places = [lived.host.layout.contentstore, *snapshots]

    def lose(content: ContentFile) -> None:
        for root in places:
            (root / content.url.removeprefix("store://")).resolve().unlink(missing_ok=True)

    monkeypatch.setenv("OFFSITE_REPOSITORY", str(tmp_path / "far"))
    monkeypatch.setenv("OFFSITE_PASSWORD", "correct horse battery")
    lose(never.content)
    subprocess.run(
        [sys.executable, "-m", "alfresco_backup", "offsite", "init"],
        cwd=PROJECT_DIRECTORY,
        check=True,
        capture_output=True,
        timeout=LIMIT_SECONDS,
    )
    offsite_copy()
    lose(there.content)
    hits = {hit.node.uuid: hit.place for hit in find(node=[there.uuid, never.uuid]).hits}
    newest = snapshots[-1].name.removeprefix("contentstore-")
    assert hits[there.uuid].words in {
        f"off-site, backup ID {path.name.removeprefix('contentstore-')}" for path in snapshots
    }
    assert hits[never.uuid].kind == "lost"
    assert f"contentstore {newest}" in hits[never.uuid].looked
    assert "live contentstore" in hits[never.uuid].looked
    monkeypatch.setenv("OFFSITE_PASSWORD", "another")
    unheard = {hit.node.uuid: hit.place for hit in find(node=[there.uuid]).hits}[there.uuid]
    assert unheard.kind == "lost" and unheard.words.startswith("NOT FOUND, looked at: ")
    assert "not the off-site copy" in unheard.words


def test_without_the_live_database_documents_are_found_and_what_is_missing_is_refused(lived: Lived) -> None:
    lived.library.delete(lived.library.add(lived.library.company_home, "binned.txt"))
    lived.archive_all()
    lived.library.close()
    lived.host.cluster.stop()
    try:
        found = find(as_of=lived.moments[0], name="doomed*")
        assert len(found.hits) == 3
        assert {hit.now for hit in found.hits} == {"not known"}
        with pytest.raises(HostNotReady, match="comparing with the live database"):
            find(as_of=lived.moments[0], name="doomed*", missing=True)
        (hit,) = find(name="binned.txt").hits
        assert hit.node.in_trashcan
        (hit,) = find(name="binned.txt", deleted_since=lived.moments[0]).hits
        assert hit.node.in_trashcan
    finally:
        lived.host.cluster.start()


def test_where_hot_standby_is_impossible_the_database_is_promoted(lived: Lived) -> None:
    """max_connections is raised in the WAL, so that a hot standby would pause without end."""
    lived.library.close()
    lived.host.cluster.stop()
    lived.host.cluster.configure(max_connections=321)
    lived.host.cluster.start()
    lived.library.add(lived.library.company_home, "after the restart.txt")
    moment = lived.pause()
    lived.library.add(lived.library.company_home, "later.txt")
    lived.archive_all()
    lived.clear()
    found = find(as_of=moment, path="/Company Home", name="*r*.txt")
    assert "after the restart.txt" in names(found)
    assert "later.txt" not in names(found)
    (kept,) = kept_databases(load_host(lived.host.env_file))
    assert not kept.paused
    assert names(find(as_of=moment, path="/Company Home", name="*r*.txt")) == names(found)
    assert processes_below(lived.drills) == []


def test_a_pause_that_is_not_at_a_target_is_none() -> None:
    log = RecoveryLog()
    for line in (
        "LOG:  database system is ready to accept read-only connections",
        "WARNING:  hot standby is not possible because of insufficient parameter settings",
        "LOG:  recovery has paused",
    ):
        log.read(line)
    assert log.no_standby
    assert not log.paused_at_target
    log.read("LOG:  recovery stopping before commit of transaction 9, time 2026-11-29 02:57:04.6+00")
    assert log.paused_at_target


def test_a_server_that_went_on_behind_the_target_is_not_believed(lived: Lived) -> None:
    with pytest.raises(RecoveryNotReached, match="did not stay at the target"):
        require_paused(load_host(lived.host.env_file), Target("time", utc_now()))
