"""Filling a content store that is 99 % intact against copying it whole with rsync, side by side in one run.

    python -m benchmarks.fill [FILES]

The snapshot is a real one, with its days behind symlinks. One file in a hundred is then removed from the live
store, spread over all days, and the fill is the very step of `restore-full`: finding what is missing, writing
the lists that undo needs, copying, flushing to disk. Target: at least 10 times faster.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from alfresco_backup.contentstore.plan import SnapshotOptions, SnapshotRequest
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.restore.content.fill import Fill, fill_store
from alfresco_backup.restore.content.fill_differences import Source
from alfresco_backup.restore.content.fill_rsync import CopyOptions
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import duration_for_people, make_stamp, size_for_people, utc_now
from benchmarks.store import FILES, generate
from tasks.backup.contentstore import take_snapshot

LIMIT_SECONDS = 7200.0
PARALLEL = max(2, os.cpu_count() or 2)


def remove_one_in_a_hundred(store: Path, seed: int = 1) -> int:
    """Delete files as a failing disk would: here and there."""
    chance = random.Random(seed)
    removed = 0
    for folder, _, names in os.walk(store):
        for name in names:
            if chance.random() < 0.01:
                Path(folder, name).unlink()
                removed += 1
    return removed


def measure(directory: Path, files: int) -> float:
    store, repository = directory / "contentstore", StoreRepository(directory / "backup/contentstore")
    made = generate(store, files)
    repository.root.mkdir(parents=True)
    stamp, log = make_stamp(utc_now()), directory / "log"
    options = SnapshotOptions(hot_window_hours=48, parallel_copies=PARALLEL, limit_hours=24)
    snapshot = take_snapshot(SnapshotRequest("contentstore", store, repository, stamp, log, "quick", options))
    removed = remove_one_in_a_hundred(store)
    print(f"{made.files:,} files, {size_for_people(made.bytes)}; {removed:,} removed from the live store")

    whole = directory / "whole"
    argv = ("rsync", "-a", "--copy-links", f"{snapshot.path}/", f"{whole}/")
    os.sync()
    started = time.monotonic()
    run(Command(argv, LIMIT_SECONDS))
    os.sync()
    copied = time.monotonic() - started

    folder = directory / "restore"
    folder.mkdir()
    fill = Fill(
        store=store,
        sources=(Source(str(snapshot.path), True),),
        folder=folder / "content",
        journal=Journal.begin(folder, stamp, "benchmark", {}),
        options=CopyOptions(None, 24, 0, ""),
        parallel=PARALLEL,
        log=log,
        stamp=stamp,
    )
    os.sync()
    started = time.monotonic()
    differences = fill_store(fill, lambda _done, _total: None)
    os.sync()
    filled = time.monotonic() - started
    if differences.missing != removed:
        raise RuntimeError(f"{removed} files were removed, but {differences.missing} filled in")
    print(f"  rsync of the whole store {duration_for_people(copied)}")
    print(f"  fill {duration_for_people(filled)}; {copied / filled:.1f} times faster (target 10)")
    return copied / filled


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    directory = Path(tempfile.mkdtemp(prefix="benchmark-fill-", dir="/var/tmp"))
    try:
        measure(directory, files)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
