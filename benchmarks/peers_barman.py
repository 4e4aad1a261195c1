"""Barman in `make bench-peers`: `backup_method = postgres`, WAL by archive_command, all on this host.

It runs as the server's account, as its manual has it run as one account of its own.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.system.processes import account_argv
from benchmarks.peers_report import Timing
from benchmarks.peers_store import ToolBroke, timed
from demo.cluster import Cluster
from demo.places import give_to

BARMAN = "barman, backup_method = postgres"
TRIES = 3
CONFIGURATION = """[barman]
barman_user = {user}
barman_home = {home}
barman_lock_directory = {home}
log_file = {home}/barman.log
[demo]
description = demo
conninfo = host=127.0.0.1 port={port} user={superuser} dbname=postgres
streaming_conninfo = host=127.0.0.1 port={port} user={superuser}
backup_method = postgres
archiver = on
immediate_checkpoint = true
path_prefix = {bindir}
"""


@dataclass
class Barman:
    """Its repository for one server. `archive_to` sets the server's archive_command."""

    directory: Path
    cluster: Cluster
    archive_to: Callable[[str], None]

    @property
    def home(self) -> Path:
        return self.directory / "barman"

    def run(self, *words: str) -> Timing:
        program = [*account_argv(self.cluster.account), "barman", "-q", "-c", str(self.home) + ".conf"]
        try:
            return timed([*program, *words], self.cluster.environment(), Path("/"))
        except ToolBroke as error:  # it says no more than to look there
            log = self.home / "barman.log"
            raise ToolBroke(f"{error}\n{log.read_text()[-1000:] if log.exists() else ''}") from error

    def backup(self) -> Timing:
        """A backup and the WAL it needs. Before the first one it must have got a segment."""
        if not self.home.exists():
            self._prepare()
        # Barman takes what is in `incoming` at any moment: half a segment, then all of it as a duplicate.
        partial, whole = f'"{self.home}/%f.partial"', f'"{self.home}/demo/incoming/%f"'
        self.archive_to(f'cp "%p" {partial} && sync {partial} && mv {partial} {whole}')
        for _ in range(TRIES):  # the server's archiver may still do one by the command it had
            if any((self.home / "demo").glob("wals/*/*")):
                break
            self.run("switch-wal", "--force", "--archive", "demo")
        return self.run("backup", "--wait", "demo")

    def recover(self, target: Path) -> Timing:
        """The last backup into an empty folder, set to end with the backup."""
        return self.run(
            "recover", "--target-immediate", "--target-action", "promote", "demo", "latest", str(target)
        )

    def _prepare(self) -> None:
        self.home.mkdir()
        give_to(self.home, self.cluster.account)
        user = self.cluster.account.name if self.cluster.account else ""
        text = CONFIGURATION.format(
            user=user or os.environ.get("USER") or self.home.owner(),
            home=self.home,
            port=self.cluster.port,
            superuser=self.cluster.superuser,
            bindir=self.cluster.bindir,
        )
        Path(str(self.home) + ".conf").write_text(text)
        try:
            self.run("check", "demo")  # makes its folders; fails for want of a first segment
        except ToolBroke:
            if not (self.home / "demo/incoming").exists():
                raise
