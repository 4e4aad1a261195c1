"""Doctor's look at clocks: zones of machine, server and schedules, and whether the clocks are right."""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.host import Host
from alfresco_backup.times import duration_for_people, machine_zone, same_times, utc_now

SKEW_WARNING, SKEW_ERROR = timedelta(seconds=2), timedelta(minutes=1)
TIME_ERROR = 5
_TIMEX_BYTES = 256


def check_clock(context: CheckContext) -> list[Finding]:
    """The machine's zone against those of the schedules and the server; the clocks."""
    here = machine_zone()
    found = [*_judge_schedules(context, here), _judge_synchronised()]
    with suppress(BackupError):  # that the server cannot be asked is told elsewhere
        found += [_judge_skew(context.host), *_judge_server_zones(context.host, here, context.now)]
    return found


def _judge_schedules(context: CheckContext, here: str) -> Iterator[Finding]:
    zones = {item.zone for item in context.schedules if item.zone}
    for zone in sorted(zones):
        if same_times(zone, context.now) is False:
            what = f"schedules keep to {zone}, this machine, with Alfresco's own jobs, to {here}"
            yield warning("zone of schedules", what, f"BACKUP_TIMEZONE={here} {context.deploy}")
        else:
            yield ok("zone of schedules", f"is {zone}")


def _judge_server_zones(host: Host, here: str, now: datetime) -> Iterator[Finding]:
    """As the server has them: this software's own connections set theirs to UTC."""
    plain = replace(host.database, environment={**host.database.environment, "PGOPTIONS": ""})
    for name in ("timezone", "log_timezone"):
        zone = plain.value(f"SHOW {name}")
        if same_times(zone, now) is False:
            meaning = "the server's log" if name == "log_timezone" else "what queries show"
            what = f"is {zone}, this machine's is {here}: times in {meaning} are others"
            fix = f"ALTER SYSTEM SET {name} = '{here}'; SELECT pg_reload_conf()"
            yield warning(name, what, fix)
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
        what = f"the database server's differs from this machine's by {words}: moments are wrong"
        return (error if skew > SKEW_ERROR else warning)(
            "clock", what, "timedatectl status, on both machines"
        )
    return ok("clock", "the database server's is this machine's")


def _judge_synchronised() -> Finding:
    """By the kernel, as timedatectl does."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == TIME_ERROR:
        what = "the clock is not synchronised: stamps, and moments to restore to, drift"
        return warning("time synchronisation", what, "timedatectl set-ntp true; timedatectl timesync-status")
    if state < 0:
        return ok("time synchronisation", "cannot be told here")
    return ok("time synchronisation", "the clock is synchronised")
