"""Faults that are planted on a real host for doctor, each with what must be said of it and its cure."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.findings import Finding
from alfresco_backup.postgres.database import quoted_name
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.times import make_stamp, utc_now
from tests.support.clinic import CRON, NAME, WRONG_ZONE, ZONE, Clinic, changed, set_in, set_server_setting
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


def typed(clinic: Clinic, found: Finding) -> None:
    clinic.type_fix(found)


def properties(clinic: Clinic, found: Finding) -> None:
    """Edit alfresco-global.properties as `edit FILE: NAME=VALUE` says."""
    file, _, line = found.fix.removeprefix("edit ").partition(": ")
    assert file == str(clinic.host.layout.properties)
    name, _, value = line.partition(";")[0].partition("=")
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
    assert found.fix == f"edit {clinic.host.env_file}: KEYSTORE_DIR=..."
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
    clinic.prefect("work-pool", "pause", NAME)
    try:
        yield
    finally:
        clinic.lab.run_prefect("work-pool", "resume", NAME)


@contextmanager
def limit_off(clinic: Clinic) -> Iterator[None]:
    clinic.prefect("gcl", "disable", NAME)
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
    place = found.fix.removeprefix("comment out ")
    path, _, number = place.partition(", line ")
    lines = Path(path).read_text().splitlines()
    lines[int(number) - 1] = f"#{lines[int(number) - 1]}"
    Path(path).write_text("\n".join(lines) + "\n")


FAULTS = {
    "archive_command-elsewhere": Fault(
        archive_command("{host}/wal/archive-wal", "/elsewhere"), "error", "PostgreSQL", "WAL commands",
        "archive_command fills /elsewhere, not the archive ",
        "configure --apply --replace-archive-command", typed,
    ),
    "archive_command-of-a-program-that-is-gone": Fault(
        archive_command("{host}/gone/archive-wal", "{archive}"), "error", "PostgreSQL", "WAL commands",
        "/gone/archive-wal of archive_command is missing, or PostgreSQL's account cannot run it",
        "configure --apply --wal-commands ", typed,
    ),
    "archive_command-of-another-kind": Fault(
        lambda clinic: system_setting(clinic, "archive_command", f"cp %p {clinic.host.wal_archive}/%f"),
        "warning", "PostgreSQL", "WAL commands", " is not archive-wal; whether it flushes",
        "configure --apply --replace-archive-command",
    ),
    "archive-wal-of-an-older-version": Fault(
        stale_command, "warning", "PostgreSQL", "WAL commands",
        "/wal/archive-wal is missing or not that of this version",
        "configure --apply --wal-commands ", typed,
    ),
    "restore-wal-missing": Fault(
        no_restore_wal, "warning", "PostgreSQL", "WAL commands", "/wal/restore-wal is missing or not that of",
        "configure --apply --wal-commands ", typed,
    ),
    "archive_timeout-0": Fault(
        lambda clinic: system_setting(clinic, "archive_timeout", "0"), "warning", "PostgreSQL",
        "archive_timeout", "is 0; on a quiet server", "configure --apply", typed,
    ),
    "role-without-replication": Fault(
        role_without_replication, "error", "PostgreSQL", "replication", "alfresco may not replicate: ",
        "configure --apply", typed,
    ),
    "pg_hba-refusing": Fault(
        replication_refused, "error", "PostgreSQL", "replication", "alfresco may not replicate: ",
        "configure --apply", typed,
    ),
    "log_timezone": Fault(
        lambda clinic: system_setting(clinic, "log_timezone", WRONG_ZONE), "warning", "clock", "log_timezone",
        f"is {WRONG_ZONE}, this machine's is {ZONE}; times in the server's log differ",
        f"edit postgresql.conf: log_timezone = '{ZONE}'; then reload PostgreSQL", set_server_setting,
    ),
    "BACKUP_DIR-open-to-all": Fault(
        lambda clinic: mode(clinic.host.backup_dir, 0o777), "error", "repository", "BACKUP_DIR",
        " has mode 0777; other accounts could change or remove backups", "chmod go-w ", typed,
    ),
    "env-readable": Fault(
        lambda clinic: mode(clinic.host.env_file, 0o644), "error", "settings", ".env",
        "/.env contains passwords and has mode 0644", "chmod 600 ", typed,
    ),
    "keystore-gone": Fault(
        keystore_elsewhere, "warning", "Alfresco", "keystore", "was not found; without it",
        "KEYSTORE_DIR=...", name_keystore, frozenset({"dir.keystore"}),
    ),
    "eager-orphan-cleanup": Fault(
        lambda clinic: property_set(clinic, "system.content.eagerOrphanCleanup", "true"), "warning",
        "Alfresco", "orphan cleanup", "eagerOrphanCleanup is on; content is deleted at once",
        ": system.content.eagerOrphanCleanup=false", properties,
    ),
    "protection-of-hours": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanProtectDays", "0.5"), "warning", "Alfresco",
        "orphan cleanup", "orphanProtectDays is 0.5; content may be deleted",
        ": system.content.orphanProtectDays=14", properties,
    ),
    "protection-shorter-than-the-window": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanProtectDays", "3"), "warning", "Alfresco",
        "orphan protection",
        "Alfresco keeps deleted content for 3 days; the recovery window of 7 days and a day",
        ": system.content.orphanProtectDays=8", properties,
    ),
    "Solr-beside-the-backup": Fault(
        lambda clinic: property_set(clinic, "solr.backup.alfresco.cronExpression", "0 32 2 * * ?"),
        "warning", "Alfresco", "timing",
        "Solr's backup of the core alfresco is made at 02:32, beside the set of 02:30 (",
        ": solr.backup.alfresco.cronExpression=0 0 2 * * ?", properties,
    ),
    "cleaner-during-the-backup": Fault(
        lambda clinic: property_set(clinic, "system.content.orphanCleanup.cronExpression", "0 35 2 * * ?"),
        "warning", "Alfresco", "timing",
        "Alfresco's orphan cleaner removes content at 02:35, during the set of 02:30",
        "begin at 02:30",
    ),
    "control-script-not-executable": Fault(
        lambda clinic: mode(clinic.host.layout.control_script, 0o644), "error", "Alfresco", "control script",
        "/alfresco.sh is not executable", "chmod a+x ", typed,
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
        "e-mail alerts are disabled (EMAIL_ALERT_MODE=none)", "EMAIL_ALERT_MODE=failure_only",
    ),
}  # fmt: skip
"""Of a host without Prefect."""

SERVER_FAULTS = {
    "schedule-off": Fault(
        schedule_off, "error", "schedule", "schedule",
        "nothing makes complete sets by itself: no active schedule, cron line or timer",
        f"prefect deployment schedule resume backup/{NAME} ", typed,
    ),
    "cron-beside-the-worker": Fault(
        cron_beside, "warning", "schedule", "schedule", "start backups; every set is made twice",
        "comment out ", comment_out,
    ),
    "limit-missing": Fault(
        no_limit, "warning", "schedule", "concurrency limit", f"{NAME} does not exist; the next run makes it",
        f"prefect gcl create {NAME} --limit 1", typed,
    ),
    "limit-off": Fault(
        limit_off, "error", "schedule", "concurrency limit", f"{NAME} is switched off; no run starts",
        f"prefect gcl enable {NAME}", typed,
    ),
    "pool-paused": Fault(
        pool_paused, "error", "schedule", "work pool", f"{NAME} is paused; no run starts",
        f"prefect work-pool resume {NAME}", typed,
    ),
    "restore-in-the-middle": Fault(
        restore_in_the_middle, "error", "backups", "restore-pitr",
        "is unfinished; this host is only partly restored",
        " undo --backup ",
    ),
}  # fmt: skip
"""Of a host with a Prefect server and a backup."""


def check_fault(clinic: Clinic, fault: Fault) -> None:
    """Plant it; doctor names it and nothing else of its group; what doctor says fixes it."""
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
