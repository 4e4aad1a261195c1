"""How the time and memory of each step grow with what there is: each size, and twice of it.

    python -m benchmarks.growth [STEP …]

Repositories of made-up sets and WAL (names, metadata and the audit's index are as they would be, segments are
empty files), folders of a content store without files; rows are in benchmarks/content_check.py. Each
measurement is a process of its own: the least processor time of two runs, since the machine may be busy, and
its peak memory. BENCH_DIR says where: /dev/shm saves minutes of making.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from alfresco_backup.contentstore.scan import scan_store
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.postgres.wal_files import MARKER, Lsn, Segment, SegmentHeader, list_archive
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.pins import pin_file
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.retention.apply import make_retention_plan, with_holds
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.status.freshness import judge_freshness, restorable_window
from alfresco_backup.system.files import write_json
from alfresco_backup.system.json_fields import time_text
from alfresco_backup.times import make_stamp, utc_now
from alfresco_backup.wal.contents import INDEX, ArchiveContents, SegmentLook, write_index
from alfresco_backup.wal.observe import audit_host
from benchmarks.content_check import peak_memory
from tests.support.catalogues import CLUSTER, SEGMENT
from tests.support.repository_on_disk import DiskRepository
from tests.support.restorable_repositories import env_of

ROUNDS = 2
WINDOW = timedelta(days=30)
HOUR = timedelta(hours=1)
REPOSITORIES = ((15_000, 30, 0), (100_000, 30, 0), (100_000, 250, 0), (10_000, 2_500, 0), (10_000, 0, 250))
"""Segments, sets, and pinned sets from before the window of which only their own WAL is there."""
FOLDERS = 200_000
MAGIC = 0xD110


@dataclass(frozen=True)
class Measured:
    """Seconds of processor time, MiB at the peak, and what came out."""

    seconds: float
    peak: float
    outcome: str


def catalogue(host: Host) -> str:
    return f"{len(read_catalogue(host.repository).sets):,} sets"


def retention(host: Host) -> str:
    plan = with_holds(make_retention_plan(host.settings), host.settings, "", None)
    plan.text()
    return f"{len(plan.removals):,} of {len(plan.items):,} go"


def audit(host: Host) -> str:
    found = audit_host(host, ask_server=False)
    return f"{found.files:,} files, {len(found.gaps):,} gaps"


def status(host: Host) -> str:
    report = read_status(host.settings, utc_now())
    return f"{len(status_text(report).splitlines()):,} lines"


def freshness(host: Host) -> str:
    now, found = utc_now(), read_catalogue(host.repository)
    judge_freshness(found, host.settings, now)
    return restorable_window(host.settings, found, now)[:10]


def restore_plan(host: Host) -> str:
    found = read_catalogue(host.repository)
    wanted = RestoreRequest("pitr", target_time=utc_now() - 10 * HOUR)
    plan = make_restore_plan(wanted, found, inspect_host(host, found), make_stamp(utc_now()))
    return f"from {plan.database.base.stamp}" if plan.database else ""


STEPS = {
    "catalogue": catalogue,
    "retention plan": retention,
    "WAL audit": audit,
    "status": status,
    "freshness": freshness,
    "restore plan": restore_plan,
}


def make_repository(folder: Path, segments: int, sets: int, pinned: int) -> Path:
    """The repository, and a host for it; returns its .env. The newest set and segment are of now."""
    now = utc_now().replace(microsecond=0)
    disk = DiskRepository(folder / "backup", now)
    life = max(2 * WINDOW, (sets + 1) * HOUR)
    spacing = life / segments
    before = now - life - (pinned + 1) * 24 * HOUR
    archived: dict[int, datetime] = {}

    def number(moment: datetime) -> int:
        return 1 + int((moment - before) / spacing)

    step = int(life.total_seconds()) // (sets + 2)
    begun = [now - life + timedelta(seconds=step * (place + 1)) for place in range(sets)]
    old = [before + place * 24 * HOUR for place in range(pinned)]
    for started in (*old, *(begun or [now - 20 * HOUR])):
        base = disk.base(started, start=Lsn(number(started) * SEGMENT + 40))
        disk.snapshot(base.stopped_at + timedelta(seconds=1), base.stamp)
        disk.configuration(base.stopped_at + timedelta(seconds=2), base.stamp)
        if started in old:
            archived[number(started)] = base.stopped_at
            pin = {"stamp": base.stamp, "reason": "kept", "pinned_at": time_text(now)}
            disk.repository.pins.mkdir(exist_ok=True)
            write_json(pin_file(disk.repository, base.stamp), pin)
    first = number(now - life)
    archived |= {first + place: now - life + place * spacing for place in range(segments)}
    make_archive(disk.repository, archived, now)
    env = env_of(disk.repository.root, folder)
    env.write_text(env.read_text().replace("RETENTION_DAYS=1", f"RETENTION_DAYS={WINDOW.days}"))
    return env


def make_archive(repository: Repository, times: dict[int, datetime], now: datetime) -> None:
    """Empty files with the names and times of segments, in the index of the audit as whole and verified."""
    looks = {}
    for number, moment in times.items():
        segment = Segment(1, number)
        name = f"{segment.name(SEGMENT)}.zst"
        path = repository.wal / name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        disk_time = moment.timestamp()
        os.utime(path, (disk_time, disk_time))
        header = SegmentHeader(MAGIC, 1, segment.start(SEGMENT), CLUSTER, SEGMENT)
        looks[name] = SegmentLook(header, verified_at=now)
    (repository.wal / MARKER).write_text(f"{CLUSTER}\n")
    contents = ArchiveContents(repository.wal, now, list_archive(repository.wal), looks)
    write_index(repository.logs / INDEX, contents)


def make_folders(root: Path, folders: int) -> Path:
    """Minute folders without files, 200 a day."""
    for place in range(folders // 200):
        day = root / f"{2000 + place // 336}/{1 + place // 28 % 12}/{1 + place % 28}"
        for minute in range(200):
            (day / f"{minute // 20}/{minute % 20}").mkdir(parents=minute % 20 == 0)
    return root


def on_host(step: Callable[[Host], str], env: Path) -> str:
    return step(load_host(env))


def scan(store: Path) -> str:
    found = scan_store(store, time.time_ns(), threads=2)
    return f"{len(found.days):,} days"


def in_a_process(work: Callable[[], str]) -> Measured:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work,))


def _measured(work: Callable[[], str]) -> Measured:
    seconds, outcome = [], ""
    for _ in range(ROUNDS):
        begun = time.process_time()
        outcome = work()
        seconds.append(time.process_time() - begun)
    return Measured(min(seconds), peak_memory(), outcome)


@contextmanager
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="growth-", dir=os.environ.get("BENCH_DIR")))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def row(step: str, what: str, one: Measured, two: Measured) -> None:
    per = (two.seconds / one.seconds) if one.seconds else 0.0
    print(
        f"| {step} | {what} | {one.seconds:.2f} s | {two.seconds:.2f} s | {per:.1f} | {one.peak:.0f} MiB "
        f"| {two.peak:.0f} MiB | {two.outcome} |",
        flush=True,
    )


def repositories(names: list[str]) -> None:
    steps = {name: step for name, step in STEPS.items() if not names or name in names}
    for segments, sets, pinned in REPOSITORIES if steps else ():
        found: list[dict[str, Measured]] = []
        for factor in (1, 2):
            with place() as folder:
                env = make_repository(folder, segments * factor, sets * factor, pinned * factor)
                found.append(
                    {name: in_a_process(partial(on_host, step, env)) for name, step in steps.items()}
                )
        what = f"{segments:,} segments, {sets:,} sets" + (f", {pinned:,} pinned" if pinned else "")
        for name in steps:
            row(name, what, found[0][name], found[1][name])


def folders() -> None:
    measured = []
    for factor in (1, 2):
        with place() as folder:
            store = make_folders(folder / "store", FOLDERS * factor)
            measured.append(in_a_process(partial(scan, store)))
    row("scan", f"{FOLDERS:,} folders", *measured)


def main(names: list[str]) -> None:
    print("| step | of | time | of twice | ratio | memory | of twice | outcome of twice |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    repositories(names)
    if not names or "scan" in names:
        folders()


if __name__ == "__main__":
    main(sys.argv[1:])
