"""What the time and the memory of a snapshot and of the content check grow with: files, and rows.

    python -m benchmarks.large_store [FILES …]

For each number of files (default 30,000 and 300,000; 5,000,000 need 15 million inodes and an hour): a first
copy, a snapshot of the unchanged store, and a content check of two documents for each file. All files are
empty, so that they fit. Seconds are those of the step, the peak is that of its process; a program that it ran
has at most the other figure, which begins with what a child is until it runs its program. BENCH_DIR says
where the files are: /dev/shm has no disk to wait for. Targets: neither the seconds for each file nor the
memory grow with the files.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.times import make_stamp
from benchmarks.content_check import fill, measure
from benchmarks.snapshot import take
from benchmarks.store import generate
from demo.cluster import Cluster, client_bindir, default_bindir
from demo.places import server_account

SIZES = (30_000, 300_000)
DOCUMENTS = 2
MIB = 2**20


def snapshots(store: Path, root: Path) -> None:
    now = datetime.now(UTC)
    for number, what in enumerate(("first copy", "unchanged store")):
        taken = take(store, root, make_stamp(now + timedelta(seconds=number)))
        print(
            f"  {what}: {taken.seconds:.1f} s, {taken.seconds / taken.files * 1e6:.1f} microseconds a file, "
            f"peak {taken.peak_bytes / MIB:.0f} MiB, of a program at most "
            f"{taken.largest_child_bytes / MIB:.0f} MiB",
            flush=True,
        )
        os.sync()


def content_check(cluster: Cluster, store: Path, name: str) -> None:
    cluster.start()
    fill(cluster, name, store, DOCUMENTS)
    [(rows,)] = cluster.sql("SELECT count(*) FROM alf_node", name)
    programs = Programs(client_bindir(cluster.bindir), cluster.version)
    database = Database(programs, cluster.environment() | {"PGDATABASE": name})
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        checked, seconds, peak = fresh.apply(measure, (database, store))
    cluster.stop("fast")
    print(
        f"  content check of {int(rows):,} documents with {checked:,} files: {seconds:.1f} s, "
        f"{seconds / checked * 1e6:.1f} microseconds a file, peak {peak:.0f} MiB",
        flush=True,
    )


def main(sizes: list[int]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="large-store-", dir=os.environ.get("BENCH_DIR")))
    server = Path(tempfile.mkdtemp(prefix="large-store-server-"))
    for folder in (directory, server):
        folder.chmod(0o755)
    cluster = Cluster(default_bindir(), server / "data", durable=False, account=server_account()).create()
    try:
        for files in sizes:
            store = directory / f"store{files}"
            made = generate(store, files, largest=0)
            print(f"{made.files:,} files in {made.minutes:,} folders", flush=True)
            snapshots(store, directory / f"backup{files}")
            content_check(cluster, store, f"alfresco{files}")
    finally:
        cluster.stop("immediate")
        for folder in (directory, server):
            shutil.rmtree(folder)


if __name__ == "__main__":
    started = time.monotonic()
    main([int(item) for item in sys.argv[1:]] or list(SIZES))
    print(f"benchmark took {time.monotonic() - started:.0f} s")
