"""The off-site copy beside `restic backup` of the same tree and `restic restore` of it, in one run.

    python -m benchmarks.offsite [--files 30000] [--sets 24] [--rounds 2] [--large 300000]

A repository of so many small files in hourly sets goes to a real S3 server on loopback (SeaweedFS), ours and
restic's alternating, each time into a new off-site repository. Requests are counted by a relay in front of
that server. Seconds of a busy machine mean little: ratios, the processor's seconds and counts do.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.contentstore.plan import SnapshotRequest
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.offsite.copy import (
    Watching,
    begin,
    engine_of,
    init,
    read_own,
    send_together,
    send_wal,
)
from alfresco_backup.offsite.fetch import Fetching, fetch, learn, plan_for
from alfresco_backup.offsite.shipments import batches
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import make_stamp
from benchmarks import store
from demo.host import DemoHost
from flows.backup import backup
from tasks.backup.contentstore import take_snapshot
from tasks.runs.embedded_server import prefect_server
from tests.support.offsite_places import Place, Relay, relayed, s3_place, use

RATIO_TARGET = 1.2
HOURLY_SECONDS, HOURLY_REQUESTS, NOTHING_SECONDS = 10.0, 20, 5.0
FLAT = 1.2
NEW_FILES = 5


@dataclass(frozen=True)
class Cost:
    """What something took: seconds of the clock, and of the processor by its children (restic)."""

    seconds: float
    processor: float

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s ({self.processor:5.1f} s of the processor)"


def cost_of(work: Callable[[], object]) -> Cost:
    def used() -> float:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(item.ru_utime + item.ru_stime for item in usage)

    started, before = time.monotonic(), used()
    work()
    return Cost(time.monotonic() - started, used() - before)


@contextmanager
def host_with(files: int, sets: int) -> Iterator[DemoHost]:
    """A host whose store has so many files, and BACKUP_DIR a set of it and others with new files."""
    directory = Path(tempfile.mkdtemp(prefix="offsite-benchmark-", dir="/var/tmp"))
    directory.chmod(0o755)
    host = DemoHost.create(directory / "host", documents=50)
    os.environ[ENV_FILE_VARIABLE] = str(host.env_file)
    try:
        shutil.rmtree(host.layout.contentstore)
        store.generate(host.layout.contentstore, files)
        with prefect_server():
            backup()
        for number in range(1, sets):
            hourly(host, number)
        yield host
    finally:
        host.destroy()
        shutil.rmtree(directory)


def hourly(host: DemoHost, number: int) -> str:
    """A set an hour later, with a few new files of now."""
    chance = random.Random(number)
    now = datetime.now(UTC)
    folder = host.layout.contentstore / store.path_of(now)
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(NEW_FILES):
        store.write_file(chance, chance.randbytes(2 * store.LARGEST), folder, now)
    loaded = load_host(host.env_file)
    stamp = make_stamp(now + timedelta(hours=number))
    places = host.layout.contentstore, loaded.repository.store("contentstore")
    take_snapshot(SnapshotRequest("contentstore", *places, stamp, host.backup_dir / "benchmark.log"))
    return stamp


def copy(host: Host) -> int:
    """What the flow does, without Prefect; returns the bytes that were new."""
    engine = engine_of(host)
    _, shipments = begin(host, engine)
    return sum(
        sent.added_bytes
        for batch in batches(shipments)
        for sent in send_together(host, engine, batch, Watching())
    )


def use_new(host: DemoHost, place: Place, name: str) -> Host:
    """The host with a new off-site repository."""
    use(host, place.settings(name))
    loaded = load_host(host.env_file)
    init(engine_of(loaded))
    return loaded


def first_copies(host: DemoHost, place: Place, rounds: int) -> bool:
    ratios = []
    for number in range(rounds):
        costs = {}
        for what, work in (("ours", copy), ("tree", back_up_tree))[:: -1 if number % 2 else 1]:
            new = use_new(host, place, f"{what}-{number}")
            costs[what] = cost_of(lambda new=new, work=work: work(new))
        mine, tree = costs["ours"], costs["tree"]
        ratios.append(mine.seconds / tree.seconds)
        print(
            f"  first copy: ours {mine}, restic backup of the tree {tree}, ratio {ratios[-1]:.2f}", flush=True
        )
    return told(f"first copy, best of {rounds} ratios: {min(ratios):.2f}", min(ratios) <= RATIO_TARGET)


def back_up_tree(host: Host) -> None:
    """All that `copy` sends: not the WAL archive, the logs and what the off-site copy notes here."""
    left_out = (host.repository.offsite, host.repository.wal, host.repository.logs)
    words = ("backup", ".", *(word for path in left_out for word in ("--exclude", str(path))))
    engine_of(host).run(*words, directory=host.repository.root, timeout_seconds=7200)


def requests_of(relay: Relay, work: Callable[[], object]) -> tuple[Cost, int, str]:
    relay.requests.clear()
    relay.paths.clear()
    done: list[object] = []
    cost = cost_of(lambda: done.append(work()))
    words = ", ".join(f"{count} {method}" for method, count in sorted(relay.requests.items()))
    if done and isinstance(done[0], int):
        words += f"; {done[0] / 1024:.0f} KiB new"
    return cost, sum(relay.requests.values()), words


def hourly_copies(host: DemoHost, place: Place, sets: int) -> bool:
    good = True
    with relayed(place) as relay:
        use(host, relay.behind(place).settings("ours-0"))
        loaded = load_host(host.env_file)
        copy(loaded)  # the relay is another address, which has a cache of its own
        for number in range(sets, sets + 3):
            hourly(host, number)
            cost, count, words = requests_of(relay, lambda: copy(loaded))
            met = cost.seconds <= HOURLY_SECONDS and count <= HOURLY_REQUESTS
            good = told(f"a set with {NEW_FILES} new files: {cost}, {count} requests ({words})", met) and good
            if os.environ.get("SHOW_REQUESTS"):
                print("\n".join(relay.paths))
        cost, count, words = requests_of(relay, lambda: copy(loaded))
        good = (
            told(f"nothing new: {cost}, {count} requests ({words})", cost.seconds <= NOTHING_SECONDS) and good
        )
        cost, count, words = requests_of(relay, lambda: send_wal(loaded, engine_of(loaded), Watching()))
        print(f"  the WAL archive: {cost}, {count} requests ({words})", flush=True)
    return good


def fetches(host: DemoHost, rounds: int) -> bool:
    """A set of database and content, and the WAL archive, fetched by us and restored by restic."""
    loaded = load_host(host.env_file)
    stamp = read_catalogue(loaded.repository).complete_sets[0].stamp
    send_wal(loaded, engine_of(loaded), Watching())
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="offsite-fetched-", dir="/var/tmp") as name:
            mine = cost_of(lambda name=name: fetch_set(loaded, stamp, Path(name)))
        with tempfile.TemporaryDirectory(prefix="offsite-fetched-", dir="/var/tmp") as name:
            theirs = cost_of(lambda name=name: restore_set(loaded, stamp, name))
        ratios.append(mine.seconds / theirs.seconds)
        print(f"  fetch {mine}, restic restore {theirs}, ratio {ratios[-1]:.2f}", flush=True)
    return told(f"fetch of a set, best of {rounds} ratios: {min(ratios):.2f}", min(ratios) <= RATIO_TARGET)


def fetch_set(host: Host, stamp: str, folder: Path) -> None:
    fetching = Fetching(engine_of(host), host.name, Repository(folder))
    known = learn(fetching, backup=stamp)
    fetch(fetching, known, plan_for(fetching, known, stamp, None))


def restore_set(host: Host, stamp: str, folder: str) -> None:
    engine = engine_of(host)
    far = read_own(host, engine)
    for item in (far.sets[stamp], far.newest_wal):
        assert item
        words = ("restore", item.snapshot, "--target", folder, "--no-lock")
        engine.run(*words, timeout_seconds=7200)


def memory(files: int) -> None:
    """Print the peak memory of a process that copies so many tiny files, and of its restic."""
    with host_with(files, 1) as host, s3_place() as place:
        use_new(host, place, "memory")
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            mine, restic = fresh.apply(peaks, (host.env_file,))
    print(f"  {files:>9,} files: our process {mine:.0f} MiB, restic {restic:.0f} MiB", flush=True)


def peaks(env_file: Path) -> tuple[float, float]:
    os.environ[ENV_FILE_VARIABLE] = str(env_file)
    copy(load_host(env_file))
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    mine, restic = (resource.getrusage(who).ru_maxrss / 1024 for who in both)
    return mine, restic


def told(words: str, met: bool) -> bool:
    print(f"  {words}: {'met' if met else 'NOT MET'}", flush=True)
    return met


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--sets", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--large", type=int, default=300_000, help="files of the memory's measurement; 0: none"
    )
    given = parser.parse_args(words)
    good = True
    with host_with(given.files, given.sets) as host, s3_place() as place:
        count = subprocess.run(
            ["find", host.backup_dir, "-type", "f"], capture_output=True, check=True
        ).stdout
        print(f"  {given.sets} sets in BACKUP_DIR: {count.count(os.linesep.encode()):,} files", flush=True)
        good = first_copies(host, place, given.rounds) and good
        use(host, place.settings("ours-0"))
        good = fetches(host, given.rounds) and good
        good = hourly_copies(host, place, given.sets) and good
    if given.large:
        store.LARGEST = 512
        for files in (given.large // 10, given.large):
            memory(files)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
