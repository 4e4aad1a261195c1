"""Sending to the off-site repository: one task a backup ID, so that a run of days shows what has arrived."""

from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import (
    Sent,
    Watching,
    begin,
    engine_of,
    require_whole,
    send_set,
    send_side_by_side,
    send_wal,
    with_sent,
)
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSide
from alfresco_backup.offsite.shipments import Shipment
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


@task(name="send-set", task_run_name="send a set", cache_policy=NO_CACHE)
def send(host: Host, engine: Engine, shipment: Shipment) -> Sent | None:
    """Send what one run made; None where retention has removed it meanwhile.

    A run that is killed sends the rest the next time, not again what arrived.
    """
    progress = Progress(host.name, f"off-site {shipment.stamp}")
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    sent = send_set(host, engine, shipment, Watching(log_of(host, "copy"), progress))
    progress.finish()
    if sent is None:
        get_run_logger().info("%s is not sent: retention has removed it here", shipment.stamp)
        return None
    _tell(sent)
    return sent


@task(name="send-small-sets", task_run_name="send small sets", cache_policy=NO_CACHE)
def send_small(
    host: Host, engine: Engine, shipments: Sequence[Shipment], on_sent: Callable[[Sent], None]
) -> None:
    """Send side by side what hardly anything is new of. The first error ends the others."""
    progress = Progress(host.name, "off-site small sets", "backup IDs")
    make_folder(host.repository.logs, 0o750, exist_ok=True)
    sent: list[str] = []

    def arrived(item: Sent) -> None:
        sent.append(item.stamp)
        _tell(item)
        on_sent(item)

    try:
        send_side_by_side(host, engine, shipments, Watching(log_of(host, "copy"), progress), arrived)
    except BackupError:
        arrived_before = ", ".join(sent) or "none"
        get_run_logger().error("%d of %d had arrived: %s", len(sent), len(shipments), arrived_before)
        raise
    progress.finish()


def send_all(host: Host, engine: Engine, far: FarSide, shipments: Sequence[Shipment]) -> list[Sent]:
    """Send what is planned, in its order: a task for each backup ID, one for all with little that is new.

    What has arrived is noted at once: a first copy may take days.
    """
    all_sent: list[Sent] = []

    def arrived(sent: Sent) -> None:
        all_sent.append(sent)
        note_sets(host, with_sent(host, far, all_sent))

    small = [item for item in shipments if item.small]
    for shipment in shipments:
        if shipment not in small and (sent := send(host, engine, shipment)):
            arrived(sent)
    if small:
        send_small(host, engine, small, arrived)
    return all_sent


def _tell(sent: Sent) -> None:
    get_run_logger().info("%s is off-site; %s were new", sent.stamp, size_for_people(sent.added_bytes))


@task(name="show-offsite-sets", task_run_name="list of off-site sets", cache_policy=NO_CACHE)
def show_sets(host: Host, engine: Engine, before: FarSide, sent: list[Sent]) -> str:
    """Note what is there now, and show it as the table `offsite-sets-HOST`; in one sentence."""
    far = with_sent(host, before, sent)
    note_sets(host, far)
    rows = set_rows(host, far)
    whole = sum(row["whole there"] == "yes" for row in rows)
    here = sum(row["here"] == "yes" for row in rows)
    words = f"{len(sent)} backup IDs sent; {whole} of {here} sets are whole off-site"
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
