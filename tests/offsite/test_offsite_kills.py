"""kill -9 at random points of copy, WAL and prune: the next run completes, only what is whole counts."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alfresco_backup.offsite.apply_prune import carry_out as carry_out_prune
from alfresco_backup.offsite.apply_prune import make_prune_plan
from alfresco_backup.offsite.check import check
from alfresco_backup.offsite.copy import read_own
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.times import utc_now
from tests.support.common import wait_until
from tests.support.far_sides import FarDisk
from tests.support.repository_on_disk import DAYS, listing
from tests.support.restore_command import PROJECT

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)
SEED = int(os.environ.get("OFFSITE_KILL_SEED", "14"))
KILLS = {"copy": 4, "wal": 3, "prune": 3}
RUN = """
import sys
from pathlib import Path
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.copy import Watching, begin, send_together, send_wal
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.shipments import batches
from alfresco_backup.times import utc_now
from tests.support.far_sides import FarDisk
action, folder = sys.argv[1:]
far = FarDisk.open(Path(folder), offsite_grace_days=0)
host, engine = far.host, far.engine
print("begun", flush=True)
with action_lock(host, action):
    if action == "copy":
        for batch in batches(begin(host, engine)[1]):
            list(send_together(host, engine, batch, Watching()))
    elif action == "wal":
        send_wal(host, engine, Watching())
    else:
        carry_out(host, engine, make_prune_plan(host, engine, utc_now()))
print("done", flush=True)
"""


def run(far: FarDisk, action: str, kill_after: float) -> tuple[bool, float]:
    """Run an action in a process of its own; whether it was killed, and how long it took."""
    argv = [sys.executable, "-c", RUN, action, str(far.folder)]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "begun\n"
            started = time.monotonic()
            try:
                process.wait(timeout=kill_after)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(timeout=60)
            took = time.monotonic() - started
            assert process.returncode in (0, -signal.SIGKILL)
            return process.returncode != 0, took
        finally:
            process.kill()


def add_work(far: FarDisk) -> None:
    """What each of the actions has something to do for: two new sets, which are sent together, new WAL, and a
    set that is gone here.
    """
    number = len(list(far.repository.postgres.iterdir()))
    far.disk.now = utc_now()
    for minutes in (99 - number, 98 - number):
        stamp = far.disk.run(f"{minutes}m", copied=DAYS)
        for day in DAYS:
            tree = far.repository.contentstore.day_trees(stamp) / day / "10/31"
            tree.mkdir(parents=True)
            for name in range(2):
                (tree / f"{name}.bin").write_bytes(os.urandom(200_000))
    for name in range(2):
        (far.repository.wal / f"0000000100000001{number * 2 + name:08X}").write_bytes(os.urandom(1_000_000))


def nothing_counts_that_is_not_whole(far: FarDisk, folder: Path) -> None:
    """The newest set that counts comes back as it is here."""
    there = read_own(far.host, far.engine)
    here = listing(far.repository.root)
    sets = [item for item in read_catalogue(far.repository).sets if there.has(item)]
    if not sets:
        return
    stamp = sets[-1].stamp
    done = far.restic("restore", there.sets[stamp].snapshot, "--target", str(folder), "--no-lock")
    assert done.returncode == 0, done.stderr
    back = listing(folder)
    wanted = {name: what for name, what in here.items() if stamp in name}
    assert len(wanted) > 10
    assert {name: back.get(name) for name in wanted} == wanted
    for name, what in wanted.items():
        if what.endswith("bytes"):
            assert (folder / name).read_bytes() == (far.repository.root / name).read_bytes()


def complete(far: FarDisk, action: str) -> float:
    """The next run of an action, to its end; how long it took."""
    started = time.monotonic()
    if action == "copy":
        far.copy()
    elif action == "wal":
        far.wal()
    else:
        host = far.host_with(offsite_grace_days=0)
        carry_out_prune(host, far.engine, make_prune_plan(host, far.engine, utc_now()))
    return time.monotonic() - started


def killed_once(far: FarDisk, action: str, point: float) -> float:
    """Kill an action after so many seconds, sooner where it has ended by then; after how many it was."""
    for _ in range(5):
        if action == "prune":
            far.copy()
            carry_out(make_retention_plan(far.host.settings))
        was_killed, took = run(far, action, point)
        if was_killed:
            return took
        point /= 2
        add_work(far)
    pytest.fail(f"{action} always ended before it was killed")


def test_ten_kills_at_random_points_leave_nothing_that_the_next_run_does_not_complete(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    for when in ("40d", "35d"):
        far.disk.run(when)
    far.disk.run("30d", copied=DAYS)
    far.disk.run("2d")
    assert far.engine
    dice = random.Random(SEED)
    order = [action for action, times in KILLS.items() for _ in range(times)]
    dice.shuffle(order)
    lasts = {"copy": 2.0, "wal": 2.0, "prune": 2.0}
    for number, action in enumerate(order):
        add_work(far)
        took = killed_once(far, action, dice.uniform(0.05, 0.9) * lasts[action])
        logger.warning("seed %d: %s killed after %.2f of %.2f s", SEED, action, took, lasts[action])
        nothing_counts_that_is_not_whole(far, tmp_path / f"after-{number}")
        lasts[action] = complete(far, action)
    for action in KILLS:
        complete(far, action)
    there = read_own(far.host, far.engine)
    sets = read_catalogue(far.repository).sets
    assert all(there.has(item) for item in sets)
    plan = make_prune_plan(far.host_with(offsite_grace_days=0), far.engine, utc_now())
    assert not plan.unfinished and not plan.removals
    left = there.sets.keys() - {item.stamp for item in sets}
    assert {item.name for item in plan.items if item.reason.startswith("sent together with")} >= left
    nothing_counts_that_is_not_whole(far, tmp_path / "at-last")
    assert far.restic("restore", far.wal(), "--target", str(tmp_path / "wal")).returncode == 0
    assert listing(tmp_path / "wal/pg_wal") == listing(far.repository.wal)
    wait_until(lambda: not list((far.place / "locks").iterdir()), "a lock was left", seconds=60)
    whole = check(far.host_with(offsite_check_cycle=1), far.engine, utc_now())
    assert (whole.whole, whole.packs_read) == (len(sets) + len(left), whole.packs)
