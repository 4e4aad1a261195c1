"""What would stop a restore halfway, found before anything is changed."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from alfresco_backup.backup.server_files import LINKS, PART, damaged_server_files
from alfresco_backup.errors import HostNotReady, ToolFailed
from alfresco_backup.findings import Finding, error
from alfresco_backup.host.foreign_server import why_not_started_here
from alfresco_backup.host.host import Host
from alfresco_backup.host.installation import AbsentPlace
from alfresco_backup.host.one_off_server import SOCKETS
from alfresco_backup.host.service_control import why_not_controllable
from alfresco_backup.host.services import Service, control_command
from alfresco_backup.postgres.conf_file import CONF
from alfresco_backup.repository.layout import MANIFEST
from alfresco_backup.repository.records import MAIN_STORE, Configuration
from alfresco_backup.restore.planning.plan import DatabasePlan, RestorePlan, Step, StorePlan
from alfresco_backup.settings.commands import edit_setting, guide_command, program_command
from alfresco_backup.system.accounts import Account, account_for_people, owner_of
from alfresco_backup.system.mounts import FSTAB, is_mount_point, not_mounted
from alfresco_backup.system.processes import Command, run
from alfresco_backup.wal.archive import archived_path

PACKAGES = {"setpriv": "util-linux"}
PROBE_SECONDS = 20.0
SOCKET_PATH_BYTES = 107
"""The kernel's limit."""
_CONF_IN_MANIFEST = re.compile(rb'"Path"\s*:\s*"postgresql\.conf"')
STOPS: dict[Step, Service] = {Step.STOP_ALFRESCO: "alfresco", Step.STOP_POSTGRESQL: "postgresql"}


def find_obstacles(host: Host, plan: RestorePlan) -> Iterator[Finding]:
    """What would stop the restore halfway: errors, each with its fix. Changes nothing."""
    legacy = plan.database is not None and plan.database.base.legacy
    tools = ["rsync", "tar", "gzip" if legacy else "zstd", *(["setpriv"] if os.geteuid() == 0 else [])]
    missing = (tool for tool in tools if shutil.which(tool) is None)
    yield from (
        error(tool, "is not installed", f"apt-get install {PACKAGES.get(tool, tool)}") for tool in missing
    )
    for move in plan.set_aside:
        yield from _why_not_movable(move.source, move.target)
    yield from _disks_not_mounted(plan)
    for planned in plan.steps:
        if planned.step in STOPS and (reason := why_not_controllable(host, STOPS[planned.step])):
            yield reason
    if plan.start_alfresco and not control_command("alfresco", "start", host.settings, host.installation):
        what = "there is no alfresco.sh to start Alfresco with"
        yield error("control script", what, edit_setting("ALF_START_COMMAND"))
    yield from _guessed_places(host, plan)
    if host.settings.pg_container:
        yield from _contained_obstacles(host, plan)
    if plan.database is not None:
        wal = None if plan.fetched else _a_segment(plan.database)
        if reason := why_not_started_here(host, plan.database.base, wal):
            yield reason
        yield from _database_obstacles(host, plan.database)
        if not plan.fetched:  # else it is judged when it is here, before anything is stopped
            yield from _unreadable_files(plan.database)
            yield from _configuration_elsewhere(host, plan.database, plan.configuration)
        for path in damaged_server_files(plan.configuration):
            what = (
                f"the copy of {path}, which PostgreSQL needs and this host lacks, differs from its checksum"
            )
            yield error(
                "configuration", what, f"put {shlex.quote(str(path))} in place, or choose another set"
            )
    yield from _stores_to_check(host, plan)
    for store in plan.content:
        yield from _why_not_this_store(host, plan, store)
        place = existing_part(store.path)
        if not os.access(place, os.W_OK | os.X_OK):
            yield _not_writable(f"content store {store.store}", place)


def _disks_not_mounted(plan: RestorePlan) -> Iterator[Finding]:
    """A disk that /etc/fstab mounts where something is restored: it would hide that once it is mounted."""
    places = [store.path for store in plan.content]
    if database := plan.database:
        places += [database.data_directory, *(space.location for space in database.tablespaces)]
        places += [database.wal_location.source] if database.wal_location else []
    for point in dict.fromkeys(point for place in places for point in not_mounted(place)):
        what = f"{point} is in {FSTAB} and not mounted: what is restored there would be on the disk below"
        gone = f"edit {FSTAB}: remove the line of {point}  # only if that disk is gone"
        yield error("mount", what, f"mount {shlex.quote(point)}\n{gone}")


def _database_obstacles(host: Host, database: DatabasePlan) -> Iterator[Finding]:
    data_directory = database.data_directory
    above = existing_part(data_directory.parent)
    if not os.access(above, os.W_OK | os.X_OK):
        yield _not_writable("data directory", above)
    outside = [database.wal_location.source] if database.wal_location else []
    for place in (data_directory, *outside, *(space.location for space in database.tablespaces)):
        if place.exists() and os.geteuid() not in (0, place.stat().st_uid):
            owner = _owner_words(place)
            yield error("data directory", f"{place} belongs to {owner}", f"run it as root or as {owner}")
    yield from _other_data_directory(host, database)
    yield from _foreign_tablespaces(database)
    try:
        _ = host.psql
    except HostNotReady as failure:
        yield error("psql", failure.message, failure.hint)


def _a_segment(database: DatabasePlan) -> tuple[Path, str] | None:
    """The archive and the first segment of the plan, where it is there."""
    archive, segment = database.wal_sources[0], database.first_segment
    return (archive, segment) if segment and archived_path(archive, segment) else None


def _contained_obstacles(host: Host, plan: RestorePlan) -> Iterator[Finding]:
    """What the data directory of a container may not have, and where its content may not be."""
    database = plan.database
    subject = f"container {host.settings.pg_container}"
    if database and (database.tablespaces or database.wal_location):
        what = "tablespaces, or a pg_wal outside the data directory, are not supported in containers"
        yield error(subject, what, guide_command("containers.md", "restoring by hand"))
    for store in plan.content:
        place = existing_part(store.path)
        try:
            run(Command(("test", "-x", str(place)), PROBE_SECONDS, account=owner_of(place)))
        except ToolFailed:
            what = (
                f"its owner {_owner_words(place)} cannot reach {place}: a volume's folder lets root in alone"
            )
            fix = f"namei -l {shlex.quote(str(place))}  # move the store into a bind mount"
            yield error(f"content store {store.store}", what, fix)
    folder = host.repository.restores(host.name) / plan.restore_id / SOCKETS
    socket = folder / f".s.PGSQL.{host.settings.pgport}"
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
        what = f"{socket}, for the recovered server, is longer than {SOCKET_PATH_BYTES} bytes"
        yield error(subject, what, edit_setting("BACKUP_DIR"))


def _unreadable_files(database: DatabasePlan) -> Iterator[Finding]:
    for file in database.base.files:
        path = database.base.path / file.name
        if not os.access(path, os.R_OK):
            who = f"run it as root or as {_owner_words(path)}"
            yield error("base backup", f"{path} cannot be read by this account", who)


def _configuration_elsewhere(
    host: Host, database: DatabasePlan, kept: Configuration | None
) -> Iterator[Finding]:
    """Without postgresql.conf in the restored data directory, pg_ctl cannot start the server."""
    kept_path = kept.path if kept else None
    if host.settings.pg_start_command or holds_configuration(
        database.base.path, kept_path, database.data_directory
    ):
        return
    what = f"{database.base.stamp} contains no {CONF}, which is outside the data directory"
    yield error("base backup", what, edit_setting("PG_START_COMMAND"))


def holds_configuration(base: Path, configuration: Path | None, data_directory: Path) -> bool:
    """Whether a base backup contains postgresql.conf, whatever is in the data directory now.

    The manifest (13 and later) tells; else the set, which contains a configuration from outside the data
    directory. Where neither does, as with the predecessor's backups, it is assumed to be as in the data
    directory in place.
    """
    if configuration is not None and (configuration / PART / LINKS / CONF).is_symlink():
        return True
    manifest = base / MANIFEST
    if manifest.is_file() and os.access(manifest, os.R_OK):
        with manifest.open("rb") as stream:
            return any(_CONF_IN_MANIFEST.search(line) for line in stream)
    if configuration is not None and (configuration / "postgresql").is_dir():
        return False
    return (data_directory / CONF).exists() or not data_directory.exists()


def _guessed_places(host: Host, plan: RestorePlan) -> Iterator[Finding]:
    """Where Alfresco will use another folder than the restore would: a disk not mounted, a host just set up.

    A missing folder does not tell which of them it is. The backup tells where the data directory was.
    """
    installation, database = host.installation, plan.database
    checks_content = any(planned.step is Step.CHECK_CONTENT for planned in plan.steps)
    if installation.store_guessed_for and (plan.content or checks_content):
        yield _not_a_guess(host, plan, installation.store_guessed_for, "CONTENTSTORE_DIR")
    if installation.data_guessed_for and database is not None:
        recorded = database.base.data_directory
        if not recorded or os.path.realpath(recorded) != str(database.data_directory):
            yield _not_a_guess(host, plan, installation.data_guessed_for, "PG_DATA_DIR")


def _stores_to_check(host: Host, plan: RestorePlan) -> Iterator[Finding]:
    """The documents are checked when the database has been replaced: their stores must be there."""
    restored = {store.store for store in plan.content}
    if any(planned.step is Step.CHECK_CONTENT for planned in plan.steps):
        for name, path in host.installation.stores.items():
            if name not in restored and not path.is_dir():
                place = shlex.quote(str(path))
                what = (
                    f"{path} does not exist, and this restore does not restore it: every document would miss"
                )
                fixes = (
                    f"mount {place}  # if its file system is not mounted",
                    f"{program_command('restore', '--mode', 'full')}  # restores the documents too",
                )
                yield error(f"content store {name}", what, "\n".join(fixes))


def _not_a_guess(host: Host, plan: RestorePlan, absent: AbsentPlace, setting: str) -> Finding:
    key, place = absent
    owner, mode = _owner_here(host, plan)
    if key == "dir.root":  # PostgreSQL's account must get through it
        mode = 0o755
    user, group = account_for_people(owner).split(":")
    make = shlex.join(("install", "-d", "-o", user, "-g", group, "-m", f"{mode:o}", place))
    what = (
        f"is {place} in alfresco-global.properties, which is not a directory; another place would be a guess"
    )
    fixes = (
        f"mount {shlex.quote(place)}  # if its file system is not mounted",
        f"{make}  # if it was removed, or this host is new",
        f"{edit_setting(setting)}  # if that line is wrong",
    )
    return error(key, what, "\n".join(fixes))


def _owner_here(host: Host, plan: RestorePlan) -> tuple[Account, int]:
    """Owner and mode of a store as its snapshot has them; of an account unknown here, Tomcat's instead."""
    sources = (source.snapshot for store in plan.content for source in store.sources)
    snapshot = next((item.path for item in sources if item is not None), None)
    tomcat = owner_of(existing_part(host.installation.home / "tomcat/temp"))
    if snapshot is None or not snapshot.exists():
        return tomcat, 0o755
    recorded = owner_of(snapshot)
    return recorded if recorded.name else tomcat, snapshot.stat().st_mode & 0o7777


def _other_data_directory(host: Host, database: DatabasePlan) -> Iterator[Finding]:
    """Without a data directory the installer's two layouts look the same; the backup tells which it is."""
    recorded, here = database.base.data_directory, host.installation.data_directory
    inside = recorded and Path(recorded).is_relative_to(host.installation.home)
    if inside and not here.exists() and Path(recorded) != here and not host.settings.pg_data_dir:
        what = f"was {recorded} when it was backed up, {here} is a guess"
        yield error("data directory", what, edit_setting("PG_DATA_DIR", recorded))


def _foreign_tablespaces(database: DatabasePlan) -> Iterator[Finding]:
    """A place that is in use by something else than the server in place must not be set aside."""
    links = database.data_directory / "pg_tblspc"
    own = {path.resolve() for path in links.iterdir()} if links.is_dir() else set()
    for space in database.tablespaces:
        if (
            space.set_aside is not None
            and space.location.resolve() not in own
            and any(space.location.iterdir())
        ):
            what = (
                f"{space.location} contains files, but the server in place has no tablespace there: they may "
                "be another server's"
            )
            move = shlex.join(("mv", str(space.location), str(space.set_aside)))
            yield error("tablespace", what, f"{move}  # only if they are left over")


def _why_not_this_store(host: Host, plan: RestorePlan, store: StorePlan) -> Iterator[Finding]:
    """Without alfresco-global.properties only the snapshot tells where the store belongs."""
    snapshot = next((item.snapshot for item in store.sources if item.snapshot), None)
    installation = host.installation
    known = store.store != MAIN_STORE or store.path.exists() or installation.properties_file
    if snapshot is None or not snapshot.source or known:
        return
    base = plan.database.base if plan.database else None
    same_host = base is None or base.data_directory == str(installation.data_directory)
    if same_host and Path(snapshot.source).resolve() != store.path and not host.settings.contentstore_dir:
        what = f"was backed up from {snapshot.source}; where it is now is unknown, {store.path} is a guess"
        yield error("content store", what, edit_setting("CONTENTSTORE_DIR", snapshot.source))


def _why_not_movable(source: Path, target: Path) -> Iterator[Finding]:
    if os.path.lexists(target):
        yield error("set aside", f"{target} already exists", f"ls -ld {shlex.quote(str(target))}")
    if not source.exists():
        return
    if is_mount_point(source):
        what = f"{source} is a mount point and cannot be renamed; its data must be in a folder below it"
        yield error("set aside", what, f"findmnt {shlex.quote(str(source))}")
    elif not os.access(source.parent, os.W_OK | os.X_OK):
        yield _not_writable("set aside", source.parent)


def existing_part(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(part for part in (path, *path.parents) if part.exists())


def _not_writable(subject: str, place: Path) -> Finding:
    what = f"{place} is not writable for this account"
    return error(subject, what, f"run it as root or as {_owner_words(place)}")


def _owner_words(path: Path) -> str:
    return account_for_people(owner_of(path))
