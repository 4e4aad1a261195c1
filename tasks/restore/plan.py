"""Planning a restore: catalogue and host looked at, the plan made and shown. Changes nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from alfresco_backup.errors import HostNotReady
from alfresco_backup.host.host import Host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.plan_text import plan_markdown, plan_rows
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import Mode, RestoreRequest, check_request
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.restore.recovery.obstacles import find_obstacles
from alfresco_backup.restore.recovery.restoration import Restoration, asked_for
from alfresco_backup.times import STAMP_PATTERN, make_stamp, next_stamp, utc_now
from tasks.restore.begin import begin_restore
from tasks.runs.history import finished, name_restore, publish_markdown, publish_table
from tasks.runs.host_lock import host_lock, restore_wait


@task(name="plan-restore", cache_policy=NO_CACHE, retries=0)
def plan_restore(host: Host, request: RestoreRequest) -> RestorePlan:
    """Plan what was asked for, or refuse it with what can be had instead; the plan is shown."""
    plan = make_plan(host, request)
    text = plan_markdown(plan)
    publish_markdown(text, "restore-plan")
    publish_table(plan_rows(plan), "restore-steps", f"Plan {plan.stamp}")
    logger = get_run_logger()
    logger.info("%s", text)
    for warning in plan.warnings:
        logger.warning(warning)
    return plan


def new_stamp(restores: Path) -> str:
    """A stamp later than every earlier restore's; the second of the last one is waited out."""
    past = [path.name for path in restores.glob("*Z") if STAMP_PATTERN.fullmatch(path.name)]
    newest = max(past, default=None)
    if newest == make_stamp(utc_now()):
        time.sleep(1)
    return next_stamp(utc_now(), newest)


def plan_or_execute(
    host: Host, request: RestoreRequest, carry_out: Callable[[Restoration], State[str]]
) -> State[str]:
    """Plan what was asked for; to execute it, hold the host's lock and let `carry_out` do the steps.

    Raises Refused and HostBusy; nothing has been touched then.
    """
    request = check_request(request, host.name)  # before anything is waited for
    with restore_lock(host, request.mode):
        plan = plan_restore(host, request)
        if request.mode == "plan":
            return planned(plan)
        restoration = begin_restore(host, plan)
        name_restore(asked_for(plan), plan.stamp)
        return carry_out(restoration)


def planned(plan: RestorePlan) -> State[str]:
    """What a flow returns that only planned."""
    return finished(f"planned, nothing touched: {plan.lost}", plan_markdown(plan))


def make_plan(host: Host, request: RestoreRequest) -> RestorePlan:
    """See plan_restore. Raises Refused, HostNotReady; nothing has been touched then."""
    request = check_request(request, host.name)
    root = host.repository.root
    if not root.is_dir():
        raise HostNotReady(f"BACKUP_DIR={root} does not exist; is the disk mounted?", f"ls -ld {root}")
    restores = host.repository.restores(host.name)
    require_finished(restores, host.name)
    catalogue = read_catalogue(host.repository, limit_bytes=None)
    stamp = new_stamp(restores)
    plan = make_restore_plan(request, catalogue, inspect_host(host, catalogue), stamp)
    if request.mode == "execute":
        return plan
    obstacles = [f"to be fixed before execution: {item.with_hint}" for item in find_obstacles(host, plan)]
    return replace(plan, warnings=(*plan.warnings, *obstacles))


@contextmanager
def restore_lock(host: Host, mode: Mode) -> Iterator[None]:
    """Hold the host's lock while a restore is carried out; a plan needs none."""
    if mode == "plan":
        yield
        return
    with host_lock(host, restore_wait(host)):
        yield
