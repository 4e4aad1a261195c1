"""Doctor's checks of places: BACKUP_DIR and what it is on, the folder of drills, the .env."""

import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.drill.place import drill_folder, live_places
from alfresco_backup.drill.plan import SPACE_FACTOR, WAL_BYTES, check_place
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.preflight.files import check_file_system
from alfresco_backup.preflight.host import check_repository, check_space, check_tools
from alfresco_backup.repository.layout import COMPONENTS
from alfresco_backup.settings.commands import edit_setting, own_links
from alfresco_backup.settings.env_file import READABLE_BY_ALL
from alfresco_backup.settings.libpq import NOT_PASSED_ON
from alfresco_backup.system.folders import untrusted_link
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import size_for_people

SYS_BLOCK = Path("/sys/dev/block")
ASK_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """Where a path is: its file system's device, and the disks beneath as far as they are known."""

    path: Path
    device: int
    disks: frozenset[str]


def check_places(context: CheckContext) -> list[Finding]:
    """Tools, BACKUP_DIR, its file system, the disk it is on, the folder of drills."""
    host = context.host
    found = [*check_tools(), *check_repository(host)]
    if not host.repository.root.is_dir():
        return found
    if os.access(host.repository.root, os.W_OK | os.X_OK):
        found += check_file_system(host)
    return [*found, *_judge_disk(context), *_judge_drills(context)]


def check_env_file(context: CheckContext) -> list[Finding]:
    """Whether everybody can read the passwords in the .env. One that others can change is not even read."""
    path = context.env_file
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & READABLE_BY_ALL:
        what = f"{path} contains passwords and has mode {mode:04o}"
        return [error(".env", what, f"chmod 600 {shlex.quote(str(path))}"), *_ignored_variables(context)]
    return [ok(".env", f"{path} has mode {mode:04o}"), *_ignored_variables(context)]


def _ignored_variables(context: CheckContext) -> list[Finding]:
    """Variables of libpq in the environment that somebody may count on, and that have no effect here."""
    names = sorted(name for name in NOT_PASSED_ON if context.environment.get(name))
    if not names:
        return []
    what = f"{', '.join(names)} in the environment {'are' if len(names) > 1 else 'is'} not passed on"
    why = "backups connect as the .env says"
    return [warning("environment", f"{what} to psql and pg_basebackup: {why}", f"unset {' '.join(names)}")]


def check_room(context: CheckContext) -> list[Finding]:
    """Space and inodes for the next run, by the preflight's rule; without PostgreSQL for content only."""
    host = context.host
    if not host.repository.root.is_dir():
        return []
    try:
        host.server_version  # noqa: B018 - its failure is the finding of another check
    except BackupError:
        return check_space(host, [name for name in COMPONENTS if name != "postgres"], context.facts.catalogue)
    return check_space(host, list(COMPONENTS), context.facts.catalogue)


def check_metrics(context: CheckContext) -> list[Finding]:
    """Whether METRICS_FILE can be written. Nothing is written: runs and the freshness check do that."""
    path = context.host.settings.metrics_file
    if path is None:
        return []
    if link := untrusted_link(path.parent):
        what = f"{link} is a link of another account; root does not follow it, so {path} is not written"
        return [warning("METRICS_FILE", what, own_links(link))]
    if not os.access(path.parent, os.W_OK | os.X_OK):
        what = f"{path} cannot be written: {path.parent} is no folder that this account may write to"
        return [warning("METRICS_FILE", what, f"install -d -m 755 {shlex.quote(str(path.parent))}")]
    return [ok("METRICS_FILE", f"{path} is written by each run")]


def disks_of(device: int, sys_block: Path = SYS_BLOCK) -> frozenset[str]:
    """The disks beneath a device: through partitions, LVM, RAID, encryption. None where that is not known."""
    entry = sys_block / f"{os.major(device)}:{os.minor(device)}"
    if not entry.exists():
        return frozenset()
    return frozenset(_disks(entry.resolve()))


def _disks(block: Path) -> Iterator[str]:
    beneath = sorted((block / "slaves").glob("*")) if (block / "slaves").is_dir() else []
    for item in beneath:
        yield from _disks(item.resolve())
    if not beneath:
        yield block.parent.name if (block / "partition").exists() else block.name


def _place(path: Path) -> Place:
    device = path.stat().st_dev
    return Place(path, device, disks_of(device))


def _judge_disk(context: CheckContext) -> list[Finding]:
    host = context.host
    here = _place(host.repository.root)
    live = [host.installation.data_directory, *host.installation.stores.values()]
    there = [_place(path) for path in live if path.exists()]
    found = []
    kind = run(
        Command(("stat", "-f", "-c", "%T", str(here.path)), ASK_SECONDS), keep_output=True
    ).output.strip()
    if kind in ("tmpfs", "ramfs"):
        what = f"{here.path} is in memory ({kind}); all backups are lost at a restart"
        found.append(error("BACKUP_DIR's disk", what, edit_setting("BACKUP_DIR")))
    fix = f"findmnt --target {shlex.quote(str(here.path))}  # mount a disk of its own there"
    same = [str(item.path) for item in there if item.device == here.device]
    if same:
        what = (
            f"{here.path} is on the same file system as {', '.join(same)}; both are lost, or full, together"
        )
        return [*found, warning("BACKUP_DIR's disk", what, fix)]
    shared = {disk for item in there for disk in item.disks & here.disks}
    if shared:
        disk = ", ".join(sorted(shared))
        what = f"{here.path} is on the disk {disk}, as the live data is; both are lost together"
        return [*found, warning("BACKUP_DIR's disk", what, fix)]
    return found or [ok("BACKUP_DIR's disk", f"is not that of the data ({kind})")]


def _judge_drills(context: CheckContext) -> list[Finding]:
    host = context.host
    folder = drill_folder(host)
    try:
        check_place(folder, live_places(host))
    except Refused as refusal:
        return [error("DRILL_DIR", refusal.message, refusal.hint)]
    bases = context.facts.catalogue.bases
    if not bases:
        return []
    needed = int(bases[-1].database_bytes * SPACE_FACTOR) + WAL_BYTES
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    words = f"{size_for_people(free)} free on {place}, a drill needs up to {size_for_people(needed)}"
    if free < needed:
        return [warning("DRILL_DIR", words, edit_setting("DRILL_DIR"))]
    return [ok("DRILL_DIR", words)]
