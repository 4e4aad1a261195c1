"""What a host has at its Prefect server, made where it is missing. Each function says what it did."""

import hashlib
import importlib
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker
from prefect_email import EmailServerCredentials

from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.host.host import Host
from alfresco_backup.host.identity import read_identity
from alfresco_backup.notify.smtp import block_name
from alfresco_backup.settings.commands import edit_setting, prefect_command, program_command
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system.processes import Command, run
from deployments.drift import Difference, differences
from deployments.template import OFFSITE, minutes_later, unwrapped
from tasks.alerts.hooks import credentials_without_password
from tasks.runs.fleet import deployed_hosts
from tasks.runs.history import of_host
from tasks.runs.identity import read_record, replace_record, require_same

DEPLOY_SECONDS = 600.0
MINUTES_LATER = "minutes-later"
SERVER_HINT = f"start the server with the settings in {PROJECT_DIRECTORY}/deployments/prefect-server.env"


def configured_address() -> str:
    """PREFECT_API_URL. Raises SettingsError: without a server there is nothing to deploy to."""
    address = str(PREFECT_API_URL.value() or "")
    if not address:
        raise SettingsError(
            ["PREFECT_API_URL is missing; expected: the address of the Prefect server's API"],
            f"{edit_setting('PREFECT_API_URL', 'http://127.0.0.1:4200/api')}\n{program_command('serve')}",
        )
    return address


def check_server(client: SyncPrefectClient) -> None:
    """Raise SettingsError for a server with leases in memory: restarted, it leaves hosts locked."""
    storage = client.request("GET", "/admin/settings").json()["server"]["concurrency"]["lease_storage"]
    if storage.endswith(".memory"):
        complaint = (
            f"the Prefect server keeps concurrency leases in memory ({storage}); "
            "after a restart of the server the host stays locked"
        )
        raise SettingsError([complaint], SERVER_HINT)


def ensure_identity(host: Host, *, take_over: bool) -> str:
    """Compare this machine with the one that the server knows under this name, or put it in its place.

    Raises Refused for another machine.
    """
    own, recorded = read_identity(host), read_record(host.name)
    if take_over:
        replace_record(host.name, own)
        before = own.differences(recorded) if recorded else []
        return f"this machine from now on{': ' if before else ''}{'; '.join(before)}"
    require_same(host.name, own, recorded)
    return "that of this machine" if recorded else "recorded by the worker's first run"


def ensure_work_pool(client: SyncPrefectClient, name: str, place: str = "") -> str:
    """Make a process pool, unless there is one. Raises SettingsError for one of another type.

    It is the host's own of that name; or runs at a `place` that is said.
    """
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type="process",
                description=place or f"Runs on the Alfresco host {name} itself",
                base_job_template=ProcessWorker.get_default_base_job_template(),
            )
        )
        return f"{name} made"
    if pool.type != "process":
        raise SettingsError(
            [f"the work pool {name} is of type {pool.type}; process is expected"],
            f"{prefect_command('work-pool', 'delete', name)}\nor {edit_setting('ALF_HOST_NAME')}",
        )
    return f"{name} unchanged"


def ensure_limit(client: SyncPrefectClient, name: str) -> str:
    """Make the host's limit of one run at a time."""
    try:
        limit = client.read_global_concurrency_limit_by_name(name)
        words = "unchanged" if limit.limit == 1 and limit.active else "set to 1"
    except ObjectNotFound:
        words = "made"
    if words == "made":
        client.upsert_global_concurrency_limit_by_name(name, 1)
    if words == "set to 1":
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active=True, limit=1))
    return f"{name} {words}: one run at a time"


def ensure_minutes_later(client: SyncPrefectClient, host: str, beside: Collection[str]) -> int:
    """How many minutes later than a host alone this one begins what it does once a day or week.

    Decided when the host is first deployed, and kept in a Prefect variable: a host that comes or goes moves
    no other. The first host of a server begins at the times of prefect.yaml.
    """
    name = of_host(MINUTES_LATER, host)
    known = Variable.get(name)
    if isinstance(known, int):
        return known
    others = {*beside, *deployed_hosts(client)} - {host}
    chosen = minutes_later(host) if others else 0
    Variable.set(name, chosen, overwrite=True)
    return chosen


def ensure_mail_block(settings: Settings) -> str:
    """Store the mail server, without its password, where it differs from what is stored."""
    name = block_name(settings.alf_host_name)
    if not settings.smtp_host:
        return "none: SMTP_HOST is empty, no mail will be sent"
    wanted = credentials_without_password(settings)
    try:
        stored = EmailServerCredentials.load(name)
        words = "unchanged" if _content(stored) == _content(wanted) else "updated"
    except ValueError:
        words = "made"
    if words != "unchanged":
        wanted.save(name, overwrite=True)
    return f"{name} {words}: {settings.smtp_host}:{settings.smtp_port}, password not stored"


def _content(block: object) -> dict[str, object]:
    """A block's own fields; what Prefect knows of it besides changes with every load."""
    assert isinstance(block, EmailServerCredentials)
    return {name: getattr(block, name) for name in EmailServerCredentials.model_fields}


def ensure_deployments(client: SyncPrefectClient, host: str, filled: dict[str, Any]) -> list[str]:
    """Deploy what prefect.yaml says, filled in, unless it and the flows are what was deployed last.

    A deployment puts back what was changed by hand and resets the clocks of automations, so it is done only
    when there is something to deploy. Either way what differs is told: the first line is what was done, each
    other a difference and what became of it. Raises BackupError when Prefect deployed less than that.
    """
    describe(filled)
    mark = mark_of(host)
    digest = deployment_digest(filled)
    wanted = len(filled["deployments"])
    items = {full_name(item): item for item in filled["deployments"]}
    removed = remove_deployments(client, host, items.keys())
    changed = differences(client, items)
    if Variable.get(mark) == digest and count_deployments(client, host) >= wanted:
        return [f"{wanted} unchanged", *removed, *_kept(changed, mark)]
    deploy(filled)
    made = count_deployments(client, host)
    if made < wanted:  # Prefect skips a file that it does not understand, and ends with 0
        raise BackupError(
            f"Prefect made {made} of {wanted} deployments", f"correct {PROJECT_DIRECTORY}/prefect.yaml"
        )
    Variable.set(mark, digest, overwrite=True)
    fates = [f"{it.fate}: {it.words}" for it in changed]
    return [f"{wanted} deployed for {host}", *removed, *fates]


def remove_deployments(client: SyncPrefectClient, host: str, wanted: Collection[str]) -> list[str]:
    """Remove the host's deployments of the off-site copy that are not wanted, with their automations.

    Their schedules would go on after OFFSITE_REPOSITORY was taken out of the `.env`, and fail.
    """
    tags = DeploymentFilterTags(all_=[host, OFFSITE])
    told = []
    for deployment in client.read_deployments(deployment_filter=DeploymentFilter(tags=tags)):
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name not in wanted:
            client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
            client.delete_deployment(deployment.id)
            told.append(f"removed: {name}: OFFSITE_REPOSITORY is not set")
    return told


def _kept(changed: list[Difference], mark: str) -> list[str]:
    """What was changed in Prefect and is left alone, and how to undo it."""
    told = [f"kept: {it.words}" for it in changed]
    if any(it.fate != "kept" for it in changed):
        again = f"{prefect_command('variable', 'unset', mark)} && {program_command('deploy')}"
        told.append(f"to have it as in prefect.yaml: {again}")
    return told


def mark_of(host: str) -> str:
    """The Prefect variable that holds the digest of what was deployed last for a host."""
    return of_host("deployed", host)


def full_name(item: dict[str, Any]) -> str:
    """`backup/demo`."""
    return f"{flow_of(item).name}/{item['name']}"


def describe(filled: dict[str, Any]) -> None:
    """Give each deployment its description: the one in prefect.yaml, else its flow's docstring."""
    for item in filled["deployments"]:
        said = item.get("description") or inspect.getdoc(flow_of(item).fn) or ""
        item["description"] = unwrapped(said)


def deploy(filled: dict[str, Any]) -> None:
    """Run `prefect deploy` on contents of prefect.yaml. JSON is YAML."""
    program = str(Path(sys.executable).with_name("prefect"))  # `python -m prefect` misreads its own options
    with tempfile.NamedTemporaryFile("w", prefix="prefect-", suffix=".yaml", encoding="utf-8") as file:
        json.dump(filled, file)
        file.flush()
        argv = (program, "--no-prompt", "deploy", "--all", "--prefect-file", file.name)
        run(Command(argv, DEPLOY_SECONDS, dict(os.environ), directory=PROJECT_DIRECTORY))


def count_deployments(client: SyncPrefectClient, host: str) -> int:
    """How many deployments the server has for this host."""
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[host]))
    return len(client.read_deployments(deployment_filter=wanted))


def deployment_digest(filled: dict[str, Any]) -> str:
    """A digest of all that decides what is deployed: prefect.yaml filled in, and the flows' forms."""
    digest = hashlib.sha256(json.dumps(filled, sort_keys=True).encode())
    for item in filled["deployments"]:
        digest.update(flow_of(item).parameters.model_dump_json().encode())
    return digest.hexdigest()


def flow_of(item: dict[str, Any]) -> Flow[..., Any]:
    """The flow of an entry of prefect.yaml."""
    path, name = item["entrypoint"].split(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    flow = getattr(module, name)
    assert isinstance(flow, Flow)
    return flow
