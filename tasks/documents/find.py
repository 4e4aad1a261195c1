"""The steps of `find-document`: ask the live database, or one recovered to the time asked for."""

from collections.abc import Sequence
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.content import NOT_ASKED, OffSite, Place, shelves_of
from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.missing import search_missing
from alfresco_backup.documents.nodes import Node
from alfresco_backup.documents.results import Findings, Now, judge_now, make_hits, row_of
from alfresco_backup.documents.search import Found, by_uuid, only_asking, search, search_both
from alfresco_backup.errors import BackupError, HostNotReady
from alfresco_backup.host.host import Host, Run
from alfresco_backup.repository.sets import Catalogue
from tasks.runs.history import publish_table


@task(name="search-live", task_run_name="search the live database", cache_policy=NO_CACHE, retries=0)
def search_live(host: Host, criteria: Criteria) -> Found | None:
    """What fits in the live database, and in its trashcan; None where it cannot be asked."""
    try:
        return search_both(only_asking(host.database), criteria)
    except BackupError as error:
        get_run_logger().warning("the live database cannot be asked: %s", error.message)
        return None


@task(
    name="search-recovered", task_run_name="search the recovered database", cache_policy=NO_CACHE, retries=0
)
def search_recovered(recovered: Host, criteria: Criteria, *, with_trashcan: bool) -> Found:
    """What fits in a recovered database; in its trashcan, too, where it stands for the live one."""
    return (search_both if with_trashcan else search)(recovered.database, criteria)


def require_live(host: Host) -> None:
    """Raise HostNotReady where the live database cannot be asked, before one is recovered to compare with."""
    try:
        only_asking(host.database).value("SELECT 1")
    except BackupError as error:
        raise HostNotReady(
            f"what is missing is found by comparing with the live database, which cannot be asked: "
            f"{error.message}",
            error.hint,
        ) from error


@task(name="search-missing", task_run_name="search for what is missing", cache_policy=NO_CACHE, retries=0)
def search_for_missing(host: Host, recovered: Host, criteria: Criteria) -> tuple[Found, list[Now]]:
    """What fits in a recovered database and is not so in the live one. Raises where that cannot be asked."""
    return search_missing(recovered.database, only_asking(host.database), criteria)


@task(
    name="compare-with-live", task_run_name="compare with the live database", cache_policy=NO_CACHE, retries=0
)
def compare_with_live(host: Host, nodes: Sequence[Node]) -> list[Now]:
    """What became of nodes since; `not known` where the live database cannot be asked."""
    try:
        now = by_uuid(only_asking(host.database), [node.uuid for node in nodes])
    except BackupError as error:
        get_run_logger().warning("the live database cannot be asked: %s", error.message)
        return ["not known"] * len(nodes)
    return [judge_now(node, now.get(node.uuid)) for node in nodes]


def with_off_site(host: Host, nodes: Sequence[Node], places: Sequence[Place]) -> list[Place]:
    """The places, those that are lost here looked for off-site; where that cannot be asked they stay lost."""
    off_site = OffSite(host)
    pairs = list(zip(nodes, places, strict=True))
    off_site.ask(node.content for node, place in pairs if node.content and place.kind == "lost")
    if off_site.away:
        get_run_logger().warning("the off-site copy cannot be asked: %s", off_site.away.message)

    def place_of(node: Node, here: Place) -> Place:
        if here.kind != "lost" or not node.content:
            return here
        if off_site.away:
            return replace(here, looked=(*here.looked, NOT_ASKED), unread=True)
        far = off_site.find(node.content)
        return replace(far.place, looked=here.looked) if far else here

    return [place_of(node, here) for node, here in pairs]


@task(name="locate-content", task_run_name="locate content", cache_policy=NO_CACHE, retries=0)
def locate(
    run_: Run, catalogue: Catalogue, asked: Criteria, as_of: str, found: Found, now: Sequence[Now]
) -> Findings:
    """Look for the content files, and publish the table."""
    shelves = shelves_of(run_.host, catalogue)
    places = with_off_site(run_.host, found.nodes, [shelves.find(node.content) for node in found.nodes])
    hits = make_hits(found.nodes, places, now)
    warnings = [f"this database has no table {name}" for name in found.absent]
    if found.unplaced:
        warnings.append(
            f"{found.unplaced} in the trashcan may fit, too: their former folder is gone, so that no path of "
            "theirs is known; a search without path and site lists them"
        )
    findings = Findings(asked.words, as_of, hits, found.more, tuple(warnings))
    publish_table(run_.host.name, [row_of(hit) for hit in hits], "documents", findings.sentence)
    return findings
