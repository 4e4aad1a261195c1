"""Whether what is in a filled store now is what the fill added: the proof an undo needs before it deletes.

An original document has name, size and time of the one that a fill added in its place while its disk was not
mounted. Two things tell them apart: what is mounted now and was not then, and the time of the inode's last
change (ctime), which nobody can set back: that of an original is older than the fill. A store that was copied
to another disk since has newer ones. Not told apart: an original whose inode was changed since (chown) and
which came back without a mount point of another device, as by a bind mount or a link.
"""

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from alfresco_backup.contentstore.rsync import write_names
from alfresco_backup.errors import Refused
from alfresco_backup.restore.content.fill_differences import read_list
from alfresco_backup.restore.journal.journal_record import Filled, Record
from alfresco_backup.restore.journal.unfinished import way_out
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.system.files import fsync_file
from alfresco_backup.system.mounts import mount_points

MOUNTS = "mounts.store"
BEGAN = "began.store"


def note_mounts(folder: Path, places: Iterable[Path]) -> None:
    """Note what is mounted at, above and within the places that a fill is going to write to."""
    write_names(folder / MOUNTS, sorted(_mounted(places)))


def note_began(folder: Path, times: Iterable[int]) -> None:
    """Note, on disk, when a fill began by the clocks of the file systems it writes to: ctime, nanoseconds."""
    write_names(folder / BEGAN, [str(min(times))])
    fsync_file(folder / BEGAN)


def require_same_mounts(
    record: Record, filled: Filled, places: Iterable[str], changed: Iterable[str]
) -> None:
    """Raise Refused where a disk is mounted now that was not when the store was filled, over what it filled.

    `places` and `changed` are the folders and the files that the fill wrote to, relative to the store. Only
    where there are new disks, `changed` is read. Not for a disk over none of these, nor for a folder that is
    mounted a second time (ReadWritePaths of systemd), which is on the same device; one that cannot be looked
    at is passed over. Fills of older versions noted nothing.
    """
    noted = filled.folder / MOUNTS
    if not noted.exists():
        return
    real = {place: Path(os.path.realpath(filled.store / place)) for place in places}
    new = sorted(_mounted(real.values()) - set(read_list(noted.read_bytes())))
    point = _covering(list(filter(_is_other_disk, map(Path, new))), real, changed)
    if point:
        raise Refused(
            f"{point} was mounted after restore {record.restore_id} had added documents to {filled.store}: "
            "these are on the file system below, what is there now may be the originals; no document was "
            "removed",
            _hint(record, f"umount {shlex.quote(str(point))}"),
        )


def _is_other_disk(point: Path) -> bool:
    try:
        return point.lstat().st_dev != point.parent.stat().st_dev
    except OSError:
        return False


def _covering(points: Iterable[Path], real: Mapping[str, Path], changed: Iterable[str]) -> Path | None:
    """The first mount point that lies over a place, or over a file of one."""
    below: dict[str, Path] = {}
    for point in points:
        for place, folder in real.items():
            if folder.is_relative_to(point):
                return point
            if point.is_relative_to(folder):
                below[f"{Path(place, point.relative_to(folder))}/"] = point
    prefixes = tuple(below)
    name = next((name for name in changed if name.startswith(prefixes)), None) if prefixes else None
    return next((point for prefix, point in below.items() if name.startswith(prefix)), None) if name else None


def require_added(record: Record, filled: Filled, added: Iterable[str]) -> None:
    """Raise Refused where a file of the store is older than the fill that is said to have added it.

    Or where it cannot be told.
    """
    began = _began(record, filled.folder)
    for name in added:
        path = filled.store / name
        try:
            changed = path.lstat().st_ctime_ns
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as failure:
            raise Refused(
                f"whether {path} is the document that restore {record.restore_id} added cannot be told "
                f"({failure.strerror}); no document was removed",
                f"ls -ld {shlex.quote(str(path))}\n{undo_command(record.restore_id, record.host)}  # then\n"
                f"{way_out(record)}",
            ) from failure
        if changed < began:
            raise Refused(
                f"{path} is older than restore {record.restore_id}, so it is not the document that this "
                "added: another file system or folder has taken the place since; no document was removed",
                _hint(record, _uncover(path, filled.store)),
            )


def _began(record: Record, folder: Path) -> int:
    """When a fill began; of one that noted nothing, when its restore did."""
    noted = folder / BEGAN
    items = read_list(noted.read_bytes()) if noted.exists() else []
    return int(items[0]) if items else int(record.started_at.timestamp() * 1_000_000_000)


def _uncover(path: Path, store: Path) -> str:
    """The command that brings back what is below, as far as the mounts tell."""
    real, root = Path(os.path.realpath(path)), os.path.realpath(store)
    points = [point for point in mount_points() if real.is_relative_to(point)]
    point = max(points, key=len, default="/")
    within = point != "/" and (Path(point).is_relative_to(root) or not real.is_relative_to(root))
    return f"umount {shlex.quote(point)}" if within else f"findmnt --target {shlex.quote(str(path))}"


def _hint(record: Record, first: str) -> str:
    again = f"{undo_command(record.restore_id, record.host)}  # then; mount it again afterwards"
    return f"{first}\n{again}\n{way_out(record)}"


def _mounted(places: Iterable[Path]) -> set[str]:
    real = [Path(os.path.realpath(place)) for place in places]
    points = {point: Path(point) for point in mount_points()}
    return {
        point
        for point, path in points.items()
        if any(path.is_relative_to(place) or place.is_relative_to(path) for place in real)
    }
