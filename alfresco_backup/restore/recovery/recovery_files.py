"""Making an extracted data directory ready to recover, and putting it in place."""

import shutil
from pathlib import Path

from alfresco_backup.errors import BackupError
from alfresco_backup.host.one_off_server import SOCKETS, OneOff
from alfresco_backup.postgres.conf_file import AUTO_CONF, CONF, parse_setting, without
from alfresco_backup.postgres.versions import VersionFacts, facts_of, label_of, version_of_data_directory
from alfresco_backup.restore.journal.journal import rename, restoring_name
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.recovery.host_settings import host_settings
from alfresco_backup.restore.recovery.recovery_settings import (
    BEGIN,
    END,
    OVERRIDES,
    PAUSE_OVERRIDES,
    Recovery,
    RecoveryFiles,
    RestoreLogin,
    recovery_files,
    restore_wal_command,
)
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.accounts import Account, acting_as
from alfresco_backup.system.files import fsync_directory, sync_filesystem, write_text
from alfresco_backup.system.folders import held

CONTROL_FILE = "global/pg_control"
CONTROL_PARTIAL = "global/pg_control.restoring"
STALE_FILES = ("postmaster.pid", "postmaster.opts", "backup_label.old", "tablespace_map.old")
RECOVERY_LOG = "recovery.log"


def one_off_of(restoration: Restoration, log: Path) -> OneOff:
    """What a one-off container needs for a recovery: its folders, the WAL, and what its settings name."""
    database, host = restoration.database, restoration.host
    places = [restoration.folder, *(space.location for space in database.tablespaces)]
    places += [Path(restoration.overrides["hba_file"]).parent] if host.beside else []
    return OneOff(
        folder=restoration.folder,
        sockets=Path(host.settings.pghost) if host.beside else restoration.folder / SOCKETS,
        log=log,
        writable=places,
        readable=[place for place in database.wal_sources if not place.is_relative_to(restoration.folder)],
        settings=own_settings(database.data_directory, restoration.account),
    )


def own_settings(directory: Path, account: Account) -> frozenset[str]:
    """The names of the settings that write_settings has put into a data directory's postgresql.auto.conf."""
    auto_conf = read_text(directory / AUTO_CONF, account)
    own = auto_conf.partition(f"{BEGIN}\n")[2].partition(f"{END}\n")[0]
    settings = (parse_setting(line) for line in own.splitlines())
    return frozenset(setting[0] for setting in settings if setting)


def pg_ctl_starts(data_directory: Path) -> bool:
    """Whether a restore starts PostgreSQL by pg_ctl: not where its configuration is elsewhere."""
    return (data_directory / CONF).exists()


def prepare_recovery(restoration: Restoration) -> tuple[str, ...]:
    """Make what was extracted ready to recover and put it in place; returns what should be checked.

    `pg_control` gets its name when all else is written: before that PostgreSQL cannot start from it. What is
    in the data directory is read and written with the rights of its account, which can put links there.
    """
    database = restoration.database
    new = restoring_name(database.data_directory, restoration.plan.restore_id)
    with held(new) as inside, acting_as(restoration.account):
        warnings = _prepare(restoration, inside)
    places = [space.location for space in database.tablespaces]
    places += [database.wal_location.source] if database.wal_location else []
    places.append(database.data_directory)
    for place in places:
        built = restoring_name(place, restoration.plan.restore_id)
        sync_filesystem(built)
        rename(restoration.journal, built, place)
    return warnings


def _prepare(restoration: Restoration, new: Path) -> tuple[str, ...]:
    database = restoration.database
    facts = _facts_of_extracted(restoration, new)
    for name in STALE_FILES:
        (new / name).unlink(missing_ok=True)
    make_wal_directory(restoration, new / facts.wal_directory)
    point_to_tablespaces(restoration, new)
    conf = read_text(new / CONF)
    own = host_settings(restoration.host.settings, database.base, database.data_directory, conf)
    if own.dropped:
        write_text(new / CONF, without(conf, own.dropped), 0o600)
    if own.lines:
        write_text(new / AUTO_CONF, read_text(new / AUTO_CONF) + own.text(), 0o600)
    files = write_settings(restoration, new, facts, database.target)
    (new / CONTROL_PARTIAL).rename(new / CONTROL_FILE)
    fsync_directory((new / CONTROL_FILE).parent)
    return (*own.warnings, *files.warnings)


def make_wal_directory(restoration: Restoration, wal: Path) -> None:
    """Make pg_wal with its archive_status: a folder, or a link to one outside, as it was before."""
    outside = restoration.database.wal_location
    folder = wal
    if wal.is_symlink():
        wal.unlink()
    if outside is not None:
        folder = restoring_name(outside.source, restoration.plan.restore_id)
        for path in wal.iterdir() if wal.is_dir() else ():  # the predecessor's tars hold WAL
            shutil.move(path, folder / path.name)
        if wal.is_dir():
            wal.rmdir()
        wal.symlink_to(outside.source)
    for path in (folder, folder / "archive_status"):
        if not path.is_dir():
            path.mkdir(mode=0o700)


def write_settings(
    restoration: Restoration, directory: Path, facts: VersionFacts, target: Target
) -> RecoveryFiles:
    """Write the settings for a recovery to `target` into a data directory; earlier ones are replaced."""
    with held(directory) as inside:
        return _write_settings(restoration, inside, facts, target)


def _write_settings(
    restoration: Restoration, directory: Path, facts: VersionFacts, target: Target
) -> RecoveryFiles:
    database = restoration.database
    log = {
        "logging_collector": "on",
        "log_destination": "stderr",
        "log_min_messages": "warning",
        "log_directory": str(database.saved_wal),
        "log_filename": RECOVERY_LOG,
        "log_rotation_age": "0",
        "log_rotation_size": "0",
        "log_line_prefix": "%m [%p] ",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    recovery = Recovery(
        target,
        database.timeline,
        restore_wal_command(restoration.restore_wal, database.wal_sources, database.skipped_segments),
        {**(PAUSE_OVERRIDES if restoration.pause else OVERRIDES), **log, **restoration.overrides},
        login=None if "hba_file" in restoration.overrides else _restore_login(restoration),
        pause=restoration.pause,
    )
    files = recovery_files(
        facts,
        recovery,
        read_text(directory / CONF, restoration.account),
        read_text(directory / AUTO_CONF, restoration.account),
        database.data_directory,
    )
    apply_files(files, directory, restoration.account)
    return files


def _restore_login(restoration: Restoration) -> RestoreLogin:
    settings = restoration.host.settings
    if settings.pg_container:
        return RestoreLogin(None, settings.pguser, settings.pgdatabase)
    return RestoreLogin(restoration.account.name, settings.pguser, settings.pgdatabase)


def apply_files(files: RecoveryFiles, directory: Path, account: Account) -> None:
    """Write and remove what recovery_settings decided, each file whole or not at all.

    Removed last: a kill in between leaves no setting that names a file which is gone.
    """
    with held(directory) as inside, acting_as(account):
        for name, text in files.write.items():
            write_text(inside / name, text, 0o600)
        for name in files.remove:
            if name not in files.write:
                (inside / name).unlink(missing_ok=True)
        fsync_directory(inside)


def point_to_tablespaces(restoration: Restoration, new: Path) -> None:
    """Let the extracted directory link to where the plan puts its tablespaces.

    From 9.5 on the server makes the links itself, from tablespace_map; the tar of 9.4 contains them.
    """
    planned = [space for space in restoration.database.tablespaces if space.restored]
    spaces = {str(space.oid): str(space.location) for space in planned}
    map_file = new / "tablespace_map"
    if map_file.exists():
        lines = map_file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        moved = [_mapped(line, spaces) for line in lines]
        write_text(map_file, "".join(f"{line}\n" for line in moved), 0o600)
        return
    for oid, location in spaces.items():
        link = new / "pg_tblspc" / oid
        link.unlink(missing_ok=True)
        link.symlink_to(location)


def _mapped(line: str, spaces: dict[str, str]) -> str:
    """A line of tablespace_map, `oid path`, with the planned path. A newline in it is escaped."""
    oid = line.partition(" ")[0]
    location = spaces.get(oid)
    return line if location is None else " ".join((oid, location.replace("\n", "\\\n")))


def _facts_of_extracted(restoration: Restoration, new: Path) -> VersionFacts:
    """The version facts of what was extracted. Raises BackupError where it is not the planned backup."""
    base = restoration.database.base
    lacking = [name for name in ("PG_VERSION", "backup_label", CONTROL_PARTIAL) if not (new / name).is_file()]
    if lacking:
        raise BackupError(
            f"{base.path} contains no {', '.join(lacking)}: it cannot be recovered; restore another backup",
            program_command("status"),
        )
    major = version_of_data_directory((new / "PG_VERSION").read_text(encoding="ascii"))
    if major != facts_of(base.postgresql_version).major:
        raise BackupError(
            f"PostgreSQL version mismatch: {base.path} {label_of(major)}, its metadata "
            f"{label_of(base.postgresql_version)}; restore another backup",
            program_command("status"),
        )
    return facts_of(major)


def read_text(path: Path, account: Account | None = None) -> str:
    """A configuration file's text, read with an account's rights; empty where it does not exist."""
    with held(path.parent) as folder, acting_as(account):
        file = folder / path.name
        return file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
