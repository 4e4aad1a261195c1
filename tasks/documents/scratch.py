"""The recovered database of a search: kept from an earlier one, or recovered now."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.scratch import (
    PREFIX,
    READ_ONLY,
    ScratchDatabase,
    fitting,
    kept_databases,
    note_used,
    remove_old,
    serving,
)
from alfresco_backup.drill.place import drill_folder, live_places
from alfresco_backup.drill.plan import DrillRequest, Scratch, check_place, plan_drill
from alfresco_backup.drill.server import give_configuration, make_drill_folder, open_drill, remove_drill
from alfresco_backup.host.host import Host, Run
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.request import LATEST, Latest
from alfresco_backup.restore.recovery.observe import free_space, inspect_host
from alfresco_backup.restore.recovery.recovery_files import prepare_recovery
from alfresco_backup.restore.recovery.saved_wal import save_wal
from alfresco_backup.times import for_people, utc_now
from tasks.drill.drill import owner
from tasks.restore.database import extract
from tasks.restore.recovery import reach
from tasks.runs.host_lock import host_lock, restore_wait
from tasks.runs.progress import Progress

AsOf = datetime | Latest | str
"""A target time, a backup ID, or `latest`."""


@contextmanager
def recovered(run_: Run, catalogue: Catalogue, as_of: AsOf) -> Iterator[tuple[Host, str]]:
    """A host whose database is as of then, read only, and what it was recovered to, in words.

    The host lock is held only while it is recovered: until then retention could remove what it is made of.
    """
    host = run_.host
    check_place(drill_folder(host), live_places(host))
    for name in remove_old(host, utc_now(), run_.log):
        get_run_logger().info("removed %s, which was not used any more", name)
    kept = fitting(kept_databases(host), _asked(as_of))
    if kept is None:
        with host_lock(host, restore_wait(host)):
            kept = recover_database(run_, catalogue, as_of)
    else:
        get_run_logger().info("%s is there from an earlier search", kept.scratch.root.name)
    note_used(kept, utc_now())
    with serving(host, kept.scratch, run_.log) as alone:
        yield alone, kept.reached


@task(name="recover-scratch-database", cache_policy=NO_CACHE, retries=0)
def recover_database(run_: Run, catalogue: Catalogue, as_of: AsOf) -> ScratchDatabase:
    """Recover a database beside the live host, as a restore drill does. After a failure it is removed."""
    host = run_.host
    folder = drill_folder(host)
    make_drill_folder(folder)
    scratch = Scratch(folder, run_.stamp, PREFIX)
    facts = inspect_host(host, catalogue)
    decided = plan_drill(_request(as_of), catalogue, facts, scratch, free_space(folder))
    get_run_logger().info(
        "base backup %s is recovered to %s in %s",
        decided.database.base.stamp,
        decided.target_time.isoformat(),
        scratch.root,
    )
    try:
        opened = open_drill(host, decided, owner(host, decided), run_.log)
        restoration = replace(opened, overrides={**opened.overrides, **READ_ONLY})
        save_wal(restoration)
        extracting = Progress(host.name, "documents, extract database")
        extract(restoration, extracting)
        extracting.finish()
        give_configuration(restoration)
        prepare_recovery(restoration)
        recovering = Progress(host.name, "documents, recover database", "segments")
        reached = reach(restoration, recovering)
        recovering.finish()
    except BaseException:
        remove_drill(host, scratch, run_.log)
        raise
    get_run_logger().info("recovered: %s", reached.sentence())
    words = f"{for_people(decided.target_time)} ({reached.sentence()})"
    done = ScratchDatabase(scratch, _asked(as_of), decided.database.base.stamp, words, utc_now())
    return note_used(done, utc_now())


def _request(as_of: AsOf) -> DrillRequest:
    if isinstance(as_of, datetime):
        return DrillRequest(LATEST, as_of)
    return DrillRequest(LATEST, "latest") if as_of == LATEST else DrillRequest(as_of, "end")


def _asked(as_of: AsOf) -> str:
    """By what a kept database is known again. `latest` is another state each time."""
    if isinstance(as_of, datetime):
        return as_of.astimezone(UTC).isoformat()
    return f"{LATEST} {utc_now().isoformat()}" if as_of == LATEST else as_of
