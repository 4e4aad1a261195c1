"""A demo host at work: Prefect server, deployments, worker and mail server, once for all tests.

What takes long by itself goes on while the tests run: a schedule that will fire, a run started by hand that
was killed. The tests about them look at the outcome.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from alfresco_backup.settings import PROJECT_DIRECTORY
from demo.home import ROLE_PASSWORD
from demo.host import DemoHost
from tests.mail_servers import PASSWORD as MAIL_PASSWORD
from tests.mail_servers import Mailbox, mail_server
from tests.prefect_lab import Lab, children_of, now, prefect_lab
from tests.support import temporary_demo_host, wait_until

NAME = "demo"
SUPERUSER_PASSWORD = "demo secret #1'"
STAND_INS = ("hold", "hourly", "moody", "late")
SLOW = {"BANDWIDTH_LIMIT_MIB": "0.2"}
"""Environment of a backup that is to be met in the middle: 30 MB of database then take minutes."""


@dataclass(frozen=True)
class Held:
    """A run that holds the host, its children, and the file that ends it."""

    run: UUID
    name: str
    children: set[int]
    until: Path

    def stop(self) -> None:
        self.until.touch()


@dataclass
class Site:
    """The host, its Prefect, its mail. `arguments` are the command lines seen while the tests ran."""

    host: DemoHost
    lab: Lab
    mailbox: Mailbox
    arguments: set[str] = field(default_factory=set)
    bootstrapped: str = ""
    silent_run: UUID | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return (ROLE_PASSWORD, SUPERUSER_PASSWORD, MAIL_PASSWORD)

    @property
    def partials(self) -> list[Path]:
        return sorted(self.host.backup_dir.glob("*/*.partial"))

    def bootstrap(self) -> str:
        """What `make deploy` prints."""
        argv = [sys.executable, "-m", "deployments.bootstrap", str(self.host.env_file)]
        done = subprocess.run(
            argv,
            env={**self.lab.environment, "BACKUP_TIMEZONE": "Europe/Berlin"},
            cwd=PROJECT_DIRECTORY,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.lab.start_worker(NAME, ALFRESCO_BACKUP_ENV=str(self.host.env_file))

    def direct_run(self, flow: str) -> subprocess.Popen[str]:
        """A stand-in flow in a process of its own, as started by hand."""
        environment = {"ALFRESCO_BACKUP_ENV": str(self.host.env_file)}
        return self.lab.run_python("-c", direct_run_code(NAME), flow, **environment)

    def begin_to_hold(self) -> "Held":
        """A run that holds the host until it is told to stop."""
        lab = self.lab
        self.wait_until_free()
        until = lab.home / f"stop-{uuid4()}"
        run = lab.start_run(f"hold/{NAME}", until=str(until))
        lab.await_state(run, "Running")
        pid = lab.process_of(run)
        wait_until(lambda: lab.slots_taken(NAME) == 1 and children_of(pid), "the host is held")
        return Held(run, lab.read(run).name, children_of(pid), until)

    def wait_until_free(self, seconds: float = 90) -> None:
        """Wait until nobody holds the host."""
        wait_until(lambda: self.lab.slots_taken(NAME) == 0, "the host's slot is free", seconds)

    def await_mail(self, words: str, seconds: float = 30) -> str:
        """The text of the only mail with these words in its subject."""
        wait_until(lambda: self.mailbox.subjects(words), f"a mail: {words}", seconds)
        return str(self.mailbox.mail(words).get_content()).replace("\r\n", "\n")


def direct_run_code(host: str) -> str:
    """A program that runs the stand-in flow of its first argument as backup.py would run its own."""
    return (
        "import sys; from alfresco_backup.entry import prepare_environment; prepare_environment(None)\n"
        "from tasks.embedded_server import direct_run; import tests.prefect_flows as flows\n"
        f"with direct_run({host!r}): print(getattr(flows, sys.argv[1])(*sys.argv[2:]))"
    )


@contextmanager
def running_site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="ab-lab-") as home,
        mail_server() as mailbox,
        prefect_lab(Path(home)) as lab,
        temporary_demo_host(name=NAME) as host,
    ):
        site = Site(host, lab, mailbox)
        _add_mail_settings(site)
        site.bootstrapped = site.bootstrap()
        for flow in STAND_INS:
            lab.deploy(flow, NAME, host.env_file)
        site.start_worker()
        due = now() + timedelta(seconds=70)
        lab.deploy("scheduled", NAME, host.env_file, cron=f"{due.minute} {due.hour} * * *")
        ended = threading.Event()
        stories = [
            threading.Thread(target=_watch_arguments, args=(site, ended)),
            threading.Thread(target=_kill_a_run_by_hand, args=(site,)),
        ]
        for story in stories:
            story.start()
        try:
            yield site
        finally:
            ended.set()
            for story in stories:
                story.join()


def _add_mail_settings(site: Site) -> None:
    values = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(site.mailbox.port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_PASSWORD": MAIL_PASSWORD,
        "SMTP_TIMEOUT_SECONDS": "2",
        "ALERT_EMAIL": "ops@example.org",
    }
    with site.host.env_file.open("a") as file:
        file.writelines(f'{name}="{value}"\n' for name, value in values.items())


def _kill_a_run_by_hand(site: Site) -> None:
    """Start a run by hand and kill it after its first sign of life: nobody is left to run its hooks."""
    process = site.direct_run("linger")
    wait_until(lambda: _runs_named(site, "linger"), "the run by hand has begun", 90)
    run = _runs_named(site, "linger")[0]
    wait_until(lambda: _heartbeats(site, run), "its first sign of life", 90)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    site.silent_run = run


def _runs_named(site: Site, flow: str) -> list[UUID]:
    wanted = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": {"name": {"any_": ["Running"]}}}}
    return [UUID(run["id"]) for run in site.lab.post("/flow_runs/filter", wanted)]


def _heartbeats(site: Site, run: UUID) -> int:
    events = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return int(site.lab.post("/events/filter", {"filter": events})["total"])


def _watch_arguments(site: Site, ended: threading.Event) -> None:
    """Collect the command line of every process that is seen, several times a second."""
    while not ended.wait(0.25):
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                site.arguments.add(file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
