"""Settings of a restored server whose data directory is not where it was backed up. Pure.

A base backup contains its host's postgresql.conf: port, sockets, addresses and archive_command of another
machine, or of another home on this one. On the host it was made on, in its own place, nothing is changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.postgres.conf_file import quoted, read_setting
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.model import Settings

DEFAULT_PORT = "5432"
COMMON_SOCKET_FOLDERS = ("/tmp", "/run", "/var/run")  # noqa: S108
ANY_ADDRESS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
NOTE = "# set by a restore: this server was backed up in another place"


@dataclass(frozen=True)
class HostSettings:
    """`lines` are added to postgresql.auto.conf for good; `dropped` are removed from postgresql.conf."""

    lines: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """The lines in the syntax of postgresql.auto.conf."""
        return "".join([f"{NOTE}\n", *(f"{name} = {quoted(value)}\n" for name, value in self.lines.items())])


def host_settings(settings: Settings, base: BaseBackup, data_directory: Path, conf: str) -> HostSettings:
    """What to change so that the server restored to `data_directory` is the one the .env describes.

    `conf` is the restored postgresql.conf, empty where it is outside the data directory and this host's.
    """
    lines: dict[str, str] = {}
    warnings: list[str] = []
    if base.host and base.host != settings.alf_host_name:  # a copy may have the very places of its original
        lines["archive_mode"] = "off"
        warnings.append(
            f"archiving is off: the backup is of host {base.host}, this is {settings.alf_host_name}; to turn "
            "it on: ALTER SYSTEM SET archive_command = '…'; ALTER SYSTEM RESET archive_mode; then restart"
        )
    if settings.pg_container:  # its places are those of its image
        return HostSettings(lines, (), tuple(warnings))
    if not base.data_directory or _same_place(base.data_directory, data_directory):
        return HostSettings(lines, (), tuple(warnings))
    if conf and str(settings.pgport) != (read_setting(conf, "port") or DEFAULT_PORT):
        lines["port"] = str(settings.pgport)
    if conf:
        lines |= _addresses(settings, conf)
    elsewhere = read_setting(conf, "data_directory")
    dropped = ("data_directory",) if elsewhere and not _same_place(elsewhere, data_directory) else ()
    for name in ("hba_file", "ident_file"):
        value = read_setting(conf, name)
        if value and Path(value).is_relative_to(base.data_directory):
            lines[name] = str(data_directory / Path(value).relative_to(base.data_directory))
    if lines or dropped:
        changed = [f"{name} = {quoted(value)}" for name, value in lines.items()]
        changed += [f"no {name}" for name in dropped]
        warnings.append(
            f"backed up in {base.data_directory}, restored to {data_directory}: {', '.join(changed)}"
        )
    return HostSettings(lines, dropped, tuple(warnings))


def _addresses(settings: Settings, conf: str) -> dict[str, str]:
    """Sockets and addresses as far as the server could not start here with those of the other place."""
    lines: dict[str, str] = {}
    sockets = read_setting(conf, "unix_socket_directories")
    folders = [Path(item.strip()) for item in (sockets or "").split(",") if item.strip()]
    if settings.pghost.startswith("/"):
        if Path(settings.pghost) not in folders:
            lines["unix_socket_directories"] = settings.pghost
    elif not all(_is_common(folder) for folder in folders):
        lines["unix_socket_directories"] = ""
    listens = read_setting(conf, "listen_addresses")
    addresses = {item.strip() for item in (listens or "localhost").split(",")}
    wanted = settings.pghost if not settings.pghost.startswith("/") else "localhost"
    if not addresses & (ANY_ADDRESS | {wanted}) and not (wanted in LOOPBACK and addresses & LOOPBACK):
        lines["listen_addresses"] = wanted
    return lines


def _is_common(folder: Path) -> bool:
    return any(folder.is_relative_to(common) for common in COMMON_SOCKET_FOLDERS)


def _same_place(recorded: str, data_directory: Path) -> bool:
    """Whether a recorded path is the data directory; a link that still exists is followed."""
    return data_directory in (Path(recorded), Path(recorded).resolve())
