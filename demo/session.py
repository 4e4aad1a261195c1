"""A psql that stays connected: a process for each transaction would allow only some twenty a second.

The project's runner runs programs from start to end; this one is talked to, so it is started here.
"""

import contextlib
import subprocess
import tempfile

from demo.cluster import Cluster
from demo.state import DATABASE

DONE = "-- done --"


class SessionEndedError(Exception):
    """psql ended: a statement failed, or the server stopped."""


class Session:
    """psql connected to Alfresco's database as superuser, with its times in UTC."""

    def __init__(self, cluster: Cluster) -> None:
        # Apart from what it prints: a server that stops says so at any time, between two values as well.
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            cluster.psql_argv(DATABASE),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGTZ": "UTC", **cluster.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
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
        self.messages.seek(0)
        said = "".join([*lines, self.messages.read()]).strip()
        raise SessionEndedError(said or "psql ended without a word")

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it had ended already
            self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.messages.close()
