"""A `make serve` for tests and measurements: own host, own home, own port."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import free_port
from tests.support.common import wait_until
from tests.support.prefect_database import give_database
from tests.support.prefect_lab import RUN_SECONDS, alive, descendants, program_of


class Serving:
    """A `make serve` for a host and Prefect home of its own, or for a demo host; its output in a file."""

    def __init__(self, home: Path, port: int, *options: str, demo: Path | None = None) -> None:
        self.env_file = (demo or home) / ".env"
        if not demo:
            values = {"PGHOST": "localhost", "PGUSER": "x", "BACKUP_DIR": home, "ALF_BASE_DIR": home}
            lines = [f"{name}={value}\n" for name, value in {**values, "ALF_HOST_NAME": "alf1"}.items()]
            self.env_file.touch(0o600)
            self.env_file.write_text("".join(lines))
        self.output = home / "serve.out"
        self.address = f"http://127.0.0.1:{port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "PREFECT_SERVER_API_PORT": str(port),
            **({"DEMO_DIR": str(demo)} if demo else {"PREFECT_HOME": str(give_database(home))}),
            "ALFRESCO_BACKUP_ENV": str(self.env_file),
        }
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "alfresco_backup", "serve", *options],
                env=self.environment,
                cwd=PROJECT_DIRECTORY,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def verb(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A verb of the program, typed in another terminal."""
        return subprocess.run(
            [sys.executable, "-m", "alfresco_backup", *words],
            env={**self.environment, **variables},
            cwd=PROJECT_DIRECTORY,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, words: str) -> int:
        return self.output.read_text().count(words)

    def await_words(self, words: str, times: int = 1) -> None:
        wait_until(
            lambda: self.said(words) >= times or self.process.poll() is not None, f"{words!r}", RUN_SECONDS
        )
        assert self.said(words) >= times, self.output.read_text()

    def program(self, words: str) -> int:
        """The only program with these words in its command line."""
        found = [pid for pid in descendants(self.process.pid) if words in program_of(pid)]
        assert len(found) == 1, found
        return found[0]

    @property
    def login(self) -> str:
        """What the `.env` has as the server's password."""
        written = self.env_file.read_text()
        [login] = re.findall(r"^PREFECT_API_AUTH_STRING=(\S+)$", written, re.MULTILINE)
        return str(login)


@contextmanager
def serving(home: Path, *options: str, demo: Path | None = None) -> Iterator[Serving]:
    """Server and worker, running."""
    serving = Serving(home, free_port(), *options, demo=demo)
    try:
        serving.await_words("Worker 'ProcessWorker")
        yield serving
    finally:
        children = descendants(serving.process.pid)
        for pid in (serving.process.pid, *children):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        serving.process.wait()
