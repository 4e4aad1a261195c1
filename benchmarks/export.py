"""Exporting documents against `cp` of the same files, side by side in one run; and memory.

    python -m benchmarks.export [FILES]

The files are in a content store that was backed up, so that each is compared with its recorded checksum. What
the database would tell of each is made up: 20 properties, 5 permissions. cp writes the files into one folder;
the export writes a JSON beside each, and computes checksums. Both are flushed to disk at their end, and run
seven times in turn after once that does not count. What they wrote is removed last: ext4 looks longer for the
inode of a new file where many were freed in the last minute. Target: at most 1.5 times of `cp` by the clock,
of the least seconds; that is of two processors with nothing else to do.

Free memory is filled with a file's pages first, as that of a server is after some days. In a virtual machine
the host may have to find a page that was free for a while, which takes longer than to copy into it: then the
host is measured.
"""

import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alfresco_backup.contentstore.plan import SnapshotOptions, SnapshotRequest
from alfresco_backup.documents.content import make_shelves
from alfresco_backup.documents.export import exporting
from alfresco_backup.documents.export_content import Contents
from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails, Permission, Property
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import make_stamp, size_for_people, utc_now
from tasks.backup.contentstore import take_snapshot

DOCUMENTS = 1000
ROUNDS = 7
LIMIT_SECONDS = 3600.0
LARGEST = 20 << 20
MODIFIED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
PROPERTIES = tuple(Property(f"cm:property{number}", "text", "x" * 40) for number in range(20))
PERMISSIONS = tuple(Permission(f"GROUP_{number}", "Consumer", True, True) for number in range(5))


def write_file(store: Path, number: int) -> Path:
    """A document as they are: many small ones, some large; 650 kB on the average."""
    chance = random.Random(number)
    size = min(LARGEST, int(chance.lognormvariate(12.2, 1.5)))
    folder = store / f"2026/11/{1 + number % 20}/{number % 24}/{number % 60}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{number}.bin"
    file.write_bytes(chance.randbytes(size))
    return file


def details_of(store: Path, files: Sequence[Path]) -> Iterator[NodeDetails]:
    for number, file in enumerate(files):
        path = file.relative_to(store)
        content = ContentFile(f"store://{path}", file.stat().st_size, "text/plain", "UTF-8")
        name = f"document {number}.txt"
        folder = f"/Company Home/Sites/sales/documentLibrary/folder {number // 50}"
        node = Node(
            number,
            f"uuid-{number}",
            name,
            f"{folder}/{name}",
            "cm:content",
            content=content,
            modified=MODIFIED,
        )
        yield NodeDetails(node, PROPERTIES, ("cm:auditable", "cm:titled"), PERMISSIONS)


def export(target: Path, store: Path, details: Sequence[NodeDetails], snapshot: Snapshot) -> None:
    contents = Contents(make_shelves({"contentstore": store}, [snapshot]))
    with exporting(target, {}, versions=False) as written:
        written.write(details, contents, snapshots=True)
    assert written.tally.compared == len(details), written.tally


def copy(target: Path, files: Sequence[Path]) -> None:
    target.mkdir()
    run(Command(("cp", "-p", *map(str, files), str(target)), LIMIT_SECONDS))
    run(Command(("sync", "-f", str(target)), LIMIT_SECONDS))


@dataclass(frozen=True)
class Taken:
    """What one run took: seconds by the clock, and of the processors, those of its programs included."""

    clock: float
    processor: float


def taken(work: Callable[[], None], place: Path) -> Taken:
    run(Command(("sync", "-f", str(place)), LIMIT_SECONDS))
    before, started = os.times(), time.monotonic()
    work()
    clock, after = time.monotonic() - started, os.times()
    return Taken(clock, sum(after[:4]) - sum(before[:4]))


def compared(what: str, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Tell of both; their ratio, of the least."""
    least, median = min(ours) / min(theirs), statistics.median(ours) / statistics.median(theirs)
    print(
        f"{what:>9}: export {min(ours):.2f} s, median {statistics.median(ours):.2f} s, "
        f"cp {min(theirs):.2f} s, median {statistics.median(theirs):.2f} s: {least:.2f} times, "
        f"of the medians {median:.2f}"
    )
    return least


def fill_memory(file: Path) -> None:
    """Have all free memory hold pages of a file, which the kernel gives away as soon as it needs them."""
    file.touch()
    os.truncate(file, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with file.open("rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass


def measure(directory: Path, documents: int) -> float:
    store, repository = directory / "contentstore", StoreRepository(directory / "backup/contentstore")
    files = [write_file(store, number) for number in range(documents)]
    repository.root.mkdir(parents=True)
    options = SnapshotOptions(hot_window_hours=48, parallel_copies=2, limit_hours=24)
    stamp, log = make_stamp(utc_now()), directory / "log"
    snapshot = take_snapshot(SnapshotRequest("contentstore", store, repository, stamp, log, "quick", options))
    details = [*details_of(store, files)]
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files):,} documents, {size_for_people(size)}", flush=True)
    fill_memory(directory / "in memory")
    ours, theirs = [], []
    for number in range(ROUNDS + 1):
        exported, copied = directory / f"export{number}", directory / f"copy{number}"
        ours.append(taken(lambda to=exported: export(to, store, details, snapshot), directory))
        theirs.append(taken(lambda to=copied: copy(to, files), directory))
    compared("processor", [each.processor for each in ours[1:]], [each.processor for each in theirs[1:]])
    ratio = compared("clock", [each.clock for each in ours[1:]], [each.clock for each in theirs[1:]])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at most {peak:.0f} MiB")
    return ratio


def main() -> int:
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS
    with tempfile.TemporaryDirectory(prefix="export-", dir=os.environ.get("BENCH_DIR")) as name:
        ratio = measure(Path(name), documents)
    return 0 if ratio <= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
