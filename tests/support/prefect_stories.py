"""What takes long by itself, begun before the tests that look at its outcome."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from tests.support.common import wait_until
from tests.support.prefect_lab import RUN_SECONDS, now, program_of
from tests.support.prefect_site import NAME, Site


@dataclass
class Stories:
    """`arguments`: command lines of the lab's programs. `silent_run`: killed, and told nobody."""

    site: Site
    mails_before: int
    arguments: set[str] = field(default_factory=set)
    silent_run: UUID | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def watch_arguments(self) -> None:
        """Collect the command lines of the lab's programs and of all they start, several times a second.

        They have its folder in their environment. Other tests make demo hosts, with passwords in sight.
        """
        home = str(self.site.lab.home).encode()
        while not self.ended.wait(0.25):
            for file in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    if home in file.read_bytes():
                        self.arguments.add(program_of(int(file.parent.name)))

    def kill_a_run_by_hand(self) -> None:
        """Start a run by hand and kill it after its first sign of life: nobody is left to run its hooks."""
        site = self.site
        process = site.direct_run("linger")
        wait_until(lambda: _runs_named(site, "linger"), "the run by hand has begun", RUN_SECONDS)
        run = _runs_named(site, "linger")[0]
        wait_until(lambda: _heartbeats(site, run), "its first sign of life", RUN_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.silent_run = run


@contextmanager
def begun(site: Site) -> Iterator[Stories]:
    """A schedule that fires in one to two minutes, a run by hand that will be killed, all command lines."""
    due = now() + timedelta(seconds=120)  # a whole minute at least, for the server to schedule it
    site.lab.deploy("scheduled", NAME, site.host.env_file, cron=f"{due.minute} {due.hour} * * *")
    stories = Stories(site, len(site.mailbox.envelopes))
    threads = [
        threading.Thread(target=work) for work in (stories.watch_arguments, stories.kill_a_run_by_hand)
    ]
    for thread in threads:
        thread.start()
    try:
        yield stories
    finally:
        stories.ended.set()
        for thread in threads:
            thread.join()


def _runs_named(site: Site, flow: str) -> list[UUID]:
    wanted = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": {"name": {"any_": ["Running"]}}}}
    return [UUID(run["id"]) for run in site.lab.post("/flow_runs/filter", wanted)]


def _heartbeats(site: Site, run: UUID) -> int:
    events = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return int(site.lab.post("/events/filter", {"filter": events})["total"])
