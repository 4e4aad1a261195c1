"""Reading stored content again, to compare it with the checksums it had when it was copied."""

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.contentstore.reread import Reread, StoredContent, Tell, read_share
from alfresco_backup.contentstore.reread_day import Reader
from alfresco_backup.drill.verdict import needs_segment, snapshots_of_set
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Run
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.system.folders import appending_text
from alfresco_backup.wal.observe import verify_share
from tasks.drill.drill import Drill
from tasks.runs.progress import Progress

NAMED = 20
"""Findings that an error and a mail contain; all of them are in the log."""


@task(name="drill-wal", task_run_name="verify WAL", cache_policy=NO_CACHE, retries=0)
def verify_wal(run_: Run, drill: Drill) -> None:
    """Verify this drill's share of the archived WAL again; segments that are damaged are findings.

    They are of the set that the drill restored only where it cannot be restored without them.
    """
    progress = Progress(run_.host.name, "verify WAL", "segments")
    with drill.step("WAL"):
        try:
            done, damaged = verify_share(
                drill.far.host if drill.far else run_.host, run_.settings.drill_read_cycle, progress
            )
        except OSError as error:
            raise BackupError(
                f"the WAL archive cannot be read: {error}", f"ls -ld {shlex.quote(str(run_.repository.wal))}"
            ) from error
    progress.finish()
    drill.verified.append(done)
    get_run_logger().info(done)
    base = drill.plan.database.base
    own = [sentence for name, sentence in damaged.items() if needs_segment(base, name)]
    others = [sentence for name, sentence in damaged.items() if not needs_segment(base, name)]
    for sentence in (*own, *others):
        get_run_logger().error(sentence)
    drill.findings += own[:NAMED]
    drill.elsewhere += others[:NAMED]


@dataclass
class Told:
    """What is damaged of the stored content: what the drilled set has of it, and the rest."""

    own: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def of(self, snapshot: str | None) -> Tell:
        """Sorts what is told of a store of which the set has this snapshot; None: it has none."""

        def tell(sentence: str, snapshots: Sequence[str]) -> None:
            (self.own if snapshot in snapshots else self.others).append(sentence)

        return tell


@task(name="drill-reread", task_run_name="read stored content again", cache_policy=NO_CACHE, retries=0)
def reread_content(run_: Run, drill: Drill, catalogue: Catalogue) -> None:
    """Read this drill's share of the stored content again; damaged files are findings.

    They are of the set that the drill restored where one of its own snapshots has them. Each store has its
    own turns, which move on when a store was read to its end, whatever was found.
    """
    told = Told()
    ours = snapshots_of_set(catalogue, drill.plan.database.base)
    read = Reread(cycle=run_.settings.drill_read_cycle)
    with drill.step("re-read"), ThreadPoolExecutor(run_.settings.parallel_copies) as pool:
        for store in sorted({snapshot.store for snapshot in catalogue.snapshots}):
            try:
                live = run_.host.installation.stores.get(store)
                content = StoredContent(run_.repository.store(store), catalogue.snapshots_of(store), live)
                progress = Progress(run_.host.name, f"re-read {store}", "files")
                read += read_share(content, read.cycle, Reader(pool, progress), told.of(ours.get(store)))
                progress.finish()
            except OSError as error:
                raise BackupError(
                    f"the stored content of {store} cannot be read: {error}",
                    f"ls -ld {shlex.quote(str(error.filename))}",
                ) from error
    with appending_text(run_.log) as log:
        log.writelines(f"{sentence}\n" for sentence in (*told.own, *told.others))
    for found, sentences in ((drill.findings, told.own), (drill.elsewhere, told.others)):
        for sentence in sentences[:NAMED]:
            get_run_logger().error(sentence)
        found.extend(sentences[:NAMED])
        if len(sentences) > NAMED:
            found.append(f"{len(sentences) - NAMED:,} more, see {run_.log}")
    drill.reread = read
    get_run_logger().info(read.sentence)
