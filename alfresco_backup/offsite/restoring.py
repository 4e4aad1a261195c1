"""Plans a restore from the off-site copy, and what has to be fetched for it. Fetches metadata only."""

from dataclasses import replace
from datetime import datetime

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.engine import OnProgress
from alfresco_backup.offsite.fetch import Fetching, learn, present
from alfresco_backup.offsite.known import Known
from alfresco_backup.offsite.wanted import FetchPlan, Wanted, is_whole, plan_fetch
from alfresco_backup.repository.sets import Catalogue, group_into_sets
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.settings.env_file import env_file_path


def fetching_of(host: Host, on_progress: OnProgress | None = None) -> Fetching:
    """A fetch into the host's BACKUP_DIR. Raises SettingsError and HostNotReady."""
    limit = host.settings.contentstore_limit_hours * 3600
    return Fetching(engine_of(host), host.name, host.repository, env_file_path(), limit, on_progress)


def plan_from_far(
    host: Host, request: RestoreRequest, fetching: Fetching, restore_id: str
) -> tuple[RestorePlan, FetchPlan, Known]:
    """The plan of a restore as if all that is whole there were here, and what of it is not here yet.

    Raises Refused as the planner does, and what Engine.run raises.
    """
    known = learn(fetching, request.exact_time, request.backup)
    catalogue = whole_catalogue(known)
    plan = make_restore_plan(request, catalogue, inspect_host(host, catalogue, known.wal), restore_id)
    wanted = wanted_by(plan)
    fetched = plan_fetch(known, wanted, host.repository.root, present(host.repository))
    words = wanted.words if fetched.pieces else "nothing, all of it is here"
    return replace(plan, fetched=words, fetched_bytes=fetched.bytes), fetched, known


def whole_catalogue(known: Known) -> Catalogue:
    """The backups that are there with all they refer to."""
    sent = known.far.sets.keys()
    bases = tuple(item for item in known.catalogue.bases if item.stamp in sent)
    snapshots = tuple(item for item in known.catalogue.snapshots if is_whole(item, known.far))
    configurations = tuple(item for item in known.catalogue.configurations if item.stamp in sent)
    sets = group_into_sets(bases, snapshots, configurations)
    return Catalogue(sets, bases, snapshots, configurations, known.catalogue.problems)


def wanted_by(plan: RestorePlan) -> Wanted:
    """What a restore's plan reads."""
    database = plan.database
    snapshots = [source.snapshot for store in plan.content for source in store.sources if source.snapshot]
    until: datetime | None = None
    if database is not None:
        until = database.base.stopped_at if database.target.kind == "immediate" else None
        until = database.target.time if database.target.kind == "time" else until
    return Wanted(
        database.base if database else None, tuple(dict.fromkeys(snapshots)), plan.configuration, until
    )
