"""What must hold before anything is copied: facts in, findings out. Pure."""

import shlex
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.contentstore.check import FILE_PROTOCOL, WITHOUT_FILE, places_in_words
from alfresco_backup.errors import HostNotReady
from alfresco_backup.findings import Finding, error, finding_lines, ok, warning, worst_first
from alfresco_backup.host.installation import TENANTS
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.settings.commands import configure_command, edit_setting, own_links, program_command
from alfresco_backup.times import size_for_people

WRITABLE_BY_OTHERS = 0o022


def judge_server_settings(
    settings: Mapping[str, str], server: VersionFacts, *, streamed: bool = False
) -> list[Finding]:
    """The settings that backups depend on, as the server has them.

    `streamed`: WAL is received over a replication slot, so that archive_mode may be off.
    """
    configure, restart = configure_command("--apply"), configure_command("--apply", "--restart")
    level, mode, senders = settings["wal_level"], settings["archive_mode"], settings["max_wal_senders"]
    wanted = f"is {level}; expected {' or '.join(server.wal_levels)}"
    off = f"is {mode}; no WAL reaches the archive"
    none = "is 0; a base backup needs a replication connection"
    archives = mode in ("on", "always")
    streamed = streamed and not archives
    command = settings["archive_command"] or settings.get("archive_library", "")
    timeout = int(settings["archive_timeout"])
    late = "is 0; on a quiet server the newest transactions may never reach the archive"
    findings = [
        _judge("wal_level", level in server.wal_levels, f"is {level}", wanted, restart),
        ok("archive_mode", f"is {mode}; WAL is streamed")
        if streamed
        else _judge("archive_mode", archives, f"is {mode}", off, restart),
        _judge("max_wal_senders", int(senders) >= 1, f"is {senders}", none, restart),
        ok("archive_timeout", f"is {timeout} s")
        if timeout or streamed
        else warning("archive_timeout", late, configure),
    ]
    if archives:  # else the server does not even show its archive_command
        empty = "is empty; no WAL reaches the archive"
        findings.append(_judge("archive_command", bool(command), f"is {command}", empty, configure))
    return findings


def _judge(subject: str, good: bool, sentence: str, otherwise: str, fix: str) -> Finding:
    return ok(subject, sentence) if good else error(subject, otherwise, fix)


@dataclass(frozen=True)
class RepositoryFolder:
    """BACKUP_DIR as it is. `closed`: folders on the way there that PostgreSQL's account cannot enter.

    `me`: the account that makes the backups. `trusted`: the owner is that one, root or PostgreSQL's.
    `links`: links to it and in it that root does not follow.
    """

    mode: int
    writable: bool
    owner: str
    me: str
    trusted: bool
    closed: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()


def judge_repository(path: Path, seen: RepositoryFolder | None) -> list[Finding]:
    """BACKUP_DIR: there (`seen` is not None), writable for this process, and for nobody else."""
    place = shlex.quote(str(path))
    if seen is None:
        fix = f"mount {place}\n{configure_command('--apply')}  # where no disk is to be mounted there"
        return [error("BACKUP_DIR", f"{path} does not exist; is the disk mounted?", fix)]
    own = f"chown {seen.me} {place}"
    if not seen.writable:
        return [error("BACKUP_DIR", f"{path} cannot be written to", own)]
    findings = []
    if seen.mode & WRITABLE_BY_OTHERS:
        what = f"{path} has mode {seen.mode:04o}; other accounts could change or remove backups"
        findings.append(error("BACKUP_DIR", what, f"chmod go-w {place}"))
    if not seen.trusted:
        what = f"{path} belongs to {seen.owner}, who could change or remove backups"
        findings.append(warning("BACKUP_DIR", what, own))
    if seen.closed:
        what = f"{path} cannot be entered by PostgreSQL's account, which archives WAL there"
        findings.append(error("BACKUP_DIR", what, f"chmod o+x {shlex.join(map(str, seen.closed))}"))
    if seen.links:
        what = f"{', '.join(map(str, seen.links))}: a link of another account, which root does not follow"
        findings.append(error("BACKUP_DIR", what, own_links(*seen.links)))
    return findings or [ok("BACKUP_DIR", f"{path} has mode {seen.mode:04o}")]


def judge_space(free: int, needed: int, path: Path, why: str) -> Finding:
    """Whether the run fits. A run that would fill the disk could stop WAL archiving, and so the database."""
    sentence = f"{size_for_people(free)} free on {path}, about {size_for_people(needed)} needed ({why})"
    return _judge_room("space", free, needed, 1.2, sentence, more_space("-h", path))


def judge_inodes(free: int, needed: int, path: Path) -> Finding:
    """Whether the file system has room for that many more files and folders, however large they are."""
    sentence = f"{free:,} inodes free on {path}, about {needed:,} needed"
    return _judge_room("inodes", free, needed, 10, sentence, more_space("-i", path))


def _judge_room(subject: str, free: int, needed: int, margin: float, sentence: str, fix: str) -> Finding:
    if free < needed:
        return error(subject, sentence, fix)
    return warning(subject, sentence, fix) if free < needed * margin else ok(subject, sentence)


def more_space(option: str, path: Path) -> str:
    """What makes space on the disk of BACKUP_DIR. `option` of df: -h for bytes, -i for inodes."""
    shorter = f"{edit_setting('RETENTION_DAYS')}  # fewer days"
    plan = f"{program_command('retention')}  # shows what would be removed then, and how to"
    return "\n".join((f"df {option} {shlex.quote(str(path))}", shorter, plan))


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
    fix = f"chown {account} {names} && chmod u+rX {names}  # or move away what is not PostgreSQL's"
    return error("data directory", what, fix)


def judge_absent_places(absent: Iterable[tuple[str, str]], store: Path) -> list[Finding]:
    """Folders that alfresco-global.properties names and that are not there: what was taken is a guess."""
    findings = []
    for key, place in absent:
        what = f"is {place} in alfresco-global.properties, which is no directory"
        name = "KEYSTORE_DIR" if key == "dir.keystore" else "CONTENTSTORE_DIR"
        fix = f"mount {shlex.quote(place)}\n{edit_setting(name)}  # where the property is wrong"
        if key == TENANTS:
            none = f"{what}; until it exists no content of tenants is backed up"
            findings.append(warning(key, none, f"mount {shlex.quote(place)}"))
        elif key == "dir.keystore":
            findings.append(warning(key, what, fix))
        else:
            findings.append(error(key, f"{what}; {store} would be backed up instead", fix))
    return findings


def judge_content_places(places: Mapping[tuple[str, str], int], folders: Set[str]) -> list[Finding]:
    """Content that the database refers to and the backup does not contain.

    `places`: how many live URLs there are by protocol and first folder. `folders`: the names in the stores
    that are backed up.
    """
    total = sum(count for (protocol, _), count in places.items() if protocol not in WITHOUT_FILE)
    elsewhere: dict[str, int] = {}
    outside = 0
    for (protocol, first), count in places.items():
        if protocol == FILE_PROTOCOL and first in (".", ".."):
            outside += count
        elif protocol == FILE_PROTOCOL and (not first or first in folders):
            continue
        elif protocol not in WITHOUT_FILE:
            place = f"{protocol}://{first}/" if first else f"{protocol}://"
            elsewhere[place] = elsewhere.get(place, 0) + count
    findings = []
    if elsewhere:
        what = f"{sum(elsewhere.values()):,} of {total:,} documents are in places that no backup contains"
        fix = f"{edit_setting('EXTRA_CONTENT_DIRS')}  # for each that is a folder of this host"
        findings.append(warning("content URLs", f"{what}: {places_in_words(elsewhere)}", fix))
    if outside:
        what = f"{outside:,} of {total:,} content URLs lead out of their store; Alfresco refuses them"
        findings.append(warning("content URLs", what, f"{program_command('content-check')}  # lists them"))
    return findings or [ok("content URLs", f"lead to stores that are backed up ({total:,} documents)")]


def judge_protection(protect_days: float, eager: bool, retention_days: int, file: Path | None) -> Finding:
    """Alfresco's own deletion of orphaned content, which decides how consistent a hot backup is."""
    edit = f"edit {file or 'alfresco-global.properties'}: system.content."
    if eager:
        what = "eagerOrphanCleanup is on; content is deleted at once, a hot backup may miss documents"
        return warning("orphan cleanup", what, f"{edit}eagerOrphanCleanup=false")
    if protect_days < 1:
        what = f"orphanProtectDays is {protect_days:g}; content may be deleted before a backup has copied it"
        return warning("orphan cleanup", what, f"{edit}orphanProtectDays=14")
    what = f"keeps content for {protect_days:g} days; the recovery window is {retention_days} days"
    return ok("orphan cleanup", what)


def refuse_on_errors(findings: Iterable[Finding]) -> None:
    """Raise HostNotReady when there is an error; the message holds every finding that is not ok."""
    listed = [item for item in worst_first(findings) if item.level != "ok"]
    count = sum(item.level == "error" for item in listed)
    if count:
        head = f"the host is not ready: {count} error{'s' if count > 1 else ''}, nothing was copied"
        raise HostNotReady("\n".join([head, *finding_lines(listed)]), listed[0].fix)
