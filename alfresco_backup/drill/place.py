"""The folder of a host's restore drills, and the places they must not be in."""

from pathlib import Path

from alfresco_backup.host.host import Host


def drill_folder(host: Host) -> Path:
    """The folder of all drills."""
    return host.settings.drill_dir or host.repository.root / "drill"


def live_places(host: Host) -> list[Path]:
    """What belongs to the live host, and the parts of the repository."""
    installation, repository = host.installation, host.repository
    places = [installation.data_directory, *installation.stores.values(), repository.wal, repository.postgres]
    places += [repository.store(name).root for name in installation.stores]
    places += [path for path in (installation.keystore, installation.shared_classes) if path]
    return places
