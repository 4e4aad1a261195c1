"""Reading stored content again, to compare it with the checksums it had when it was copied."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.catalogue import Catalogue
from alfresco_backup.durable import write_json
from alfresco_backup.errors import BackupError
from alfresco_backup.host import Run
from alfresco_backup.records import Snapshot
from alfresco_backup.reread_plan import FILE_COST, Reread, choose_entries, state_after, weigh
from alfresco_backup.stamps import utc_now
from alfresco_backup.stored_content import StoredContent, read_state, state_file
from alfresco_backup.stored_entry import EntryRead, Reader
from tasks.drill import Drill
from tasks.progress import Progress

NAMED = 20
"""Findings that an error and a mail can hold; all of them stand in the log."""


@task(name="drill-reread", cache_policy=NO_CACHE, retries=0)
def reread_content(run_: Run, drill: Drill, catalogue: Catalogue) -> None:
    """Read this drill's share of the stored content again; what is damaged is entered among the findings.

    Each store has its own turns. They move on when a store was read to its end, whatever was found.
    """
    told: list[str] = []
    read = Reread(cycle=run_.settings.drill_read_cycle)
    with drill.step("re-read"), ThreadPoolExecutor(run_.settings.parallel_copies) as pool:
        for store in sorted({snapshot.store for snapshot in catalogue.snapshots}):
            try:
                turn = _Turn(run_, store, catalogue.snapshots_of(store))
                read += turn.read(pool, told.append)
            except OSError as error:
                raise BackupError(
                    f"the stored content of {store} cannot be read again: {error}", f"ls -ld {error.filename}"
                ) from error
    with run_.log.open("a", encoding="utf-8", errors="surrogateescape") as log:
        log.writelines(f"{sentence}\n" for sentence in told)
    for sentence in told[:NAMED]:
        get_run_logger().error(sentence)
    drill.findings += told[:NAMED]
    if len(told) > NAMED:
        drill.findings.append(f"{len(told) - NAMED:,} more that stand in {run_.log}")
    drill.reread = read
    get_run_logger().info(read.sentence)


class _Turn:
    """One drill's turn in one store."""

    def __init__(self, run_: Run, store: str, snapshots: Sequence[Snapshot]) -> None:
        self._repository, self._cycle = run_.repository.store(store), run_.settings.drill_read_cycle
        live = run_.host.installation.stores.get(store)
        self._content = StoredContent(self._repository, snapshots, live)
        self._progress = Progress(f"re-read {store}")

    def read(self, pool: ThreadPoolExecutor, tell: Callable[[str], None]) -> Reread:
        """Read what this drill has to, note what was read, and tell of each damage."""
        content, state = self._content, read_state(self._repository)
        weights = weigh(content.entries, content.weights)
        chosen = choose_entries(weights, state, self._cycle)
        total = sum(weights[path] for path in chosen)
        done = 0

        def on_read(size: int) -> None:
            nonlocal done
            done += size + FILE_COST
            self._progress(min(done, total), total)

        reader = Reader(pool, on_read)
        read = [self._entry(path, reader, tell) for path in chosen]
        self._progress.finish()
        after = state_after(state, content.entries, chosen, utc_now())
        self._repository.days.mkdir(exist_ok=True)
        write_json(state_file(self._repository), after.to_metadata())
        moments = [last.at for last in after.entries.values()]
        return Reread(
            files=sum(entry.files for entry in read),
            bytes=sum(entry.bytes for entry in read),
            recorded=sum(entry.recorded for entry in read),
            damaged=sum(len(entry.damages) for entry in read),
            entries=len(chosen),
            entries_stored=len(content.entries),
            cycle=self._cycle,
            oldest=min((moment for moment in moments if moment), default=None) if all(moments) else None,
        )

    def _entry(self, path: str, reader: Reader, tell: Callable[[str], None]) -> EntryRead:
        read = self._content.entry(path).read(reader)
        for damage in read.damages:
            tell(damage.sentence)
        for aside in read.lists:
            tell(f"the list of checksums {aside} was damaged; a new one is made of what was read")
        return read
