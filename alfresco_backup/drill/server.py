"""The server of a restore drill: restored into a folder of its own, isolated, removed in the end."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alfresco_backup.drill.place import recoveries_in
from alfresco_backup.drill.plan import PREFIX, DrillPlan, Scratch
from alfresco_backup.errors import BackupError, BackupUnsound, NotVerified, ToolFailed
from alfresco_backup.host.foreign_server import require_startable_here
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import in_image
from alfresco_backup.host.postmaster import postmaster
from alfresco_backup.host.service_control import stop_service
from alfresco_backup.postgres.conf_file import CONF
from alfresco_backup.postgres.programs import program_of_version
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.layout import MANIFEST
from alfresco_backup.restore.journal.journal import Journal, restoring_name
from alfresco_backup.restore.journal.journal_record import JOURNAL
from alfresco_backup.restore.recovery.recovery_files import CONTROL_FILE, CONTROL_PARTIAL
from alfresco_backup.restore.recovery.restoration import Restoration, put_restore_wal
from alfresco_backup.restore.recovery.server_files import give_copies
from alfresco_backup.settings.commands import install_postgresql_command
from alfresco_backup.system.accounts import Account, acting_as
from alfresco_backup.system.files import write_bytes, write_text
from alfresco_backup.system.folders import make_folder, reading, remove_tree, set_access
from alfresco_backup.system.processes import Command, run

HBA = "local all all trust\n"
HOUR = 3600.0
PASSABLE = 0o711
FOUND_DAMAGE = 1
"""The exit code of pg_verifybackup and pg_checksums that have found something."""
OWN_WORDS = "pg_verifybackup: "
"""How its lines about findings begin. `out of memory` (fe_memutils.c) has the same exit code, and is none."""


def scratch_host(host: Host, scratch: Scratch) -> Host:
    """The host of the drill: other places, a socket of its own, no command of the live one."""
    settings = host.settings.model_copy(
        update={
            "pg_data_dir": scratch.data_directory,
            "pghost": str(scratch.sockets),
            "pg_start_command": "",
            "pg_stop_command": "",
        }
    )
    installation = replace(
        host.installation, data_directory=scratch.data_directory, control_script=None, solr_indexes=()
    )
    return Host(settings, installation, host.repository, beside=True)


def isolation(host: Host, scratch: Scratch) -> dict[str, str]:
    """Settings that isolate the drill's server: no TCP, no archive, no libraries, jobs or old paths.

    Its socket is in a folder that only its account may enter, so every connection is accepted.
    """
    return {
        "listen_addresses": "",
        "port": str(host.settings.pgport),
        "unix_socket_directories": str(scratch.sockets),
        "hba_file": str(scratch.root / "pg_hba.conf"),
        "ident_file": str(scratch.root / "pg_ident.conf"),
        "external_pid_file": "",
        "archive_mode": "off",
        "ssl": "off",
        "shared_preload_libraries": "",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "max_logical_replication_workers": "0",
        "shared_buffers": "128MB",
        "huge_pages": "off",
        "autovacuum": "off",
    }


def supported(settings: Mapping[str, str], version: int) -> dict[str, str]:
    """Without those a server of that version does not know."""
    unknown = facts_of(version).unknown_settings
    return {name: value for name, value in settings.items() if name not in unknown}


def open_drill(host: Host, drill: DrillPlan, account: Account, log: Path) -> Restoration:
    """Make the drill's folder, and the restoration that writes to it.

    The account of the drill's server passes through it to folders of its own, and can change nothing else.
    """
    require_startable_here(host, drill.database.base)
    scratch = drill.scratch
    folder = scratch.restores / drill.plan.restore_id
    for place in (scratch.root, scratch.restores, folder):
        make_folder(place, PASSABLE)
    for place in (scratch.sockets, scratch.tablespaces, drill.database.saved_wal):
        make_folder(place, 0o700, account)
    for name, text in {"pg_hba.conf": HBA, "pg_ident.conf": ""}.items():
        write_text(scratch.root / name, text, 0o600, account)
    put_restore_wal(folder)
    journal = Journal.begin(folder, drill.plan.restore_id, drill.plan.host, {"kind": "drill"})
    return _restoration(host, drill, journal, account, log)


def reopen_drill(host: Host, drill: DrillPlan, account: Account, log: Path) -> Restoration:
    """The restoration of a folder that open_drill made, with another plan for the same places."""
    folder = drill.scratch.restores / drill.plan.restore_id
    return _restoration(host, drill, Journal(folder / JOURNAL), account, log)


def _restoration(host: Host, drill: DrillPlan, journal: Journal, account: Account, log: Path) -> Restoration:
    overrides = supported(isolation(host, drill.scratch), drill.database.base.postgresql_version)
    alone = scratch_host(host, drill.scratch)
    return Restoration(alone, drill.plan, journal.path.parent, journal, account, log, overrides)


def verify_extracted(restoration: Restoration) -> str:
    """Compare every extracted file with the manifest's checksums; says what was verified, empty for nothing.

    Without a manifest, as before PostgreSQL 13 and of the predecessor, there is nothing to compare with. The
    program runs as the account of what was extracted, for which there is a copy of the manifest. Raises
    BackupUnsound naming what differs, NotVerified where the program cannot do its work. Tablespaces, which
    have no links yet, are left out, and it says so.
    """
    base = restoration.database.base
    manifest = base.path / MANIFEST
    if not (facts_of(base.postgresql_version).has_manifest and manifest.is_file()):
        return ""
    directory = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
    ignored = (CONTROL_FILE, CONTROL_PARTIAL, "pg_tblspc")
    copy = restoration.folder / MANIFEST
    with reading(manifest) as stream:
        write_bytes(copy, stream.read(), 0o600, restoration.account)
    ignoring = (option for name in ignored for option in ("-i", name))
    options = ("-n", "-q", "-m", str(copy), *ignoring, str(directory))
    command = _program(restoration, "pg_verifybackup", options, (directory, restoration.folder))
    _verify(command, OWN_WORDS, f"base backup {base.stamp} is damaged", restoration)
    left_out = ", ".join(space.name for space in base.tablespaces)
    which = f" outside the tablespaces ({left_out}, whose files were not compared)" if left_out else ""
    return f"every file{which} agrees with the manifest of the base backup"


def _program(
    restoration: Restoration, name: str, options: tuple[str, ...], places: Sequence[Path]
) -> Command:
    """A program of the server's version that reads files of its account, in some places."""
    host = restoration.host
    if host.settings.pg_container:
        return in_image(host, name, options, places, restoration.account)
    programs = program_of_version(host.settings, name, restoration.database.base.postgresql_version)
    limit = host.settings.recovery_limit_hours * HOUR
    return Command((programs.path(name), *options), limit, account=restoration.account)


def _verify(command: Command, sign: str, damage: str, restoration: Restoration) -> None:
    """Run a program that ends with 1 and says `sign` where it finds damage.

    Raises BackupUnsound then, NotVerified where it ended otherwise.
    """
    try:
        run(command, log=restoration.log)
    except ToolFailed as error:
        if error.returncode == FOUND_DAMAGE and sign in error.tail:
            raise BackupUnsound(
                f"{damage}: {error.message}", f"less {shlex.quote(str(restoration.log))}"
            ) from error
        version = facts_of(restoration.database.base.postgresql_version).label.rpartition(".")[0]
        raise NotVerified(error.message, install_postgresql_command(version)) from error


def give_configuration(restoration: Restoration) -> list[str]:
    """The set's copies in place of links out of the data directory; says what was replaced, and by what.

    An empty postgresql.conf, where the live server's is elsewhere and in no base backup.
    """
    replaced = give_copies(restoration)
    directory = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
    with acting_as(restoration.account):
        if not (directory / CONF).exists():
            write_text(directory / CONF, "", 0o600)
            replaced.append(f"{CONF}, which is outside the data directory, was replaced by an empty one")
    return [*replaced, f"settings of the drill's own server: {', '.join(sorted(restoration.overrides))}"]


def has_page_checksums(restoration: Restoration) -> bool:
    """Whether the pages of the running server have checksums."""
    return restoration.host.database.value("SHOW data_checksums") == "on"


def check_pages(restoration: Restoration) -> str:
    """Verify every page checksum of the stopped server; says what was verified.

    Empty before PostgreSQL 11, which has no program for it. Raises like verify_extracted.
    """
    version = restoration.database.base.postgresql_version
    name = facts_of(version).checksum_program
    if not name:
        return ""
    directory = restoration.database.data_directory
    command = _program(restoration, name, ("-D", str(directory)), (directory,))
    _verify(command, "Bad checksums", "pages of the database are damaged", restoration)
    return "every page agrees with its checksum"


def stop_drill(restoration: Restoration) -> None:
    stop_service(restoration.host, "postgresql", restoration.log)


def remove_drill(host: Host, scratch: Scratch, log: Path) -> None:
    """Stop the server of a drill, if it runs, and remove all of its folder. Repeating it is harmless."""
    alone = scratch_host(host, scratch)
    contained = host.settings.pg_container and scratch.root.exists()
    if contained or postmaster(alone.installation.data_directory) is not None:
        stop_service(alone, "postgresql", log)
    if scratch.root.exists():
        remove_tree(scratch.root)


def remove_left_over(host: Host, folder: Path, log: Path) -> list[str]:
    """Remove the folders of drills that were killed; returns their names."""
    left = recoveries_in(folder, PREFIX)
    for path in left:
        remove_drill(host, Scratch(folder, path.name.removeprefix(PREFIX)), log)
    return [path.name for path in left]


def make_drill_folder(folder: Path) -> None:
    """The folder of all drills; other accounts may pass through it to their own files."""
    try:
        make_folder(folder, PASSABLE, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            set_access(folder, os.geteuid(), folder.stat().st_gid, PASSABLE, follow=True)
    except OSError as error:
        raise BackupError(
            f"DRILL_DIR={folder} cannot be created: {error.strerror}",
            f"ls -ld {shlex.quote(str(folder.parent))}",
        ) from error
