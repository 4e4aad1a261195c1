"""What must hold before anything is copied: facts in, findings out. Pure."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import HostNotReady
from alfresco_backup.findings import Finding, error, finding_lines, ok, warning, worst_first
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.times import size_for_people

WRITABLE_BY_OTHERS = 0o022
RESTART = "ALTER SYSTEM SET {} = '{}'; then restart PostgreSQL"
INSTALLED = "/usr/local/lib/alfresco-backup"


@dataclass(frozen=True)
class HowToArchive:
    """Where WAL commands and archive are. `reachable`: whether PostgreSQL's account can run them there."""

    wal_commands: Path
    archive: Path
    reachable: bool = True

    @property
    def fix(self) -> str:
        """What sets archive_command so that it works: where the account cannot run it, a copy that it can."""
        program, other = (f"{self.wal_commands}/{name}-wal" for name in ("archive", "restore"))
        install = ""
        if not self.reachable:
            install = f"install -D -m 755 {program} {other} -t {INSTALLED}; then as superuser: "
            program = f"{INSTALLED}/archive-wal"
        command = f'{program} --zstd "%p" "%f" "{self.archive}"'.replace("'", "''")
        return f"{install}ALTER SYSTEM SET archive_command = '{command}'; SELECT pg_reload_conf()"


def judge_server_settings(
    settings: Mapping[str, str], server: VersionFacts, archiving: HowToArchive
) -> list[Finding]:
    """The settings that backups depend on, as the server has them."""
    findings = []
    level = settings["wal_level"]
    alter = RESTART.format("wal_level", server.recommended_wal_level)
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
            "archive_mode",
            f"is {mode}",
            f"{RESTART.format('archive_mode', 'on')}; and unless archive_command is set: {archiving.fix}",
        )
    )
    command = settings["archive_command"]
    library = settings.get("archive_library", "")
    if mode not in ("on", "always"):
        pass  # named above already; the server does not even show its archive_command then
    elif not command and not library:
        findings.append(error("archive_command", "is empty", archiving.fix))
    else:
        findings.append(ok("archive_command", f"is {command or library}"))
    senders = int(settings["max_wal_senders"])
    findings.append(
        ok("max_wal_senders", f"is {senders}")
        if senders >= 1
        else error("max_wal_senders", "is 0", RESTART.format("max_wal_senders", 3))
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


@dataclass(frozen=True)
class RepositoryFolder:
    """BACKUP_DIR as it is. `closed`: folders on the way there that PostgreSQL's account cannot enter."""

    mode: int
    writable: bool
    owner: str
    trusted: bool
    closed: tuple[Path, ...] = ()


def judge_repository(path: Path, seen: RepositoryFolder | None) -> list[Finding]:
    """BACKUP_DIR: there (`seen` is not None), writable for this process, and for nobody else."""
    place = shlex.quote(str(path))
    if seen is None:
        what = f"{path} does not exist; is the disk mounted?"
        return [error("BACKUP_DIR", what, f"mount it, or mkdir -m 0755 {place}")]
    if not seen.writable:
        return [error("BACKUP_DIR", f"{path} cannot be written to", f"as root: chown $(id -un) {place}")]
    findings = []
    if seen.mode & WRITABLE_BY_OTHERS:
        what = f"{path} has mode {seen.mode:04o}: others could change or remove backups"
        findings.append(error("BACKUP_DIR", what, f"chmod go-w {place}"))
    if not seen.trusted:
        what = f"{path} belongs to {seen.owner}, who could change or remove backups"
        findings.append(warning("BACKUP_DIR", what, f"chown $(id -un) {place}"))
    if seen.closed:
        what = f"{path} cannot be entered by PostgreSQL's account, which archives WAL there"
        findings.append(error("BACKUP_DIR", what, f"chmod o+x {shlex.join(map(str, seen.closed))}"))
    return findings or [ok("BACKUP_DIR", f"{path} has mode {seen.mode:04o}")]


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


def judge_inodes(free: int, needed: int, path: Path) -> Finding:
    """Whether the file system has room for that many more files and folders, however large they are."""
    sentence = f"{free:,} more files fit on {path}, about {needed:,} needed"
    if free < needed:
        fix = f"df -i {path}; lower RETENTION_DAYS, or make the file system anew with more inodes (mkfs -N)"
        return error("inodes", sentence, fix)
    if free < needed * 10:
        return warning("inodes", sentence, f"df -i {path}; plan for more")
    return ok("inodes", sentence)


def judge_unreadable(unreadable: Iterable[Path], account: str) -> Finding:
    """Files and folders the server's account cannot read: one of them ruins a base backup (9.4, measured)."""
    files = sorted(unreadable)
    if not files:
        return ok("data directory", "every file can be read by the server's account")
    shown = files[:5]
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    counted = "1 file" if len(files) == 1 else f"{len(files)} files"
    what = f"{counted} cannot be read by {account}: {', '.join(map(str, shown))}{more}"
    names = shlex.join(map(str, shown))
    return error(
        "data directory",
        what,
        f"chown {account} {names} && chmod u+rX {names}; or move what is not PostgreSQL's elsewhere",
    )


def judge_absent_places(absent: Iterable[tuple[str, str]], store: Path) -> list[Finding]:
    """Folders that alfresco-global.properties names and that are not there: what was taken is a guess."""
    findings = []
    for key, place in absent:
        what = f"{key} in alfresco-global.properties is {place}, which is no directory"
        mount = f"mount {place}; or, where that line is wrong, set"
        if key == "dir.keystore":
            findings.append(warning(key, what, f"{mount} KEYSTORE_DIR in the .env"))
        else:
            taken = f"{what}; {store} would be backed up instead"
            findings.append(error(key, taken, f"{mount} CONTENTSTORE_DIR in the .env"))
    return findings


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
    listed = [item for item in worst_first(findings) if item.level != "ok"]
    count = sum(item.level == "error" for item in listed)
    if count:
        head = f"the host is not ready: {count} error{'s' if count > 1 else ''}, nothing was copied"
        raise HostNotReady("\n".join([head, *finding_lines(listed)]), listed[0].fix)
