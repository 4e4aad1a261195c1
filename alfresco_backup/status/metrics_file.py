"""METRICS_FILE, written for the textfile collector of Prometheus' node-exporter.

Its folder may belong to another account: the file is made under a new name without following a link, then
renamed. The name ends in .partial until it is whole; node-exporter reads *.prom only.
"""

import os
from datetime import datetime

from alfresco_backup.errors import BackupError
from alfresco_backup.settings.model import Settings
from alfresco_backup.status.as_metrics import metrics_text, unreadable_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.system.files import replacing
from alfresco_backup.system.folders import open_folder
from alfresco_backup.system.locks import take_lock
from alfresco_backup.system.waiting import wait_until

LOCK_SECONDS = 10.0
"""How long another run may take to write the file. Whoever reads the folder could hold the lock for ever."""


def write_metrics(settings: Settings, now: datetime) -> None:
    """Write what the status says; does nothing without METRICS_FILE. Raises OSError and NotInTime."""
    path = settings.metrics_file
    if path is None:
        return
    try:
        text = metrics_text(read_status(settings, now))
    except (BackupError, OSError):
        text = unreadable_text(settings.alf_host_name, now)
    with open_folder(path.parent) as folder:
        late = f"another process has kept {path.parent} locked for {LOCK_SECONDS:g} s"
        wait_until(lambda: take_lock(folder), LOCK_SECONDS, late)
        with replacing(path) as stream:
            os.fchmod(stream.fileno(), 0o644)  # whatever the umask: node-exporter has an account of its own
            stream.write(text.encode())
