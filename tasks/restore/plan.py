"""Planning a restore: catalogue and host inspected, the plan made and shown. Changes nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.fetch import fetch, forget_metadata, learn
from alfresco_backup.offsite.locks import lock_in
from alfresco_backup.offsite.restoring import fetching_of, plan_from_far, whole_catalogue
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.plan_text import plan_markdown
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreRequest, RunMode, require_confirmed
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.restore.recovery.obstacles import find_obstacles
from alfresco_backup.restore.recovery.restoration import Restoration, asked_for
from alfresco_backup.times import STAMP_PATTERN, make_stamp, next_stamp, size_for_people, utc_now
from tasks.restore.begin import begin_restore
from tasks.runs.history import finished, name_restore, publish_markdown
from tasks.runs.host_lock import host_lock, restore_wait
from tasks.runs.progress import Progress


@task(name="plan-restore", task_run_name="plan of the restore", cache_policy=NO_CACHE, retries=0)
def plan_restore(host: Host, request: RestoreRequest) -> RestorePlan:
    """Plan what was asked for, or refuse it with what is possible instead; the plan is shown."""
    plan = make_plan(host, request)
    text = plan_markdown(plan)
    publish_markdown(host.name, text, "restore-plan")
    logger = get_run_logger()
    logger.info("%s", text)
    for warning in (*plan.warnings, *(obstacle.with_hint for obstacle in plan.obstacles)):
        logger.warning(warning)
    return plan


def new_restore_id(restores: Path) -> str:
    """An ID later than every earlier restore's; the second of the last one is waited out."""
    past = [path.name for path in restores.glob("*Z") if STAMP_PATTERN.fullmatch(path.name)]
    newest = max(past, default=None)
    if newest == make_stamp(utc_now()):
        time.sleep(1)
    return next_stamp(utc_now(), newest)


def plan_or_execute(
    host: Host, request: RestoreRequest, carry_out: Callable[[Restoration], State[str]]
) -> State[str]:
    """Plan what was asked for; to execute it, hold the host's lock and let `carry_out` do the steps.

    Raises Refused and HostBusy; nothing has been changed then.
    """
    if request.mode == "execute":  # before anything is waited for
        require_confirmed("a restore", request.confirm, host.name)
    with restore_lock(host, request.mode):
        if request.mode == "execute" and request.source == "offsite":
            request = fetch_for_restore(host, request)
        plan = plan_restore(host, request)
        if request.mode == "plan":
            return planned(plan)
        restoration = begin_restore(host, plan)
        name_restore(asked_for(plan), plan.restore_id)
        return carry_out(restoration)


def planned(plan: RestorePlan) -> State[str]:
    """What a flow returns that only planned."""
    return finished(f"planned, nothing changed; lost by it: {plan.lost}", plan_markdown(plan))


def make_plan(host: Host, request: RestoreRequest) -> RestorePlan:
    """See plan_restore. Raises Refused, HostNotReady; nothing has been changed then."""
    host.require_repository()
    restores = host.repository.restores(host.name)
    require_finished(restores, host.name)
    if request.source == "offsite":
        return _make_far_plan(host, request)
    catalogue = read_catalogue(host.repository, limit_bytes=None)
    restore_id = new_restore_id(restores)
    plan = make_restore_plan(request, catalogue, inspect_host(host, catalogue), restore_id)
    if request.mode == "execute":
        return plan
    return replace(plan, obstacles=tuple(find_obstacles(host, plan)))


def _make_far_plan(host: Host, request: RestoreRequest) -> RestorePlan:
    fetching = fetching_of(host)
    with lock_in(host.repository, host.name, "fetch"):
        restore_id = new_restore_id(host.repository.restores(host.name))
        plan, _, _ = plan_from_far(host, request, fetching, restore_id)
        forget_metadata(fetching)
    return replace(plan, obstacles=tuple(find_obstacles(host, plan)))


def read_far_sets_of(host: Host) -> Catalogue:
    """The backups that are whole in the off-site copy. Fetches metadata only; raises as `learn`."""
    fetching = fetching_of(host)
    with lock_in(host.repository, host.name, "fetch"):
        catalogue = whole_catalogue(learn(fetching))
        forget_metadata(fetching)
    return catalogue


@task(
    name="fetch-for-restore", task_run_name="fetch from the off-site copy", cache_policy=NO_CACHE, retries=0
)
def fetch_for_restore(host: Host, request: RestoreRequest) -> RestoreRequest:
    """Fetch what a restore needs from the off-site copy; the request that restores the same from BACKUP_DIR.

    It is planned from the metadata first: what cannot be restored is refused before anything is fetched.
    """
    host.require_repository()
    restores = host.repository.restores(host.name)
    require_finished(restores, host.name)
    progress = Progress(host.name, "fetch from the off-site copy")
    fetching = fetching_of(host, progress)
    logger = get_run_logger()
    with lock_in(host.repository, host.name, "fetch"):
        plan, fetched, known = plan_from_far(host, request, fetching, new_restore_id(restores))
        logger.info("to fetch, %s: %s", size_for_people(fetched.bytes), plan.fetched)
        for finding in fetch(fetching, known, fetched):
            logger.warning("it was not whole when it was sent: %s", finding)
    progress.finish()
    backup = plan.database.base.stamp if plan.database else request.backup
    return replace(request, source="local", backup=backup)


@contextmanager
def restore_lock(host: Host, mode: RunMode) -> Iterator[None]:
    """Hold the host's lock while a restore is carried out; a plan needs none."""
    if mode == "plan":
        yield
        return
    with host_lock(host, restore_wait(host)):
        yield
