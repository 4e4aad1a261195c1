"""Pruning for real: restic forgets what the plan says, and what stays comes back as it is here."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, HostBusy, Refused
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.check import check
from alfresco_backup.offsite.copy import begin, take_over
from alfresco_backup.offsite.fetch import Fetching, fetch, learn, plan_for
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import begin_repository
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.retention.apply import carry_out as carry_out_retention
from alfresco_backup.retention.apply import make_retention_plan
from alfresco_backup.retention.holds import Hold, accept_hold, read_holds, write_hold
from alfresco_backup.times import utc_now
from tests.support.common import wait_until
from tests.support.far_sides import FarDisk, with_checksums
from tests.support.repository_on_disk import DAYS, listing

pytestmark = pytest.mark.slow


@pytest.fixture
def far(tmp_path: Path) -> FarDisk:
    """Sets of 40, 35, 30, 2 and 1 days ago, all off-site; local retention has removed the first two since."""
    disk = FarDisk(tmp_path)
    disk.disk.run("40d")
    disk.disk.run("35d")
    disk.disk.run("30d", copied=DAYS)
    disk.disk.run("2d")
    disk.disk.run("1d", copied=DAYS[:1])
    disk.disk.wal("40d", "30d", "2d", "1d")
    disk.copy(alone=True)
    disk.wal()
    carry_out_retention(make_retention_plan(disk.host.settings))
    return disk


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alfresco_backup.offsite.apply_prune.POLL_SECONDS", 0.2)


@contextmanager
def writing(far: FarDisk) -> Iterator[None]:
    """Somebody's `restic backup` that does not end while the block runs."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", **far.engine.environment}
    argv = ["restic", "backup", "--stdin", "--host", "other"]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as writer:
        try:
            wait_until(lambda: locks_of(far), "the writer has not locked the repository", seconds=60)
            yield
        finally:
            writer.communicate(b"x", timeout=60)


def locks_of(far: FarDisk) -> list[Path]:
    """restic's locks, without those that are being written."""
    return [path for path in (far.place / "locks").iterdir() if len(path.name) == 64]


def test_what_is_gone_here_is_removed_there_after_the_grace_period(far: FarDisk, tmp_path: Path) -> None:
    host = far.host_with(offsite_grace_days=5)
    now = utc_now()
    first = make_prune_plan(host, far.engine, now)
    assert not first.removals and first.gone_since
    plan = make_prune_plan(host, far.engine, now + timedelta(days=2))
    assert not plan.removals
    with pytest.MonkeyPatch.context() as patch:  # the clock's own alarm is another test's
        patch.setattr("alfresco_backup.offsite.apply_prune.with_holds", lambda plan, *_: plan)
        plan = make_prune_plan(host, far.engine, now + timedelta(days=5, seconds=1))
    assert {item.name for item in plan.removals} == first.gone_since.keys()
    assert len(plan.removals) == 2
    before = sum(path.stat().st_size for path in far.packs())
    carry_out(host, far.engine, plan)
    assert sum(path.stat().st_size for path in far.packs()) < before
    there = far.far
    assert not {item.stamp for item in there.snapshots} & {item.name for item in plan.removals}
    newest = max(there.sets)
    for stamp in there.sets:
        far.restic("restore", there.sets[stamp].snapshot, "--target", str(tmp_path / "back"))
    back, here = listing(tmp_path / "back"), listing(far.repository.root)
    wanted = {name for name in here if newest in name}
    assert wanted and {name: back.get(name) for name in wanted} == {name: here[name] for name in wanted}
    assert check(host, far.engine, utc_now()).whole == 3


def test_while_retention_is_on_hold_nothing_is_removed(far: FarDisk) -> None:
    host = far.host_with(offsite_grace_days=0)
    write_hold(far.repository, Hold("20260101T000000Z", "content", "9 files are gone", utc_now()))
    plan = make_prune_plan(host, far.engine, utc_now())
    assert "retention is on hold" in plan.summary()
    with pytest.raises(Refused, match="nothing is removed off-site: retention is on hold"):
        carry_out(host, far.engine, plan)
    assert len(far.far.sets) == 5


def test_an_empty_or_unreadable_catalogue_removes_nothing(far: FarDisk) -> None:
    host = far.host_with(offsite_grace_days=0)
    away = far.repository.root.with_name("away")
    far.repository.postgres.rename(away)
    with pytest.raises(BackupError, match="has no complete set, so nothing is removed"):
        make_prune_plan(host, far.engine, utc_now())
    far.repository.postgres.write_text("no folder")
    with pytest.raises(BackupError, match="nothing is removed"):
        make_prune_plan(host, far.engine, utc_now())
    far.repository.postgres.unlink()
    away.rename(far.repository.postgres)
    assert make_prune_plan(host, far.engine, utc_now()).removals


def test_a_set_that_cannot_be_read_here_is_not_gone(far: FarDisk) -> None:
    host = far.host_with(offsite_grace_days=0)
    newest = sorted(far.repository.postgres.iterdir())[-1]
    (newest / "backup.json").write_text("{")
    shutil.rmtree(far.repository.contentstore.snapshot(newest.name.removeprefix("base-")))
    plan = make_prune_plan(host, far.engine, utc_now())
    assert newest.name.removeprefix("base-") not in {item.name for item in plan.removals}


def test_two_hosts_in_one_repository_stay_apart(far: FarDisk, tmp_path: Path) -> None:
    other = FarDisk(tmp_path / "other", far.place, "alf2")
    other.disk.run("1d")
    other.copy()
    other.wal()
    assert set(far.far.sets).isdisjoint(other.far.sets)
    host = far.host_with(offsite_grace_days=0)
    carry_out(host, far.engine, make_prune_plan(host, far.engine, utc_now()))
    assert len(far.far.sets) == 3
    (stamp,) = other.far.sets
    assert check(other.host, other.engine, utc_now()).whole == 1
    other.restic("restore", other.far.sets[stamp].snapshot, "--target", str(tmp_path / "back"))
    here = {name: what for name, what in listing(other.repository.root).items() if stamp in name}
    assert here and here.items() <= listing(tmp_path / "back").items()


def test_another_machine_under_the_name_is_refused_until_it_takes_over(far: FarDisk, tmp_path: Path) -> None:
    other = FarDisk(tmp_path / "other", far.place)
    other.disk.run("1h")
    before = [item.snapshot for item in far.far.snapshots]
    refused = f"BACKUP_DIR is repository {far.identity}; this one is {other.identity}"
    for attempt in (
        lambda: begin(other.host, other.engine),
        other.wal,
        lambda: check(other.host, other.engine, utc_now()),
        lambda: make_prune_plan(other.host, other.engine, utc_now()),
    ):
        with pytest.raises(Refused, match=refused) as raised:
            attempt()
        assert "offsite init --take-over" in raised.value.hint
    assert [item.snapshot for item in far.far.snapshots] == before
    assert take_over(other.host, other.engine) == (far.identity,)
    assert len(other.copy()) == 1
    with pytest.raises(Refused, match=f"is repository {other.identity}; this one is {far.identity}"):
        far.copy()


def test_a_machine_that_fetched_the_repository_does_not_send_beside_the_one_that_has_it(
    far: FarDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.wal()
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_text(f"{file.name}\n")
    monkeypatch.setattr("alfresco_backup.host.identity.MACHINE_ID", first)
    with pytest.raises(Refused, match="this is machine "):  # what is there was sent by this test's machine
        far.copy()
    assert len(take_over(far.host, far.engine)) == 1
    far.wal()
    shutil.copytree(far.repository.root, tmp_path / "other/backup", symlinks=True)
    (tmp_path / "other/backup/offsite/taken-over.json").unlink()  # it is not sent, and so not fetched
    other = FarDisk(tmp_path / "other", far.place)
    assert other.identity == far.identity
    before = [item.snapshot for item in far.far.snapshots]
    monkeypatch.setattr("alfresco_backup.host.identity.MACHINE_ID", second)
    for attempt in (
        lambda: begin(other.host, other.engine),
        other.wal,
        lambda: check(other.host, other.engine, utc_now()),
        lambda: make_prune_plan(other.host, other.engine, utc_now()),
    ):
        with pytest.raises(Refused, match=r"sent, the last one .*; this is machine ") as raised:
            attempt()
        assert "offsite init --take-over" in raised.value.hint
    assert [item.snapshot for item in far.far.snapshots] == before
    assert len(take_over(other.host, other.engine)) == 2
    other.wal()
    monkeypatch.setattr("alfresco_backup.host.identity.MACHINE_ID", first)
    with pytest.raises(Refused, match="this is machine "):
        far.wal()
    monkeypatch.setattr("alfresco_backup.host.identity.MACHINE_ID", tmp_path / "none")
    far.wal()  # a machine without an ID is not told apart


def test_what_a_fetch_of_a_part_left_there_is_not_pruned_until_somebody_accepts_it(
    far: FarDisk, tmp_path: Path
) -> None:
    for base in far.repository.postgres.iterdir():
        with_checksums(base)
    far.disk.wal("1d")
    far.disk.run("3h", copied=DAYS)
    with_checksums(sorted(far.repository.postgres.iterdir())[-1])
    far.copy()
    far.wal()
    root = tmp_path / "second/backup"
    root.mkdir(parents=True)
    fetching = Fetching(far.engine, far.name, Repository(root))
    for _ in range(2):  # what is there already is no new fetch
        known = learn(fetching)
        fetch(fetching, known, plan_for(fetching, known, LATEST, None))
    second = FarDisk(tmp_path / "second", far.place)
    host = second.host_with(offsite_grace_days=0, minimum_redundancy=1)
    plan = make_prune_plan(host, second.engine, utc_now())
    count = len(known.far.sets)
    assert (
        f"(fetched) and removes nothing: {root} was filled by a fetch of 1 of {count} backup IDs" in plan.held
    )
    with pytest.raises(Refused, match="was filled by a fetch"):
        carry_out(host, second.engine, plan)
    (hold,) = read_holds(second.repository)
    accept_hold(second.repository, hold.run, "the others are too old to be needed", utc_now())
    released = make_prune_plan(host, second.engine, utc_now() + timedelta(seconds=1))
    assert not released.held and released.removals


def test_another_disk_at_backup_dir_removes_nothing(far: FarDisk) -> None:
    begin_repository(far.repository, far.name)
    with pytest.raises(Refused, match="copies of a host alf1 whose BACKUP_DIR is repository"):
        make_prune_plan(far.host, far.engine, utc_now())


@pytest.mark.parametrize("action", ["copy", "wal", "check", "prune"])
def test_a_second_run_of_an_action_is_refused_at_once_and_the_others_are_not(
    tmp_path: Path, action: str
) -> None:
    host = FarDisk(tmp_path).host
    with action_lock(host, action):  # type: ignore[arg-type]
        said = f"another `offsite {action}` of alf1 is running: process"
        with pytest.raises(HostBusy, match=said), action_lock(host, action):  # type: ignore[arg-type]
            pass
        for other in {"copy", "wal", "check", "prune"} - {action}:
            with action_lock(host, other):  # type: ignore[arg-type]
                pass
    with action_lock(host, action):  # type: ignore[arg-type]
        pass


@pytest.mark.usefixtures("impatient")
def test_prune_waits_until_nobody_writes_and_gives_up_after_its_time(far: FarDisk) -> None:
    host = far.host_with(offsite_grace_days=0)
    plan = make_prune_plan(host, far.engine, utc_now())
    with writing(far), pytest.raises(HostBusy, match="is locked"):
        carry_out(host, far.engine, plan, wait_seconds=0)
    assert len(far.far.sets) == 5
    carry_out(host, far.engine, make_prune_plan(host, far.engine, utc_now()))
    assert len(far.far.sets) == 3


def test_wal_that_meets_a_prune_is_busy_and_what_a_killed_prune_locked_is_unlocked_at_once(
    far: FarDisk,
) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", **far.engine.environment}
    with subprocess.Popen(
        ["restic", "prune", "--limit-upload", "1"], env=environment, stdout=subprocess.DEVNULL
    ) as prune:
        try:
            wait_until(lambda: locks_of(far), "the prune has locked nothing", seconds=60, every=0.001)
            os.kill(prune.pid, signal.SIGSTOP)
            with pytest.raises(HostBusy, match="is locked"):
                far.wal()
        finally:
            prune.kill()
    assert locks_of(far)
    started = time.monotonic()
    assert far.wal()
    assert time.monotonic() - started < 60
    assert not locks_of(far)
