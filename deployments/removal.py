"""A host taken out of service at its Prefect server: `deploy --remove`. First a plan, then exactly that.

Nothing outside Prefect is touched: the plan says what stays on the host, and how it is removed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import yaml  # type: ignore[import-untyped]
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkerFilter,
    WorkerFilterStatus,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from alfresco_backup.errors import Refused
from alfresco_backup.notify.smtp import block_name
from alfresco_backup.settings.commands import prefect_command, remove_host_command, stop_host_command
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from deployments.server_side import MINUTES_LATER
from tasks.runs.fleet import WHAT, deployed_hosts, read_keys
from tasks.runs.history import of_host
from tasks.runs.host_lock import read_holder

BUSY = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
STATE = (WHAT, "backup-sets", "backup-status", "offsite-sets", "recovery-window")
"""Artifacts that tell of the host as it stands. Those of single runs stay with their run."""
VARIABLES = ("deployed", "holder-of", "identity", MINUTES_LATER, "repository")
MAIL_BLOCK = "email-server-credentials"
AT_ONCE = 200


@dataclass(frozen=True)
class Item:
    """One thing that goes: what it is, its name, and by what the server knows it."""

    kind: str
    name: str
    key: UUID | str


@dataclass(frozen=True)
class Obstacle:
    """What is under way on a host, and what is typed where it can only be a remnant."""

    words: str
    fix: str = ""


@dataclass(frozen=True)
class Removal:
    """What a server has of a host, in the order in which it goes, and why it cannot go now."""

    host: str
    items: tuple[Item, ...]
    obstacles: tuple[Obstacle, ...]
    others: tuple[str, ...]

    def text(self) -> str:
        """The plan, for people."""
        if not self.items:
            others = ", ".join(self.others) or "none"
            return f"nothing of {self.host} is at this Prefect server; its hosts: {others}"
        return "\n".join([f"{self.host} at its Prefect server, with all scheduled runs:", *self.lines()])

    def lines(self) -> Iterator[str]:
        """What goes, a kind a line."""
        for kind in dict.fromkeys(item.kind for item in self.items):
            names = dict.fromkeys(item.name for item in self.items if item.kind == kind)
            yield f"  {f'{kind}:':19}{', '.join(names)}"

    def fixes(self) -> Iterator[str]:
        return (item.fix for item in self.obstacles if item.fix)

    def require_possible(self) -> None:
        """Raise Refused while a worker or a run of the host would be cut off."""
        if self.obstacles:
            words = "; ".join(item.words for item in self.obstacles)
            fixes = [
                f"{stop_host_command(self.host)}  # on {self.host}; its worker is online two minutes more",
                *(f"{fix}  # where the host is gone, and this run with it" for fix in self.fixes()),
                remove_host_command(self.host),
            ]
            raise Refused(f"{self.host} is in service: {words}", "\n".join(fixes))


def plan_removal(client: SyncPrefectClient, host: str) -> Removal:
    """What there is of a host. Reads only."""
    deployments = {item.id: item for item in _deployments(client, host)}
    items = [
        *_automations(client, host),
        *(Item("deployment", _full_name(client, item), item.id) for item in deployments.values()),
        *_pool_limit_and_block(client, host),
        *(Item("artifact", str(item.key), item.id) for item in _artifacts(client, host)),
        *_variables(client, host),
    ]
    others = sorted(deployed_hosts(client) - {host})
    return Removal(host, tuple(items), tuple(_obstacles(client, host)), tuple(others))


def remove(client: SyncPrefectClient, removal: Removal) -> None:
    """Remove what the plan names. What somebody else has removed meanwhile counts as removed.

    The pool is paused first, so that no worker begins a run that then loses its deployment. Raises Refused
    where one has begun all the same, with nothing removed.
    """
    removal.require_possible()
    if any(item.kind == "work pool" for item in removal.items):
        before = client.read_work_pool(removal.host).is_paused
        client.update_work_pool(removal.host, WorkPoolUpdate(is_paused=True))
        if late := tuple(_obstacles(client, removal.host)):
            client.update_work_pool(removal.host, WorkPoolUpdate(is_paused=before))
            Removal(removal.host, removal.items, late, removal.others).require_possible()
    delete = _deleters(client)
    for item in removal.items:
        try:
            if item.kind == "deployment":
                client.delete_resource_owned_automations(f"prefect.deployment.{item.key}")
            delete[item.kind](item.key)
        except PrefectHTTPStatusError as error:  # some say so in place of ObjectNotFound
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        except ObjectNotFound:
            continue


def _deleters(client: SyncPrefectClient) -> Mapping[str, Callable[[Any], object]]:
    return {
        "automation": client.delete_automation,
        "deployment": client.delete_deployment,
        "work pool": client.delete_work_pool,
        "concurrency limit": client.delete_global_concurrency_limit_by_name,
        "mail block": client.delete_block_document,
        "artifact": client.delete_artifact,
        "variable": client.delete_variable_by_name,
    }


def _deployments(client: SyncPrefectClient, host: str) -> Iterator[DeploymentResponse]:
    """Those of the host's pool; and, where somebody has deleted the pool, those named after the host.

    Its tag alone would not do: a host may be named as a tag that the deployments of all hosts have.
    """
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[host]))
    offset = 0
    while page := client.read_deployments(work_pool_filter=pool, limit=AT_ONCE, offset=offset):
        yield from page
        offset += AT_ONCE
    named = DeploymentFilter(
        name=DeploymentFilterName(any_=[host, f"{host}-contentstore"]), tags=DeploymentFilterTags(all_=[host])
    )
    yield from (item for item in client.read_deployments(deployment_filter=named) if not item.work_pool_name)


def _full_name(client: SyncPrefectClient, item: DeploymentResponse) -> str:
    return f"{client.read_flow(item.flow_id).name}/{item.name}"


def _automations(client: SyncPrefectClient, host: str) -> Iterator[Item]:
    """Those of prefect.yaml, by name: they outlive a deployment that was deleted in the web interface."""
    text = (PROJECT_DIRECTORY / "prefect.yaml").read_text(encoding="utf-8")
    for item in yaml.safe_load(re.sub(r"\{\{ \$ALF_HOST_NAME \}\}", host, text))["deployments"]:
        for trigger in item.get("triggers", ()):
            for found in client.read_automations_by_name(trigger["name"]):
                yield Item("automation", found.name, found.id)


def _pool_limit_and_block(client: SyncPrefectClient, host: str) -> Iterator[Item]:
    try:
        if client.read_work_pool(host).type == "process":
            yield Item("work pool", host, host)
    except ObjectNotFound:
        pass
    try:
        client.read_global_concurrency_limit_by_name(host)
        yield Item("concurrency limit", host, host)
    except ObjectNotFound:
        pass
    try:
        block = client.read_block_document_by_name(block_name(host), MAIL_BLOCK)
        yield Item("mail block", block_name(host), block.id)
    except ObjectNotFound:
        pass


def _artifacts(client: SyncPrefectClient, host: str) -> list[Any]:
    return read_keys(client, [of_host(what, host) for what in STATE])


def _variables(client: SyncPrefectClient, host: str) -> Iterator[Item]:
    for what in VARIABLES:
        name = of_host(what, host)
        if client.read_variable_by_name(name) is not None:
            yield Item("variable", name, name)


def _obstacles(client: SyncPrefectClient, host: str) -> Iterator[Obstacle]:
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[host]))
    online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=BUSY))
    try:
        client.read_work_pool(host)  # for lack of it the next one has an error that does not say so
        workers = client.read_workers_for_work_pool(host, worker_filter=online)
    except ObjectNotFound:
        workers = []
    for worker in workers:
        yield Obstacle(f"the worker {worker.name} is online")
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), work_pool_filter=pool)
    for run in runs:
        words = f"the run {run.name} is {run.state.name if run.state else 'under way'}"
        yield Obstacle(words, prefect_command("flow-run", "delete", str(run.id)))
    try:
        taken = client.read_global_concurrency_limit_by_name(host).active_slots
    except ObjectNotFound:
        taken = 0
    if taken and not runs:
        yield Obstacle(f"it is locked by {read_holder(host)}")
