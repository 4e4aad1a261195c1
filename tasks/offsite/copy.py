"""Sending to the off-site repository: one task a batch, so that a run of days shows what has arrived."""

from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import (
    Sent,
    Watching,
    begin,
    engine_of,
    require_whole,
    send_together,
    send_wal,
    with_sent,
)
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSide
from alfresco_backup.offsite.shipments import Batch, Shipment, batches
from alfresco_backup.offsite.state import log_of, note_sets, note_wal, reach_of_wal
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.system.folders import make_folder
from alfresco_backup.times import for_people, size_for_people
from tasks.runs.history import publish_table
from tasks.runs.progress import Progress


@task(name="plan-offsite-copy", task_run_name="plan of the off-site copy", cache_policy=NO_CACHE)
def plan_copy_of(host: Host) -> tuple[Engine, FarSide, tuple[Shipment, ...]]:
    """Ask the far side what is there and decide what is to be sent. Sends nothing."""
    engine = engine_of(host)
    far, shipments = begin(host, engine)
    note_sets(host, far)
    get_run_logger().info("%d backup IDs are there, %d are to be sent", len(far.sets), len(shipments))
    return engine, far, shipments


@task(name="send-sets", task_run_name="send sets", cache_policy=NO_CACHE)
def send(host: Host, engine: Engine, batch: Batch, on_sent: Callable[[Sent], None]) -> None:
    """Send what one run made, or several with little of it; `on_sent` is told of what has arrived.

    A run that is killed sends the rest the next time, not again what arrived.
    """
    others = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
    progress = Progress(host.name, f"off-site {batch[0].stamp}{others}")
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    left = [item.stamp for item in batch]
    for sent in send_together(host, engine, batch, Watching(log_of(host, "copy"), progress)):
        left = [stamp for stamp in left if stamp not in sent.stamps]
        _tell(sent)
        on_sent(sent)
    progress.finish()
    if left:
        get_run_logger().info("%s not sent: retention has removed it here", ", ".join(left))


def send_all(host: Host, engine: Engine, far: FarSide, shipments: Sequence[Shipment]) -> list[Sent]:
    """Send what is planned, in its order: a task for what becomes one snapshot there.

    What has arrived is noted at once: a first copy may take days.
    """
    all_sent: list[Sent] = []

    def arrived(sent: Sent) -> None:
        all_sent.append(sent)
        note_sets(host, with_sent(host, far, all_sent))

    for batch in batches(shipments):
        send(host, engine, batch, arrived)
    return all_sent


def _tell(sent: Sent) -> None:
    named, new = ", ".join(sent.stamps), size_for_people(sent.added_bytes)
    get_run_logger().info("%s %s off-site; %s were new", named, "is" if len(sent.stamps) == 1 else "are", new)


@task(name="show-offsite-sets", task_run_name="list of off-site sets", cache_policy=NO_CACHE)
def show_sets(host: Host, engine: Engine, before: FarSide, sent: list[Sent]) -> str:
    """Note what is there now, and show it as the table `offsite-sets-HOST`; in one sentence."""
    far = with_sent(host, before, sent)
    note_sets(host, far)
    rows = set_rows(host, far)
    whole = sum(row["whole there"] == "yes" for row in rows)
    here = sum(row["here"] == "yes" for row in rows)
    count = sum(len(item.stamps) for item in sent)
    words = f"{count} backup IDs sent; {whole} of {here} sets are whole off-site"
    publish_table(host.name, rows, "offsite-sets", f"{host.name} in {engine.shown}: {words}")
    return words


@task(name="require-whole-sets", task_run_name="check that off-site sets are whole", cache_policy=NO_CACHE)
def require_whole_sets(host: Host, before: FarSide, sent: list[Sent]) -> None:
    """Fail where a set refers to days that are neither here nor there: no copy makes it whole."""
    require_whole(host, with_sent(host, before, sent))


def set_rows(host: Host, far: FarSide) -> list[dict[str, str]]:
    """One row a backup ID, newest first: whether it is here, there, and there with all it refers to."""
    here = {item.stamp: item for item in read_catalogue(host.repository).sets}
    rows = []
    for stamp in sorted({*here, *far.sets}, reverse=True):
        there = far.sets.get(stamp)
        rows.append(
            {
                "backup ID": stamp,
                "here": "yes" if stamp in here else "no",
                "off-site since": for_people(there.taken_at) if there else "not yet",
                "whole there": ("yes" if far.has(here[stamp]) else "no") if stamp in here else "",
            }
        )
    return rows


@task(name="send-wal", task_run_name="send WAL archive", cache_policy=NO_CACHE)
def send_archive(host: Host) -> tuple[int, str]:
    """Send the WAL archive as it is now; the bytes that were new, and up to when commits are safe there."""
    engine = engine_of(host)
    reached = reach_of_wal(host)
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    sent = send_wal(host, engine, Watching(log_of(host, "wal"), Progress(host.name, "off-site WAL")))
    note_wal(host, reached)
    safe = f"commits up to {for_people(reached.end)} are safe there" if reached else "no base backup uses it"
    words = f"the WAL archive is off-site; {safe}"
    get_run_logger().info("%s; %s were new", words, size_for_people(sent.added_bytes))
    return sent.added_bytes, words
