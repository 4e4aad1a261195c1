"""The folder of a host's restore drills, and the places they must not be in."""

from pathlib import Path

from alfresco_backup.host.host import Host
from alfresco_backup.times import STAMP_PATTERN


def drill_folder(host: Host) -> Path:
    """The folder of all drills."""
    return host.settings.drill_dir or host.repository.root / "drill"


def recoveries_in(folder: Path, prefix: str) -> list[Path]:
    """What recoveries beside the live host made there: folders named by the prefix and a backup ID, no links.

    Whatever else begins with the prefix is somebody's own and must not be removed.
    """
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.glob(f"{prefix}*")
        if STAMP_PATTERN.fullmatch(path.name.removeprefix(prefix)) and path.is_dir() and not path.is_symlink()
    )


def live_places(host: Host) -> list[Path]:
    """What belongs to the live host, and the parts of the repository."""
    installation, repository = host.installation, host.repository
    places = [installation.data_directory, *installation.stores.values(), repository.wal, repository.postgres]
    places += [repository.store(name).root for name in installation.stores]
    places += [path for path in (installation.keystore, installation.shared_classes) if path]
    return places
