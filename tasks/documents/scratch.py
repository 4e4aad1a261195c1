"""The recovered database of a search: kept from an earlier one, replayed further, or recovered now."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.scratch import (
    PREFIX,
    READ_ONLY,
    SERVER_LOG,
    ScratchDatabase,
    ScratchServer,
    bytes_kept,
    host_of,
    is_current,
    kept_databases,
    note_unfinished,
    note_used,
    remove,
    remove_all,
    remove_old,
    scratch_server,
)
from alfresco_backup.drill.place import drill_folder, live_places
from alfresco_backup.drill.plan import DrillPlan, DrillRequest, Scratch, check_place, plan_drill
from alfresco_backup.drill.server import (
    give_configuration,
    make_drill_folder,
    open_drill,
    reopen_drill,
)
from alfresco_backup.errors import BackupError, RecoveryNotReached
from alfresco_backup.host.foreign_server import require_startable_here
from alfresco_backup.host.host import Host, Run
from alfresco_backup.host.service_control import server_watch
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.planning.request import LATEST, Latest
from alfresco_backup.restore.recovery.observe import free_space, inspect_host
from alfresco_backup.restore.recovery.recovery_files import prepare_recovery, write_settings
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.restore.recovery.saved_wal import save_wal
from alfresco_backup.system.accounts import owner_of
from alfresco_backup.times import for_people, utc_now
from tasks.drill.drill import owner
from tasks.restore.database import extract
from tasks.restore.recovery import HOUR, START_LOG, Follower, Reached, Replay, follow, reach, require_paused
from tasks.runs.host_lock import host_lock, restore_wait
from tasks.runs.progress import Progress

AsOf = datetime | Latest | str
"""A target time, a backup ID, or `latest`."""


@contextmanager
def recovered(run_: Run, as_of: AsOf) -> Iterator[tuple[Host, str]]:
    """A host whose database is as of then, read only, and what it was recovered to, in words.

    The host lock is held only while it is recovered: until then retention could remove what it is made of.
    """
    host = run_.host
    require_startable_here(host)
    check_place(drill_folder(host), live_places(host))
    for name in remove_old(host, utc_now(), run_.log):
        get_run_logger().info("removed %s, which was not used any more", name)
    with scratch_server(run_.log) as server:
        kept = open_kept(run_, as_of, server)
        if kept is None:
            with host_lock(host, restore_wait(host)):
                kept = recover_database(run_, as_of, server)
        note_used(kept, utc_now())
        yield host_of(host, kept), kept.reached
        note_used(kept, utc_now())


@task(
    name="open-scratch-database",
    task_run_name="open the recovered database",
    cache_policy=NO_CACHE,
    retries=0,
)
def open_kept(run_: Run, as_of: AsOf, server: ScratchServer) -> ScratchDatabase | None:
    """Start the server of a database that an earlier search left as of just then; None where there is none.

    Its own folder has all the WAL that it replays again to where it was. What does not come there is removed.
    """
    asked = _asked(as_of)
    found = [
        item for item in kept_databases(run_.host) if item.asked == asked and is_current(run_.host, item)
    ]
    if not found:
        return None
    kept, alone = found[0], host_of(run_.host, found[0])
    get_run_logger().info("%s is there from an earlier search", kept.scratch.root.name)
    try:
        output = kept.scratch.root / SERVER_LOG
        account = owner_of(kept.scratch.data_directory)
        logs = [Follower(output), Follower(kept.recovery_log, account)]
        server.start(alone, output)
        if kept.paused:
            progress = Progress(run_.host.name, "documents, recover database", "segments")
            limit = run_.settings.recovery_limit_hours * HOUR
            log = follow(Replay(server_watch(alone), limit, 0, pause=True), logs, progress)
            progress.finish()
            if not log.paused_at_target:
                raise RecoveryNotReached(f"the replay of {kept.scratch.root.name} did not end where it did")
            require_paused(alone, kept.target)
        server.wait()
    except BackupError as error:
        get_run_logger().warning("%s is removed: %s", kept.scratch.root.name, error.message)
        server.stop()
        remove(run_.host, kept.scratch, run_.log)
        return None
    return kept


@task(
    name="recover-scratch-database",
    task_run_name="recover a database beside the host",
    cache_policy=NO_CACHE,
    retries=0,
)
def recover_database(run_: Run, as_of: AsOf, server: ScratchServer) -> ScratchDatabase:
    """Recover a database beside the live host, from a kept one of an earlier time, else from a base backup.

    After a failure it is removed. At most one is kept, so another one makes room first. The backups are read
    again: while the host lock was waited for they may have changed.
    """
    host = run_.host
    folder = drill_folder(host)
    make_drill_folder(folder)
    catalogue = read_catalogue(host.repository)
    facts = inspect_host(host, catalogue)
    space = free_space(folder)
    space = replace(space, free_bytes=space.free_bytes + bytes_kept(host))
    scratch = Scratch(folder, run_.stamp, PREFIX)
    decided = plan_drill(_request(as_of), catalogue, facts, scratch, space)
    for kept in kept_databases(host):
        if kept.leads_to(decided) and is_current(host, kept):
            further = plan_drill(_request(as_of), catalogue, facts, kept.scratch, space)
            try:
                return replay_further(run_, kept, further, _asked(as_of), server)
            except BackupError as error:
                get_run_logger().warning("%s: %s", kept.scratch.root.name, error.message)
    for name in remove_all(host, run_.log):
        get_run_logger().info("removed %s, to make room for another time", name)
    try:
        return extract_and_recover(run_, decided, _asked(as_of), server)
    except BaseException:
        server.stop()
        remove(host, scratch, run_.log)
        raise


def extract_and_recover(run_: Run, decided: DrillPlan, asked: str, server: ScratchServer) -> ScratchDatabase:
    """Extract a base backup and recover it, as a restore drill does."""
    host = run_.host
    get_run_logger().info(
        "base backup %s is recovered to %s in %s",
        decided.database.base.stamp,
        decided.target_time.isoformat(),
        decided.scratch.root,
    )
    opened = open_drill(host, decided, owner(host, decided), run_.log)
    restoration = _read_only(opened)
    save_wal(restoration)
    extracting = Progress(host.name, "documents, extract database")
    extract(restoration, extracting)
    extracting.finish()
    give_configuration(restoration)
    prepare_recovery(restoration)
    return _recover(restoration, decided, asked, server)


def replay_further(
    run_: Run, kept: ScratchDatabase, further: DrillPlan, asked: str, server: ScratchServer
) -> ScratchDatabase:
    """Replay a paused database to a later target. From the beginning on it is of no known time."""
    get_run_logger().info(
        "%s is replayed from %s to %s",
        kept.scratch.root.name,
        kept.time.isoformat(),
        further.target_time.isoformat(),
    )
    note_unfinished(kept)
    directory = kept.scratch.data_directory
    restoration = _read_only(reopen_drill(run_.host, further, owner_of(directory), run_.log))
    facts = facts_of(further.database.base.postgresql_version)
    write_settings(restoration, directory, facts, further.database.target)
    try:
        return _recover(restoration, further, asked, server)
    except BaseException:
        server.stop()
        raise


def _recover(
    restoration: Restoration, decided: DrillPlan, asked: str, server: ScratchServer
) -> ScratchDatabase:
    """Recover to what is decided, and note that it is complete."""
    recovering = Progress(restoration.plan.host, "documents, recover database", "segments")
    reached = reach(restoration, recovering, lambda each: server.start(each.host, each.folder / START_LOG))
    recovering.finish()
    get_run_logger().info("recovered: %s", reached.sentence())
    if reached.paused:
        _need_no_archive(restoration)
    return note_used(_kept(decided, asked, reached), utc_now())


def _kept(decided: DrillPlan, asked: str, reached: Reached) -> ScratchDatabase:
    database = decided.database
    return ScratchDatabase(
        scratch=decided.scratch,
        host=decided.plan.host,
        asked=asked,
        base=database.base.stamp,
        reached=f"{for_people(decided.target_time)} ({reached.sentence()})",
        used_at=utc_now(),
        kind=database.target.kind,
        time=decided.target_time,
        timeline=database.timeline,
        system_identifier=database.base.system_identifier,
        paused=reached.paused,
    )


def _need_no_archive(restoration: Restoration) -> None:
    """Let later starts replay from the database's own folder: what was fetched since the last restart point
    is still there (KeepFileRestoredFromArchive in xlogarchive.c), and retention cannot remove it.
    """
    database = restoration.database
    facts = facts_of(database.base.postgresql_version)
    own: tuple[Path, ...] = (database.data_directory / facts.wal_directory,)
    plan = replace(restoration.plan, database=replace(database, wal_sources=own, skipped_segments=()))
    write_settings(replace(restoration, plan=plan), database.data_directory, facts, database.target)


def _read_only(opened: Restoration) -> Restoration:
    """Paused at its target where it has one; the end of all WAL has none."""
    pause = opened.database.target.kind in {"time", "immediate"}
    return replace(opened, overrides={**opened.overrides, **READ_ONLY}, pause=pause)


def _request(as_of: AsOf) -> DrillRequest:
    if isinstance(as_of, datetime):
        return DrillRequest(LATEST, as_of)
    return DrillRequest(LATEST, "latest") if as_of == LATEST else DrillRequest(as_of, "end")


def _asked(as_of: AsOf) -> str:
    """By what a kept database is known again. `latest` is another state each time."""
    if isinstance(as_of, datetime):
        return as_of.astimezone(UTC).isoformat()
    return f"{LATEST} {utc_now().isoformat()}" if as_of == LATEST else as_of
