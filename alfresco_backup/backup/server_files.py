"""The parts `server-files` and `alfresco-files` of a configuration: what is needed from outside the folders.

`files` has each file under the path by which it is opened, with its owner and mode; `links` the links of the
data directory that lead out of it. All is read with the rights of the account it is for, and written to a
folder that no other account can reach.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from alfresco_backup.host.alfresco_files import alfresco_files
from alfresco_backup.host.host import Host
from alfresco_backup.host.server_files import ServerFiles, find_server_files
from alfresco_backup.repository.records import Configuration
from alfresco_backup.system.accounts import Account, acting_as
from alfresco_backup.system.folders import creating, make_folder, reading, symlink

PART, OF_ALFRESCO = "server-files", "alfresco-files"
FILES, LINKS = "files", "links"


def server_files_of(host: Host) -> ServerFiles:
    """What this host's server needs from outside; nothing where it has no data directory.

    Nor for an ordinary user who is not the server's account: content alone can be backed up by others. What a
    container has outside its data directory is the image's, or in mounts that are named where it was made.
    """
    directory = host.installation.data_directory
    if host.settings.pg_container or not directory.is_dir() or os.geteuid() not in (0, host.account.uid):
        return ServerFiles()
    return find_server_files(directory, host.account, host.installation.server_configuration)


def copy_server_files(host: Host, target: Path) -> None:
    """Write the part, where there is anything for it. Raises OSError for what became unreadable meanwhile."""
    found = server_files_of(host)
    if not (found.files or found.links):
        return
    make_folder(target, 0o700)
    make_folder(target / LINKS, 0o700)
    for name, text in found.links:
        symlink(target / LINKS / name, text)
    for file in found.files:
        _copy(file, host.account, target)


def copy_alfresco_files(host: Host, target: Path) -> None:
    """Write the part of what Alfresco needs from outside its folders, as far as it can be read."""
    for file, account in alfresco_files(host.installation).items():
        _copy(file, account, target)


def _copy(file: Path, account: Account | None, target: Path) -> None:
    with acting_as(account), file.open("rb") as stream:
        status, content = os.fstat(stream.fileno()), stream.read()
    copy = target / FILES / file.relative_to("/")
    for folder in reversed(copy.parents):
        if folder.is_relative_to(target) and not folder.is_dir():
            make_folder(folder, 0o700)
    write_with_access(copy, content, status)


def write_with_access(path: Path, content: bytes, like: os.stat_result) -> None:
    """A new file with mode, and for root owner, of another one; on disk when it returns."""
    with creating(path, 0o600) as stream:
        stream.write(content)
        if os.geteuid() == 0:
            os.fchown(stream.fileno(), like.st_uid, like.st_gid)
        os.fchmod(stream.fileno(), like.st_mode & 0o777)
        stream.flush()
        os.fsync(stream.fileno())


# What of it is in a set.


def damaged_server_files(configuration: Configuration | None) -> list[Path]:
    """The files that a restore would put in place, and whose copy differs from its recorded checksum."""
    if configuration is None:
        return []
    copies = stored_files(configuration, PART)
    return [path for path, copy in copies if not is_there(path) and not is_sound(configuration, copy)]


def stored_files(configuration: Configuration, part: str) -> Iterator[tuple[Path, Path]]:
    """Where each file of a part belongs, and its copy in the set."""
    root = configuration.path / part / FILES
    for copy in sorted(root.rglob("*")):
        if copy.is_file() and not copy.is_symlink():
            yield Path("/", copy.relative_to(root)), copy


def is_sound(configuration: Configuration, copy: Path) -> bool:
    """Whether a copy agrees with its recorded checksum."""
    recorded = configuration.digests.get(str(copy.relative_to(configuration.path)))
    return recorded in (None, hashlib.sha256(content_of(copy)).hexdigest())


def is_there(path: Path) -> bool:
    """Whether something is at a path, links followed."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder on the way is closed


def content_of(path: Path) -> bytes:
    """What a file of a set contains."""
    with reading(path) as stream:
        return stream.read()
