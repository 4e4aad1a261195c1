"""Doctor's checks of clocks: zones of machine, server and schedules, and whether the clocks are right."""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.host import Host
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import duration_for_people, machine_zone, same_times, utc_now

SKEW_WARNING, SKEW_ERROR = timedelta(seconds=2), timedelta(minutes=1)
TIME_ERROR = 5
_TIMEX_BYTES = 256


def check_clock(context: CheckContext) -> list[Finding]:
    """The machine's zone against those of the schedules and the server; the clocks."""
    here = machine_zone()
    found = [*_judge_schedules(context, here), _judge_synchronised()]
    with suppress(BackupError):  # a server that does not answer is the finding of another check
        found += [_judge_skew(context.host), *_judge_server_zones(context.host, here, context.now)]
    return found


def _judge_schedules(context: CheckContext, here: str) -> Iterator[Finding]:
    zones = {item.zone for item in context.schedules if item.zone}
    for zone in sorted(zones):
        if same_times(zone, context.now) is False:
            what = f"is {zone}; this machine's and that of Alfresco's own jobs is {here}"
            fix = program_command("deploy", BACKUP_TIMEZONE=here)
            yield warning("zone of schedules", what, fix)
        else:
            yield ok("zone of schedules", f"is {zone}")


def _judge_server_zones(host: Host, here: str, now: datetime) -> Iterator[Finding]:
    """As the server has them: this software's own connections set theirs to UTC."""
    plain = replace(host.database, environment={**host.database.environment, "PGOPTIONS": ""})
    for name in ("timezone", "log_timezone"):
        zone = plain.value(f"SHOW {name}")
        if same_times(zone, now) is False:
            meaning = "the server's log" if name == "log_timezone" else "what queries show"
            what = f"is {zone}, this machine's is {here}; times in {meaning} differ from the machine's"
            line = f"edit postgresql.conf: {name} = '{here}'; then reload PostgreSQL"
            yield warning(name, what, line)
        else:
            yield ok(name, f"is {zone}")


def _judge_skew(host: Host) -> Finding:
    """The server's clock against this machine's. The question's own time is no difference."""
    before = utc_now()
    there = datetime.fromisoformat(host.database.value("SELECT clock_timestamp()"))
    after = utc_now()
    skew = max(before - there, there - after, timedelta())
    words = duration_for_people(skew.total_seconds())
    if skew > SKEW_WARNING:
        what = f"the database server's differs from this machine's by {words}; target times are off by that"
        return (error if skew > SKEW_ERROR else warning)(
            "clock", what, "timedatectl status  # on both machines"
        )
    return ok("clock", "the database server's is this machine's")


def _judge_synchronised() -> Finding:
    """By the kernel, as timedatectl does."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == TIME_ERROR:
        what = "the clock is not synchronised; backup IDs and target times drift"
        fix = "timedatectl set-ntp true\ntimedatectl timesync-status"
        return warning("time synchronisation", what, fix)
    if state < 0:
        return ok("time synchronisation", "is not known here")
    return ok("time synchronisation", "the clock is synchronised")
