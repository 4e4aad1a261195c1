"""A WAL receiver as a process of its own, on a demo host."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.streaming.slot import slot_name
from demo.host import DemoHost
from tests.support.common import wait_until

LIMIT_SECONDS = 120.0


def set_settings(demo: DemoHost, **values: str) -> None:
    """Add settings to the host's `.env`; a later line wins over an earlier one."""
    text = demo.env_file.read_text()
    names = tuple(f"{name}=" for name in values)
    kept = [line for line in text.splitlines() if not line.startswith(names)]
    demo.env_file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in values.items()), ""]))


class Receiver:
    """`wal-receiver --env FILE`; what it prints goes to `journal`."""

    def __init__(self, demo: DemoHost) -> None:
        self.demo = demo
        self.journal = demo.directory / "wal-receiver.log"
        argv = [sys.executable, "-m", "alfresco_backup", "wal-receiver", "--env", str(demo.env_file)]
        with self.journal.open("ab") as sink:
            self.process = subprocess.Popen(argv, cwd=PROJECT_DIRECTORY, stdout=sink, stderr=sink)

    @property
    def said(self) -> str:
        return self.journal.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)

    def wait_active(self) -> None:
        wait_until(lambda: is_active(self.demo), lambda: f"it receives: {self.said}", LIMIT_SECONDS)


@contextmanager
def receiving(demo: DemoHost) -> Iterator[Receiver]:
    """A receiver that is connected; killed at the end, if it still runs."""
    set_settings(demo, WAL_STREAMING="yes")
    receiver = Receiver(demo)
    try:
        receiver.wait_active()
        yield receiver
    finally:
        with suppress(ProcessLookupError):
            receiver.process.kill()
        receiver.process.wait(LIMIT_SECONDS)


def is_active(demo: DemoHost) -> bool:
    question = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot_name(demo.name)}'"
    return demo.cluster.sql(question) == [("t",)]


def received(demo: DemoHost) -> list[str]:
    """The names in the receiver's folder."""
    return sorted(path.name for path in folder(demo).iterdir() if path.is_file())


def folder(demo: DemoHost) -> Path:
    return demo.backup_dir / "wal-receiver"


def archived(demo: DemoHost) -> list[str]:
    """The segments in the archive, as PostgreSQL names them; twice where both forms are there."""
    names = (path.name.removesuffix(".zst") for path in demo.wal_archive.iterdir())
    return sorted(name for name in names if len(name) == 24 and not name.startswith("."))


def commit(demo: DemoHost, word: str) -> None:
    """One acknowledged commit."""
    demo.cluster.sql("CREATE TABLE IF NOT EXISTS said (word text)")
    demo.cluster.sql(f"INSERT INTO said VALUES ('{word}')")
