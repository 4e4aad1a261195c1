"""A guard where the host's limit cannot reach: two Prefect servers that know nothing of each other.

The limit is the lock of a host (tasks/runs/host_lock.py). But a run without PREFECT_API_URL has an embedded
server in its account's home, and holds the limit there: root's and another account's would both be let in,
and one would remove what the other is writing. So a writing run also holds a lock that the kernel keeps on a
file in the repository, and frees when the process ends, however it ends. Programs that the run starts do not
inherit it. Runs of one server never meet here: the limit has sorted them out before.
"""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.errors import HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.system.locks import holder_of, note_holder, open_lock_file, take_lock
from alfresco_backup.times import duration_for_people

POLL_SECONDS = 2.0
RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@contextmanager
def writing_lock(host: Host, wait_seconds: float, logger: RunLogger) -> Iterator[None]:
    """Hold the lock of the host's repository while the block runs.

    A lock that is held is waited for; raises HostBusy with the holder's process id when the time is over.
    Where the file cannot be opened, or the file system knows no locks, the run goes on with a warning: it has
    the limit, and what it may not write to it will be told later.
    """
    if not host.repository.root.is_dir():
        yield
        return
    path = lock_file(host)
    try:
        descriptor = open_lock_file(path)
    except OSError as error:
        logger.warning("%s cannot be opened; runs of other accounts are not kept out: %s", path, error)
        yield
        return
    try:
        _lock(descriptor, path, host.name, wait_seconds, logger)
        yield
    finally:
        os.close(descriptor)


def lock_file(host: Host) -> Path:
    """Beside the logs, which every writing run needs to write to."""
    return host.repository.logs / f".running-{re.sub(r'[^A-Za-z0-9.-]', '_', host.name)}.lock"


def _lock(descriptor: int, path: Path, name: str, wait_seconds: float, logger: RunLogger) -> None:
    started = time.monotonic()
    told = False
    while not _taken(descriptor, path, logger):
        holder = holder_of(descriptor)
        waited = time.monotonic() - started
        if waited >= wait_seconds:
            one_server = f"{edit_setting('PREFECT_API_URL')}  # the same for all accounts"
            patience = f"; waited {duration_for_people(waited)}" if waited > 1 else ""
            raise HostBusy(
                f"the host {name} is locked by {holder} of this machine, a run of another Prefect server"
                f"{patience}",
                f"ps -fp {holder.rpartition(' ')[2]}\n{one_server}",
            )
        if not told:
            logger.info("waiting for the host %s: it is locked by %s of another Prefect server", name, holder)
            told = True
        time.sleep(POLL_SECONDS)
    note_holder(descriptor)


def _taken(descriptor: int, path: Path, logger: RunLogger) -> bool:
    try:
        return take_lock(descriptor)
    except OSError as error:
        logger.warning("%s cannot be locked; runs of other accounts are not kept out: %s", path, error)
        return True
