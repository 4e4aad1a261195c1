"""Whether BACKUP_DIR is the repository, or the empty place below a disk that is not mounted.

A file in it with an identity of its own decides: the marker. Which identity a folder had is noted elsewhere
too, beside the `.env` and, by runs, in Prefect: where that is known and the folder has no marker, or that of
another repository, nothing is backed up into it. A folder of which nothing is known, and without a marker, is
the beginning of a new repository.
"""

import shlex
from pathlib import Path
from uuid import uuid4

from alfresco_backup.errors import HostNotReady, Refused
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.times import utc_now

BEGIN = "begin-repository"
NOTE = ".repository"


def read_marker(repository: Repository) -> str:
    """The repository's identity; empty where it has none. Raises HostNotReady for a damaged marker."""
    try:
        return str(read_json(repository.marker)["id"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError) as error:
        raise HostNotReady(
            f"the marker {repository.marker} cannot be read: {error!r}",
            f"{program_command(BEGIN)}  # writes it again, where {repository.root} is the right disk",
        ) from error


def note_file(env_file: Path) -> Path:
    """Where the identity is noted beside the settings: `/etc/alfresco-backup/alf1.env.repository`."""
    return env_file.with_name(env_file.name + NOTE)


def read_note(repository: Repository, env_file: Path) -> str:
    """The identity that was noted of this folder; empty where none was, or of another folder."""
    try:
        note = read_json(note_file(env_file))
    except (OSError, ValueError):
        return ""
    return str(note.get("id", "")) if note.get("backup_dir") == str(repository.root) else ""


def write_note(repository: Repository, env_file: Path, identity: str) -> None:
    """Note the folder's identity, where it is not noted. Raises OSError."""
    if read_note(repository, env_file) != identity:
        write_json(note_file(env_file), {"backup_dir": str(repository.root), "id": identity})


def require_repository(repository: Repository, known: str) -> str:
    """The identity of the folder, empty where it has none yet. `known`: what is noted elsewhere of it.

    Raises HostNotReady for a folder without a marker that is known to have had one, or with another one.
    """
    identity = read_marker(repository)
    if known and identity != known:
        place, name = shlex.quote(str(repository.root)), repository.marker.name
        why = (
            f"{name} there is that of repository {identity}. Another disk is mounted, or it was replaced"
            if identity
            else f"{name} is missing there. Its disk is not mounted, or was replaced or emptied"
        )
        raise HostNotReady(
            f"BACKUP_DIR={repository.root} is not the repository {known}: {why}",
            f"findmnt --target {place}\nmount {place}\n"
            f"{program_command(BEGIN)}  # only where the disk was replaced",
        )
    return identity


def require_known(repository: Repository) -> None:
    """As require_repository, by what is noted beside the `.env` in use."""
    require_repository(repository, read_note(repository, env_file_path()))


def begin_repository(repository: Repository, host_name: str, identity: str = "") -> str:
    """Make the folder a repository, of that identity or a new one, and return it. Raises OSError."""
    identity = identity or uuid4().hex
    made = {"id": identity, "host": host_name, "begun_at": utc_now().isoformat()}
    write_json(repository.marker, made)
    return identity


def begin_again(repository: Repository, host_name: str, env_file: Path) -> str:
    """Make a folder the repository after its disk was replaced; a copy of the former one keeps its identity.

    So does another repository that is there: it is the host's from now on. Returns the identity. Raises
    Refused where the folder is known as that repository already.
    """
    try:
        present = read_marker(repository)
    except HostNotReady:  # a damaged one is replaced
        present = ""
    noted = read_note(repository, env_file)
    if present and present == noted:
        raise Refused(f"{repository.root} is the repository {present} already")
    identity = present or begin_repository(repository, host_name, noted)
    write_note(repository, env_file, identity)
    return identity
