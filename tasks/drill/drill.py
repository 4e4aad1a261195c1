"""A restore drill: a backup restored beside the live host, checked, and removed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.proof import Proof, write_proof, write_unfinished
from alfresco_backup.contentstore.check import ContentCheckResult, Places
from alfresco_backup.contentstore.reread import Reread
from alfresco_backup.drill.place import drill_folder, live_places
from alfresco_backup.drill.plan import DrillPlan, DrillRequest, Scratch, check_place, plan_drill
from alfresco_backup.drill.server import (
    check_pages,
    give_configuration,
    has_page_checksums,
    make_drill_folder,
    open_drill,
    remove_drill,
    remove_left_over,
    stop_drill,
    verify_extracted,
)
from alfresco_backup.drill.verdict import is_damage, require_whole
from alfresco_backup.errors import BackupError, BackupUnsound, HostNotReady, NotVerified, ToolTimedOut
from alfresco_backup.host.foreign_server import require_startable_here
from alfresco_backup.host.host import Host, Run
from alfresco_backup.offsite.drilling import FarCopy
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.recovery.configuration import KEYSTORE, compare_configuration, digests_below
from alfresco_backup.restore.recovery.observe import free_space, inspect_host
from alfresco_backup.restore.recovery.recovery_files import prepare_recovery
from alfresco_backup.restore.recovery.restoration import Restoration, restored_owner
from alfresco_backup.restore.recovery.saved_wal import save_wal
from alfresco_backup.system.accounts import Account
from alfresco_backup.times import utc_now
from tasks.backup.begin import remove_searched_databases
from tasks.restore.content_check import check_stores, deleted_content
from tasks.restore.database import extract
from tasks.restore.opening import require_normal_access
from tasks.restore.recovery import Reached, reach
from tasks.runs.progress import Progress

TABLES = ("alf_node", "alf_node_properties", "alf_content_url", "alf_content_data", "alf_transaction")
NEWEST_COMMIT = "SELECT to_timestamp(max(commit_time_ms) / 1000.0) FROM alf_transaction"
CATALOGUE = "SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
HOUR = 3600.0


@dataclass
class Drill:
    """A drill under way: what is planned, where, and how long each step took.

    `findings` are about the set that it restores and count against it, `elsewhere` those that are not.
    """

    plan: DrillPlan
    restoration: Restoration
    seconds: dict[str, float] = field(default_factory=dict)
    verified: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    unverified: list[BackupError] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    checked: ContentCheckResult | None = None
    reread: Reread | None = None
    far: FarCopy | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)
        get_run_logger().info("%s: %.1f s", name, self.seconds[name])

    def verify(self, check: Callable[[Restoration], str]) -> None:
        """Enter what a check did; where it could not be made, that. Raises BackupUnsound."""
        try:
            self.verified.append(check(self.restoration))
        except NotVerified as error:
            self.unverified.append(error)
            get_run_logger().error("could not be verified: %s", error)


@dataclass(frozen=True)
class DatabaseState:
    """What is in the recovered database. `newest_commit` is Alfresco's own clock of its last transaction."""

    rows: dict[str, int]
    newest_commit: datetime | None


@task(name="plan-drill", task_run_name="plan of the drill", cache_policy=NO_CACHE, retries=0)
def plan(run_: Run, catalogue: Catalogue, asked: DrillRequest, far: FarCopy | None = None) -> DrillPlan:
    """Remove what drills that were killed left, and plan; refused before anything else is written."""
    host = run_.host
    require_startable_here(host)
    folder = drill_folder(host)
    check_place(folder, live_places(host))
    for name in remove_left_over(host, folder, run_.log):
        get_run_logger().warning("removed %s, left by a drill that was killed", name)
    remove_searched_databases(run_)
    make_drill_folder(folder)
    scratch = Scratch(folder, run_.stamp)
    space = free_space(folder)
    if far:
        until = far.restorable_until
        decided = plan_drill(asked, far.catalogue, far.facts(), scratch, space, not_after=until)
    else:
        decided = plan_drill(asked, catalogue, inspect_host(host, catalogue), scratch, space)
    database = decided.database
    get_run_logger().info(
        "drill of base backup %s to %s in %s",
        database.base.stamp,
        decided.target_time.isoformat(),
        scratch.root,
    )
    return decided


@contextmanager
def scratch_server(run_: Run, decided: DrillPlan, far: FarCopy | None = None) -> Iterator[Drill]:
    """The drill's folder; it is removed afterwards with all that runs in it, however the body ended."""
    host = run_.host
    try:
        drill = Drill(decided, open_drill(host, decided, owner(host, decided), run_.log), far=far)
        drill.elsewhere += decided.damaged
        try:
            yield drill
        except BackupError as error:
            if is_damage(error, decided.database.target):
                drill.findings.append(error.message)
            else:
                drill.unverified.append(error)
            write_unfinished(_proof_folder(drill), proof_of(drill, drill.checked))
            raise
    finally:
        remove_drill(host, decided.scratch, run_.log)


def note_proof(drill: Drill, checked: ContentCheckResult) -> None:
    """Note the result: beside the base backup, that of the off-site copy in BACKUP_DIR/offsite."""
    write_proof(_proof_folder(drill), proof_of(drill, checked))


def _proof_folder(drill: Drill) -> Path:
    return drill.far.notes if drill.far else drill.plan.database.base.path


def proof_of(drill: Drill, checked: ContentCheckResult | None) -> Proof:
    """The result of a drill so far. Its RTO counts the steps that a restore has too."""
    target = drill.plan.database.target
    return Proof(
        stamp=drill.plan.database.base.stamp,
        proven_at=utc_now(),
        reached=None if target.kind == "immediate" else drill.plan.target_time,
        rto_seconds=round(sum(drill.seconds.get(name, 0.0) for name in ("fetch", "extract", "recover")), 3),
        documents=checked.checked if checked else 0,
        missing=checked.lost if checked else 0,
        findings=tuple(drill.findings),
        elsewhere=tuple(drill.elsewhere),
        restorable_until=drill.plan.restorable_until,
        rpo_seconds=drill.plan.rpo_seconds,
        steps=dict(drill.seconds),
        reread=drill.reread,
        unverified=tuple(error.message for error in drill.unverified),
        not_checked=checked.elsewhere if checked else {},
        source="offsite" if drill.far else "local",
    )


def owner(host: Host, decided: DrillPlan) -> Account:
    """The account of the drill's server: the live server's, else the one a restore would choose."""
    try:
        return host.account
    except HostNotReady:
        return restored_owner(host, decided.plan)


@task(name="drill-restore", task_run_name="restore beside the host", cache_policy=NO_CACHE, retries=0)
def restore(drill: Drill) -> Reached:
    """Extract the base backup, compare it with its manifest, recover it to the target."""
    restoration = drill.restoration
    extracting = Progress(restoration.host.name, "drill, extract database")
    with drill.step("extract"):
        try:
            save_wal(restoration)
            extract(restoration, extracting)
        except BackupError as error:
            if not isinstance(error, ToolTimedOut):  # it reads the whole base backup again
                require_whole(restoration.database.base, error)
            raise
    extracting.finish()
    with drill.step("verify"):
        drill.verify(verify_extracted)
    recovering = Progress(restoration.host.name, "drill, recover database", "segments")
    with drill.step("recover"):
        drill.replaced += give_configuration(restoration)
        prepare_recovery(restoration)
        reached = reach(restoration, recovering)
        require_normal_access(restoration.host)
    recovering.finish()
    get_run_logger().info("recovered: %s", reached.sentence())
    return reached


@task(name="drill-look", task_run_name="inspect the restored database", cache_policy=NO_CACHE, retries=0)
def inspect_database(drill: Drill) -> DatabaseState:
    """Query the recovered database: its catalogue, Alfresco's tables, its newest transaction."""
    database = drill.restoration.host.database
    with drill.step("look"):
        if int(database.value(CATALOGUE)) == 0:
            raise BackupUnsound("the recovered database has an empty catalogue")
        rows = {table: int(database.value(f"SELECT count(*) FROM {table}")) for table in TABLES}
        text = database.value(NEWEST_COMMIT)
    return DatabaseState(rows, datetime.fromisoformat(text) if text else None)


@task(name="drill-documents", task_run_name="content check", cache_policy=NO_CACHE, retries=0)
def check_documents(drill: Drill, csv_file: Path) -> ContentCheckResult:
    """Check the content file of every document in the snapshots that a restore would copy it from."""
    host = drill.restoration.host
    deleted = deleted_content(host)
    deleted = replace(deleted, main=None) if deleted else None  # the live store is not to be changed by it
    progress = Progress(host.name, "content check", "documents")
    with drill.step("content check"):
        result = check_stores(
            host.database,
            Places(drill.plan.stores, deleted),
            csv_file,
            limit_seconds=host.settings.contentstore_limit_hours * HOUR,
            parallel=host.settings.parallel_copies,
            on_progress=progress,
        )
    drill.checked = result
    progress.finish()
    get_run_logger().info("content check: %s", result.sentence())
    if not result.checked:
        drill.unverified.append(result.nothing_checked())
    return result


@task(name="drill-keystore", task_run_name="compare the keystore", cache_policy=NO_CACHE, retries=0)
def check_keystore(drill: Drill) -> None:
    """Compare the keystore of the backup with its recorded checksums, and with the live one."""
    configuration = drill.plan.plan.configuration
    live = drill.restoration.host.installation.keystore
    if configuration is None:
        return
    recorded = {name: digest for name, digest in configuration.digests.items() if name.startswith(KEYSTORE)}
    with drill.step("keystore"):
        kept = dict(digests_below(configuration.path / KEYSTORE, KEYSTORE))
        damaged = compare_configuration(configuration.stamp, recorded, kept)
        other = compare_configuration(configuration.stamp, recorded, dict(digests_below(live, KEYSTORE)))
    if damaged.keystore:
        names = ", ".join(damaged.keystore)
        own = configuration.stamp == drill.plan.database.base.stamp
        found = drill.findings if own else drill.elsewhere
        found.append(f"the keystore of backup {configuration.stamp} is damaged: {names}")
    elif live and other.keystore:
        drill.elsewhere.append(other.sentences()[0])


@task(name="drill-pages", task_run_name="page checksums", cache_policy=NO_CACHE, retries=0)
def check_stopped(drill: Drill) -> None:
    """Stop the drill's server and verify every page checksum, where it has any."""
    with drill.step("pages"):
        has_checksums = has_page_checksums(drill.restoration)
        stop_drill(drill.restoration)
        try:
            if has_checksums:
                drill.verify(check_pages)
        except BackupUnsound as error:
            drill.findings.append(error.message)
