"""How a base backup is made: client and server are asked what they can do."""

from alfresco_backup.base_backup import BaseBackupMethod, choose_compression
from alfresco_backup.host import Host
from alfresco_backup.programs import Programs
from alfresco_backup.runner import Command, run

ASK_SECONDS = 30.0


def choose_method(host: Host, tablespaces: bool) -> BaseBackupMethod:
    """Ask client and server what they can do and choose how the copy is made."""
    programs = host.backup_client()
    server = host.server
    settings = host.settings
    client_zstd = server.backup_compression and client_has_zstd(programs)
    server_zstd = server.backup_compression and not client_zstd and server_has_zstd(host)
    compression = choose_compression(
        server, client_zstd=client_zstd, server_zstd=server_zstd, tablespaces=tablespaces
    )
    return BaseBackupMethod(
        programs,
        server,
        compression,
        settings.zstd_level,
        settings.parallel_copies,
        int(settings.bandwidth_limit_mib * 1024),
    )


def client_has_zstd(programs: Programs) -> bool:
    """Whether pg_basebackup was built with zstd, by its own pg_config; without one the answer is no."""
    if not programs.has("pg_config"):
        return False
    command = Command((programs.path("pg_config"), "--configure"), ASK_SECONDS)
    return "--with-zstd" in run(command, keep_output=True).output


def server_has_zstd(host: Host) -> bool:
    """Whether the server was built with zstd, by its view pg_config; no where that may not be read."""
    if host.superuser_database.value("SELECT has_table_privilege('pg_config', 'SELECT')") != "t":
        return False
    question = "SELECT setting FROM pg_config WHERE name = 'CONFIGURE'"
    return "--with-zstd" in host.superuser_database.value(question)
