"""Sending to the off-site repository: one task a backup ID, so that a run of days shows what has arrived."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import Sent, Watching, begin, engine_of, send_set, send_wal
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.shipments import Shipment
from alfresco_backup.times import size_for_people
from tasks.runs.progress import Progress


@task(name="plan-offsite-copy", cache_policy=NO_CACHE)
def plan_copy_of(host: Host) -> tuple[Engine, tuple[Shipment, ...]]:
    """Ask the far side what is there and decide what is to be sent. Sends nothing."""
    engine = engine_of(host)
    far, shipments = begin(host, engine)
    get_run_logger().info("%d backup IDs are there, %d are to be sent", len(far.sets), len(shipments))
    return engine, shipments


@task(name="send-set", cache_policy=NO_CACHE)
def send(host: Host, engine: Engine, shipment: Shipment) -> Sent:
    """Send what one run made. A run that is killed sends the rest the next time, not again what arrived."""
    progress = Progress(host.name, f"off-site {shipment.stamp}")
    sent = send_set(host, engine, shipment, Watching(on_progress=progress))
    progress.finish()
    get_run_logger().info("%s is off-site; %s were new", sent.stamp, size_for_people(sent.added_bytes))
    return sent


@task(name="send-wal", cache_policy=NO_CACHE)
def send_archive(host: Host) -> Sent:
    """Send the WAL archive as it is now."""
    sent = send_wal(host, engine_of(host), Watching())
    get_run_logger().info("the WAL archive is off-site; %s were new", size_for_people(sent.added_bytes))
    return sent
