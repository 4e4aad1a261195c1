"""One Alfresco host: its settings, its places and its repository, loaded once a run."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from alfresco_backup.errors import HostNotReady
from alfresco_backup.host.installation import Installation, find_installation
from alfresco_backup.postgres.database import Database, connect
from alfresco_backup.postgres.programs import Programs, choose_client, find_programs
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.accounts import Account, owner_of


@dataclass(frozen=True)
class Host:
    """Settings, installation and repository of the host this process runs on."""

    settings: Settings
    installation: Installation
    repository: Repository
    beside: bool = False
    """Its server is one that was recovered beside the live host's."""

    @property
    def name(self) -> str:
        return self.settings.alf_host_name

    def looked_at_again(self) -> "Host":
        """The same host, its places looked up again: restores and undoing move what they are known by."""
        return replace(self, installation=find_installation(self.settings))

    def require_repository(self) -> None:
        """Raise HostNotReady where BACKUP_DIR is not there, rather than make one on the wrong disk."""
        self.repository.require()

    @cached_property
    def account(self) -> Account:
        """The owner of the data directory, whom PostgreSQL's programs run as. Raises HostNotReady.

        That of a container's is a number: on this host it may be somebody else's, or nobody's.
        """
        try:
            owner = owner_of(self.installation.data_directory)
            return replace(owner, name="") if self.settings.pg_container else owner
        except OSError as error:
            raise HostNotReady(
                f"the data directory {self.installation.data_directory} cannot be read: {error}",
                edit_setting("PG_DATA_DIR"),
            ) from error

    @cached_property
    def psql(self) -> Programs:
        """The folder whose psql is used. Raises HostNotReady."""
        found = find_programs(self.settings, "psql")
        if not found:
            raise HostNotReady(
                "no psql was found", f"apt-get install postgresql-client\n{edit_setting('PG_BINDIR')}  # or"
            )
        return found[0]

    @property
    def database(self) -> Database:
        """The server as PGUSER."""
        return connect(self.settings, self.psql, self.account)

    @property
    def superuser_database(self) -> Database:
        """The server as PGSUPERUSER."""
        return connect(self.settings, self.psql, self.account, superuser=True)

    @cached_property
    def server_version(self) -> int:
        """`server_version_num` as the server says it. Raises ToolFailed when it cannot be asked."""
        return int(self.database.value("SHOW server_version_num"))

    @property
    def server(self) -> VersionFacts:
        return facts_of(self.server_version)

    def backup_client(self) -> Programs:
        """The folder whose pg_basebackup works with the server. Raises HostNotReady."""
        return choose_client(self.server, find_programs(self.settings, "pg_basebackup"))


@dataclass(frozen=True)
class Run:
    """One run of a flow on a host: its ID names the parts it makes, its log gets the tools' raw output."""

    host: Host
    stamp: str
    log: Path

    @property
    def settings(self) -> Settings:
        return self.host.settings

    @property
    def repository(self) -> Repository:
        return self.host.repository


def load_host(env_file: Path | None = None) -> Host:
    """Load settings and find the host's places. Raises SettingsError."""
    settings = load_settings(env_file)
    return Host(settings, find_installation(settings), Repository(settings.backup_dir))
