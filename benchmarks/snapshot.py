"""Snapshots of a large content store beside `rsync -a --link-dest` of the whole tree, in one run.

    python -m benchmarks.snapshot [--files 300000] [--directory DIR] [--keep]

Both work on the same store with the same caches: ours including its flushes to disk, rsync without any.
Needs about 12 GiB in DIR (default: the temporary directory) for 300,000 files and removes what it made.
Peak memory is that of the whole Python process that takes the snapshot, Prefect imported.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.repository.layout import StoreRepository, metadata_of
from alfresco_backup.times import make_stamp
from benchmarks.store import FILES, generate, path_of, write_file

PROJECT = Path(__file__).resolve().parent.parent
SPEED_TARGET = 15.0
SPACE_TARGET = 2 << 20
MEMORY_TARGET = 400 << 20
SMALL = 30_000
ONE_SNAPSHOT = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.contentstore.plan import SnapshotRequest
from tasks.backup.contentstore import take_snapshot
source, root, stamp = sys.argv[2:]
places = Path(source), StoreRepository(Path(root))
request = SnapshotRequest("contentstore", *places, stamp, Path(root + ".log"))
snapshot = take_snapshot(request)
peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([snapshot.seconds, snapshot.files, snapshot.new_files, *peaks]))
"""


@dataclass(frozen=True)
class Taken:
    seconds: float
    files: int
    new_files: int
    peak_bytes: int
    largest_child_bytes: int
    """The peak of the largest program that it ran."""


class Bench:
    """One store with its two backups: ours and rsync's."""

    def __init__(self, directory: Path, files: int) -> None:
        self.store = directory / f"store-{files}"
        self.ours = StoreRepository(directory / f"ours-{files}")
        self.trees = directory / f"trees-{files}"
        self.trees.mkdir()
        self.count = 0
        self.stamps: list[str] = []

    def snapshot(self) -> Taken:
        stamp = make_stamp(datetime.now(UTC) + timedelta(seconds=len(self.stamps)))
        self.stamps.append(stamp)
        return take(self.store, self.ours.root, stamp)

    def rsync(self) -> float:
        previous = [f"--link-dest={self.trees}/{self.count}"] if self.count else []
        self.count += 1
        return timed(lambda: run("rsync", "-a", *previous, f"{self.store}/", f"{self.trees}/{self.count}/"))

    def change(self, new: int, deleted: int) -> None:
        """A working day: new files now, some of today's deleted again, and the cleaner's work in old days."""
        chance = random.Random(new)
        noise = chance.randbytes(8 << 20)
        now = datetime.now(UTC)
        made = []
        for number in range(new):
            folder = self.store / path_of(now - timedelta(minutes=number % 60))
            folder.mkdir(parents=True, exist_ok=True)
            write_file(chance, noise, folder, now)
            made.append(folder)
        for folder in chance.sample(made, deleted // 2):
            next(folder.iterdir(), folder / "none").unlink(missing_ok=True)
        days = sorted(self.store.glob("*/*/*"))
        for day in chance.sample(days[: -len(days) // 10], deleted - deleted // 2):
            next(day.glob("*/*/*.bin")).unlink()


def take(store: Path, root: Path, stamp: str) -> Taken:
    """A snapshot by a process of its own."""
    argv = [sys.executable, "-c", ONE_SNAPSHOT, PROJECT, store, root, stamp]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd="/")
    return Taken(*json.loads(done.stdout))


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def used(*trees: Path) -> tuple[int, int]:
    """Bytes by `du` and inodes of trees that share nothing with others."""
    size = inodes = 0
    for tree in trees:
        for path in (tree, *(tree.rglob("*") if tree.is_dir() else ())):
            size += path.lstat().st_blocks * 512
            inodes += 1
    return size, inodes


def free(path: Path) -> tuple[int, int]:
    os.sync()
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize, status.f_ffree


def line(what: str, ours: str, theirs: str, ratio: str = "", target: str = "") -> None:
    print(f"{what:44} {ours:>16} {theirs:>16} {ratio:>10}  {target}", flush=True)


def ratio_line(what: str, ours: float, theirs: float, target: float = 0) -> None:
    ratio = theirs / ours
    verdict = f"{'met' if ratio >= target else 'MISSED'}: at least {target:g} x" if target else ""
    line(what, f"{ours:.2f} s", f"{theirs:.2f} s", f"{ratio:.1f} x", verdict)


def mib(size: float) -> str:
    return f"{size / 2**20:.2f} MiB"


def settle() -> None:
    """Let the clock tick of the last change pass, and the writing of it to disk."""
    os.sync()
    time.sleep(3)


def measure(directory: Path, files: int) -> int:
    """Print the comparison for a store of that size; returns the peak memory. Targets are for large ones."""
    target = SPEED_TARGET if files >= FILES else 0
    bench = Bench(directory, files)
    made = generate(bench.store, files)
    print(f"{made.files:,} files in {made.minutes:,} minute folders, {made.bytes / 2**30:.2f} GiB\n")
    settle()
    line("", "snapshot", "rsync -a --link")
    first = bench.snapshot()
    ratio_line("first copy", first.seconds, bench.rsync())
    settle()
    before = free(directory)
    unchanged = bench.snapshot()
    between = free(directory)
    theirs = bench.rsync()
    after = free(directory)
    ratio_line("unchanged store", unchanged.seconds, theirs, target)
    space(bench, before, between, after)
    bench.change(300, 50)
    settle()
    changed = bench.snapshot()
    ratio_line("300 new, 50 deleted", changed.seconds, bench.rsync(), target)
    settle()
    again = bench.snapshot()
    ratio_line("unchanged after that", again.seconds, bench.rsync(), target)
    settle()
    tree = bench.ours.snapshot(bench.stamps[1])
    ours = timed(lambda: (shutil.rmtree(tree), metadata_of(tree).unlink()))
    ratio_line("removing a snapshot", ours, timed(lambda: run("rm", "-rf", f"{bench.trees}/2")))
    return max(first.peak_bytes, unchanged.peak_bytes, changed.peak_bytes)


def space(bench: Bench, before: tuple[int, int], between: tuple[int, int], after: tuple[int, int]) -> None:
    tree = bench.ours.snapshot(bench.stamps[1])
    days = bench.ours.day_trees(bench.stamps[1])
    size, inodes = used(tree, metadata_of(tree), *([days] if days.exists() else []))
    verdict = f"{'met' if size <= SPACE_TARGET else 'MISSED'}: at most {mib(SPACE_TARGET)}"
    theirs = sum(1 for _ in os.walk(bench.trees / "2"))
    line("unchanged: new inodes", f"{inodes:,}", f"{theirs:,}")
    line("unchanged: space by du", mib(size), mib(theirs * 4096), "", verdict)
    line("unchanged: space by statvfs", mib(before[0] - between[0]), mib(between[0] - after[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--keep", action="store_true", help="leave the stores and backups for a look")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="snapshot-benchmark-", dir=given.directory))
    try:
        peaks = {files: measure(directory, files) for files in dict.fromkeys((SMALL, given.files))}
        print()
        for files, peak in peaks.items():
            verdict = f"{'met' if peak <= MEMORY_TARGET else 'MISSED'}: at most {mib(MEMORY_TARGET)}"
            line(f"peak memory, {files:,} files", mib(peak), "", "", verdict)
    finally:
        if not given.keep:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
