"""A drill of the off-site copy: which copy it is, and what is fetched for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.proof import read_far_proof, read_proof
from alfresco_backup.drill.place import drill_folder, live_places, recoveries_in
from alfresco_backup.drill.plan import DrillPlan, DrillRequest, SourceOfDrill, check_place
from alfresco_backup.drill.server import PASSABLE, make_drill_folder
from alfresco_backup.host.host import Host, Run
from alfresco_backup.offsite.drilling import FarContent, FarCopy, fetch_for_drill, open_far_copy
from alfresco_backup.offsite.locks import lock_in
from alfresco_backup.offsite.restoring import wanted_by
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.request import Source
from alfresco_backup.system.folders import make_folder, remove_tree
from alfresco_backup.times import size_for_people
from tasks.drill.drill import Drill
from tasks.drill.reread import NAMED
from tasks.runs.progress import Progress

PREFIX = "offsite-"


@contextmanager
def copy_to_drill(
    run_: Run, catalogue: Catalogue, asked: DrillRequest, source: SourceOfDrill
) -> Iterator[FarCopy | None]:
    """The off-site copy's metadata in a folder of its own, removed afterwards; None: the repository here."""
    if choose_source(run_.host, catalogue, source) == "local":
        yield None
        return
    host, drills = run_.host, drill_folder(run_.host)
    check_place(drills, live_places(host))
    make_drill_folder(drills)
    for left in recoveries_in(drills, PREFIX):
        get_run_logger().warning("removed %s, left by a drill that was killed", left.name)
        remove_tree(left)
    folder = drills / f"{PREFIX}{run_.stamp}"
    make_folder(folder, PASSABLE)
    try:
        with lock_in(host.repository, host.name, "fetch"):
            yield read_copy(run_, folder, asked)
    finally:
        remove_tree(folder)


def choose_source(host: Host, catalogue: Catalogue, asked: SourceOfDrill) -> Source:
    """Which copy is drilled: `alternate` is the other one than last, here while there is no off-site copy."""
    if asked != "alternate":
        return asked
    if not host.settings.offsite_repository:
        return "local"
    here: list[datetime] = []
    for base in catalogue.bases:
        with suppress(OSError, ValueError):
            proof = read_proof(base.path, base.stamp)
            here += [proof.proven_at] if proof else []
    far = None
    with suppress(OSError, ValueError):
        far = read_far_proof(host.repository.offsite)
    if not here:
        return "local"
    return "offsite" if far is None or far.proven_at < max(here) else "local"


@task(name="drill-read-copy", task_run_name="metadata of the off-site copy", cache_policy=NO_CACHE, retries=0)
def read_copy(run_: Run, folder: Path, asked: DrillRequest) -> FarCopy:
    """Fetch the metadata of the off-site copy and read what is whole there."""
    target = asked.target if isinstance(asked.target, datetime) else None
    progress = Progress(run_.host.name, "drill, fetch")
    copy = open_far_copy(run_.host, folder, progress, backup=asked.backup, target=target)
    get_run_logger().info("%d sets are whole in the off-site copy", len(copy.catalogue.sets))
    return copy


@task(name="drill-fetch", task_run_name="fetch from the off-site copy", cache_policy=NO_CACHE, retries=0)
def fetch_copy(run_: Run, decided: DrillPlan, far: FarCopy) -> FarContent:
    """Fetch base backup, WAL and configuration, and this drill's share of the content."""
    started = time.monotonic()
    places = set(decided.stores.values())
    snapshots = tuple(item for item in far.catalogue.snapshots if item.path in places)
    wanted = replace(wanted_by(decided.plan), snapshots=snapshots)
    content = fetch_for_drill(far, wanted, run_.settings.drill_read_cycle)
    make_folder(far.host.repository.logs, 0o750, exist_ok=True)
    content.seconds = round(time.monotonic() - started, 3)
    get_run_logger().info("fetched in %.1f s: %s", content.seconds, wanted.words)
    return content


def note_content(drill: Drill, content: FarContent) -> None:
    """Enter what was fetched of the content, and what of it differs, into the drill's result."""
    drill.seconds["fetch"] = content.seconds
    drill.reread = content.reread
    for finding in content.findings:
        get_run_logger().error(finding)
    drill.findings += content.findings[:NAMED]
    read = f"{content.reread.sentence}, {size_for_people(content.reread.bytes)} fetched"
    get_run_logger().info(read)
