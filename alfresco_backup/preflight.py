"""What must hold before anything is copied: facts in, findings out. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import HostNotReady
from alfresco_backup.stamps import size_for_people
from alfresco_backup.versions import VersionFacts

Level = Literal["ok", "warning", "error"]
WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `mend` is the command or edit that puts it right; empty when it is well."""

    level: Level
    subject: str
    what: str
    mend: str = ""


def ok(subject: str, what: str) -> Finding:
    return Finding("ok", subject, what)


def warning(subject: str, what: str, mend: str) -> Finding:
    return Finding("warning", subject, what, mend)


def error(subject: str, what: str, mend: str) -> Finding:
    return Finding("error", subject, what, mend)


def judge_server_settings(
    settings: Mapping[str, str], server: VersionFacts, wal_commands: Path
) -> list[Finding]:
    """The settings that backups depend on, as the server has them."""
    findings = []
    level = settings["wal_level"]
    alter = f"ALTER SYSTEM SET wal_level = '{server.recommended_wal_level}'; then restart PostgreSQL"
    findings.append(
        ok("wal_level", f"is {level}")
        if level in server.wal_levels
        else error("wal_level", f"is {level}; {' or '.join(server.wal_levels)} is needed", alter)
    )
    mode = settings["archive_mode"]
    findings.append(
        ok("archive_mode", f"is {mode}")
        if mode in ("on", "always")
        else error(
            "archive_mode", f"is {mode}", "ALTER SYSTEM SET archive_mode = 'on'; then restart PostgreSQL"
        )
    )
    command = settings["archive_command"]
    library = settings.get("archive_library", "")
    if mode not in ("on", "always"):
        pass  # named above already; the server does not even show its archive_command then
    elif not command and not library:
        example = f'{wal_commands}/archive-wal --zstd "%p" "%f" BACKUP_DIR/pg_wal'
        findings.append(
            error(
                "archive_command",
                "is empty",
                f"ALTER SYSTEM SET archive_command = '{example}'; SELECT pg_reload_conf()",
            )
        )
    else:
        findings.append(ok("archive_command", f"is {command or library}"))
    senders = int(settings["max_wal_senders"])
    findings.append(
        ok("max_wal_senders", f"is {senders}")
        if senders >= 1
        else error("max_wal_senders", "is 0", "ALTER SYSTEM SET max_wal_senders = 3; then restart PostgreSQL")
    )
    timeout = int(settings["archive_timeout"])
    findings.append(
        ok("archive_timeout", f"is {timeout} s")
        if timeout
        else warning(
            "archive_timeout",
            "is 0: on a quiet server the newest transactions may stay out of the archive for ever",
            "ALTER SYSTEM SET archive_timeout = '300s'; SELECT pg_reload_conf()",
        )
    )
    return findings


def judge_repository(
    path: Path, *, exists: bool, mode: int, writable: bool, traversable: bool
) -> list[Finding]:
    """BACKUP_DIR: there, writable for this process, and for nobody else."""
    if not exists:
        return [
            error(
                "BACKUP_DIR",
                f"{path} does not exist; is the disk mounted?",
                f"mount it, or mkdir -m 0755 {path}",
            )
        ]
    if not writable:
        return [error("BACKUP_DIR", f"{path} cannot be written to", f"chown $(id -un) {path}")]
    findings = []
    if mode & WRITABLE_BY_OTHERS:
        what = f"{path} has mode {mode:04o}: others could change or remove backups"
        findings.append(error("BACKUP_DIR", what, f"chmod go-w {path}"))
    if not traversable:
        what = f"{path} cannot be entered by PostgreSQL's account, which archives WAL there"
        findings.append(error("BACKUP_DIR", what, f"chmod o+x {path} and the folders above it"))
    return findings or [ok("BACKUP_DIR", f"{path} has mode {mode:04o}")]


def judge_space(free: int, needed: int, path: Path, why: str) -> Finding:
    """Whether the run fits. A run that would fill the disk could stop WAL archiving, and so the database."""
    sentence = f"{size_for_people(free)} free on {path}, about {size_for_people(needed)} needed ({why})"
    if free < needed:
        return error(
            "space",
            sentence,
            f"free space on {path}, or lower RETENTION_DAYS; python backup.py --plan-retention",
        )
    if free < needed * 1.2:
        return warning("space", sentence, f"df -h {path}; plan for more space")
    return ok("space", sentence)


def judge_unreadable(unreadable: Iterable[Path], account: str) -> Finding:
    """Files the server's account cannot read: one of them ruins a base backup (9.4, measured)."""
    files = sorted(unreadable)
    if not files:
        return ok("data directory", "every file can be read by the server's account")
    listed = ", ".join(str(path) for path in files[:5]) + (
        f" and {len(files) - 5} more" if len(files) > 5 else ""
    )
    return error(
        "data directory",
        f"{len(files)} files cannot be read by {account}: {listed}",
        f"chown {account} {files[0]}, or move it out of the data directory",
    )


def judge_protection(protect_days: float, eager: bool, retention_days: int) -> list[Finding]:
    """Alfresco's own deletion of orphaned content, which decides how consistent a hot backup is."""
    if eager:
        what = "eagerOrphanCleanup is on: content is deleted at once, a hot backup may miss documents"
        return [
            warning(
                "orphan cleanup",
                what,
                "set system.content.eagerOrphanCleanup=false in alfresco-global.properties",
            )
        ]
    if protect_days < 1:
        what = f"orphanProtectDays is {protect_days:g}: content may be gone before a backup has copied it"
        return [warning("orphan cleanup", what, "set system.content.orphanProtectDays=14")]
    return [
        ok(
            "orphan cleanup",
            f"keeps content for {protect_days:g} days; the recovery window is {retention_days} days",
        )
    ]


def refuse_on_errors(findings: Iterable[Finding]) -> None:
    """Raise HostNotReady when there is an error; the message holds every finding that is not ok."""
    listed = list(findings)
    errors = [item for item in listed if item.level == "error"]
    if not errors:
        return
    lines = [
        f"  {item.level} - {item.subject}: {item.what}\n      mend: {item.mend}"
        for item in listed
        if item.mend
    ]
    raise HostNotReady(
        f"the host is not ready: {len(errors)} error{'s' if len(errors) > 1 else ''}, nothing was copied\n"
        + "\n".join(lines),
        errors[0].mend,
    )


def findings_table(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Rows for a table artifact, errors first."""
    order = {"error": 0, "warning": 1, "ok": 2}
    return [
        {"level": item.level, "subject": item.subject, "finding": item.what, "mend": item.mend}
        for item in sorted(findings, key=lambda item: order[item.level])
    ]
