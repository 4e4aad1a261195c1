"""A psql that stays connected: a process for each transaction would allow only some twenty a second.

The project's runner runs programs from start to end; this one is talked to, so it is started here.
"""

import contextlib
import subprocess

from demo.cluster import Cluster
from demo.state import DATABASE

DONE = "-- done --"


class SessionEndedError(Exception):
    """psql ended: a statement failed, or the server stopped."""


class Session:
    """psql connected to Alfresco's database as superuser, with its times in UTC."""

    def __init__(self, cluster: Cluster) -> None:
        self.process = subprocess.Popen(
            cluster.psql_argv(DATABASE),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGTZ": "UTC", **cluster.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
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
        raise SessionEndedError("".join(lines).strip() or "psql ended without a word")

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it had ended already
            self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
