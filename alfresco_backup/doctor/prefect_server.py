"""Doctor's checks of what starts backups: Prefect server, worker, limit, deployments; cron and systemd."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.prefect_view import BACKUP, DRILL, Document, PrefectView
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.schedules import Schedule
from alfresco_backup.settings.commands import edit_setting, prefect_command, program_command
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.times import duration_for_people, for_people

SCHEDULER_PATIENCE = timedelta(minutes=5)
CRON = (
    f"install -m 644 {PROJECT_DIRECTORY}/deployments/cron.example /etc/cron.d/alfresco-backup  # then edit it"
)


def check_schedules(context: CheckContext) -> list[Finding]:
    """Whether complete sets are made by themselves, and by one party only."""
    view, whole = context.prefect, [item for item in context.schedules if item.whole]
    asked = view is None or not view.problem
    if not whole and not asked:
        what = "none on this machine; the Prefect server does not answer"
        return [error("schedule", what, _ask(view))]
    if not whole:
        what = "nothing makes complete sets by itself: no active schedule, cron line or timer"
        return [
            error("schedule", what, _paused(view, context) or (program_command("deploy") if view else CRON))
        ]
    told = [ok("schedule", _words(item)) for item in whole]
    if len({item.source.startswith("deployment ") for item in whole}) > 1:
        local = [item.source for item in whole if not item.source.startswith("deployment ")]
        what = f"both the Prefect server and {', '.join(local)} start backups; every set is made twice"
        told.append(warning("schedule", what, f"comment out {', '.join(local)}"))
    return told


def _ask(view: PrefectView | None) -> str:
    return f"curl {view.address}/health\nsystemctl status prefect-server" if view else ""


def _paused(view: PrefectView | None, context: CheckContext) -> str:
    """What switches the first schedule of complete sets on again, where there is one that is off."""
    found = view.deployments.get(BACKUP) if view else None
    name = f"{BACKUP}/{context.host.name}"
    if found and found.get("paused"):
        return prefect_command("deployment", "schedule", "ls", name) + "  # then: ... resume with the ID"
    off = [
        item for item in (found or {}).get("schedules") or () if not item.get("active") and not _parts(item)
    ]
    return _resume_command(name, off[0]) if off else ""


def _resume_command(name: str, entry: Document) -> str:
    return prefect_command("deployment", "schedule", "resume", name, str(entry["id"]))


def _parts(entry: Document) -> Any:
    return (entry.get("parameters") or {}).get("components")


def _words(item: Schedule) -> str:
    return " ".join(filter(None, (f"{item.source}:", item.cron or "see its times", item.zone)))


def check_prefect(context: CheckContext) -> list[Finding]:
    """The server, and what of this host is there."""
    view = context.prefect
    if view is None:
        return [ok("server", "none is configured: runs bring a Prefect server of their own")]
    if view.problem:
        refused = "login" in view.problem
        fix = edit_setting("PREFECT_API_AUTH_STRING") if refused else _ask(view)
        return [error("server", f"PREFECT_API_URL={view.address} {view.problem}", fix)]
    host = context.host.name
    found = [ok("server", f"Prefect {view.version} at {view.address}"), _judge_leases(view)]
    found += [_judge_limit(view.limit, host), *_judge_mail_block(view, context.host.settings)]
    by_cron = any(item.whole for item in context.local_schedules)
    if by_cron and not any(item.whole for item in view.schedules):
        return [*found, ok("worker", "none is needed: this machine starts its backups itself")]
    return [*found, *_judge_worker(view, host, context), *_judge_deployments(view, context)]


def _judge_leases(view: PrefectView) -> Finding:
    if view.lease_storage.endswith(".memory"):
        what = "concurrency leases are kept in memory; after a server restart the host stays locked"
        fix = f"use the settings of {PROJECT_DIRECTORY}/deployments/prefect-server.env and restart the server"
        return error("leases", what, fix)
    return ok("leases", f"are kept by {view.lease_storage.removeprefix('prefect.server.concurrency.')}")


def _judge_worker(view: PrefectView, host: str, context: CheckContext) -> list[Finding]:
    pool = view.pool
    if pool is None:
        return [error("work pool", f"{host} does not exist", program_command("deploy"))]
    if pool["type"] != "process":
        fix = f"{prefect_command('work-pool', 'delete', host)}\n{program_command('deploy')}"
        return [error("work pool", f"{host} is of type {pool['type']}; expected process", fix)]
    found = [ok("work pool", f"is {host}")]
    if pool.get("is_paused"):
        resume = prefect_command("work-pool", "resume", host)
        found = [error("work pool", f"{host} is paused; no run starts", resume)]
    online = [item for item in view.workers if item["status"] == "ONLINE"]
    beats = [
        datetime.fromisoformat(item["last_heartbeat_time"])
        for item in view.workers
        if item["last_heartbeat_time"]
    ]
    last = max(beats, default=None)
    age = f"{duration_for_people(max(0.0, (context.now - last).total_seconds()))} ago" if last else "never"
    if online:
        return [*found, ok("worker", f"{online[0]['name']} is online; its last heartbeat was {age}")]
    unit = f"prefect-worker@{host}"
    what = f"none is online for {host}; the last heartbeat was {age}. No run starts"
    return [*found, error("worker", what, f"systemctl restart {unit}\njournalctl -u {unit}")]


def _judge_limit(limit: Document | None, host: str) -> Finding:
    name = "concurrency limit"
    if limit is None:
        what = f"{host} does not exist; the next run makes it"
        return warning(name, what, prefect_command("gcl", "create", host, "--limit", "1"))
    if not limit["active"]:
        return error(name, f"{host} is switched off; no run starts", prefect_command("gcl", "enable", host))
    if limit["limit"] != 1:
        what = f"{host} is {limit['limit']}; expected 1"
        return warning(name, what, prefect_command("gcl", "update", host, "--limit", "1"))
    return ok(name, f"{host} is 1")


def _judge_deployments(view: PrefectView, context: CheckContext) -> list[Finding]:
    host, found = context.host.name, []
    deploy = program_command("deploy")
    for flow in (BACKUP, DRILL):
        item, name = view.deployments.get(flow), f"{flow}/{host}"
        active = [entry for entry in (item or {}).get("schedules") or () if entry.get("active")]
        level = error if flow == BACKUP else warning
        if item is None:
            found.append(level("deployment", f"{name} does not exist", deploy))
            continue
        used = ((item.get("job_variables") or {}).get("env") or {}).get("ALFRESCO_BACKUP_ENV")
        if used != str(context.env_file):
            what = f"{name} uses the settings of {used}; these are {context.env_file}"
            found.append(warning("deployment", what, deploy))
        if active and flow in view.next_runs:
            found.append(ok("deployment", f"{name} starts next {for_people(view.next_runs[flow])}"))
        elif active and _changed(item, active) < context.now - SCHEDULER_PATIENCE:
            what = f"{name} has a schedule, but no run is planned; the server's scheduler does not work"
            found.append(level("deployment", what, "systemctl restart prefect-server"))
        elif active:
            found.append(ok("deployment", f"{name} has a schedule"))
        elif flow == DRILL:
            what = f"{name} has no active schedule; no restore drill verifies the backups"
            found.append(warning("drills", what, _resume(item, name) or deploy))
    if not _watched(view.automations, f"no backup of {host}"):
        what = f"the automation `no backup of {host}` is missing or off; nobody is told of missing backups"
        found.append(warning("dead man's switch", what, deploy))
    else:
        found.append(ok("dead man's switch", "is on"))
    return found


def _changed(item: Document, schedules: Iterable[Document]) -> datetime:
    """When a deployment or one of its schedules was changed last: its runs are planned again from then on."""
    return max(datetime.fromisoformat(each["updated"]) for each in (item, *schedules) if each.get("updated"))


def _resume(item: Document, name: str) -> str:
    entries = item.get("schedules") or ()
    return _resume_command(name, entries[0]) if entries else ""


def _watched(automations: Iterable[Document], name: str) -> bool:
    return any(item["name"] == name and item.get("enabled") for item in automations)


def _judge_mail_block(view: PrefectView, settings: Settings) -> list[Finding]:
    block = view.mail_block
    if block is None or not settings.smtp_host:
        return []
    if (block.get("smtp_server"), block.get("smtp_port")) == (settings.smtp_host, settings.smtp_port):
        return []
    used = f"{block.get('smtp_server')}:{block.get('smtp_port')}"
    what = f"sends by {used}; the .env names {settings.smtp_host}:{settings.smtp_port}"
    return [warning("mail block", what, program_command("deploy"))]
