"""The content store part of `make bench-peers`: first copies and unchanged runs, each tool in turn.

Every tool reads the same store with warm caches, and at the end what each has stored is compared with it.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from alfresco_backup.errors import BackupError
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.system.signals import held_back
from alfresco_backup.times import make_stamp
from benchmarks.peers_report import STARTS, Row, Target, Timing
from benchmarks.snapshot import PROJECT, settle
from benchmarks.store import generate
from demo.host import DemoHost

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
SNAPSHOT, BACKUP = "snapshot as a process", "backup --only contentstore, no server"
CP, WALK = "cp -a", "find -type d, the bare walk"
ONLY_RSYNC_FROM = 1_000_000
SMALLEST, LARGE = 6_000, 200_000
BACKUP_SECONDS = 6.0
ONE_SNAPSHOT = """
import gc, json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
gc.disable()  # Prefect is imported as alfresco_backup/__main__.py does it
from alfresco_backup.contentstore import snapshot_tree
from alfresco_backup.contentstore.plan import SnapshotRequest
from alfresco_backup.repository.layout import StoreRepository
from tasks.backup.contentstore import take_snapshot
gc.freeze()
gc.enable()
flush, flushed = snapshot_tree.sync_filesystem, []
def sync_filesystem(path):
    began = time.monotonic()
    flush(path)
    flushed.append(time.monotonic() - began)
snapshot_tree.sync_filesystem = sync_filesystem
source, root, stamp = sys.argv[2:]
places = Path(source), StoreRepository(Path(root))
before = time.process_time()
snapshot = take_snapshot(SnapshotRequest("contentstore", *places, stamp, Path(root + ".log")))
used, children = time.process_time() - before, os.times()
parts = {"its flush to disk": sum(flushed), "processor in Python": used}
parts["processor of its programs"] = children.children_user + children.children_system
print(json.dumps([snapshot.seconds, parts]))
"""
SHORTEST_PART = 0.1
FLOW_SINCE = """
SELECT id, start_time, end_time FROM flow_run WHERE start_time >= ? AND end_time IS NOT NULL
ORDER BY start_time LIMIT 1"""
TASKS_OF = """
SELECT name, start_time, end_time FROM task_run WHERE flow_run_id = ? AND end_time IS NOT NULL
ORDER BY start_time"""
RSNAPSHOT = """config_version\t1.2
snapshot_root\t{root}/
no_create_root\t0
cmd_cp\t/bin/cp
cmd_rm\t/bin/rm
cmd_rsync\t{rsync}
retain\talpha\t9
lockfile\t{root}.pid
link_dest\t1
verbose\t1
backup\t{store}/\tstore/
"""


class ToolBroke(Exception):
    """A tool that is measured failed, or what it stored is not what it was given."""


def timed(argv: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> Timing:
    """Run a program and measure it with all its children. Raises ToolBroke with what it said.

    Interrupted, it ends the program with its children.
    """
    log = Path(os.environ["PEERS_LOG"])
    with log.open("wb") as said:
        environment = {**os.environ, **(environment or {})}
        started = time.monotonic()
        with held_back():
            process = subprocess.Popen(
                argv, env=environment, cwd=cwd, stdout=said, stderr=said, start_new_session=True
            )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            end(process)
            raise
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ToolBroke(f"{' '.join(argv)[:300]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return Timing(seconds, usage.ru_utime + usage.ru_stime)


def by_hand(words: Sequence[str], host: DemoHost, environment: dict[str, str]) -> Timing:
    """A run of the program; its parts are by what Prefect noted of it in PREFECT_HOME."""
    argv = [sys.executable, "-m", "alfresco_backup", *words, "--env", str(host.env_file)]
    began = datetime.now(UTC)
    timing = timed(argv, environment, PROJECT)
    parts = noted(Path(environment["PREFECT_HOME"], "prefect.db"), began, timing.seconds)
    return replace(timing, parts=parts)


def noted(history: Path, began: datetime, seconds: float) -> dict[str, float]:
    """Seconds before and after the flow of a process that began then, and those of each longer task."""
    start = began.replace(tzinfo=None)  # as Prefect writes them to SQLite: UTC, naive
    with closing(sqlite3.connect(f"file:{history}?mode=ro", uri=True)) as database:
        flow = database.execute(FLOW_SINCE, (str(start),)).fetchone()
        tasks = database.execute(TASKS_OF, flow[:1]).fetchall() if flow else []
    if not flow:
        return {}
    first, last = map(datetime.fromisoformat, flow[1:])
    parts = {"before its flow": (first - start).total_seconds()}
    for name, one, two in tasks:
        took = (datetime.fromisoformat(two) - datetime.fromisoformat(one)).total_seconds()
        if took >= SHORTEST_PART:
            parts[f"task {name}"] = took
    return {**parts, "after its flow": seconds - (last - start).total_seconds()}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children: TERM, a minute, KILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
            return


@dataclass(frozen=True)
class Effort:
    """How often each is measured: so many rounds, but no more where a row has taken `patience` seconds."""

    rounds: int
    patience: float = float("inf")
    everything: bool = True


def attempt(row: Row, work: Callable[[], Timing], patience: float = float("inf")) -> None:
    """Measure once more. A tool that fails is left out from now on, with the reason in its row."""
    if row.note or sum(timing.seconds for timing in row.timings) >= patience:
        return
    try:
        row.timings.append(work())
    except (ToolBroke, BackupError) as error:
        fail(row, error)
        return
    print(f"  {row.work}: {row.tool}: {row.timings[-1].seconds:.2f} s", flush=True)


def fail(row: Row, error: Exception) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    row.note = " ... ".join(dict.fromkeys((lines[0], lines[-1])))
    row.broke = True
    row.timings.clear()
    print(f"  {row.work}: {row.tool} FAILED: {error}", flush=True)


@contextmanager
def demo_host(directory: Path) -> Iterator[DemoHost]:
    """A host with a few documents, gone when the block ends, however it does."""
    host = DemoHost.install(directory)
    try:
        host.furnish(20)
        yield host
    finally:
        host.destroy()


@dataclass
class Store:
    """One store with the backups of all tools."""

    directory: Path
    host: DemoHost
    with_prefect: dict[str, str]
    turn: int = 0
    last: dict[str, int] = field(default_factory=dict)
    """Of a tool whose copies have the number of their turn, the newest: a slow one has no more turns."""
    stamps: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.host.layout.contentstore

    def rsync(self) -> Timing:
        trees = self.directory / "trees"
        trees.mkdir(exist_ok=True)
        self.last["rsync"] = self.turn
        link = [f"--link-dest={trees}/{self.turn - 1}"] if self.turn else []
        return timed(["rsync", "-a", *link, f"{self.store}/", f"{trees}/{self.turn}/"])

    def rsnapshot(self) -> Timing:
        configuration = self.directory / "rsnapshot.conf"
        rsync = shutil.which("rsync")
        text = RSNAPSHOT.format(root=self.directory / "rsnapshot", store=self.store, rsync=rsync)
        configuration.write_text(text)
        return timed(["rsnapshot", "-c", str(configuration), "alpha"])

    def borg(self) -> Timing:
        repository = self.directory / "borg"
        environment = {"BORG_BASE_DIR": str(self.directory / "borg-home")}
        environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        if not repository.exists():
            timed(["borg", "init", "-e", "none", str(repository)], environment)
        self.last["borg"] = self.turn
        return timed(["borg", "create", f"{repository}::{self.turn}", "."], environment, self.store)

    def restic(self) -> Timing:
        repository = self.directory / "restic"
        environment = {"RESTIC_PASSWORD": "peers", "RESTIC_CACHE_DIR": str(self.directory / "restic-cache")}
        restic = ["restic", "-q", "-r", str(repository)]
        if not repository.exists():
            timed([*restic, "init"], environment)
        return timed([*restic, "backup", "."], environment, self.store)

    def snapshot(self) -> Timing:
        stamp = make_stamp(datetime.now(UTC) + timedelta(seconds=len(self.stamps)))
        self.stamps.append(stamp)
        argv = [
            sys.executable,
            "-c",
            ONE_SNAPSHOT,
            str(PROJECT),
            str(self.store),
            f"{self.directory}/ours",
            stamp,
        ]
        timing = timed(argv)
        inner, parts = json.loads(Path(os.environ["PEERS_LOG"]).read_text().splitlines()[-1])
        return Timing(timing.seconds, timing.cpu, inner, parts)

    def backup(self) -> Timing:
        return by_hand(("backup", "--only", "contentstore"), self.host, self.with_prefect)

    def prepare(self) -> Timing:
        """A first run makes Prefect's database, which takes longer than anything that is measured."""
        return by_hand(("retention",), self.host, self.with_prefect)

    def cp(self) -> Timing:
        timing = timed(["cp", "-a", str(self.store), str(self.directory / "cp")])
        flushed = self.flush()
        shutil.rmtree(self.directory / "cp")
        return Timing(timing.seconds + flushed.seconds, timing.cpu + flushed.cpu)

    def flush(self) -> Timing:
        return timed(["sync", "-f", str(self.directory)])

    def flushed(self, work: Callable[[], Timing]) -> Timing:
        """A first copy ends when all of it is on disk; ours sees to that itself."""
        timing, after = work(), self.flush()
        parts = {**timing.parts, "a sync -f afterwards": after.seconds}
        return replace(
            timing, seconds=timing.seconds + after.seconds, cpu=timing.cpu + after.cpu, parts=parts
        )

    def walk(self) -> Timing:
        return timed(["find", str(self.store), "-type", "d", "-fprint", "/dev/null"])

    def check(self, tool: str) -> None:
        """Compare what a tool has stored with the store, byte by byte. Raises ToolBroke."""
        out, directory = self.directory / "out", self.directory
        if tool == SNAPSHOT:
            tree = StoreRepository(directory / "ours").snapshot(self.stamps[-1])
        elif tool == BACKUP:
            tree = sorted(self.host.backup_dir.glob("contentstore/contentstore-*Z"))[-1]
        elif tool == "rsync":
            tree = directory / f"trees/{self.last[tool]}"
        elif tool == "rsnapshot":
            tree = directory / "rsnapshot/alpha.0/store" / str(self.store).lstrip("/")
        else:
            tree = out
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            self._extract(tool, out)
        timed(["diff", "-rq", str(self.store), str(tree)])

    def _extract(self, tool: str, out: Path) -> None:
        if tool == "borg":
            environment = {"BORG_BASE_DIR": str(self.directory / "borg-home")}
            environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
            timed(["borg", "extract", f"{self.directory}/borg::{self.last[tool]}"], environment, out)
            return
        environment = {"RESTIC_PASSWORD": "peers", "RESTIC_CACHE_DIR": str(self.directory / "restic-cache")}
        restic = ["restic", "-q", "-r", str(self.directory / "restic")]
        timed([*restic, "restore", "latest", "-t", str(out)], environment)


def measure_store(directory: Path, files: int, effort: Effort, missing: dict[str, str]) -> list[Row]:
    """First copies of a store of that many files, then rounds of unchanged runs; alternating."""
    with demo_host(directory / "host") as host:
        shutil.rmtree(host.layout.contentstore)
        made = generate(host.layout.contentstore, files)
        words = f"{made.files:,} files in {made.minutes:,} folders"
        print(f"{words}, {made.bytes / 2**20:,.0f} MiB", flush=True)
        store = Store(directory, host, {"PREFECT_HOME": str(directory.parent / "prefect")})
        attempt(Row("preparing", "Prefect's database", ours=True), store.prepare)
        tools = tools_of(store, files)
        first = [
            Row(f"first copy, {words}", tool, ours=tool in {SNAPSHOT, BACKUP}, note=missing.get(tool, ""))
            for tool in tools
        ]
        for row in first:
            row.size = files
            if files >= LARGE and not effort.everything and row.tool in {"rsnapshot", "borg"}:
                row.note = row.note or "at this size measured with PEERS=full"
        again = [replace(row, work=f"unchanged, {words}", timings=[], folders=made.minutes) for row in first]
        cp = Row(first[0].work, CP, floor=True)
        walk = Row(again[0].work, WALK, folders=made.minutes, floor=True)
        store.walk()
        for row in (*first, cp):
            settle()  # each flushes the whole file system: not what the one before has written
            attempt(row, store.cp if row is cp else partial(store.flushed, tools[row.tool]))
        for one, more in zip(first, again, strict=True):
            more.note, more.broke = one.note, one.broke
        settle()
        for _ in range(effort.rounds):
            store.turn += 1
            for row in again:
                attempt(row, tools[row.tool], effort.patience)
            attempt(walk, store.walk)
        for one, more in zip(first, again, strict=True):
            if not more.note:
                check(store, one, more)
        return [*first, cp, *again, walk]


def tools_of(store: Store, files: int) -> dict[str, Callable[[], Timing]]:
    tools = {
        "rsync": store.rsync,
        "rsnapshot": store.rsnapshot,
        "borg": store.borg,
        "restic": store.restic,
        SNAPSHOT: store.snapshot,
        BACKUP: store.backup,
    }
    if files >= ONLY_RSYNC_FROM:
        tools = {tool: work for tool, work in tools.items() if tool in {"rsync", SNAPSHOT, BACKUP}}
    return tools


def measure_starts(directory: Path, rounds: int) -> list[Row]:
    """What a process of this project costs before it does anything: the modules, and a flow of Prefect."""
    argv = [sys.executable, "-c"]
    environment = {"PREFECT_HOME": str(directory / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR", **QUIET}
    works = {
        "start of Python with Prefect": "import tasks.backup.contentstore",
        "an empty flow, no server": "from benchmarks.empty_flow import empty; empty()",
    }
    rows = [Row(STARTS, tool, floor=True) for tool in works]
    for _ in range(rounds):
        for row in rows:
            attempt(row, partial(timed, [*argv, works[row.tool]], environment, PROJECT))
    return rows


def check(store: Store, *rows: Row) -> None:
    """What is not restored to the same bytes was not measured either."""
    try:
        store.check(rows[0].tool)
    except ToolBroke as error:
        for row in rows:
            fail(row, error)


def store_targets(rows: list[Row]) -> list[Target]:
    """Each was set for a size; at others it is told, not judged: the fixed costs of a process show."""
    targets = []
    for row in rows:
        if row.tool != SNAPSHOT:
            continue
        largest = row.size >= ONLY_RSYNC_FROM
        size = 1_500_000 if largest else 300_000
        if row.work.startswith("first copy"):
            targets.append(Target(row.work, SNAPSHOT, "rsync", 1 / 1.3, size=size))
        if row.work.startswith("unchanged"):
            share = 1 / 25 if largest else 1 / 15
            targets.append(Target(row.work, SNAPSHOT, "rsync", share, size=size))
            targets.append(Target(row.work, SNAPSHOT, "restic", 1 / 8, size=300_000))
            targets.append(Target(row.work, BACKUP, "", 0, BACKUP_SECONDS, size=SMALLEST))
    return targets
