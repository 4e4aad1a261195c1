"""Faults that are planted on a real host for doctor, each with what must be said of it and its cure."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.findings import Finding
from alfresco_backup.postgres.database import quoted_name
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.times import make_stamp, utc_now
from tests.support.clinic import CRON, NAME, WRONG_ZONE, ZONE, Clinic, changed, set_in
from tests.support.common import wait_until
from tests.support.mail_servers import refusing_port


@dataclass(frozen=True)
class Fault:
    """Something wrong, planted for real. `sentence` and `fix` are parts of what doctor must say of it."""

    plant: Callable[[Clinic], AbstractContextManager[object]]
    level: str
    group: str
    subject: str
    sentence: str
    fix: str
    cure: Callable[[Clinic, Finding], None] | None = None
    besides: frozenset[str] = frozenset()


def shell(_clinic: Clinic, found: Finding) -> None:
    """Type the command."""
    subprocess.run(["sh", "-c", found.fix.partition("\n")[0]], check=True)


def sql(clinic: Clinic, found: Finding) -> None:
    """Type the statements as superuser, as far as they are statements."""
    for statement in found.fix.partition("\n")[0].rpartition("as superuser: ")[2].split("; "):
        if statement.startswith(("ALTER", "SELECT", "GRANT")):
            clinic.host.cluster.sql(statement)
    clinic.host.cluster.reload()


def hba(clinic: Clinic, found: Finding) -> None:
    """Put the line at the top of pg_hba.conf."""
    file = clinic.host.cluster.directory / "pg_hba.conf"
    line = found.fix.partition("at the top of pg_hba.conf: ")[2].partition(";")[0]
    file.write_text(f"{line}\n{file.read_text()}")
    clinic.host.cluster.reload()


def prefect(clinic: Clinic, found: Finding) -> None:
    clinic.prefect(found.fix)


def properties(clinic: Clinic, found: Finding) -> None:
    """Set what is to be set in alfresco-global.properties."""
    pair = found.fix.removeprefix("set ").partition(" in ")[0]
    name, _, value = pair.partition("=")
    set_in(clinic.host.layout.properties, name, value)


@contextmanager
def system_setting(clinic: Clinic, name: str, value: str) -> Iterator[None]:
    """ALTER SYSTEM, taken back."""
    cluster = clinic.host.cluster
    before = cluster.sql(f"SHOW {name}")[0][0]

    def set_it(wanted: str) -> None:
        cluster.sql(f"ALTER SYSTEM SET {name} = '{wanted}'")
        cluster.reload()
        wait_until(lambda: cluster.sql(f"SHOW {name}") == [(wanted,)], f"{name} is {wanted}")

    set_it(value)
    try:
        yield
    finally:
        set_it(before)


def archive_command(program: str, archive: str) -> Callable[[Clinic], AbstractContextManager[object]]:
    def plant(clinic: Clinic) -> AbstractContextManager[object]:
        places = {"host": clinic.host.directory, "archive": clinic.host.wal_archive}
        command = f'"{program.format(**places)}" --zstd "%p" "%f" "{archive.format(**places)}"'
        return system_setting(clinic, "archive_command", command)

    return plant


@contextmanager
def mode(path: Path, value: int) -> Iterator[None]:
    before = path.stat().st_mode & 0o7777
    path.chmod(value)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def role_without_replication(clinic: Clinic) -> Iterator[None]:
    clinic.host.cluster.sql(f"ALTER ROLE {quoted_name('alfresco')} NOREPLICATION")
    try:
        yield
    finally:
        clinic.host.cluster.sql("ALTER ROLE alfresco REPLICATION")


@contextmanager
def replication_refused(clinic: Clinic) -> Iterator[None]:
    try:
        with changed(clinic.host.cluster.directory / "pg_hba.conf") as file:
            file.write_text(f"host replication all 127.0.0.1/32 reject\n{file.read_text()}")
            clinic.host.cluster.reload()
            yield
    finally:
        clinic.host.cluster.reload()


@contextmanager
def unreadable_file(clinic: Clinic) -> Iterator[None]:
    file = clinic.host.cluster.directory / "stray.key"
    file.touch(0o600)
    try:
        yield
    finally:
        file.unlink()


@contextmanager
def property_set(clinic: Clinic, name: str, value: str) -> Iterator[None]:
    with changed(clinic.host.layout.properties) as file:
        set_in(file, name, value)
        yield


@contextmanager
def env_set(clinic: Clinic, name: str, value: str) -> Iterator[None]:
    with changed(clinic.host.env_file) as file:
        set_in(file, name, value)
        yield


@contextmanager
def keystore_elsewhere(clinic: Clinic) -> Iterator[None]:
    keystore = clinic.host.layout.keystore
    moved = keystore.rename(keystore.with_name("keys"))
    try:
        with changed(clinic.host.env_file):
            yield
    finally:
        moved.rename(keystore)


def name_keystore(clinic: Clinic, found: Finding) -> None:
    assert "set KEYSTORE_DIR in the .env" in found.fix
    set_in(clinic.host.env_file, "KEYSTORE_DIR", str(clinic.host.layout.keystore.with_name("keys")))


@contextmanager
def stale_command(clinic: Clinic) -> Iterator[None]:
    with changed(clinic.host.directory / "wal/archive-wal") as file:
        file.write_text(f"{file.read_text()}# of an older version\n")
        yield


@contextmanager
def no_restore_wal(clinic: Clinic) -> Iterator[None]:
    with changed(clinic.host.directory / "wal/restore-wal") as file:
        file.unlink()
        try:
            yield
        finally:
            file.touch()


@contextmanager
def schedule_off(clinic: Clinic) -> Iterator[None]:
    with clinic.lab.client() as client:
        item = client.read_deployment_by_name(f"backup/{NAME}")
        (nightly,) = (entry for entry in item.schedules if entry.slug == "nightly")
        client.update_deployment_schedule(item.id, nightly.id, active=False)
        try:
            yield
        finally:
            client.update_deployment_schedule(item.id, nightly.id, active=True)


@contextmanager
def no_limit(clinic: Clinic) -> Iterator[None]:
    with clinic.lab.client() as client:
        client.delete_global_concurrency_limit_by_name(NAME)
        try:
            yield
        finally:
            client.upsert_global_concurrency_limit_by_name(NAME, 1)


@contextmanager
def pool_paused(clinic: Clinic) -> Iterator[None]:
    clinic.prefect(f"prefect work-pool pause {NAME}")
    try:
        yield
    finally:
        clinic.lab.run_prefect("work-pool", "resume", NAME)


@contextmanager
def limit_off(clinic: Clinic) -> Iterator[None]:
    clinic.prefect(f"prefect gcl disable {NAME}")
    try:
        yield
    finally:
        clinic.lab.run_prefect("gcl", "enable", NAME)  # doctor's command may have done it already


@contextmanager
def restore_in_the_middle(clinic: Clinic) -> Iterator[None]:
    folder = clinic.host.backup_dir / "restores" / NAME / make_stamp(utc_now())
    folder.mkdir(parents=True)
    Journal.begin(folder, folder.name, NAME, {"kind": "pitr"})
    try:
        yield
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@contextmanager
def cron_beside(clinic: Clinic) -> Iterator[None]:
    file = clinic.host.directory / "machine/etc/cron.d/alfresco-backup"
    file.parent.mkdir(parents=True)
    file.write_text(CRON)
    try:
        yield
    finally:
        file.unlink()
        file.parent.rmdir()


def comment_out(_clinic: Clinic, found: Finding) -> None:
    place = found.fix.removeprefix("comment it out: ")
    path, _, number = place.partition(", line ")
    lines = Path(path).read_text().splitlines()
    lines[int(number) - 1] = f"#{lines[int(number) - 1]}"
    Path(path).write_text("\n".join(lines) + "\n")


FAULTS = {
    "archive_command-elsewhere": Fault(
        archive_command("{host}/wal/archive-wal", "/elsewhere"), "error", "PostgreSQL", "WAL commands",
        "archive_command fills /elsewhere, not the archive ", "ALTER SYSTEM SET archive_command = ",
    ),
    "archive_command-of-a-program-that-is-gone": Fault(
        archive_command("{host}/gone/archive-wal", "{archive}"), "error", "PostgreSQL", "WAL commands",
        "/gone/archive-wal of archive_command is not there, or PostgreSQL's account cannot run it",
        "install -D -m 755 ", shell,
    ),
    "archive_command-of-another-kind": Fault(
        lambda clinic: system_setting(clinic, "archive_command", f"cp %p {clinic.host.wal_archive}/%f"),
        "warning", "PostgreSQL", "WAL commands", " is not archive-wal: whether it flushes",
        "ALTER SYSTEM SET archive_command = ",
    ),
    "archive-wal-of-an-older-version": Fault(
        stale_command, "warning", "PostgreSQL", "WAL commands",
        "/wal/archive-wal is not that of this version",
        "install -D -m 755 ", shell,
    ),
    "restore-wal-missing": Fault(
        no_restore_wal, "warning", "PostgreSQL", "WAL commands", "/wal/restore-wal is missing",
        "install -D -m 755 ", shell,
    ),
    "archive_timeout-0": Fault(
        lambda clinic: system_setting(clinic, "archive_timeout", "0"), "warning", "PostgreSQL",
        "archive_timeout", "is 0: on a quiet server",
        "ALTER SYSTEM SET archive_timeout = '300s'; SELECT pg_reload_conf()", sql,
    ),
    "role-without-replication": Fault(
        role_without_replication, "error", "PostgreSQL", "replication", "alfresco may not replicate: ",
        "ALTER ROLE alfresco REPLICATION; ", sql,
    ),
    "pg_hba-refusing": Fault(
        replication_refused, "error", "PostgreSQL", "replication", "alfresco may not replicate: ",
        "and a line at the top of pg_hba.conf: host replication alfresco 127.0.0.1/32 ", hba,
    ),
    "log_timezone": Fault(
        lambda clinic: system_setting(clinic, "log_timezone", WRONG_ZONE), "warning", "clock", "log_timezone",
        f"is {WRONG_ZONE}, this machine's is {ZONE}: times in the server's log are others",
        f"ALTER SYSTEM SET log_timezone = '{ZONE}'; SELECT pg_reload_conf()", sql,
    ),
    "BACKUP_DIR-open-to-all": Fault(
        lambda clinic: mode(clinic.host.backup_dir, 0o777), "error", "repository", "BACKUP_DIR",
        " has mode 0777: others could change or remove backups", "chmod go-w ", shell,
    ),
    "env-readable": Fault(
        lambda clinic: mode(clinic.host.env_file, 0o644), "error", "settings", ".env",
        "/.env holds passwords but has mode 0644", "chmod 600 ", shell,
    ),
    "keystore-gone": Fault(
        keystore_elsewhere, "warning", "Alfresco", "keystore", "was not found",
        "set KEYSTORE_DIR in the .env", name_keystore, frozenset({"dir.keystore"}),
    ),
    "eager-orphan-cleanup": Fault(
        lambda clinic: property_set(clinic, "system.content.eagerOrphanCleanup", "true"), "warning",
        "Alfresco", "orphan cleanup", "eagerOrphanCleanup is on: content is deleted at once",
        "set system.content.eagerOrphanCleanup=false in alfresco-global.properties", properties,
    ),
    "protection-of-hours": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanProtectDays", "0.5"), "warning", "Alfresco",
        "orphan cleanup", "orphanProtectDays is 0.5: content may be gone",
        "set system.content.orphanProtectDays=14", properties,
    ),
    "protection-shorter-than-the-window": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanProtectDays", "3"), "warning", "Alfresco",
        "orphan protection",
        "Alfresco keeps deleted content for 3 days; the recovery window of 7 days and a day",
        "set system.content.orphanProtectDays=8 in ", properties,
    ),
    "Solr-beside-the-backup": Fault(
        lambda clinic: property_set(clinic, "solr.backup.alfresco.cronExpression", "0 32 2 * * ?"),
        "warning", "Alfresco", "timing",
        "Solr's backup of the core alfresco is made at 02:32, beside the set of 02:30 (",
        "set solr.backup.alfresco.cronExpression=0 0 2 * * ? in ", properties,
    ),
    "cleaner-during-the-backup": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanCleanup.cronExpression", "0 35 2 * * ?"),
        "warning", "Alfresco", "timing",
        "Alfresco's orphan cleaner removes content at 02:35, during the set of 02:30",
        "begin the set at 02:30: edit ",
    ),
    "control-script-not-executable": Fault(
        lambda clinic: mode(clinic.host.layout.control_script, 0o644), "error", "Alfresco", "control script",
        "/alfresco.sh is not executable", "chmod a+x ", shell,
    ),
    "drills-in-the-store": Fault(
        lambda clinic: env_set(clinic, "DRILL_DIR", str(clinic.host.layout.contentstore / "drill")), "error",
        "repository", "DRILL_DIR", "which belongs to the live host", ": DRILL_DIR=",
    ),
    "mail-server-refusing": Fault(
        lambda clinic: env_set(clinic, "SMTP_PORT", str(refusing_port())), "error", "mail", "mail server",
        " cannot be used: [Errno 111] Connection refused", "check SMTP_HOST, SMTP_PORT, ",
    ),
    "mail-to-nobody": Fault(
        lambda clinic: env_set(clinic, "EMAIL_ALERT_MODE", "none"), "warning", "mail", "mail",
        "nobody is told when a backup fails: EMAIL_ALERT_MODE is not set or none",
        "set EMAIL_ALERT_MODE in the .env",
    ),
}  # fmt: skip
"""Of a host without Prefect."""

SERVER_FAULTS = {
    "schedule-off": Fault(
        schedule_off, "error", "schedule", "schedule",
        "nothing makes complete sets by itself: no active schedule, cron line or timer",
        f"prefect deployment schedule resume backup/{NAME} ", prefect,
    ),
    "cron-beside-the-worker": Fault(
        cron_beside, "warning", "schedule", "schedule", "start backups: every set is made twice",
        "comment it out: ", comment_out,
    ),
    "limit-missing": Fault(
        no_limit, "warning", "schedule", "concurrency limit", f"{NAME} does not exist; the next run makes it",
        f"prefect gcl create {NAME} --limit 1", prefect,
    ),
    "limit-off": Fault(
        limit_off, "error", "schedule", "concurrency limit", f"{NAME} is switched off: no run starts",
        f"prefect gcl enable {NAME}", prefect,
    ),
    "pool-paused": Fault(
        pool_paused, "error", "schedule", "work pool", f"{NAME} is paused: no run starts",
        f"prefect work-pool resume {NAME}", prefect,
    ),
    "restore-in-the-middle": Fault(
        restore_in_the_middle, "error", "backups", "restore-pitr",
        "is unfinished: the host is in the middle of it",
        " undo --backup ",
    ),
}  # fmt: skip
"""Of a host with a Prefect server and a backup."""


def check_fault(clinic: Clinic, fault: Fault) -> None:
    """Plant it; doctor names it and nothing else of its group; what doctor says mends it."""
    one_disk = clinic.host.backup_dir.stat().st_dev == clinic.host.home.stat().st_dev
    usual = {"BACKUP_DIR's disk"} if one_disk else set()
    with fault.plant(clinic):
        found = clinic.bad(group=fault.group)
        assert found.keys() - usual == {fault.subject, *fault.besides}
        diagnosis = found[fault.subject]
        assert (diagnosis.level, diagnosis.group) == (fault.level, fault.group)
        assert fault.sentence in diagnosis.sentence
        assert fault.fix in diagnosis.fix
        if fault.cure is not None:
            fault.cure(clinic, diagnosis)
            assert fault.subject not in clinic.bad(group=fault.group)
