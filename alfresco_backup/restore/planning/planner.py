"""From a request, the catalogue and the state of the host to a plan; or a refusal. Pure.

Everything that can refuse is checked here, before anything is stopped, moved or deleted; a refusal names what
is possible instead. Permissions and programs are checked by recovery/obstacles before a restore begins.
"""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.wal_files import MARKER
from alfresco_backup.repository.records import Configuration
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.choose_backup import (
    Choice,
    choose_set,
    choose_target_time,
    wanted_set,
)
from alfresco_backup.restore.planning.choose_content import (
    ContentChoice,
    choose_content,
    require_named_stores,
    set_aside_path,
)
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.known_damage import damage_warnings
from alfresco_backup.restore.planning.plan import IndexPlan, RestorePlan
from alfresco_backup.restore.planning.plan_database import plan_database, server_warnings
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.planning.steps import plan_steps, space_needs
from alfresco_backup.restore.planning.window import Reachable, find_reachable
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.times import for_people_and_utc, size_for_people


def make_restore_plan(
    request: RestoreRequest, catalogue: Catalogue, facts: HostFacts, restore_id: str
) -> RestorePlan:
    """The plan that answers a request. Raises Refused; nothing has been changed then.

    The plan is valid for these facts only: it is carried out at once, or made again.
    """
    _check_finished(facts)
    reachable = find_reachable(facts, catalogue.bases)
    choice, database, content = None, None, ContentChoice(())
    if request.kind == "contentstore":
        backup_set = wanted_set(request, catalogue, facts.now)
        content = choose_content(request, catalogue, facts, backup_set, facts.now, restore_id)
    else:
        _check_marker(facts)
        choose = choose_set if request.target_time is None else choose_target_time
        choice = choose(request, catalogue, facts, reachable)
        database = plan_database(choice, facts, restore_id, catalogue.bases)
        if request.kind != "postgres":
            content = choose_content(
                request, catalogue, facts, choice.backup_set, choice.state_time, restore_id
            )
    require_named_stores(content, catalogue, facts)
    indexes = tuple(plan_indexes(database.base.stamp, catalogue, facts, restore_id)) if database else ()
    damage = list(damage_warnings(request, choice, catalogue, facts, reachable)) if choice else []
    plan = RestorePlan(
        restore_id=restore_id,
        host=facts.host,
        kind=request.kind,
        database=database,
        content=content.stores,
        configuration=configuration_for(catalogue, choice) if choice else None,
        indexes=indexes,
        start_alfresco=request.start_alfresco,
        steps=(),
        space=space_needs(database, content.stores, facts),
        lost=lost_words(choice, reachable) if choice else _lost_content(content),
        restorable=reachable.sentence,
        warnings=(*damage, *_warnings(request, choice, facts), *content.warnings),
    )
    return replace(plan, steps=plan_steps(plan, facts, catalogue))


def _check_finished(facts: HostFacts) -> None:
    if facts.unfinished:
        raise Refused(
            f"restore {', '.join(facts.unfinished)} of {facts.host} was interrupted; undo it first",
            undo_command(facts.unfinished[0], facts.host),
        )


def _check_marker(facts: HostFacts) -> None:
    if facts.archive_marker_is_damaged:
        marker = facts.archive_directory / MARKER
        raise Refused(
            f"{marker} is damaged: recovery would stop before the end of the archived WAL; archive-wal "
            "writes this file again with the next segment",
            f"rm {shlex.quote(str(marker))}",
        )


def configuration_for(catalogue: Catalogue, choice: Choice) -> Configuration | None:
    """The set's own; for a target time the newest from before it, else the first after it."""
    if choice.backup_set is not None:
        return choice.backup_set.configuration
    before = [item for item in catalogue.configurations if item.started_at <= choice.state_time]
    return before[-1] if before else next(iter(catalogue.configurations), None)


def plan_indexes(stamp: str, catalogue: Catalogue, facts: HostFacts, restore_id: str) -> Iterator[IndexPlan]:
    """Each Solr index is set aside; what Solr copied before the restored base backup takes its place.

    Any other copy may know of transactions that the restored database does not have: it could be of a life
    that an earlier restore ended.
    """
    made = next((item for item in catalogue.configurations if item.stamp == stamp), None)
    for path in facts.solr_indexes:
        copy = made.path / made.indexes[core] if made and (core := core_of(path)) in made.indexes else None
        yield IndexPlan(path, set_aside_path(path, restore_id), copy)


def core_of(index: Path) -> str:
    """The Solr core of an index by its place: `data/archive`, `archive/index`, `archive/SpacesStore`, ..."""
    name = index.parent.name if index.name in ("SpacesStore", "index") else index.name
    return {"workspace": "alfresco"}.get(name, name)


def lost_words(choice: Choice, reachable: Reachable) -> str:
    """What the restored database will lack: how much WAL was written after the target, and until when."""
    latest = reachable.latest()
    current = reachable.known.live_timeline or (latest.interval.timeline if latest else choice.timeline)
    wal = reachable.known.wal
    path = wal.path(current)
    later = [
        written
        for span in path.spans
        for number, written in wal.times.get(span.timeline, {}).items()
        if written > choice.state_time and path.segment(number, wal.segment_size).timeline == span.timeline
    ]
    since = for_people_and_utc(choice.state_time)
    live = reachable.known.live_timeline is not None
    if not later:
        return f"nothing known after {since}" + ("" if live else "; WAL that was never archived is lost")
    size = size_for_people(len(later) * wal.segment_size)
    count = f"{len(later):,} WAL segments ({size})" if len(later) > 1 else "part of one WAL segment"
    until = for_people_and_utc(max(later))
    kept = "; the present data is set aside, an undo of the restore brings it back" if live else ""
    return f"every transaction committed after {since}: {count}, written until {until}{kept}"


def _lost_content(content: ContentChoice) -> str:
    moved = [str(store.set_aside) for store in content.stores if store.set_aside]
    if moved:
        return f"nothing: the present store is kept as {', '.join(moved)}"
    return "nothing: files are only added, or replaced by complete ones"


def _warnings(request: RestoreRequest, choice: Choice | None, facts: HostFacts) -> Iterator[str]:
    if choice is None:
        return
    yield from choice.warnings
    yield from server_warnings(choice.base, facts)
    if choice.base.legacy:
        yield (
            f"base backup {choice.base.stamp} was made by the predecessor: it has no checksums and no "
            "configuration"
        )
    if facts.search == "elasticsearch":
        yield (
            "the index of Search Enterprise is newer than the restored database: run Alfresco's reindexing "
            "application afterwards, with --alfresco.reindex.jobName=reindexByDate "
            f"--alfresco.reindex.fromTime={choice.state_time.astimezone(UTC):%Y%m%d%H%M} and a toTime "
            "of now; documents of the time since are found until then and do not open"
        )
    if facts.received and facts.received.defect:
        yield facts.received.defect
    if not facts.archive_readable:
        yield (
            f"the WAL archive {facts.archive_directory} cannot be read; only WAL from elsewhere is used, and "
            "the restored server cannot archive until that is fixed"
        )
    elif not facts.archive_begun:
        yield (
            f"the WAL archive {facts.archive_directory} is empty; only WAL from elsewhere is used, and the "
            "archive begins with the WAL of the restored server"
        )
    oldest = facts.now - timedelta(days=facts.orphan_protect_days)
    if request.kind == "postgres" and choice.state_time < oldest:
        yield (
            f"the database goes back more than {facts.orphan_protect_days:g} days and the content store is "
            "not restored: files deleted since may have been purged. A pitr restore brings them back as well"
        )
