"""Doctor's checks of Alfresco: properties, control script, keystore, and what runs beside the backup."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.foreign_server import why_not_started_here
from alfresco_backup.host.properties import parse_properties, resolve
from alfresco_backup.host.schedules import MINUTES_OF_A_DAY, Schedule, clock, minutes_of_day
from alfresco_backup.preflight.host import check_stores
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.times import local_offset, offset_of

SNAPSHOT_INTERVAL_DAYS = 1
"""Between two kept snapshots, once hourly ones are thinned out."""
LEAST_MINUTES = 10
JOBS = {
    "solr.backup.alfresco.cronExpression": ("Solr's backup of the core alfresco", "0 0 2 * * ?"),
    "solr.backup.archive.cronExpression": ("Solr's backup of the core archive", "0 0 4 * * ?"),
}
CLEANER = "system.content.orphanCleanup.cronExpression"
CLEANER_DEFAULT = "0 0 4 * * ?"


@dataclass(frozen=True)
class Busy:
    """When complete sets are made: minutes since midnight by this machine's clock, and how long it takes."""

    source: str
    start: int
    minutes: int

    def covers(self, minute: int, margin: int) -> bool:
        """Whether a time of day is in it, or up to `margin` minutes before."""
        return (minute - self.start + margin) % MINUTES_OF_A_DAY < self.minutes + margin

    def __str__(self) -> str:
        return f"the set of {clock(self.start)} ({self.source}), which takes about {self.minutes} min"


def check_alfresco(context: CheckContext) -> list[Finding]:
    """The installation, by the checks of the preflight and more."""
    installation = context.host.installation
    found = check_stores(context.host)
    if installation.keystore:
        found.append(ok("keystore", f"is {installation.keystore}"))
    return [*found, _judge_properties(context), _judge_control(context), *_judge_window(context)]


def check_timing(context: CheckContext) -> list[Finding]:
    """Solr's backups and the orphan cleaner against the times at which complete sets are made."""
    file = context.host.installation.properties_file
    values = _properties(file) if file else {}
    busy = list(_busy(context))
    if not busy:
        return []
    found: list[Finding] = []
    for key in JOBS if context.host.installation.solr_backups else ():
        found += _judge_job(key, resolve(values, key) or "", busy, file)
    found += _judge_cleaner(resolve(values, CLEANER) or CLEANER_DEFAULT, busy, context)
    return found or [ok("timing", f"Solr's backups and the orphan cleaner keep clear of {busy[0]}")]


def _judge_properties(context: CheckContext) -> Finding:
    file = context.host.installation.properties_file
    if file is None and context.host.settings.pg_container:
        return ok("properties", "are those of the containers; places are found from their mounts")
    if file is None:
        where = context.host.installation.home / "tomcat/shared/classes/alfresco-global.properties"
        what = f"{where} does not exist; places and protection of content are guessed"
        return warning("properties", what, edit_setting("ALF_BASE_DIR"))
    return ok("properties", f"are {file}")


def _judge_control(context: CheckContext) -> Finding:
    settings, script = context.host.settings, context.host.installation.control_script
    if settings.alf_start_command and settings.alf_stop_command:
        return ok("control script", "ALF_START_COMMAND and ALF_STOP_COMMAND are set")
    if settings.pg_container:
        reason = why_not_started_here(context.host)
        if reason:
            return warning("restore", reason.sentence, reason.fix)
        return ok("control", "containers are stopped and started by their engine; their image can recover")
    if script is None:
        what = f"there is no alfresco.sh in {settings.alf_base_dir}; a restore cannot stop and start Alfresco"
        edits = (edit_setting(name) for name in ("ALF_STOP_COMMAND", "ALF_START_COMMAND"))
        return error("control script", what, "\n".join(edits))
    if not script.stat().st_mode & 0o111:
        return error("control script", f"{script} is not executable", f"chmod a+x {shlex.quote(str(script))}")
    return ok("control script", f"is {script}")


def _judge_window(context: CheckContext) -> Iterator[Finding]:
    """Alfresco's protection of orphans against the window: the live store fills what a snapshot lost."""
    installation, settings = context.host.installation, context.host.settings
    needed = settings.retention_days + SNAPSHOT_INTERVAL_DAYS
    days = installation.orphan_protect_days
    if 1 <= days < needed and not installation.eager_cleanup:
        what = (
            f"Alfresco keeps deleted content for {days:g} days; the recovery window of "
            f"{settings.retention_days} days and a day between snapshots are {needed}. For older target "
            "times the live store cannot replace what a snapshot lacks"
        )
        file = installation.properties_file or "alfresco-global.properties"
        yield warning("orphan protection", what, f"edit {file}: system.content.orphanProtectDays={needed}")


def _properties(file: Path) -> dict[str, str]:
    return parse_properties(file.read_text(encoding="latin-1"))


def _busy(context: CheckContext) -> Iterator[Busy]:
    minutes = max(LEAST_MINUTES, round(_duration(context).total_seconds() / 60))
    for item in context.schedules:
        if item.whole and item.cron:
            yield from (Busy(item.source, start, minutes) for start in _local_starts(item, context))


def _local_starts(item: Schedule, context: CheckContext) -> Iterator[int]:
    """Its times of day by this machine's clock, to which Solr and Alfresco keep."""
    try:
        minutes = minutes_of_day(item.cron)
    except ValueError:
        return
    offset = offset_of(item.zone, context.now) if item.zone else local_offset(context.now)
    shift = local_offset(context.now) - (offset or timedelta())
    for minute in sorted(minutes):
        yield (minute + round(shift.total_seconds() / 60)) % MINUTES_OF_A_DAY


def _duration(context: CheckContext) -> timedelta:
    """How long the newest complete set took; nothing where there is none."""
    try:
        newest = newest_complete(context.status)
    except BackupError:  # a missing BACKUP_DIR is the finding of another check
        newest = None
    if newest is None:
        return timedelta()
    ends = [part.stopped_at if isinstance(part, BaseBackup) else part.finished_at for part in newest.parts]
    return max(ends) - newest.moment


def _judge_job(key: str, given: str, busy: list[Busy], file: Path | None) -> Iterator[Finding]:
    name, default = JOBS[key]
    expression = given or default
    try:
        minutes = minutes_of_day(expression)
    except ValueError:
        yield warning("timing", f"{key}={expression} is no cron expression", f"edit {file}: {key}={default}")
        return
    for run in busy:
        hit = [minute for minute in sorted(minutes) if run.covers(minute, LEAST_MINUTES)]
        if hit:
            earlier = (run.start - 30) % MINUTES_OF_A_DAY
            what = f"{name} is made at {clock(hit[0])}, beside {run}; the set may contain half of it"
            line = f"{key}=0 {earlier % 60} {earlier // 60} * * ?"
            yield warning("timing", what, f"edit {file}: {line}; then restart Alfresco")


def _judge_cleaner(expression: str, busy: list[Busy], context: CheckContext) -> Iterator[Finding]:
    try:
        minutes = minutes_of_day(expression)
    except ValueError:
        return
    for run in busy:
        hit = [minute for minute in sorted(minutes) if run.covers(minute, 0)]
        if hit:
            what = f"Alfresco's orphan cleaner removes content at {clock(hit[0])}, during {run}"
            if run.source.startswith("deployment "):
                fix = f"{edit_setting('NIGHTLY_TIME', '02:30')}\n{program_command('deploy')}"
            else:
                fix = f"edit {run.source}: begin at 02:30"
            yield warning("timing", what, fix)
