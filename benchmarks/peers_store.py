"""The content store part of `make bench-peers`: first copies and unchanged runs, each tool in turn.

Every tool reads the same store with warm caches, and at the end what each has stored is compared with it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.times import make_stamp
from benchmarks.peers_report import Row, Target, Timing
from benchmarks.snapshot import ONE_SNAPSHOT, PROJECT, settle
from benchmarks.store import generate
from demo.host import DemoHost

SNAPSHOT, BACKUP = "snapshot as a process", "backup --only contentstore, no server"
ONLY_RSYNC_FROM = 1_000_000
BACKUP_SECONDS = 6.0
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


def timed(argv: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> Timing:
    """Run a program and measure it with all its children. Raises SystemExit with what it said."""
    log = Path(os.environ["PEERS_LOG"])
    with log.open("wb") as said:
        started = time.monotonic()
        process = subprocess.Popen(
            argv, env={**os.environ, **(environment or {})}, cwd=cwd, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(
            f"{' '.join(argv)[:300]} ended with {process.returncode}:\n{log.read_text()[-2000:]}"
        )
    return Timing(seconds, usage.ru_utime + usage.ru_stime)


@dataclass
class Store:
    """One store with the backups of all tools."""

    directory: Path
    host: DemoHost
    with_prefect: dict[str, str]
    turn: int = 0
    stamps: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.host.layout.contentstore

    def rsync(self) -> Timing:
        trees = self.directory / "trees"
        trees.mkdir(exist_ok=True)
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
        inner = json.loads(Path(os.environ["PEERS_LOG"]).read_text().splitlines()[-1])[0]
        return Timing(timing.seconds, timing.cpu, inner)

    def backup(self) -> Timing:
        argv = [sys.executable, "-m", "alfresco_backup", "backup", "--only", "contentstore"]
        return timed([*argv, "--env", str(self.host.env_file)], self.with_prefect, PROJECT)

    def prepare(self) -> None:
        """A first run makes Prefect's database, which takes longer than anything that is measured."""
        argv = [sys.executable, "-m", "alfresco_backup", "retention", "--env", str(self.host.env_file)]
        timed(argv, self.with_prefect, PROJECT)

    def walk(self) -> Timing:
        return timed(["find", str(self.store), "-type", "d", "-fprint", "/dev/null"])

    def check(self, tools: dict[str, Callable[[], Timing]]) -> None:
        """Compare what each tool has stored with the store, byte by byte. Raises SystemExit."""
        out, directory = self.directory / "out", self.directory
        snapshot = StoreRepository(directory / "ours").snapshot(self.stamps[-1])
        trees = {"rsync": directory / f"trees/{self.turn}", SNAPSHOT: snapshot}
        trees["rsnapshot"] = directory / "rsnapshot/alpha.0/store" / str(self.store).lstrip("/")
        last = sorted(self.host.backup_dir.glob("contentstore/contentstore-*Z"))[-1]
        trees[BACKUP] = last
        for tool in tools:
            if tool in {"borg", "restic"}:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                trees[tool] = out
                self._extract(tool, out)
            if tool in trees:
                timed(["diff", "-rq", str(self.store), str(trees[tool])])

    def _extract(self, tool: str, out: Path) -> None:
        if tool == "borg":
            environment = {"BORG_BASE_DIR": str(self.directory / "borg-home")}
            environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
            timed(["borg", "extract", f"{self.directory}/borg::{self.turn}"], environment, out)
            return
        environment = {"RESTIC_PASSWORD": "peers", "RESTIC_CACHE_DIR": str(self.directory / "restic-cache")}
        restic = ["restic", "-q", "-r", str(self.directory / "restic")]
        timed([*restic, "restore", "latest", "-t", str(out)], environment)


def measure_store(directory: Path, files: int, rounds: int, missing: dict[str, str]) -> list[Row]:
    """First copies of a store of that many files, then so many unchanged runs; alternating."""
    host = DemoHost.create(directory / "host", documents=20)
    try:
        shutil.rmtree(host.layout.contentstore)
        made = generate(host.layout.contentstore, files)
        words = f"{made.files:,} files in {made.minutes:,} folders"
        print(f"{words}, {made.bytes / 2**20:,.0f} MiB", flush=True)
        store = Store(directory, host, {"PREFECT_HOME": str(directory.parent / "prefect")})
        store.prepare()
        peers = {
            "rsync": store.rsync,
            "rsnapshot": store.rsnapshot,
            "borg": store.borg,
            "restic": store.restic,
        }
        if files >= ONLY_RSYNC_FROM:
            peers = {"rsync": store.rsync}
        tools = {tool: work for tool, work in peers.items() if tool not in missing}
        tools |= {SNAPSHOT: store.snapshot, BACKUP: store.backup}
        rows = [Row(f"first copy, {words}", tool, ours=tool in {SNAPSHOT, BACKUP}) for tool in tools]
        store.walk()
        for row in rows:
            row.timings.append(tools[row.tool]())
            say(row)
        tools["find -type d, the bare walk"] = store.walk
        again = [
            Row(f"unchanged, {words}", tool, ours=tool in {SNAPSHOT, BACKUP}, folders=made.minutes)
            for tool in tools
        ]
        settle()
        for _ in range(rounds):
            store.turn += 1
            for row in again:
                row.timings.append(tools[row.tool]())
                say(row)
        store.check(tools)
        left_out = [
            Row(work, tool, note=missing[tool])
            for work in (rows[0].work, again[0].work)
            for tool in peers
            if tool in missing
        ]
        return [*rows, *again, *left_out]
    finally:
        host.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def say(row: Row) -> None:
    print(f"  {row.work}: {row.tool}: {row.timings[-1].seconds:.2f} s", flush=True)


def store_targets(rows: list[Row]) -> list[Target]:
    """The targets of the largest stores; of small ones the fixed costs of a process show."""
    targets = []
    for work in dict.fromkeys(row.work for row in rows):
        if work.startswith("first copy"):
            targets.append(Target(work, SNAPSHOT, "rsync", 1 / 1.3, reason=FIRST_COPY))
        if work.startswith("unchanged"):
            targets.append(Target(work, SNAPSHOT, "rsync", 1 / 15, reason=SMALL))
            targets.append(Target(work, SNAPSHOT, "restic", 1 / 8, reason=SMALL))
    return targets


FIRST_COPY = (
    "both are rsync; ours computes a checksum of each file and flushes all to disk, which `rsync -a` does "
    "not, and copies in shares side by side, which pays where there are more cores than one rsync keeps busy"
)
SMALL = (
    "the target is of 300,000 files; below, the start of Python and Prefect, about 2 s, is most of the time"
)
