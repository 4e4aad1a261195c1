"""Everything that could keep a host from being backed up or restored, looked at within a time limit.

The checks of a kind run one after the other, the kinds side by side, so that a mail server or disk that hangs
hides nothing else. Changes nothing but what Patient allows; the folder made in BACKUP_DIR to try its file
system is removed again.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from alfresco_backup.doctor_alfresco import check_alfresco, check_timing
from alfresco_backup.doctor_archive import check_postgresql
from alfresco_backup.doctor_backups import check_backups
from alfresco_backup.doctor_clock import check_clock
from alfresco_backup.doctor_host import Patient
from alfresco_backup.doctor_mail import check_mail
from alfresco_backup.doctor_places import check_env_file, check_places, check_room
from alfresco_backup.doctor_prefect import check_prefect, check_schedules
from alfresco_backup.doctor_report import Diagnosis, DoctorReport
from alfresco_backup.errors import BackupError
from alfresco_backup.preflight import Finding, error

LIMIT_SECONDS = 60.0
Check = Callable[[Patient], Sequence[Finding]]
CHECKS: dict[str, tuple[Check, ...]] = {
    "settings": (check_env_file,),
    "PostgreSQL": (check_postgresql,),
    "Alfresco": (check_alfresco, check_timing),
    "repository": (check_places, check_room),
    "backups": (check_backups,),
    "schedule": (check_schedules, check_prefect),
    "clock": (check_clock,),
    "mail": (check_mail,),
}


def examine(patient: Patient, limit_seconds: float = LIMIT_SECONDS) -> DoctorReport:
    """Run all checks. What does not end in time is reported as unknown; its thread ends with the process."""
    done: queue.SimpleQueue[tuple[str, list[Diagnosis]]] = queue.SimpleQueue()
    for group in CHECKS:
        threading.Thread(
            target=lambda name=group: done.put((name, _look(name, patient))), daemon=True
        ).start()
    deadline = time.monotonic() + limit_seconds
    found: dict[str, list[Diagnosis]] = {}
    while len(found) < len(CHECKS) and (left := deadline - time.monotonic()) > 0:
        try:
            group, findings = done.get(timeout=left)
        except queue.Empty:
            break
        found[group] = findings
    late = f"could not be looked at within {limit_seconds:g} s"
    again = "python -m alfresco_backup doctor --time-limit 600"
    listed = [found.get(group, [Diagnosis(group, "unknown", group, late, again)]) for group in CHECKS]
    host = patient.host
    return DoctorReport(
        host.name, host.repository.root, patient.now, tuple(item for group in listed for item in group)
    )


def _look(group: str, patient: Patient) -> list[Diagnosis]:
    """The findings of a group; an error that stops one of its checks is a finding."""
    found: list[Finding] = []
    for check in CHECKS[group]:
        try:
            found += check(patient)
        except BackupError as failure:
            found.append(error(group, failure.message, failure.hint))
        except OSError as failure:
            mend = "run as root or as an account that may look there"
            found.append(error(group, f"cannot be looked at: {failure}", mend))
    return [Diagnosis.of(group, item) for item in dict.fromkeys(found)]
