"""Everything that could keep a host from being backed up or restored, checked within a time limit.

All checks run side by side, so that a mail server or disk that hangs hides nothing else. Changes nothing but
what CheckContext allows, and what trying needs: a folder in BACKUP_DIR, which is removed again, and in the
WAL a restore point and the switch to a new segment, as each backup makes them.
"""

import queue
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from alfresco_backup.doctor.alfresco import check_alfresco, check_timing
from alfresco_backup.doctor.archive import check_postgresql, check_streaming
from alfresco_backup.doctor.backups import check_backups
from alfresco_backup.doctor.clock import check_clock
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.mail import check_mail, check_ping, check_services
from alfresco_backup.doctor.offsite import check_offsite
from alfresco_backup.doctor.places import check_env_file, check_metrics, check_places, check_room
from alfresco_backup.doctor.prefect_server import check_prefect, check_schedules
from alfresco_backup.doctor.report import DoctorReport
from alfresco_backup.doctor.upload import check_upload
from alfresco_backup.errors import BackupError
from alfresco_backup.findings import DOCTOR_SECONDS, Finding, error
from alfresco_backup.settings.commands import program_command

Check = Callable[[CheckContext], Sequence[Finding]]
Listed = tuple[str, str, Check]
CHECKS: tuple[Listed, ...] = (
    ("settings", ".env", check_env_file),
    ("PostgreSQL", "server", check_postgresql),
    ("PostgreSQL", "WAL streaming", check_streaming),
    ("Alfresco", "installation", check_alfresco),
    ("Alfresco", "timing", check_timing),
    ("Alfresco", "upload", check_upload),
    ("repository", "BACKUP_DIR", check_places),
    ("repository", "space", check_room),
    ("backups", "backups", check_backups),
    ("off-site", "off-site copy", check_offsite),
    ("schedule", "schedule", check_schedules),
    ("schedule", "server", check_prefect),
    ("clock", "clock", check_clock),
    ("mail", "mail", check_mail),
    ("mail", "services", check_services),
    ("mail", "PING_URL", check_ping),
    ("mail", "METRICS_FILE", check_metrics),
)
"""Each with its group, and its subject where it finds nothing because it is stopped."""


def run_checks(
    context: CheckContext, limit_seconds: float = DOCTOR_SECONDS, checks: Sequence[Listed] = CHECKS
) -> DoctorReport:
    """Run the checks. What does not end in time is reported as unknown; its thread ends with the process."""
    done: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()

    def work(number: int) -> None:
        group, subject, _ = checks[number]
        said = "the check was stopped by a defect of this software; its traceback is above"
        found = [Finding("unknown", subject, said, "report the traceback", group)]
        try:
            found = _run_check(checks[number], context)
        finally:
            done.put((number, found))

    for number in range(len(checks)):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    found = _gather(done, len(checks), time.monotonic() + limit_seconds)
    late = f"the check did not end within {limit_seconds:g} s"
    again = program_command("doctor", "--time-limit", "600")
    findings: list[Finding] = []
    for number, (group, subject, _) in enumerate(checks):
        findings += found.get(number, [Finding("unknown", subject, late, again, group)])
    host = context.host
    return DoctorReport(host.name, host.repository.root, context.now, tuple(dict.fromkeys(findings)))


def _gather(
    done: "queue.SimpleQueue[tuple[int, list[Finding]]]", wanted: int, deadline: float
) -> dict[int, list[Finding]]:
    """What arrives until the deadline, or until all has arrived."""
    found: dict[int, list[Finding]] = {}
    while len(found) < wanted and (left := deadline - time.monotonic()) > 0:
        with suppress(queue.Empty):
            number, findings = done.get(timeout=left)
            found[number] = findings
    return found


def _run_check(listed: Listed, context: CheckContext) -> list[Finding]:
    """What a check finds; an error that stops it is a finding."""
    group, subject, check = listed
    try:
        found = list(check(context))
    except BackupError as failure:
        found = [error(subject, failure.message, failure.hint)]
    except OSError as failure:
        who = "run it as root or as an account that may read it"
        fix = f"namei -l {shlex.quote(str(failure.filename))}  # {who}" if failure.filename else who
        found = [error(subject, f"cannot be read: {failure}", fix)]
    return [replace(item, group=group) for item in found]
