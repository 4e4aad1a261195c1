"""A psql that stays connected: a process for each transaction would allow only some twenty a second.

The project's runner runs programs from start to end; this one is talked to, so it is started here.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from demo.cluster import Cluster
from demo.state import DATABASE

DONE = "-- done --"


class SessionEndedError(Exception):
    """psql ended: a statement failed, or the server stopped."""


@dataclass(frozen=True)
class CommitTime:
    """When a transaction was committed, by the server. See `Commit` in demo.writer for `earliest`."""

    transaction: int
    committed_at: datetime
    earliest: datetime


class Session:
    """psql connected to Alfresco's database as superuser, with its times in UTC."""

    def __init__(self, cluster: Cluster, database: str = DATABASE) -> None:
        self._tracks_commit_times: bool | None = None
        # Apart from what it prints: a server that stops says so at any time, between two values as well.
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            cluster.psql_argv(database),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGTZ": "UTC", **cluster.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            encoding="utf-8",
        )

    def run(self, sql: str) -> list[str]:
        """Send statements and return the lines they print. Raises SessionEndedError."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # what it said before it ended is still to be read
            self.process.stdin.write(f"{sql}\n\\echo '{DONE}'\n")
            self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.rstrip("\n") == DONE:
                return [part for text in lines for part in text.replace("\x1e", "\n").splitlines() if part]
            lines.append(line)
        self.messages.seek(0)
        said = "".join([*lines, self.messages.read()]).strip()
        raise SessionEndedError(said or "psql ended without a word")

    def commit(
        self, statements: Sequence[str], before_commit: Callable[[], None] | None = None
    ) -> CommitTime:
        """Run statements as one transaction. `before_commit` is called when all have run."""
        (transaction, before) = self.run(
            "\n".join(["BEGIN;", *statements, "SELECT txid_current();", _utc("clock_timestamp()")])
        )
        if before_commit:
            before_commit()
        (moment,) = self.run(f"COMMIT;\n{self._commit_time(int(transaction))}")
        committed_at = _moment(moment)
        earliest = committed_at if self._tracks_commit_times else _moment(before)
        return CommitTime(int(transaction), committed_at, earliest)

    def _commit_time(self, transaction: int) -> str:
        if self._tracks_commit_times is None:
            tracked = self.run(
                "SELECT count(*) FROM pg_settings WHERE name = 'track_commit_timestamp' AND setting = 'on';"
            )
            self._tracks_commit_times = tracked == ["1"]
        moment = (
            f"pg_xact_commit_timestamp('{transaction}')" if self._tracks_commit_times else "clock_timestamp()"
        )
        return _utc(moment)

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it had ended already
            self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.messages.close()


def _utc(moment: str) -> str:
    return f"SELECT to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US');"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
