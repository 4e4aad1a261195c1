"""The identity of a host at its Prefect server: a second machine under the same name is refused.

Both would be deployed to the same work pool, and each worker would take the other's runs. The worker's first
run records the identity in a Prefect variable, each later one compares it, `deploy --take-over` replaces it.
A run by hand only warns: it was started on the machine that is meant.
"""

from dataclasses import asdict
from typing import Any

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.variables import Variable

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.host.identity import HostIdentity, read_identity
from alfresco_backup.settings.commands import edit_setting, program_command
from tasks.runs.history import not_essential, of_host


def load_own_host() -> Host:
    """The host of this flow run. Raises Refused for a worker's run on a machine that is not that host."""
    host = load_host()
    context = FlowRunContext.get()
    by_worker = bool(context and context.flow_run and context.flow_run.deployment_id)
    own, recorded = read_identity(host), None
    with not_essential("the identity of the host"):
        recorded = read_record(host.name)
        if by_worker:
            recorded = record(host.name, own, recorded)
    try:
        require_same(host.name, own, recorded)
    except Refused as refused:
        if by_worker:
            raise
        get_run_logger().warning("%s", refused)
    return host


def require_same(host_name: str, own: HostIdentity, recorded: HostIdentity | None) -> None:
    """Raise Refused where this machine or its cluster is another one than recorded."""
    different = own.differences(recorded) if recorded else []
    if different:
        raise Refused(
            f"this machine is not the host {host_name} that its Prefect server knows: "
            f"{'; '.join(different)}. Two machines under one name would take each other's runs",
            f"{edit_setting('ALF_HOST_NAME')}  # where the other one lives on\n"
            f"{program_command('deploy', '--take-over')}  # where this one takes its place",
        )


def read_record(host_name: str) -> HostIdentity | None:
    """What is recorded of a host; None where nothing is that can be read."""
    return _identity_of(Variable.get(_variable(host_name)))


def record(host_name: str, own: HostIdentity, recorded: HostIdentity | None) -> HostIdentity:
    """Record this machine where none is, or what the record of it lacks; return the record."""
    if recorded and own.differences(recorded):
        return recorded
    complete = recorded.completed_by(own) if recorded else own
    if complete != recorded:
        replace_record(host_name, complete)
    return complete


def replace_record(host_name: str, identity: HostIdentity) -> None:
    Variable.set(_variable(host_name), asdict(identity), overwrite=True)


def _variable(host_name: str) -> str:
    return of_host("identity", host_name)


def _identity_of(value: Any) -> HostIdentity | None:
    if not isinstance(value, dict) or not value:
        return None
    return HostIdentity(str(value.get("machine_id", "")), str(value.get("system_identifier", "")))
