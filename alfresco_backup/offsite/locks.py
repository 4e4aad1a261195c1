"""One run of each off-site action at a time on a host: copy, wal, check, prune do not wait for each other.

They hold no lock of the host: a first copy takes days, and backups go on meanwhile.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from alfresco_backup.errors import HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.repository.layout import Repository
from alfresco_backup.system.locks import holder_of, note_holder, open_lock_file, take_lock

logger = logging.getLogger(__name__)
Action = Literal["copy", "wal", "check", "prune", "fetch"]


@contextmanager
def action_lock(host: Host, action: Action) -> Iterator[None]:
    """Hold the action's lock while the block runs. Raises HostBusy where another process holds it.

    On a file system that knows no locks the run goes on: restic's own lock keeps the repository whole.
    """
    with lock_in(host.repository, host.name, action):
        yield


@contextmanager
def lock_in(repository: Repository, host_name: str, action: Action) -> Iterator[None]:
    """The same for a repository, which may be in another folder than the host's."""
    repository.require()
    descriptor = open_lock_file(repository.offsite / f".{action}.lock")
    try:
        if not _taken(descriptor, action):
            raise HostBusy(
                f"another `offsite {action}` of {host_name} is running: {holder_of(descriptor)}",
                f"ps -fp {holder_of(descriptor).rpartition(' ')[2]}",
            )
        note_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_running(host: Host, action: Action) -> bool:
    """Whether another process holds an action's lock now."""
    path = host.repository.offsite / f".{action}.lock"
    if not path.exists():
        return False
    descriptor = open_lock_file(path)
    try:
        return not _taken(descriptor, action)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, action: Action) -> bool:
    try:
        return take_lock(descriptor)
    except OSError as error:
        logger.warning("another `offsite %s` of this host is not kept out: %s", action, error)
        return True
