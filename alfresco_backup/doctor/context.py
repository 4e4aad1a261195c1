"""What all of doctor's checks read, each part asked for once however many checks want it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from alfresco_backup.doctor.prefect_view import PrefectView, ServerAddress, view_prefect
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host
from alfresco_backup.host.schedules import Schedule, local_schedules
from alfresco_backup.notify.smtp import block_name
from alfresco_backup.status.assess import make_status
from alfresco_backup.status.facts import StatusFacts, read_facts
from alfresco_backup.status.report import StatusReport
from alfresco_backup.wal.archiver import ServerView
from alfresco_backup.wal.observe import view_server


@dataclass(frozen=True)
class CheckContext:
    """The host that is checked. `environment` names the Prefect server, `root` is where cron is looked for.

    `send_mail` allows a mail to be sent.
    """

    host: Host
    env_file: Path
    now: datetime
    environment: Mapping[str, str]
    root: Path = Path("/")
    send_mail: bool = False

    @cached_property
    def prefect(self) -> PrefectView | None:
        """What the Prefect server says; None where none is configured."""
        address = ServerAddress.of(self.environment)
        return view_prefect(address, self.host.name, block_name(self.host.name)) if address else None

    @cached_property
    def local_schedules(self) -> tuple[Schedule, ...]:
        return local_schedules(self.root)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """All that starts backups by itself."""
        return (*(self.prefect.schedules if self.prefect else ()), *self.local_schedules)

    @cached_property
    def server_view(self) -> ServerView | None:
        """What PostgreSQL says of archiving; None where it does not answer, the finding of another check."""
        try:
            return view_server(self.host)
        except BackupError:
            return None

    @cached_property
    def facts(self) -> StatusFacts:
        """What is in the repository. Raises HostNotReady where BACKUP_DIR is not there."""
        return read_facts(self.host.settings, self.now, self.server_view)

    @cached_property
    def status(self) -> StatusReport:
        return make_status(self.facts)
