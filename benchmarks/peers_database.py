"""The database part of `make bench-peers`: base backup, restore to its end, archiving of WAL; alternating.

One server archives to whoever is measured: archive_command is changed before each turn. No row needs root.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from alfresco_backup.system.processes import account_argv
from alfresco_backup.system.waiting import wait_until
from benchmarks.base_backup import FILL, GUID
from benchmarks.peers_barman import BARMAN, Barman
from benchmarks.peers_report import Row, Target, Timing
from benchmarks.peers_store import Effort, ToolBroke, attempt, by_hand, demo_host, timed
from benchmarks.snapshot import PROJECT
from benchmarks.wal_commands import COMMANDS
from demo.cluster import free_port
from demo.host import DemoHost
from demo.places import give_to
from demo.state import DATABASE

PG_BASEBACKUP, PGBACKREST = "pg_basebackup -Ft -z", "pgBackRest, zst, 2 processes"
STEP, BACKUP = "base backup as a process", "backup --only postgres, no server"
RESTORE = "restore --mode postgres, no server"
PUSH = "pgBackRest archive-push"
ZSTD = "tar and zstd -1 -T0 of the data directory"
UNZSTD = "zstd -d and tar of the same, then sync -f"
SEGMENTS = 12
ROWS_AT_ONCE, ARCHIVE_SECONDS = 1_000_000, 1800.0
TARGET_BYTES = 1_500_000_000
CONTENT = "SELECT count(*), sum(hashtext(t::text)::bigint) FROM peers_filler AS t"
ONE_BASE = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from alfresco_backup.backup.make import base_backup
from alfresco_backup.host.host import Run, load_host
from alfresco_backup.times import make_stamp, utc_now
host = load_host(Path(sys.argv[2]))
started = time.monotonic()
base_backup(Run(host, make_stamp(utc_now()), Path(sys.argv[3])), lambda done, total: None)
print(json.dumps([time.monotonic() - started]))
"""


@dataclass
class Database:
    """A demo host with a large table, and the peers' repositories."""

    directory: Path
    host: DemoHost
    with_prefect: dict[str, str]
    turn: int = 0
    content: Any = None

    def fill(self, rows: int) -> int:
        """Returns the size of the database."""
        cluster = self.host.cluster
        cluster.sql(GUID, DATABASE)
        fill = FILL.replace("alf_node_properties", "peers_filler")
        create, select = fill.split(" AS\n", 1)
        for first in range(1, rows + 1, ROWS_AT_ONCE):  # a statement has two minutes
            begin = f"{create} AS\n" if first == 1 else "INSERT INTO peers_filler\n"
            last = min(rows, first + ROWS_AT_ONCE - 1)
            series = select.replace("generate_series(1, {rows})", f"generate_series({first}, {last})")
            cluster.sql(begin + series, DATABASE)
        cluster.sql("CHECKPOINT")
        waiting = cluster.directory / "pg_wal/archive_status"
        wait_until(lambda: not list(waiting.glob("*.ready")), ARCHIVE_SECONDS, "WAL is not archived yet")
        self.content = cluster.sql(CONTENT, DATABASE)
        return int(cluster.sql(f"SELECT pg_database_size('{DATABASE}')")[0][0])

    def archive_to(self, command: str) -> None:
        self.host.cluster.sql("ALTER SYSTEM SET archive_command = '" + command.replace("'", "''") + "'")
        self.host.cluster.sql("SELECT pg_reload_conf()")

    def archive_to_us(self) -> None:
        self.archive_to(f'"{self.host.directory}/wal/archive-wal" --zstd "%p" "%f" "{self.host.wal_archive}"')

    def pgbackrest(self, *words: str, repository: str = "pgbackrest") -> list[str]:
        """A command of pgBackRest, as the server's account; its settings are beside its repository."""
        cluster, place = self.host.cluster, self.directory / repository
        configuration = self.directory / f"{repository}.conf"
        if not place.exists():
            place.mkdir()
            give_to(place, cluster.account)
            settings = {
                "repo1-path": place,
                "compress-type": "zst",
                "process-max": 2,
                "start-fast": "y",
                "log-level-console": "warn",
                "log-level-file": "off",
                "lock-path": place / "lock",
                "spool-path": place / "spool",
            }
            server = {
                "pg1-path": cluster.directory,
                "pg1-port": cluster.port,
                "pg1-user": cluster.superuser,
                "pg1-socket-path": cluster.runtime,
            }
            lines = ["[global]", *(f"{name}={value}" for name, value in settings.items())]
            lines += ["[demo]", *(f"{name}={value}" for name, value in server.items())]
            configuration.write_text("\n".join(lines) + "\n")
        program = (*account_argv(cluster.account), "pgbackrest", f"--config={configuration}", "--stanza=demo")
        return [*program, *words]

    def run_pgbackrest(self, *words: str, repository: str = "pgbackrest") -> Timing:
        environment = {"PGPASSWORD": self.host.cluster.password}
        return timed(self.pgbackrest(*words, repository=repository), environment, Path("/"))

    def plain(self) -> Timing:
        cluster, out = self.host.cluster, self.directory / f"plain-{self.turn}"
        self.archive_to_us()
        argv = [
            str(cluster.bindir / "pg_basebackup"),
            "-D",
            str(out),
            "-Ft",
            "-z",
            "-X",
            "stream",
            "-c",
            "fast",
        ]
        timing = timed(argv, cluster.environment("postgres", cluster.password))
        shutil.rmtree(out)
        return timing

    def peer(self) -> Timing:
        push = " ".join(self.pgbackrest()[len(account_argv(self.host.cluster.account)) :])
        self.archive_to(f'{push} archive-push "%p"')
        if not (self.directory / "pgbackrest/archive").exists():
            self.run_pgbackrest("stanza-create")
        return self.run_pgbackrest("--type=full", "backup")

    def step(self) -> Timing:
        self.archive_to_us()
        log = self.directory / "base.log"
        timing = timed([sys.executable, "-c", ONE_BASE, str(PROJECT), str(self.host.env_file), str(log)])
        inner = json.loads(Path(os.environ["PEERS_LOG"]).read_text().splitlines()[-1])[0]
        return Timing(timing.seconds, timing.cpu, inner)

    def backup(self) -> Timing:
        self.archive_to_us()
        return self.program("backup", "--only", "postgres")

    def program(self, *words: str) -> Timing:
        return by_hand(words, self.host, self.with_prefect)

    def restore(self) -> Timing:
        words = ("restore", "--mode", "postgres", "--execute", "--confirm", self.host.name, "--no-start")
        timing = self.program(*words)
        require_same(self.host.cluster.sql(CONTENT, DATABASE), self.content)
        return timing

    @property
    def barman(self) -> Barman:
        return Barman(self.directory, self.host.cluster, self.archive_to)

    def peer_restore(self) -> Timing:
        """pgBackRest's restore into an empty folder and a start of its server, until it is promoted."""

        def restore(target: Path) -> Timing:
            options = (f"--pg1-path={target}", "--type=immediate", "--target-action=promote")
            return timed(self.pgbackrest(*options, "restore"), {}, Path("/"))

        return self._restored_beside(restore)

    def barman_restore(self) -> Timing:
        return self._restored_beside(self.barman.recover)

    def _restored_beside(self, restore: Callable[[Path], Timing]) -> Timing:
        """A restore into an empty folder and a start of its server; both are removed."""
        cluster, target = self.host.cluster, self.directory / "restored"
        target.mkdir(mode=0o700)
        give_to(target, cluster.account)
        restored = replace(cluster, directory=target, port=free_port())
        control = [*account_argv(cluster.account), str(cluster.bindir / "pg_ctl"), "-D", str(target), "-w"]
        port = f"-p {restored.port} -c archive_mode=off"
        try:
            one = restore(target)
            two = timed([*control, "-l", f"{target}/log", "-o", port, "start"], {}, Path("/"))
            require_same(restored.sql(CONTENT, DATABASE), self.content)
        finally:
            restored.stop("immediate")
            shutil.rmtree(target)
        return Timing(one.seconds + two.seconds, one.cpu + two.cpu)

    def zstd(self) -> Timing:
        """What compressing alone costs: no server, no manifest, nothing read back."""
        data, out = self.host.cluster.directory, self.directory / "floor.tar.zst"
        return timed(
            ["sh", "-c", f"tar -C '{data}' -cf - . | zstd -q -f -1 -T0 -o '{out}' && sync -f '{out}'"]
        )

    def unzstd(self) -> Timing:
        out, tar = self.directory / "floor", self.directory / "floor.tar.zst"
        out.mkdir()
        try:
            return timed(["sh", "-c", f"zstd -q -d -c '{tar}' | tar -C '{out}' -xf - && sync -f '{out}'"])
        finally:
            shutil.rmtree(out)


def measure_database(directory: Path, rows: int, effort: Effort, missing: dict[str, str]) -> list[Row]:
    """Base backups, restores of the last one, archiving; what is not here is left out by name."""
    directory.mkdir()
    directory.chmod(0o755)
    with demo_host(directory / "host") as host:
        base = Database(directory, host, {"PREFECT_HOME": str(directory.parent / "prefect")})
        size = base.fill(rows)
        words = f"{size / 1e9:.1f} GB"
        print(f"database of {words}", flush=True)
        backups = {
            PG_BASEBACKUP: base.plain,
            PGBACKREST: base.peer,
            BARMAN: base.barman.backup,
            STEP: base.step,
            BACKUP: base.backup,
            ZSTD: base.zstd,
        }
        notes = {PGBACKREST: missing.get("pgbackrest", ""), BARMAN: missing.get("barman", "")}
        found = rows_of(f"base backup, {words}", backups, notes, size)
        wal = measure_wal(base, effort.rounds, notes[PGBACKREST])
        alternate(found, backups, base, effort)
        restores = {
            PGBACKREST: base.peer_restore,
            BARMAN: base.barman_restore,
            RESTORE: base.restore,
            UNZSTD: base.unzstd,
        }
        notes = {row.tool: row.note for row in found}
        again = rows_of(f"restore to the end of the backup, {words}", restores, notes, size)
        alternate(again, restores, base, effort)
        return [*found, *again, *wal]


def rows_of(
    work: str, tools: Mapping[str, Callable[[], Timing]], notes: Mapping[str, str], size: int
) -> list[Row]:
    ours, floors = {STEP, BACKUP, RESTORE}, {ZSTD, UNZSTD}
    return [
        Row(work, tool, ours=tool in ours, floor=tool in floors, note=notes.get(tool, ""), size=size)
        for tool in tools
    ]


def alternate(
    rows: list[Row], tools: Mapping[str, Callable[[], Timing]], base: Database, effort: Effort
) -> None:
    for base.turn in range(effort.rounds):
        for row in rows:
            attempt(row, tools[row.tool], effort.patience)


def require_same(restored: Any, before: Any) -> None:
    if restored != before:
        raise ToolBroke("the restored database differs from the one that was backed up")


def measure_wal(base: Database, rounds: int, note: str) -> list[Row]:
    """So many segments of 16 MiB into a new archive and back, one process each, as a server starts them."""
    segments = base.directory / "segments"
    segments.mkdir()
    for path in sorted(base.host.wal_archive.glob("0*.zst"))[-SEGMENTS:]:
        timed(["zstd", "-q", "-d", str(path), "-o", str(segments / path.stem)])
    give_to(segments, base.host.cluster.account)
    names = sorted(segments.iterdir())
    for path in names:
        give_to(path, base.host.cluster.account)
    work = f"{len(names)} WAL segments of 16 MiB, one after the other"
    rows = {
        tool: Row(work, tool, ours=tool.startswith(("archive-wal", "restore-wal")))
        for tool in ("cp and sync", PUSH, "archive-wal --zstd", "restore-wal")
    }
    if note:
        rows[PUSH].note = note
    for turn in range(rounds):
        folder = base.directory / f"archive-{turn}"
        folder.mkdir()
        commands = {
            "cp and sync": [
                ["sh", "-c", f"cp {p} {folder}/cp-{p.name} && sync {folder}/cp-{p.name}"] for p in names
            ],
            "archive-wal --zstd": [
                [f"{COMMANDS}/archive-wal", "--zstd", str(p), p.name, str(folder)] for p in names
            ],
            "restore-wal": [
                [f"{COMMANDS}/restore-wal", p.name, f"{folder}/RECOVERYXLOG", str(folder)] for p in names
            ],
        }
        if not note:
            place = f"push-{turn}"
            base.run_pgbackrest("stanza-create", repository=place)
            commands[PUSH] = [base.pgbackrest("archive-push", str(p), repository=place) for p in names]
        for tool, row in rows.items():
            attempt(row, partial(one_after_the_other, commands.get(tool, [])))
    return list(rows.values())


def one_after_the_other(commands: list[list[str]]) -> Timing:
    each = [timed(argv, {}, Path("/")) for argv in commands]
    return Timing(sum(timing.seconds for timing in each), sum(timing.cpu for timing in each))


def database_targets(rows: list[Row]) -> list[Target]:
    targets = []
    for work in dict.fromkeys(row.work for row in rows):
        if work.startswith("base backup"):
            targets.append(Target(work, STEP, PG_BASEBACKUP, 1 / 5, 0, TARGET_BYTES, "bytes"))
            targets.append(Target(work, STEP, PGBACKREST, 1 / 1.1, 0, TARGET_BYTES, "bytes"))
        if work.startswith("restore to"):
            targets.append(Target(work, RESTORE, PGBACKREST, 1, 4, TARGET_BYTES, "bytes"))
        if "WAL segments" in work:
            targets.append(Target(work, "archive-wal --zstd", PUSH, 1))
    return targets
