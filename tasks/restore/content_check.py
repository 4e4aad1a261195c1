"""The content check: every document of the database has its file, with its size."""

import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.contentstore.check import (
    WITHOUT_FILE,
    ContentCheckResult,
    DeletedContent,
    Places,
    Problem,
    Tally,
)
from alfresco_backup.contentstore.check_files import judge_rows
from alfresco_backup.contentstore.check_findings import FindingsFile
from alfresco_backup.contentstore.check_queries import (
    ENCRYPTION_TABLE,
    ESTIMATED_ROWS,
    live_urls,
    table_exists,
)
from alfresco_backup.errors import BackupError, HostNotReady
from alfresco_backup.host.host import Host
from alfresco_backup.pages import page
from alfresco_backup.postgres.database import Database
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.system.processes import OnProgress
from alfresco_backup.times import make_stamp, utc_now
from tasks.runs.history import publish_markdown, publish_table
from tasks.runs.progress import Progress

ROWS_AT_ONCE = 1000


@task(name="content-check", task_run_name="content check", cache_policy=NO_CACHE)
def check_documents(
    host: Host, csv_file: Path | None = None, database: Database | None = None
) -> ContentCheckResult:
    """Check every document of the host's database and publish what is missing. Changes nothing on the host.

    Findings are listed in `csv_file`, by default one of the repository's logs. `database`: another connection
    to the same server than the host's own. Raises BackupError when the check fails; missing documents are in
    the result, and whether they are a failure is for the flow to decide.
    """
    progress = Progress(host.name, "content check", "documents")
    result = check_content(host, csv_file or _list_in_logs(host), progress, database)
    progress.finish()
    logger = get_run_logger()
    whole = result.checked and not result.lost and not result.not_checked
    (logger.info if whole else logger.warning)("content check: %s", result.sentence())
    if result.examples:
        rows = [finding.for_people() for finding in result.examples]
        description = f"{result.sentence()}. First {len(rows)} of the list in {result.csv}"
        publish_table(host.name, rows, "documents-missing", description)
    publish_markdown(host.name, report_of(result), "content-check")
    return result


def check_content(
    host: Host,
    csv_file: Path,
    on_progress: OnProgress | None = None,
    database: Database | None = None,
) -> ContentCheckResult:
    """Compare the host's database with its content stores. See check_stores and check_documents.

    Raises HostNotReady rather than check another folder than the one in alfresco-global.properties.
    """
    if guess := host.installation.store_guessed_for:
        key, place = guess
        raise HostNotReady(
            f"{key} in alfresco-global.properties is {place}, which is not a directory; documents are not "
            f"checked in {host.installation.store} instead",
            f"mount {shlex.quote(place)}  # if its file system is not mounted\n"
            f"{edit_setting('CONTENTSTORE_DIR')}  # if that line is wrong",
        )
    limit = host.settings.contentstore_limit_hours * 3600
    return check_stores(
        database or host.database,
        Places(host.installation.stores, deleted_content(host)),
        csv_file,
        limit_seconds=limit,
        parallel=host.settings.parallel_copies,
        on_progress=on_progress,
    )


def deleted_content(host: Host) -> DeletedContent | None:
    """The host's store of deleted content, where it is one of those that are backed up."""
    name = host.installation.deleted_store
    if not name:
        return None
    return DeletedContent(name, host.installation.stores[name], host.installation.store)


def check_stores(
    database: Database,
    places: Places,
    csv_file: Path,
    *,
    limit_seconds: float,
    parallel: int = 2,
    on_progress: OnProgress | None = None,
) -> ContentCheckResult:
    """Look for the file of every live `store://` URL in any of the stores, first named first.

    What is in the store of deleted content alone is not there for Alfresco: a finding of its own.
    Memory does not grow with the number of rows or findings. Contents are not read, so a file that was
    changed at the same size is not found. Findings are looked up again in the database before they count, so
    that documents deleted meanwhile are not reported as missing. Raises BackupError when tables or a store do
    not exist, or a folder may not be searched; ToolFailed for the database's own errors.
    """
    started = time.monotonic()
    roots = _roots(places)
    query = live_urls(with_encryption=_inspect_tables(database))
    total = float(database.value(ESTIMATED_ROWS))
    tally = Tally()
    judge_part = partial(judge_rows, roots=roots, deleted=places.deleted)
    with FindingsFile(csv_file, database) as findings, ThreadPoolExecutor(parallel) as pool:
        with closing(database.stream(query, limit_seconds)) as rows:
            for part in _in_order(pool, judge_part, _batches(rows), parallel * 2):
                tally.checked += part.checked
                tally.skipped += part.skipped
                tally.elsewhere += part.elsewhere
                tally.found_in += part.found_in
                findings.add(part.findings)
                if on_progress:
                    on_progress(tally.checked, max(total, tally.checked))
        findings.flush()
    counts = findings.counts
    return ContentCheckResult(
        checked=tally.checked,
        missing=counts[Problem.MISSING],
        wrong_size=counts[Problem.WRONG_SIZE],
        warnings=sum(count for problem, count in counts.items() if not problem.is_loss),
        removed_meanwhile=findings.removed_meanwhile,
        skipped=dict(tally.skipped),
        found_in=dict(tally.found_in),
        seconds=round(time.monotonic() - started, 3),
        csv=csv_file if counts else None,
        examples=tuple(findings.examples),
        outside=counts[Problem.OUTSIDE_STORE],
        only_deleted=counts[Problem.ONLY_DELETED],
        elsewhere=dict(tally.elsewhere),
    )


def _list_in_logs(host: Host) -> Path:
    host.require_repository()
    return host.repository.logs / f"content-check-{make_stamp(utc_now())}.csv"


def _inspect_tables(database: Database) -> bool:
    """Whether content may be encrypted here. Raises BackupError when this is not Alfresco's database."""
    if database.value(table_exists("alf_content_url")) != "t":
        raise BackupError(
            f"the database {database.environment.get('PGDATABASE', '')!r} has no table alf_content_url, so "
            "it is not Alfresco's",
            edit_setting("PGDATABASE"),
        )
    return database.value(table_exists(ENCRYPTION_TABLE)) == "t"


def _roots(places: Places) -> dict[str, str]:
    """The folders by store; those of deleted content last, since any other place counts first."""
    stores, deleted = places.folders, places.deleted
    for name, path in stores.items():
        if not path.is_dir():
            raise BackupError(
                f"the content store {name}, {path}, does not exist; is its file system mounted?",
                f"ls -ld {shlex.quote(str(path))}",
            )
    last = {name for name in stores if deleted and deleted.is_place(name)}
    return {name: str(stores[name]) for name in sorted(stores, key=lambda name: name in last)}


def _batches(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        yield batch


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[list[list[str]]], Tally],
    batches: Iterable[list[list[str]]],
    ahead: int,
) -> Iterator[Tally]:
    """Results in the order of the batches, with a limited number of them under way."""
    waiting: deque[Future[Tally]] = deque()
    for batch in batches:
        waiting.append(pool.submit(work, batch))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def report_of(result: ContentCheckResult) -> str:
    """The outcome as markdown that reads well as plain text too."""
    lines = [f"{count:,} files found in store `{store}`" for store, count in result.found_in.items()]
    lines += [
        f"{count:,} documents in `{place}` were not checked: this host does not hold that place"
        for place, count in result.elsewhere.items()
    ]
    lines += [
        f"{count:,} `{name}` URLs have no file to check"
        for name, count in result.skipped.items()
        if name in WITHOUT_FILE
    ]
    if result.removed_meanwhile:
        lines.append(f"{result.removed_meanwhile:,} documents were deleted during the check")
    if result.csv:
        lines.append(f"all findings: `{result.csv}`")
    return page("Content check", f"**{result.sentence()}**", ("Files", lines))
