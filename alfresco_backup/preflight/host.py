"""Preflight of a host, before anything is copied: tools, places, server, space. Needs no Prefect."""

import os
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from alfresco_backup.backup.base import choose_method
from alfresco_backup.backup.server import database_bytes, find_tablespaces
from alfresco_backup.backup.server_files import server_files_of
from alfresco_backup.backup.space import SHARE_OF_THE_STORE, Expected, expect_base, expect_content
from alfresco_backup.contentstore.volumes import volume_behind
from alfresco_backup.errors import HostNotReady
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.alfresco_files import unreadable_keystores
from alfresco_backup.host.foreign_server import why_not_backed_up_here
from alfresco_backup.host.host import Host, Run
from alfresco_backup.preflight.database import check_archiving, check_content_places, check_database
from alfresco_backup.preflight.files import check_file_system, closed_folders
from alfresco_backup.preflight.rules import (
    RepositoryFolder,
    judge_absent_places,
    judge_inodes,
    judge_protection,
    judge_repository,
    judge_space,
)
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import require_known
from alfresco_backup.repository.records import MAIN_STORE, BaseBackup, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.settings.commands import configure_command, edit_setting, own_links, program_command
from alfresco_backup.system.accounts import account_for_people, known_account, owner_of
from alfresco_backup.system.folders import untrusted_link
from alfresco_backup.times import size_for_people

FILES_OF_A_RUN = 1000  # tars, configuration, metadata, logs and some WAL


def inspect_host(run_: Run, components: Sequence[str], catalogue: Catalogue) -> list[Finding]:
    """All findings for the chosen components. Raises only for what is no finding at all."""
    host = run_.host
    server_is_needed = {"postgres", "configuration"} & set(components)
    if server_is_needed and (reason := why_not_backed_up_here(host)):
        return [reason]
    findings = [*check_tools(), *check_repository(host)]
    if not any(item.level == "error" for item in findings):
        findings += check_file_system(host)
    if "contentstore" in components:
        findings += check_stores(host)
        findings += check_snapshots_in_place(host) if catalogue.parts else []
    if "configuration" in components:
        findings += check_configuration(host)
    if "postgres" not in components:
        findings += judge_owner(catalogue.bases, host.name)
        findings += check_archive_in_place(host)
    else:
        database = check_database(host)
        findings += database
        if not any(item.level == "error" for item in database):
            findings += check_archiving(run_)
            findings += check_content_places(host) if "contentstore" in components else []
    if not any(item.level == "error" for item in findings):
        findings += check_space(host, components, catalogue)
    return findings


def judge_owner(bases: Sequence[BaseBackup], host: str) -> list[Finding]:
    """Whose BACKUP_DIR it is, for a run that the WAL archive's checks do not look at."""
    owner = next((base.host for base in reversed(bases) if base.host), host)
    if owner == host:
        return []
    what = f"its newest base backup is of host {owner}, this is {host}; their documents would be mixed"
    moved = f"{program_command('backup')}  # where the host was moved or renamed"
    return [error("BACKUP_DIR", what, f"{edit_setting('BACKUP_DIR')}\n{moved}")]


def check_archive_in_place(host: Host) -> list[Finding]:
    """Whether the WAL archive can be listed: every run audits it at the end, when all has been copied.

    Where BACKUP_DIR's disk is not mounted, it is the sign of that: all would go onto the disk below.
    """
    archive = host.repository.wal
    try:
        os.scandir(archive).close()
    except FileNotFoundError:
        mount = f"mount {shlex.quote(str(host.repository.root))}"
        new = f"{configure_command('--apply')}  # for a new one"
        return [error("WAL archive", f"{archive} does not exist; is the disk mounted?", f"{mount}\n{new}")]
    except OSError as failure:
        fix = f"ls -ld {shlex.quote(str(archive))}  # run it as root or as its owner"
        return [error("WAL archive", f"{archive} cannot be listed: {failure.strerror}", fix)]
    return []


def check_snapshots_in_place(host: Host) -> list[Finding]:
    """Whether the stores' folders of snapshots have anything in them; for a repository with backups.

    Runs fill such a folder when they make it: an empty one is where a disk of its own is not mounted, and a
    first copy of the whole store would go onto the disk below.
    """
    places = [host.repository.store(name).root for name in host.installation.stores]
    return [
        error(
            "BACKUP_DIR",
            f"{place} is empty, which no run leaves; is its disk mounted?",
            f"mount {shlex.quote(str(place))}\n"
            f"rmdir {shlex.quote(str(place))}  # where no disk is to be mounted there",
        )
        for place in places
        if os.access(place, os.R_OK) and place.is_dir() and not any(place.iterdir())
    ]


def check_tools() -> list[Finding]:
    """The programs every backup needs."""
    packages = {"rsync": "rsync", "zstd": "zstd", "tar": "tar", "setpriv": "util-linux"}
    return [
        ok(tool, f"is {shutil.which(tool)}")
        if shutil.which(tool)
        else error(tool, "is not installed", f"apt-get install {package}")
        for tool, package in packages.items()
    ]


def check_repository(host: Host) -> list[Finding]:
    path = host.repository.root
    if not path.is_dir():
        return judge_repository(path, None)
    data_directory = host.installation.data_directory
    if path.resolve().is_relative_to(data_directory.resolve()):
        what = (
            f"{path} is in the data directory {data_directory}; each base backup would contain all earlier "
            "ones, and a restore would set them aside with it"
        )
        return [error("BACKUP_DIR", what, edit_setting("BACKUP_DIR"))]
    try:
        require_known(host.repository)
    except HostNotReady as refused:
        return [error("BACKUP_DIR", refused.message, refused.hint)]
    status = path.stat()
    trusted = {0, os.geteuid(), *_data_owner(host)}
    seen = RepositoryFolder(
        mode=stat.S_IMODE(status.st_mode),
        writable=os.access(path, os.W_OK | os.X_OK),
        owner=account_for_people(owner_of(path)),
        me=known_account(os.geteuid(), os.getegid()).name or str(os.geteuid()),
        trusted=status.st_uid in trusted,
        closed=closed_folders(host, path),
        links=_untrusted_links(host.repository),
    )
    return judge_repository(path, seen)


def _untrusted_links(repository: Repository) -> tuple[Path, ...]:
    """Links on the way to the folders that backups and restores write to, which root does not follow."""
    places = [repository.logs, repository.postgres, repository.configurations, repository.contentstore.days]
    found = {untrusted_link(place) for place in places}
    return tuple(sorted(link for link in found if link))


def _data_owner(host: Host) -> tuple[int, ...]:
    try:
        return (host.account.uid,)
    except HostNotReady:
        return ()


def check_stores(host: Host) -> list[Finding]:
    findings = []
    for name, path in host.installation.stores.items():
        if not path.is_dir():
            fix = edit_setting("CONTENTSTORE_DIR" if name == MAIN_STORE else "EXTRA_CONTENT_DIRS")
            findings.append(error(f"content store {name}", f"{path} is not a directory", fix))
        elif not os.access(path, os.R_OK | os.X_OK):
            who = f"ls -ld {shlex.quote(str(path))}  # run it as root or as its owner"
            findings.append(error(f"content store {name}", f"{path} cannot be read", who))
        elif volume_behind(str(path)) is None:
            what = f"{path} is reached by a link of another account to a directory that is not its own"
            fix = own_links(untrusted_link(path) or path)
            findings.append(error(f"content store {name}", f"{what}: root does not follow it", fix))
        elif not any(path.iterdir()):
            what = f"{path} is empty (a new Alfresco writes files there at once); is the disk mounted?"
            level = error if name == MAIN_STORE else warning
            findings.append(level(f"content store {name}", what, f"mount {shlex.quote(str(path))}"))
        else:
            findings.append(ok(f"content store {name}", f"is {path}"))
    installation = host.installation
    findings += judge_absent_places(installation.named_but_absent, installation.store)
    if installation.keystore is None:
        what = "was not found; without it a restored Alfresco does not start"
        findings.append(warning("keystore", what, edit_setting("KEYSTORE_DIR")))
    for path in installation.solr_backups:  # those that were looked for are there
        if not path.is_dir():
            fix = f"mount {shlex.quote(str(path))}\n{edit_setting('SOLR_BACKUP_DIRS')}  # without it"
            findings.append(warning("Solr backup", f"{path} is no directory; no set contains it", fix))
    days, eager = installation.orphan_protect_days, installation.eager_cleanup
    file = installation.properties_file
    return [*findings, judge_protection(days, eager, host.settings.retention_days, file)]


def check_configuration(host: Host) -> list[Finding]:
    """Whether this account can read the configuration, which is copied last: hours after the rest."""
    findings = []
    for name, part in host.installation.configuration_parts.items():
        unreadable = sorted(_unreadable_below(part))
        if unreadable:
            more = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
            fix = f"namei -l {shlex.quote(str(unreadable[0]))}  # run it as root or as its owner"
            findings.append(error(f"configuration {name}", f"{unreadable[0]}{more} cannot be read", fix))
    for key, path in unreadable_keystores(host.installation).items():
        what = f"is {path} in alfresco-global.properties, which cannot be read as a file; no set contains it"
        findings.append(warning(key, what, f"namei -l {shlex.quote(str(path))}"))
    return [*findings, *_check_server_files(host)]


def _check_server_files(host: Host) -> Iterator[Finding]:
    """Files outside the data directory that PostgreSQL's configuration or a link names, and cannot open."""
    found = server_files_of(host)
    for level, files in ((error, found.missing), (warning, found.unread)):
        for path, why in files:
            what = f"{path} cannot be read by {account_for_people(host.account)}: {why}; no set contains it"
            fix = f"namei -l {shlex.quote(str(path))}  # without it PostgreSQL may not start again"
            yield level("configuration server-files", what, fix)


def _unreadable_below(part: Path) -> Iterator[Path]:
    """Links are left to rsync, which copies what leads out of the folder; what has vanished is no matter."""
    if not os.access(part, os.R_OK | os.X_OK):
        yield part
    for folder, folders, files in os.walk(part):
        wanted = dict.fromkeys(folders, os.R_OK | os.X_OK) | dict.fromkeys(files, os.R_OK)
        for name, access in wanted.items():
            path = Path(folder, name)
            if os.path.lexists(path) and not path.is_symlink() and not os.access(path, access):
                yield path


def check_space(host: Host, components: Sequence[str], catalogue: Catalogue) -> list[Finding]:
    """Space and inodes for this run, by what earlier ones needed."""
    expected = []
    if "postgres" in components:
        method = choose_method(host, bool(find_tablespaces(host)))
        plain_tars = method.compression == "afterwards"
        expected.append(expect_base(database_bytes(host), catalogue.bases, plain_tars=plain_tars))
    if "contentstore" in components:
        for name, path in host.installation.stores.items():
            past = catalogue.snapshots_of(name)
            expected.append(expect_content(name, past) or _expect_first(name, path, host, past))
    root = host.repository.root
    needed, why = sum(item.bytes for item in expected), " and ".join(item.why for item in expected)
    found = [judge_space(shutil.disk_usage(root).free, needed, root, why)]
    inodes = os.statvfs(root)
    if inodes.f_files:  # btrfs and others have no fixed number
        entries = FILES_OF_A_RUN + sum(item.entries for item in expected)
        found.append(judge_inodes(inodes.f_favail, entries, root))
    return found


def _expect_first(name: str, store: Path, host: Host, past: Sequence[Snapshot]) -> Expected:
    """All of a store, less what a first copy that was broken off has left: it is continued.

    Where the predecessor has left a snapshot, unchanged files are linked to it and only folders are made.
    """
    size, entries = _measure_tree(store)
    if past:
        return Expected(int(size * SHARE_OF_THE_STORE), entries, f"{name}: a hundredth of it")
    days = host.repository.store(name).days
    kept, kept_entries = _measure_tree(days) if days.is_dir() else (0, 0)
    why = f"{name}: all of it" + (f", {size_for_people(kept)} of it copied already" if kept else "")
    return Expected(max(0, size - kept), max(0, entries - kept_entries), why)


def _measure_tree(store: Path) -> tuple[int, int]:
    """Bytes on disk, and number of files and folders, of a content store.

    It visits every file, so it is asked only before the first snapshot.
    Links to volumes are followed down to the day trees, as the snapshot does.
    """
    total = entries = 0
    links = (str(path) for depth in ("*", "*/*", "*/*/*") for path in store.glob(depth) if path.is_symlink())
    volumes = (volume_behind(link) for link in links)
    for top in (str(store), *(volume.real for volume in volumes if volume)):
        for folder, _, names in os.walk(top):
            entries += 1 + len(names)
            for name in names:
                try:
                    total += Path(folder, name).lstat().st_blocks * 512
                except FileNotFoundError:
                    continue
    return total, entries
