"""A demo host that doctor looks at: Prefect server, worker, schedules, mail, a proven set; how it got so."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.client.schemas.schedules import CronSchedule

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.doctor import CHECKS, run_checks
from alfresco_backup.doctor.report import DoctorReport
from alfresco_backup.findings import Finding
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from tests.support.common import temporary_demo_host
from tests.support.mail_servers import Mailbox, mail_server
from tests.support.places import directory_in
from tests.support.prefect_lab import Lab, prefect_lab

NAME, ZONE, WRONG_ZONE = "demo", "Europe/Berlin", "Asia/Tokyo"
CRON = f"APP={PROJECT_DIRECTORY}\n30 2 * * * root $APP/.venv/bin/python $APP/backup.py\n"
OF_THE_MACHINE = "time synchronisation"
"""Whether the clock of the machine that runs the tests is synchronised is not the tests' business."""
LIMIT = 300.0


def run_doctor(host: DemoHost, environment: Mapping[str, str] | None = None, **options: Any) -> DoctorReport:
    """What doctor says of a host, or of one group. It is given time: the machine may be slow."""
    only = options.pop("group", "")
    checks = [item for item in CHECKS if only in ("", item[0])]
    host_there = load_host(host.env_file)
    limit = options.pop("limit", LIMIT)
    options = {"now": utc_now(), "root": host.directory / "machine", **options}
    context = CheckContext(host_there, host.env_file, environment=environment or {}, **options)
    before = os.environ.get(ENV_FILE_VARIABLE, "")
    os.environ[ENV_FILE_VARIABLE] = str(host.env_file)  # as the program does, so that commands name it
    try:
        return run_checks(context, limit, checks)
    finally:
        os.environ[ENV_FILE_VARIABLE] = before


def bad_of(report: DoctorReport) -> dict[str, Finding]:
    """What is not well, by subject."""
    return {
        item.subject: item
        for item in reversed(report.ordered)
        if item.level != "ok" and item.subject != OF_THE_MACHINE
    }


def set_in(file: Path, name: str, value: str) -> None:
    """Set NAME=value in a settings or properties file, in place of what it says now."""
    text = file.read_text(encoding="latin-1")
    kept = re.sub(rf"^{re.escape(name)}=.*\n?", "", text, flags=re.MULTILINE).rstrip("\n")
    file.write_text(f"{kept}\n{name}={value}\n", encoding="latin-1")


@contextmanager
def changed(file: Path) -> Iterator[Path]:
    """A file that a test may change; it is put back."""
    before, mode = file.read_bytes(), file.stat().st_mode
    try:
        yield file
    finally:
        file.write_bytes(before)
        file.chmod(mode & 0o7777)


@dataclass
class Clinic:
    """The host, its mail, its Prefect if any. `before`: what doctor said before anything was set up."""

    host: DemoHost
    mailbox: Mailbox
    server: Lab | None = None
    before: dict[str, Finding] = field(default_factory=dict)
    day: int = field(default_factory=lambda: (utc_now() + timedelta(days=14)).day)
    """Of the month: the one on which this host's schedules would start something."""

    @property
    def lab(self) -> Lab:
        assert self.server is not None
        return self.server

    def run_checks(self, **options: Any) -> DoctorReport:
        names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
        return run_doctor(
            self.host, {name: self.lab.environment[name] for name in names} if self.server else {}, **options
        )

    def bad(self, **options: Any) -> dict[str, Finding]:
        return bad_of(self.run_checks(**options))

    def prefect(self, *words: str) -> None:
        done = self.lab.run_prefect(*words)
        assert done.returncode == 0, done.stdout + done.stderr

    def type_fix(self, found: Finding) -> None:
        """Type the first line of what doctor says fixes it, in a shell of its own."""
        line = found.fix.splitlines()[0]
        environment = self.server.environment if self.server else None
        done = subprocess.run(
            ["sh", "-c", line], env=environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def python(self, *arguments: str, **environment: str) -> None:
        process = self.lab.run_python(*arguments, **environment)
        told, _ = process.communicate(timeout=600)
        assert process.returncode == 0, told

    def deploy(self, zone: str) -> None:
        """make deploy, without its look at the packages."""
        self.python("-m", "alfresco_backup", "deploy", "--env", str(self.host.env_file), BACKUP_TIMEZONE=zone)

    def start_worker(self, **environment: str) -> None:
        self.lab.start_worker(NAME, ALFRESCO_BACKUP_ENV=str(self.host.env_file), **environment)

    def kill_worker(self) -> None:
        worker = self.lab.workers.pop(NAME)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=600)

    def forget_workers(self) -> None:
        """Have the server forget the workers it has ever seen."""
        place = f"{self.lab.address}/work_pools/{NAME}/workers"
        for item in self.lab.post(f"/work_pools/{NAME}/workers/filter", {}):
            httpx.delete(f"{place}/{item['name']}", timeout=600, auth=self.lab.login).raise_for_status()

    def keep_quiet(self) -> None:
        """No schedule may start a run in the middle of a test: two stay on, at their time of a later day."""
        with self.lab.client() as client:
            for item in client.read_deployments():
                for entry in item.schedules:
                    assert isinstance(entry.schedule, CronSchedule)
                    hours = {"nightly": "30 2", "weekly-drill": "30 11"}.get(entry.slug or "")
                    if hours is None:
                        client.update_deployment_schedule(item.id, entry.id, active=False)
                        continue
                    later = CronSchedule(cron=f"{hours} {self.day} * *", timezone=entry.schedule.timezone)
                    client.update_deployment_schedule(item.id, entry.id, active=True, schedule=later)


def set_server_setting(clinic: Clinic, found: Finding) -> None:
    """Do what `edit postgresql.conf: NAME = VALUE; then reload PostgreSQL` says."""
    line = re.fullmatch(r"edit postgresql.conf: (.*); then reload PostgreSQL", found.fix)
    assert line, found.fix
    clinic.host.cluster.sql(f"ALTER SYSTEM SET {line[1]}")
    clinic.host.cluster.reload()


@contextmanager
def zone_of_tests() -> Iterator[None]:
    """This process, and the servers it makes, in a zone that has a name."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@contextmanager
def on_another_disk(host: DemoHost) -> Iterator[None]:
    """BACKUP_DIR on another file system than the data, and not in memory, where this machine has one."""
    with directory_in("/var/tmp") as folder:
        folder.chmod(0o755)
        target = folder / "backup"
        shutil.copytree(host.backup_dir, target, copy_function=shutil.copy2)
        for path in (host.backup_dir, *host.backup_dir.rglob("*")):
            status, copy = path.stat(), target / path.relative_to(host.backup_dir)
            if os.geteuid() == 0:
                os.chown(copy, status.st_uid, status.st_gid)
        shutil.rmtree(host.backup_dir)
        host.backup_dir.symlink_to(target)
        yield


def _tell(host: DemoHost, mailbox: Mailbox) -> None:
    values = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": mailbox.port, "SMTP_TYPE": "INSECURE"}
    values["ALERT_EMAIL"] = "ops@example.org"
    for name, value in values.items():
        set_in(host.env_file, name, str(value))


def _furnished(stack: ExitStack, zone: str) -> tuple[DemoHost, Mailbox]:
    """A host with its repository on another disk, its server in a zone, and a mail server not yet named."""
    mailbox = stack.enter_context(mail_server())
    host = stack.enter_context(temporary_demo_host(name=NAME))
    stack.enter_context(on_another_disk(host))
    # No segment may end while a test keeps it from being archived.
    for name, value in {"timezone": zone, "log_timezone": zone, "archive_timeout": "1h"}.items():
        host.cluster.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    host.cluster.reload()
    return host, mailbox


@contextmanager
def open_ward() -> Iterator[Clinic]:
    """A host as it should be, without Prefect: cron starts its backups. None has been made yet."""
    with ExitStack() as stack:
        stack.enter_context(zone_of_tests())
        host, mailbox = _furnished(stack, ZONE)
        _tell(host, mailbox)
        file = host.directory / "machine/etc/cron.d/alfresco-backup"
        file.parent.mkdir(parents=True)
        file.write_text(CRON)
        yield Clinic(host, mailbox)


@contextmanager
def open_clinic() -> Iterator[Clinic]:
    """From a host with nothing around it to one that doctor finds well, by what doctor says fixes it."""
    quick = {"PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "2"}
    with ExitStack() as stack:
        stack.enter_context(zone_of_tests())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ab-lab-")))
        lab = stack.enter_context(prefect_lab(home, TZ=ZONE, **quick))
        host, mailbox = _furnished(stack, WRONG_ZONE)
        clinic = Clinic(host, mailbox, lab)
        clinic.deploy(WRONG_ZONE)
        clinic.keep_quiet()
        clinic.before = clinic.bad()
        for name in ("timezone", "log_timezone"):
            set_server_setting(clinic, clinic.before[name])
        _tell(host, mailbox)
        clinic.type_fix(clinic.before["zone of schedules"])
        clinic.keep_quiet()
        clinic.start_worker()
        clinic.type_fix(clinic.before["newest backup"])
        clinic.type_fix(clinic.bad()["restore drill"])
        yield clinic
