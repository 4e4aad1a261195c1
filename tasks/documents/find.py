"""The steps of `find-document`: ask the live database, or one recovered to the time asked for."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.content import make_shelves
from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.nodes import LIVE_STORE, TRASHCAN, Node
from alfresco_backup.documents.results import Findings, Now, judge_now, make_hits, row_of
from alfresco_backup.documents.search import Found, by_uuid, search
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host, Run
from alfresco_backup.repository.sets import Catalogue
from tasks.runs.history import publish_table


@task(name="search-live", cache_policy=NO_CACHE, retries=0)
def search_live(host: Host, criteria: Criteria) -> tuple[Found, Found] | None:
    """What fits in the live database, and in its trashcan; None where it cannot be asked."""
    try:
        database = host.database
        live = Found(()) if criteria.deleted_since else search(database, criteria, LIVE_STORE)
        return live, search(database, criteria, TRASHCAN)
    except BackupError as error:
        get_run_logger().warning("the live database cannot be asked: %s", error.message)
        return None


@task(name="search-recovered", cache_policy=NO_CACHE, retries=0)
def search_recovered(recovered: Host, criteria: Criteria) -> Found:
    """What fits in a recovered database."""
    return search(recovered.database, criteria)


@task(name="compare-with-live", cache_policy=NO_CACHE, retries=0)
def compare_with_live(host: Host, nodes: Sequence[Node]) -> list[Now]:
    """What became of nodes since; `not known` where the live database cannot be asked."""
    try:
        now = by_uuid(host.database, [node.uuid for node in nodes])
    except BackupError as error:
        get_run_logger().warning("the live database cannot be asked: %s", error.message)
        return ["not known"] * len(nodes)
    return [judge_now(node, now.get(node.uuid)) for node in nodes]


@task(name="locate-content", cache_policy=NO_CACHE, retries=0)
def locate(
    run_: Run, catalogue: Catalogue, asked: Criteria, as_of: str, found: Found, now: Sequence[Now]
) -> Findings:
    """Look for the content files, and publish the table."""
    shelves = make_shelves(run_.host.installation.stores, catalogue.snapshots)
    hits = make_hits(found.nodes, [shelves.find(node.content) for node in found.nodes], now)
    if asked.missing:
        hits = tuple(hit for hit in hits if hit.now not in {"as then", "not known"})
    warnings = tuple(f"this database has no table {name}" for name in found.absent)
    findings = Findings(asked.words, as_of, hits, found.more, warnings)
    publish_table(run_.host.name, [row_of(hit) for hit in hits], "documents", findings.sentence)
    return findings
