"""The steps of `restore-document`: which nodes, as of when, and their export."""

import os
import pwd
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from alfresco_backup.documents.content import OffSite, Shelves, shelves_of
from alfresco_backup.documents.criteria import RestoreOrder
from alfresco_backup.documents.export import (
    Export,
    exporting,
    remove_all_unfinished,
    remove_unfinished,
    require_space,
    require_target,
)
from alfresco_backup.documents.export_content import Contents
from alfresco_backup.documents.export_records import Exported
from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails
from alfresco_backup.documents.queries import read_details
from alfresco_backup.documents.search import only_asking, with_all_below
from alfresco_backup.errors import BackupError, DocumentsMissing, Refused
from alfresco_backup.host.host import Host, Run
from alfresco_backup.postgres.database import Database
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.settings.commands import program_command, restore_documents_command
from alfresco_backup.system.folders import make_folder
from alfresco_backup.times import for_people, utc_now
from tasks.documents.scratch import AsOf, recovered
from tasks.runs.history import publish_markdown
from tasks.runs.host_lock import host_lock, restore_wait


@dataclass(frozen=True)
class AsWanted:
    """The nodes to restore, the database that describes them, and as of when that is, in words."""

    database: Database
    nodes: tuple[Node, ...]
    as_of: str
    not_found: tuple[str, ...]

    def details(self, nodes: Sequence[Node] | None = None) -> Iterator[NodeDetails]:
        """All that the database tells of the nodes, or of some of them."""
        return read_details(self.database, self.nodes if nodes is None else nodes, with_versions=True)


@contextmanager
def documents_as_of(run_: Run, order: RestoreOrder, as_of: AsOf) -> Iterator[AsWanted]:
    """The nodes as of then, from the live database where that is `latest` and it answers.

    Raises Refused where there are more than the limit, DocumentsMissing where there is none.
    """
    live = choose_live(run_.host, order) if as_of == LATEST else None
    if live:
        yield live
        return
    with recovered(run_, as_of) as (copy, words):
        yield choose_nodes(copy.database, order, words, as_of)


@task(name="choose-live-nodes", task_run_name="choose documents", cache_policy=NO_CACHE, retries=0)
def choose_live(host: Host, order: RestoreOrder) -> AsWanted | None:
    """The nodes of the live database and its trashcan; None where it cannot be asked."""
    try:
        return choose_nodes(only_asking(host.database), order, f"now, {for_people(utc_now())}")
    except (Refused, DocumentsMissing):
        raise
    except BackupError as error:
        get_run_logger().warning("the live database cannot be asked: %s", error.message)
        return None


def choose_nodes(database: Database, order: RestoreOrder, words: str, as_of: AsOf = LATEST) -> AsWanted:
    """The nodes asked for, with all below them."""
    found, count = with_all_below(database, order.nodes, order.limit)
    if found.more:
        raise Refused(
            f"{count} documents and folders are asked for, more than the limit of {order.limit}",
            restore_documents_command(order.nodes, str(as_of), count, versions=order.versions),
        )
    there = {node.uuid for node in found.nodes}
    missing = tuple(uuid for uuid in order.nodes if uuid not in there)
    if not found.nodes:
        raise DocumentsMissing(
            f"no node is {', '.join(missing)}, as of {words}", program_command("documents", "find", "--help")
        )
    return AsWanted(database, found.nodes, words, missing)


@task(name="prepare-export", task_run_name="prepare the export", cache_policy=NO_CACHE, retries=0)
def prepare_export(run_: Run, to: str) -> Path:
    """The folder to export to, which can be made; what killed exports left is removed."""
    host = run_.host
    exports = host.repository.exports
    target = Path(to) if to else exports / run_.stamp
    if not to:
        make_folder(exports, 0o700, exist_ok=True)
    removed = remove_all_unfinished(exports)
    require_target(host, target)
    for path in (*removed, *remove_unfinished(target)):
        get_run_logger().info("removed %s, left by an export that did not finish", path)
    return target


@task(name="export-documents", task_run_name="export documents", cache_policy=NO_CACHE, retries=0)
def export_documents(
    run_: Run, catalogue: Catalogue, order: RestoreOrder, wanted: AsWanted, target: Path
) -> Exported:
    """Write the nodes into the folder. The host lock is held only where snapshots are read."""
    asked_by = who_asked()
    logger = get_run_logger()
    logger.info("%s asked for %s, as of %s", _named(asked_by), ", ".join(order.nodes), wanted.as_of)
    require_space(target, _bytes_wanted(wanted, order), len(wanted.nodes))
    manifest: dict[str, Any] = {"id": run_.stamp, "host": run_.host.name, "started_at": utc_now().isoformat()}
    manifest |= {"as_of": wanted.as_of, "asked": list(order.nodes), "asked_by": asked_by}
    with exporting(target, manifest, versions=order.versions) as export:
        _write_all(run_, catalogue, wanted, export)
        result = Exported(
            host=run_.host.name,
            as_of=wanted.as_of,
            asked=order.nodes,
            asked_by=asked_by,
            folder=target,
            tally=export.tally,
            renamed=tuple(export.names.changed),
            not_found=wanted.not_found,
            identity=export.identity,
        )
        ended = {"state": "done", "finished_at": utc_now().isoformat()}
        export.write_manifest({**manifest, **ended, **result.document()})
    logger.info("%s, in %s", result.sentence, target)
    publish_markdown(run_.host.name, result.text(), "export")
    return result


def _write_all(run_: Run, catalogue: Catalogue, wanted: AsWanted, export: Export) -> None:
    """First what a live store has; then, with the host locked against retention, what snapshots have.

    Last, without that lock since it takes long, what the off-site copy alone has. A copy that turns out to be
    damaged, when it is read, is looked for there at once.
    """
    host = run_.host
    shelves, off_site = shelves_of(host, catalogue), OffSite(host)
    used = [Contents(shelves, off_site)]
    left = export.write(wanted.details(), used[0], snapshots=False)
    if left:
        with host_lock(host, restore_wait(host)):
            shelves = shelves_of(host, read_catalogue(run_.repository))
            far = bool(host.settings.offsite_repository)
            used.append(Contents(shelves, off_site, leaves_off_site=far))
            left = export.write(wanted.details(left), used[-1], snapshots=True)
    if left:
        off_site.ask(_without_copy_here(wanted.details(left), shelves))
        used.append(Contents(shelves, off_site))
        export.write(wanted.details(left), used[-1], snapshots=True)
    for file in sorted({file for contents in used for file in contents.unread}):
        export.tally.warnings[f"the checksums in {file} cannot be read"] = None
    if off_site.away:
        get_run_logger().warning("the off-site copy cannot be asked: %s", off_site.away.message)


def _without_copy_here(details: Iterable[NodeDetails], shelves: Shelves) -> Iterator[ContentFile]:
    """The contents of nodes, and of their versions, that no place of this host has."""
    for one in details:
        for content in (one.node.content, *(version.content for version in one.versions)):
            if content and shelves.find(content).kind == "lost":
                yield content


def _bytes_wanted(wanted: AsWanted, order: RestoreOrder) -> int:
    """The sizes that Alfresco recorded."""
    size = sum(node.content.size for node in wanted.nodes if node.content)
    if order.versions:
        for details in wanted.details():
            size += sum(version.content.size for version in details.versions if version.content)
    return size


def who_asked() -> dict[str, str]:
    """Who asked, as far as it is known: the account, who became root by sudo, and the run in Prefect."""
    asked = {"account": str(os.getuid())}
    with suppress(KeyError):
        asked["account"] = pwd.getpwuid(os.getuid()).pw_name
    asked |= {"sudo_user": os.environ["SUDO_USER"]} if os.environ.get("SUDO_USER") else {}
    context = FlowRunContext.get()
    if context and context.flow_run:
        asked["flow_run"] = context.flow_run.name
        creator = context.flow_run.created_by
        if creator and creator.display_value:
            asked["created_by"] = creator.display_value
    return asked


def _named(asked_by: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked_by.items())
