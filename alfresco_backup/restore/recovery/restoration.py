"""A restore that is being carried out: its plan, its folder, its journal; and what can still refuse it."""

import os
import pwd
import shlex
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.errors import BackupError, Refused, ToolFailed
from alfresco_backup.findings import finding_lines
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import RESTORE_WAL, SOCKETS
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.restore.planning.plan import DatabasePlan, RestorePlan, Step
from alfresco_backup.restore.recovery.obstacles import PROBE_SECONDS, existing_part, find_obstacles
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.system.accounts import Account, account_for_people, known_account, owner_of
from alfresco_backup.system.files import fsync_directory, replacing, set_umask
from alfresco_backup.system.folders import appending, make_folder, make_folders, remove_tree, set_access
from alfresco_backup.system.processes import Command, run
from alfresco_backup.system.signals import raise_ignored
from alfresco_backup.wal.archive import archived_path

PASSABLE = 0o755


@dataclass(frozen=True)
class Restoration:
    """One restore under way. `account` is whom the restored data directory will belong to."""

    host: Host
    plan: RestorePlan
    folder: Path
    journal: Journal
    account: Account
    log: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Settings of PostgreSQL for as long as it recovers, besides those every recovery has."""
    pause: bool = False
    """Stay paused at the target as a hot standby where that is possible, so that replay can go on later."""

    @property
    def database(self) -> DatabasePlan:
        """The plan of the database. Only for restores that have one."""
        if self.plan.database is None:
            raise BackupError(f"restore {self.plan.restore_id} does not restore a database")
        return self.plan.database

    @property
    def restore_wal(self) -> Path:
        """The copy of restore-wal that PostgreSQL's account can run, whoever owns the project's folder."""
        return self.folder / RESTORE_WAL.name

    def plans(self, step: Step) -> bool:
        return any(planned.step is step for planned in self.plan.steps)

    @contextmanager
    def noted(self, step: Step) -> Iterator[None]:
        """Note a step's beginning, end or failure. Raises BackupError for errors of the system, too."""
        raise_ignored()
        started = time.monotonic()
        self.journal.step_started(step)
        try:
            yield
        except BackupError as error:
            self.journal.step_failed(step, time.monotonic() - started, error.message)
            if isinstance(error, Refused):  # which would tell that nothing was changed
                raise BackupError(error.message, error.hint) from error
            raise
        except OSError as error:
            self.journal.step_failed(step, time.monotonic() - started, str(error))
            raise BackupError(f"{step.value}: {error}") from error
        self.journal.step_ended(step, time.monotonic() - started)

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """The same for a step that leaves the host partly restored: an error's hint ends with the undo."""
        try:
            with self.noted(step):
                yield
        except BackupError as error:
            undo = f"{self.undo}  # undoes the restore: this host is only partly restored"
            error.hint = "\n".join(filter(None, (error.hint, undo)))
            raise

    @property
    def undo(self) -> str:
        """The command that undoes this restore."""
        return undo_command(self.plan.restore_id, self.plan.host)


def open_restoration(host: Host, plan: RestorePlan) -> Restoration:
    """See begin_restore. Raises Refused with all obstacles; then no journal was begun."""
    restores = host.repository.restores(host.name)
    require_finished(restores, host.name)
    set_umask()
    account = restored_owner(host, plan)
    obstacles = list(find_obstacles(host, plan))
    if obstacles:
        lines = ["the restore cannot be carried out:", *finding_lines(obstacles)]
        raise Refused("\n".join(lines), obstacles[0].fix)
    folder = restores / plan.restore_id
    log = host.repository.logs / f"restore-{plan.kind}-{plan.restore_id}.log"
    about = {
        "kind": plan.kind,
        "asked": asked_for(plan),
        "steps": [planned.step.value for planned in plan.steps],
        "log": str(log),
        "process": os.getpid(),
    }
    with _refused_when_not_writable(host.repository.root):
        make_folder(log.parent, 0o750, exist_ok=True)
        appending(log).close()
        make_folders(folder.parent)
        make_folder(folder)
        try:
            _open_to_all(restores.parent, restores)
            if plan.database is not None:
                _prepare_wal(folder, plan.database, account)
                if host.settings.pg_container:
                    make_folder(folder / SOCKETS, 0o700, account)
            journal = Journal.begin(folder, plan.restore_id, plan.host, about)
        except BaseException:
            remove_tree(folder)
            raise
    return Restoration(host, plan, folder, journal, account, log)


@contextmanager
def _refused_when_not_writable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = shlex.quote(str(root))
        raise Refused(
            f"BACKUP_DIR={root}, where a restore keeps its journal, cannot be written to: {error}. Run the "
            "restore as root or as the owner of BACKUP_DIR",
            f"df -h {place}; df -i {place}; ls -ld {place}",
        ) from error


def asked_for(plan: RestorePlan) -> str:
    """What was asked for, in one line."""
    if plan.database is None:
        snapshot = next((source.snapshot for source in plan.content[0].sources if source.snapshot), None)
        return f"content of snapshot {snapshot.stamp if snapshot else '(none)'}"
    target = plan.database.target
    if target.kind == "immediate":
        return f"the end of base backup {plan.database.base.stamp}"
    if target.time is None:
        return "the end of all WAL"
    return f"the state at {target.time.isoformat(sep=' ')}"


def restored_owner(host: Host, plan: RestorePlan) -> Account:
    """The account that PostgreSQL's files will belong to.

    The owner of the data directory in place; of the folder it belongs in; of the base backup's folder, which
    its server's account owned in older sets; the first that is not root, for whom PostgreSQL does not start;
    the account that the set names; else `postgres`. An ordinary user can only restore for itself. Raises
    Refused when none is there.
    """
    if os.geteuid() != 0:
        return known_account(os.geteuid(), os.getegid())
    if plan.database is None:
        return owner_of(existing_part(plan.content[0].path))
    if host.settings.pg_container:
        return host.account
    data_directory = plan.database.data_directory
    if data_directory.exists() and (in_place := owner_of(data_directory)).uid != 0:
        return in_place
    base = plan.database.base
    for place in (existing_part(data_directory.parent), base.path):
        owner = owner_of(place)
        if owner.uid != 0 and owner.name:
            return owner
    for name in filter(None, (base.account, "postgres")):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise Refused(
        f"no account to own the data directory {data_directory} was found: there is no account `postgres`, "
        "and root cannot own it. Create the folder above it as a folder of PostgreSQL's account",
        f"ls -ld {shlex.quote(str(data_directory.parent))}",
    )


def _open_to_all(*folders: Path) -> None:
    """Let PostgreSQL's account pass folders that an earlier run made under a stricter umask."""
    for folder in folders:
        status = folder.stat()
        if stat.S_IMODE(status.st_mode) & PASSABLE != PASSABLE and os.geteuid() in (0, status.st_uid):
            set_access(folder, status.st_uid, status.st_gid, PASSABLE, follow=True)


def _prepare_wal(folder: Path, database: DatabasePlan, account: Account) -> None:
    """Put restore-wal where PostgreSQL's account can run it, and make the folder for saved WAL."""
    program = put_restore_wal(folder)
    make_folder(database.saved_wal, 0o700, account)
    fsync_directory(folder)
    _require_access(program, "-x", account, f"namei -l {shlex.quote(str(program))}")
    _require_readable_wal(database, account)


def put_restore_wal(folder: Path) -> Path:
    """A copy of restore-wal that any account can run that can pass the folder."""
    program = folder / RESTORE_WAL.name
    with replacing(program, PASSABLE) as stream:
        stream.write(RESTORE_WAL.read_bytes())
        os.fchmod(stream.fileno(), PASSABLE)
    return program


def _require_readable_wal(database: DatabasePlan, account: Account) -> None:
    """Refuse WAL that PostgreSQL's account may not read: segments can be read by their owner only.

    That is another account where the backup is of another machine, or PostgreSQL was installed again. Checked
    are the first and the last segment: a hundred thousand between them would take minutes.
    """
    name = account.name or str(account.uid)
    for folder in database.wal_sources:
        place = shlex.quote(str(folder))
        fix = f"chown -R {account_for_people(account)} {place}"
        if folder == database.wal_sources[0]:
            acl = f"setfacl -R -m u:{name}:rX {place}"
            fix = f"{fix}  # unless another server archives there\n{acl}  # if another server archives there"
        _require_access(folder, "-x", account, f"namei -l {place}\n{fix}")
        _require_access(folder, "-r", account, fix)
        for segment in (database.first_segment, database.last_segment):
            if path := archived_path(folder, segment):
                _require_access(path, "-r", account, fix)


def _require_access(path: Path, how: str, account: Account, fix: str) -> None:
    """Raise Refused unless PostgreSQL's account can pass a folder or run a program (-x), or read it (-r)."""
    try:
        run(Command(("test", how, str(path)), PROBE_SECONDS, account=account))
    except ToolFailed as error:
        what = "read" if how == "-r" else "reach"
        passable = "" if how == "-r" else "; every folder of this path must be passable for it"
        raise Refused(
            f"PostgreSQL's account {account_for_people(account)} cannot {what} {path}, which recovery "
            f"needs{passable}",
            fix,
        ) from error
