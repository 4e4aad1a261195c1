"""The contentstore snapshot: scan, compare, copy what changed, link, publish."""

import shlex
import time
from collections.abc import Callable
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.space import telling_of_a_full_disk
from alfresco_backup.contentstore.links import read_previous, read_published, snapshot_stamps
from alfresco_backup.contentstore.losses import Losses, deletions_until
from alfresco_backup.contentstore.plan import (
    Mode,
    Previous,
    SnapshotOptions,
    SnapshotPlan,
    SnapshotRequest,
    check_request,
    missing_content,
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
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host.host import Run
from alfresco_backup.repository.days import Days
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.retention.holds import Hold, accepted_loss, end_refusals, write_hold
from alfresco_backup.settings.commands import accept_hold_command
from alfresco_backup.system.folders import appending_text, make_folders
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
    """Take the snapshot of one content store under this run's stamp. Repeated, it continues.

    One that is refused for missing content holds retention until that is accepted, or the next one is whole.
    """
    place = run_.repository.store(store)
    progress = Progress(run_.host.name, f"snapshot of {store}", "directories")
    request = SnapshotRequest(
        store,
        run_.host.installation.stores[store],
        place,
        run_.stamp,
        run_.log,
        mode,
        SnapshotOptions.of(run_.settings),
        accepted_loss(run_.repository, store, next(reversed(snapshot_stamps(place)), "")),
    )
    with telling_of_a_full_disk(run_.host.name, run_.repository.root):
        snapshot = take_snapshot(
            request,
            progress,
            get_run_logger().warning,
            lambda said: write_hold(
                run_.repository, Hold(run_.stamp, "missing", said, utc_now(), store=store)
            ),
        )
    end_refusals(run_.repository, store, snapshot.stamp)
    progress.finish()
    get_run_logger().info(
        "snapshot %s of %s: %d files, %s; %d new files, %s copied in %s, %d vanished meanwhile%s",
        *(snapshot.stamp, store, snapshot.files, size_for_people(snapshot.bytes), snapshot.new_files),
        *(size_for_people(snapshot.new_bytes), duration_for_people(snapshot.seconds), snapshot.vanished),
        f"; {snapshot.losses}" if snapshot.losses else "",
    )
    return snapshot


def _keep_quiet(_complaint: str) -> None:
    """Nobody wants to be told."""


def take_snapshot(
    request: SnapshotRequest,
    on_progress: OnProgress | None = None,
    on_complaint: OnComplaint = _keep_quiet,
    on_missing: OnComplaint = _keep_quiet,
) -> Snapshot:
    """Take a snapshot and publish it. Raises BackupError; what is left then is `.partial` and no backup.

    One that an earlier try has published under this stamp is returned. `on_complaint` is told what went wrong
    after publishing, `on_missing` for which missing content the snapshot is refused.

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
    _require_content(request, scan, previous, on_missing)
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
    copying.losses.add_gone(previous, scan, plan)
    snapshot = _describe(request, scan, days.holds, loose.holds, output)
    outside = [*scan.outside, *copying.outside, *still_outside(previous, request.stamp, days.holds)]
    seconds = round(time.monotonic() - began, 3)
    snapshot = _with_losses(snapshot, copying.losses, previous)
    snapshot = replace(snapshot, finished_at=utc_now(), seconds=seconds, outside=tuple(sorted(set(outside))))
    publish_snapshot(request.repository, snapshot, copied)
    _tidy(request, on_complaint)
    return snapshot


def _require_content(
    request: SnapshotRequest, scan: Scan, previous: Previous | None, on_missing: OnComplaint
) -> None:
    """Raise BackupUnsound for a store that looks unmounted, unless somebody has accepted what is missing."""
    if not request.accepted and (said := missing_content(scan, previous)):
        on_missing(said)
        raise BackupUnsound(
            said,
            f"findmnt --target {shlex.quote(str(scan.source))}  # mount the file system that belongs there\n"
            f"{accept_hold_command(request.stamp)}  # only if the content is really gone",
        )


def _tidy(request: SnapshotRequest, on_complaint: OnComplaint) -> None:
    """What comes after publishing: the snapshot is there, so that a failure is only told of."""
    steps: dict[str, Callable[[], None]] = {
        f"{request.repository.latest} does not lead to it": lambda: point_to_latest(
            request.repository, request.stamp
        ),
        "what killed runs left is still there": lambda: remove_leftovers(request.repository),
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
        accepted=request.accepted,
    )


def _with_losses(snapshot: Snapshot, losses: Losses, previous: Previous | None) -> Snapshot:
    return replace(
        snapshot,
        deleted_files=losses.deleted_files,
        deleted_days=losses.deleted_days,
        changed_files=losses.changed_files,
        changed=tuple(losses.changed),
        deletions=deletions_until(previous.deletions if previous else {}, snapshot.day, losses),
    )
