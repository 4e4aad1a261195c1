"""Small flows for tests of what Prefect and the host's lock do, where a whole backup would add nothing."""

import time
from pathlib import Path

from prefect import flow, task
from prefect.client.schemas.objects import State

from alfresco_backup.errors import BackupError, HostBusy
from alfresco_backup.host.host import load_host
from alfresco_backup.system.processes import Command, run
from tasks.alerts.hooks import HOOKS
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import host_lock, skipped_or_raise
from tasks.runs.progress import Progress


@task(name="long-step")
def long_step(until: str) -> None:
    """As base backup and copy do: wait for a program of the runner; this one ends when a file appears."""
    run(Command(("sh", "-c", 'until test -e "$0"; do sleep 0.1; done', until), 600))


@task(name="hopeless-step")
def hopeless_step(message: str) -> None:
    run(Command(("sh", "-c", f"echo what the tool said >&2; echo {message!r} >&2; exit 3"), 60, hint="df -h"))


@task(name="counting")
def count(steps: str, until: str) -> None:
    """Work in steps and report them until a file appears; the file `steps` has as many bytes."""
    progress = Progress("demo", "counting", "steps")
    with Path(steps).open("ab", buffering=0) as file:
        while not Path(until).exists():
            file.write(b".")
            progress(file.tell(), 1_000_000)
            time.sleep(0.1)
    progress.finish()


@flow(name="hold", flow_run_name=run_name, **HOOKS)
def hold(until: str = "/", wait: float = 600) -> State[str]:
    """Hold the host until a file appears."""
    with host_lock(load_host(), wait):
        long_step(until)
        return finished("held the host", "held")


@flow(name="hourly", flow_run_name=run_name, **HOOKS)
def hourly() -> State[str]:
    """Skipped while the host is held."""
    try:
        with host_lock(load_host(), 0):
            return finished("had the host", "had")
    except HostBusy as busy:
        return skipped_or_raise(busy, 0)


@flow(name="moody", flow_run_name=run_name, **HOOKS)
def moody(message: str = "") -> State[str]:
    """Fails with a message, or completes without one."""
    load_host()
    if message:
        hopeless_step(message)
    return finished("all is well", "well")


@flow(name="late", flow_run_name=run_name, timeout_seconds=1, **HOOKS)
def late() -> None:
    """Runs longer than it may."""
    long_step("/nowhere")
    raise BackupError("the time limit was not kept")


@flow(name="linger", flow_run_name=run_name, **HOOKS)
def linger() -> None:
    """Runs until it is killed, without holding anything."""
    long_step("/nowhere")


@flow(name="counted", flow_run_name=run_name, **HOOKS)
def counted(steps: str, until: str) -> State[str]:
    """Reports its progress until a file appears."""
    count(steps, until)
    return finished("counted to the end", "counted")


@flow(name="scheduled", flow_run_name=run_name, **HOOKS)
def scheduled() -> None:
    """Run by its schedule only."""
