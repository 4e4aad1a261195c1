"""Each host's state at the Prefect server: published by its runs, read for all hosts at once.

The record is the artifact `host-status-HOST`: a variable takes 5,000 characters, and a host with thirty sets
and a few problems has more. The server keeps every artifact, so the one before is removed.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import Artifact

from alfresco_backup.fleet.assess import FleetReport, Published, make_fleet
from alfresco_backup.fleet.record import read_host_record, record_document, record_of
from alfresco_backup.host.host import Host
from alfresco_backup.host.identity import HostIdentity, read_identity
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from tasks.runs.history import of_host
from tasks.runs.identity import read_record, require_same

WHAT = "host-status"
AT_ONCE = 200
FENCE = "```"


def publish_state(host: Host, flow_name: str, flow_run: UUID | None = None) -> None:
    """Publish the host's state, where the server has deployments of it; a run's own server has none.

    Raises Refused on a machine that the server does not know as this host.
    """
    with get_client(sync_client=True) as client:
        if host.name not in deployed_hosts(client):
            return
    own = read_identity(host)
    require_same(host.name, own, read_record(host.name))
    report = read_status(host.settings, utc_now())
    record = record_of(report, own, flow_name, host.settings.backup_max_age_hours)
    text = json.dumps(record_document(record), indent=1)
    with get_client(sync_client=True) as client:
        before = read_keys(client, [of_host(WHAT, host.name)])
        client.create_artifact(
            ArtifactCreate(
                key=of_host(WHAT, host.name),
                type="markdown",
                description=f"{host.name}: {report.headline}",
                data=f"{FENCE}json\n{text}\n{FENCE}\n",
                flow_run_id=flow_run,
            )
        )
        for item in before:
            client.delete_artifact(item.id)


def read_fleet(now: datetime | None = None) -> FleetReport:
    """What all hosts of the server have published, and which of them have not. Raises httpx.HTTPError."""
    with get_client(sync_client=True) as client:
        hosts = sorted(deployed_hosts(client))
        found: dict[str, Artifact] = {}
        for item in read_keys(client, [of_host(WHAT, host) for host in hosts]):
            found[str(item.key)] = max(found.get(str(item.key), item), item, key=_made)
    moment = now or utc_now()
    read = (_read(host, found.get(of_host(WHAT, host)), read_record(host), moment) for host in hosts)
    return make_fleet(read, moment)


def _made(item: Artifact) -> tuple[str, str]:
    return str(item.created), str(item.id)


def deployed_hosts(client: SyncPrefectClient) -> set[str]:
    """The hosts that have a deployment of `backup`, which are named after their work pools."""
    wanted = FlowFilter(name=FlowFilterName(any_=["backup"]))
    found: set[str] = set()
    offset = 0
    while page := client.read_deployments(flow_filter=wanted, limit=AT_ONCE, offset=offset):
        found |= {item.name for item in page if item.name == item.work_pool_name}
        offset += AT_ONCE
    return found


def read_keys(client: SyncPrefectClient, keys: Iterable[str]) -> list[Artifact]:
    """All artifacts with one of these keys."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=list(keys)))
    return list(_pages(client, wanted))


def _pages(client: SyncPrefectClient, wanted: ArtifactFilter) -> Iterator[Artifact]:
    offset = 0
    while page := client.read_artifacts(artifact_filter=wanted, limit=AT_ONCE, offset=offset):
        yield from page
        offset += AT_ONCE


def _read(host: str, found: Artifact | None, known: HostIdentity | None, now: datetime) -> Published:
    if found is None:
        return Published(host, None)
    try:
        return Published(host, read_host_record(_document(found.data), host, known, now))
    except ValueError as problem:
        return Published(host, None, str(problem))


def _document(data: Any) -> Any:
    """What stands between the fences. Raises ValueError."""
    text = str(data).strip().removeprefix(f"{FENCE}json").removesuffix(FENCE)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
