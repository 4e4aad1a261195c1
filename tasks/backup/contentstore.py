"""The contentstore snapshot: scan, compare, copy what changed, link, publish."""

import time
from collections.abc import Callable
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.contentstore.links import read_previous, read_published, snapshot_stamps
from alfresco_backup.contentstore.plan import (
    Mode,
    Previous,
    SnapshotOptions,
    SnapshotPlan,
    SnapshotRequest,
    check_request,
    check_scan,
    plan_snapshot,
)
from alfresco_backup.contentstore.rsync import RsyncOutput
from alfresco_backup.contentstore.scan import DAY_DEPTH, Scan, scan_store
from alfresco_backup.contentstore.snapshot_copy import Copying
from alfresco_backup.contentstore.snapshot_tree import (
    link_tree,
    make_store,
    point_to_latest,
    publish_snapshot,
    remove_leftovers,
)
from alfresco_backup.host.host import Run
from alfresco_backup.repository.days import Days
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.folders import appending_text, make_folders, unlink
from alfresco_backup.system.mounts import mounts_within, require_mounts
from alfresco_backup.system.processes import OnProgress
from alfresco_backup.times import duration_for_people, size_for_people, utc_now
from tasks.backup.begin import worth_another_try
from tasks.runs.progress import Progress

OnComplaint = Callable[[str], None]
SCAN_THREADS = 4  # they only help where looking at a directory means waiting for a disk or a network


@task(
    name="contentstore-snapshot",
    task_run_name="snapshot of {store}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=60,
    retry_condition_fn=worth_another_try,
)
def snapshot_store(run_: Run, store: str, mode: Mode = "quick") -> Snapshot:
    """Take the snapshot of one content store under this run's stamp. Repeated, it continues."""
    progress = Progress(f"snapshot of {store}", "directories")
    request = SnapshotRequest(
        store,
        run_.host.installation.stores[store],
        run_.repository.store(store),
        run_.stamp,
        run_.log,
        mode,
        SnapshotOptions.of(run_.settings),
    )
    snapshot = take_snapshot(request, progress, get_run_logger().warning)
    progress.finish()
    get_run_logger().info(
        "snapshot %s of %s: %d files, %s; %d new files, %s copied in %s, %d vanished meanwhile",
        *(snapshot.stamp, store, snapshot.files, size_for_people(snapshot.bytes), snapshot.new_files),
        *(size_for_people(snapshot.new_bytes), duration_for_people(snapshot.seconds), snapshot.vanished),
    )
    return snapshot


def _keep_quiet(_complaint: str) -> None:
    """Nobody wants to be told."""


def take_snapshot(
    request: SnapshotRequest, on_progress: OnProgress | None = None, on_complaint: OnComplaint = _keep_quiet
) -> Snapshot:
    """Take a snapshot and publish it. Raises BackupError; what is left then is `.partial` and no backup.

    One that an earlier try has published under this stamp is returned. `on_complaint` is told what went wrong
    after publishing.

    It holds every file that was complete in the store when it started and was not deleted meanwhile. A file
    that grows meanwhile may be held short; the next snapshot compares every file of a hot directory. A
    `quick` snapshot does not see a file that was changed in place, which Alfresco never does; `full` compares
    size and time of every file, `checksum` every byte. Published versions are never changed or repaired.
    """
    began = time.monotonic()
    if published := read_published(request.repository, request.stamp):
        return published
    stamps = snapshot_stamps(request.repository)
    check_request(request, stamps[-1] if stamps else None)
    previous = read_previous(request.repository)
    mounts = mounts_within(request.source)
    scan = scan_store(request.source, time.time_ns(), min(SCAN_THREADS, request.options.parallel_copies))
    check_scan(scan, previous, request.repository.accepted)
    make_store(request.repository)
    make_folders(request.log.parent)
    plan = plan_snapshot(scan, previous, request.options, request.mode)
    with appending_text(request.log) as log:
        output = RsyncOutput(keep_line=lambda line: print(line, file=log, flush=True))
        output.keep_line(_sentence(request, plan))
        copying = Copying(request, scan, previous, output, on_progress)
        days, loose = copying.settle(plan)
        copied = copying.copy(days, loose)
    require_mounts(request.source, mounts)
    entries = [*days.holds.items(), *loose.holds.items()]
    link_tree(request.repository, request.stamp, scan.containers, entries)
    snapshot = _describe(request, scan, days.holds, loose.holds, output)
    outside = [*scan.outside, *copying.outside, *still_outside(previous, request.stamp, days.holds)]
    seconds = round(time.monotonic() - began, 3)
    snapshot = replace(snapshot, finished_at=utc_now(), seconds=seconds, outside=tuple(sorted(set(outside))))
    publish_snapshot(request.repository, snapshot, copied)
    _tidy(request, on_complaint)
    return snapshot


def _tidy(request: SnapshotRequest, on_complaint: OnComplaint) -> None:
    """What comes after publishing: the snapshot is there, so that a failure is only told of."""
    steps: dict[str, Callable[[], None]] = {
        f"{request.repository.latest} does not lead to it": lambda: point_to_latest(
            request.repository, request.stamp
        ),
        "what killed runs left is still there": lambda: remove_leftovers(request.repository),
        "the next one will accept missing days too": lambda: unlink(
            request.repository.accepted, missing_ok=True
        ),
    }
    for consequence, step in steps.items():
        try:
            step()
        except OSError as error:
            words = (
                f"the snapshot {request.stamp} of {request.store} is published, but {consequence}: {error}"
            )
            on_complaint(words)


def still_outside(previous: Previous | None, stamp: str, days: Days) -> list[str]:
    """The links leading out of the store that are known from the previous snapshot, in days it shares."""
    known = previous.outside if previous else ()
    kept = (days.get("/".join(path.split("/")[:DAY_DEPTH])) for path in known)
    return [path for path, day in zip(known, kept, strict=True) if day and day.version != stamp]


def _sentence(request: SnapshotRequest, plan: SnapshotPlan) -> str:
    counts = [len(plan.days.copy), len(plan.days.compare), len(plan.days.keep), len(plan.days.gone)]
    return "{} snapshot {} of {}: {} days to copy, {} to compare, {} to keep, {} gone".format(
        request.mode, request.stamp, request.source, *counts
    )


def _describe(
    request: SnapshotRequest,
    scan: Scan,
    days: Days,
    loose: Days,
    output: RsyncOutput,
) -> Snapshot:
    every = [*days.values(), *loose.values()]
    return Snapshot(
        stamp=request.stamp,
        path=request.repository.snapshot(request.stamp),
        store=request.store,
        legacy=False,
        source=str(request.source),
        mode=request.mode,
        started_at=scan.started_at,
        finished_at=scan.started_at,
        files=sum(entry.files for entry in every),
        bytes=sum(entry.bytes for entry in every),
        directories=sum(entry.directories for entry in every) + len(scan.containers),
        new_bytes=output.bytes,
        new_files=output.files,
        vanished=output.vanished,
        seconds=0,
        days=dict(sorted(days.items())),
        loose=dict(sorted(loose.items())),
    )
