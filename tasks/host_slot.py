"""One writing run at a time on a host: the host's global concurrency limit, in place of a lock file.

Worker runs and `python backup.py` take the same limit. It is a lease of this process, and children die with this
process (alfresco_backup/runner.py), so a free slot means that nothing is running.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from alfresco_backup.host import Host

LEASE_SECONDS = 60.0  # the least that the server accepts; how long the slot of a killed run stays taken


@contextmanager
def host_slot(host: Host, wait_seconds: float | None = None) -> Iterator[None]:
    """Hold the host's slot. `wait_seconds` None waits without limit; 0 raises at once when it is taken."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(host.name, 1)
    get_run_logger().info("taking the slot of host %s", host.name)
    with concurrency(
        host.name, occupy=1, strict=True, lease_duration=LEASE_SECONDS, timeout_seconds=wait_seconds or None
    ):
        yield
