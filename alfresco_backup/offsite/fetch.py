"""Fetches from the off-site repository what a restore reads, and makes it the repository here.

What arrives is staged in BACKUP_DIR/offsite/fetch.partial, compared with its metadata, flushed to disk and
renamed to its place; what has its name is whole. So a fetch that was killed goes on with what is missing.
"""

import hashlib
import os
import shlex
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alfresco_backup.contentstore.checksums import files_below
from alfresco_backup.contentstore.snapshot_tree import point_to_latest
from alfresco_backup.errors import Refused
from alfresco_backup.offsite.engine import STILL_SECONDS, Engine, FarSideAway, FarSideDamaged, OnProgress
from alfresco_backup.offsite.known import Known, read_known, restore
from alfresco_backup.offsite.relink import link_to_versions
from alfresco_backup.offsite.wanted import FetchPlan, Piece, Unit, choose_wanted, plan_fetch
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import DAYS, Repository
from alfresco_backup.repository.marker import read_marker, read_note, write_note
from alfresco_backup.repository.records import BaseBackup, Configuration
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.retention.holds import Hold, read_holds, write_hold
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import PARTIAL, fsync_directory, sync_filesystem
from alfresco_backup.system.folders import make_folder, reading, remove_tree, rename, set_access, set_time
from alfresco_backup.system.mounts import is_mount_point
from alfresco_backup.system.processes import Watch
from alfresco_backup.times import make_stamp, size_for_people, utc_now

STAGING = f"fetch{PARTIAL}"
METADATA_FOLDER = "metadata"
TREE = "tree"
SPARE = 64 << 20
LOOK_SECONDS = 3.0
OF_THE_REPOSITORY = ("timelines.json", "repository.json")


@dataclass(frozen=True)
class Fetching:
    """A fetch under way: where from, for which host, into which repository, told to whom."""

    engine: Engine
    host_name: str
    repository: Repository
    env_file: Path | None = None
    """The settings beside which the identity is noted; None where the folder is not the host's BACKUP_DIR."""
    limit_seconds: float = 3600.0
    on_progress: OnProgress | None = None

    @property
    def staging(self) -> Path:
        return self.repository.offsite / STAGING

    @property
    def noted(self) -> str:
        """The identity that the folder is known by; empty where it is new."""
        known = read_note(self.repository, self.env_file) if self.env_file else ""
        return read_marker(self.repository) or known


def learn(fetching: Fetching, target: datetime | None = None, backup: str = LATEST) -> Known:
    """Fetch the metadata, of IDs no longer listed too where what is asked for is older. Changes nothing else.

    Raises Refused where BACKUP_DIR is another repository, and what read_known raises.
    """
    known = _learn(fetching, older=False)
    listed = {item.stamp for item in known.catalogue.sets}
    bases = [base for base in known.catalogue.bases if target is None or base.stopped_at <= target]
    if (backup != LATEST and backup not in listed) or not bases:
        known = _learn(fetching, older=True)
    present = fetching.noted
    if present and present != known.identity:
        raise Refused(
            f"{fetching.repository.root} is repository {present}; the off-site copy of "
            f"{fetching.host_name} is of repository {known.identity}. Fetch into an empty folder",
            program_command("offsite", "fetch", "--to", f"{fetching.repository.root}-offsite"),
        )
    return known


def _learn(fetching: Fetching, *, older: bool) -> Known:
    folder = fetching.staging / METADATA_FOLDER
    _empty(folder)
    return read_known(
        fetching.engine,
        fetching.host_name,
        fetching.repository,
        folder,
        own=fetching.noted,
        older=older,
    )


def fetch(fetching: Fetching, known: Known, plan: FetchPlan) -> list[str]:
    """Fetch what is planned; returns what of the content was not whole when it was sent.

    Raises Refused where it does not fit, FarSideDamaged, and what Engine.run raises. What has arrived under
    its name stays then, and is not fetched again.
    """
    _require_one_file_system(fetching.repository.root, plan)
    _require_space(fetching.repository.root, plan)
    for name in OF_THE_REPOSITORY:
        source, target = known.folder / name, fetching.repository.root / name
        if source.exists() and not os.path.lexists(target):
            rename(source, target)
    fsync_directory(fetching.repository.root)
    if fetching.env_file:
        write_note(fetching.repository, fetching.env_file, known.identity)
    _hold_removals(fetching, known, plan)
    done, findings = 0, []
    tree = fetching.staging / TREE
    for piece in plan.pieces:
        _empty(tree)
        arriving = _Arriving(fetching, tree, done, plan.bytes)
        with arriving.measured():
            restore(
                fetching.engine,
                piece.snapshot,
                tree,
                piece.included,
                fetching.limit_seconds,
                Watch(min(LOOK_SECONDS, STILL_SECONDS / 4), arriving.look),
            )
        findings += _place(fetching.repository.root, tree, piece)
        done += piece.bytes
    remove_tree(fetching.staging)
    _point_to_newest(fetching.repository, plan)
    return findings


def _hold_removals(fetching: Fetching, known: Known, plan: FetchPlan) -> None:
    """Put retention on hold, here and off-site, where a folder without backups gets a part of what is there.

    What is not fetched is not here; for a prune it would be gone here, as if retention had removed it.
    """
    parts = (plan.wanted.base, *plan.wanted.snapshots, plan.wanted.configuration)
    left = known.far.sets.keys() - {part.stamp for part in parts if part}
    if not left or read_catalogue(fetching.repository).parts:
        return
    if any(hold.cause == "fetched" for hold in read_holds(fetching.repository)):
        return
    count, now = len(known.far.sets), utc_now()
    said = (
        f"{fetching.repository.root} was filled by a fetch of {count - len(left)} of {count} backup IDs of "
        "the off-site copy; the others are only there, and would be removed there"
    )
    write_hold(fetching.repository, Hold(make_stamp(now), "fetched", said, now))


def _point_to_newest(repository: Repository, plan: FetchPlan) -> None:
    """Make each store's link `latest` where it is missing: to the newest snapshot that was fetched."""
    for snapshot in plan.wanted.snapshots:
        store = repository.store(snapshot.store)
        newest = max(item.stamp for item in plan.wanted.snapshots if item.store == snapshot.store)
        if snapshot.stamp == newest and snapshot.path.is_dir() and not os.path.lexists(store.latest):
            point_to_latest(store, newest)


def forget_metadata(fetching: Fetching) -> None:
    """Remove what `learn` has fetched."""
    remove_tree(fetching.staging)


def _empty(folder: Path) -> None:
    for path in (folder.parent.parent, folder.parent):
        make_folder(path, 0o750, exist_ok=True)
    if os.path.lexists(folder):
        remove_tree(folder)
    make_folder(folder, 0o700)


def _require_one_file_system(root: Path, plan: FetchPlan) -> None:
    """Raise Refused where a part of BACKUP_DIR is mounted: what arrives gets its name by being renamed."""
    tops = sorted({root / unit.path.parts[0] for piece in plan.pieces for unit in piece.units})
    mounted = [top for top in tops if is_mount_point(top)]
    if mounted:
        named = ", ".join(map(str, mounted))
        raise Refused(
            f"{named}: a file system of its own; a fetch needs one for all of BACKUP_DIR",
            f"umount {shlex.join(map(str, mounted))}  # or fetch to another folder, with --to",
        )


def _require_space(root: Path, plan: FetchPlan) -> None:
    numbers = os.statvfs(root)
    free = (numbers.f_bfree if os.geteuid() == 0 else numbers.f_bavail) * numbers.f_frsize
    if plan.bytes + SPARE > free:
        raise Refused(
            f"{root} has {size_for_people(free)} free; {size_for_people(plan.bytes)} are to be fetched",
            f"df -h {shlex.quote(str(root))}",
        )


class _Arriving:
    """What a restore has brought, by what it does on disk: restic before 0.16 says nothing of it.

    The space is that of whole files, which restic reserves when it begins them; each write to one changes the
    time of its inode.
    """

    def __init__(self, fetching: Fetching, tree: Path, before: int, total: int) -> None:
        self._fetching = fetching
        self._tree = tree
        self._before = before
        self._total = total
        self._last = (0, 0, 0)
        self._since = time.monotonic()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure it, and tell how much has arrived, while the block runs."""
        ended = threading.Event()

        def measure() -> None:
            while not ended.wait(min(LOOK_SECONDS, STILL_SECONDS / 4)):
                self._measure()

        thread = threading.Thread(target=copy_context().run, args=(measure,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def look(self) -> None:
        """Raise FarSideAway where nothing changed for STILL_SECONDS."""
        if time.monotonic() - self._since > STILL_SECONDS:
            raise FarSideAway(
                f"nothing arrived from the off-site repository {self._fetching.engine.shown} for "
                f"{STILL_SECONDS:g} s, so the fetch was ended; the next one goes on from there",
                program_command("offsite", "list"),
            )

    def _measure(self) -> None:
        found = _on_disk(self._tree)
        if found != self._last:
            self._last, self._since = found, time.monotonic()
        if self._fetching.on_progress:
            self._fetching.on_progress(min(self._total, self._before + found[0]), self._total)


def _on_disk(tree: Path) -> tuple[int, int, int]:
    """The bytes that files below a folder take, their number, and when the last of them was changed."""
    taken, count, newest = 0, 0, 0
    for folder, _, names in os.walk(tree):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - of many files
            except FileNotFoundError:
                continue
            taken, count = taken + status.st_blocks * 512, count + 1
            newest = max(newest, status.st_ctime_ns)
    return taken, count, newest


def _place(root: Path, tree: Path, piece: Piece) -> list[str]:
    """Judge what has arrived and give it its names; returns what is not as its metadata says.

    Content that differs was different when it was sent: restic has compared each piece. It is put in place,
    as a restore from here would have had it. Raises FarSideDamaged where a base backup, metadata or WAL is
    not whole, before anything gets its name.
    """
    arrived = [unit for unit in piece.units if os.path.lexists(tree / unit.path)]
    defects = {unit: why for unit in arrived if (why := _defect(tree / unit.path, unit))}
    defects |= dict.fromkeys(
        (unit for unit in piece.units if unit not in arrived and not unit.optional), "missing"
    )
    fatal = [unit for unit in defects if not unit.is_content]
    if fatal:
        named = ", ".join(f"{unit.path} ({defects[unit]})" for unit in fatal[:5])
        raise FarSideDamaged(
            f"what was sent of {piece.name} is not whole: {named}; nothing of it was put in place",
            program_command("offsite", "check"),
        )
    above = {folder for unit in arrived for folder in unit.path.parents if folder.name}
    statuses = {path: (tree / path).lstat() for path in sorted(above)}
    for unit in arrived:
        if isinstance(unit.check, tuple):
            link_to_versions(tree / unit.path, _versions(root, unit.path))
    sync_filesystem(tree)
    made = [path for path, status in statuses.items() if _make_parent(root / path, status)]
    for unit in arrived:
        rename(tree / unit.path, root / unit.path)
    for path, status in statuses.items():
        if path in made or DAYS in path.parts[:-1]:
            set_time(root / path, status.st_mtime_ns)
    sync_filesystem(root)
    return [f"{unit.path}: {why}" for unit, why in defects.items()]


def _versions(root: Path, day: Path) -> list[Path]:
    """The other versions of a day that are here, `contentstore/days/ID/2026/11/22`; the newest first."""
    place = day.parts.index(DAYS)
    folder, entry = Path(*day.parts[: place + 1]), Path(*day.parts[place + 2 :])
    found = sorted((root / folder).glob("*Z"), reverse=True)
    return [path / entry for path in found if (path / entry).is_dir()]


def _make_parent(path: Path, status: os.stat_result) -> bool:
    """Make a folder as it was, where it is missing; whether it was."""
    if path.is_dir():
        return False
    make_folder(path, 0o700)
    set_access(path, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return True


def _defect(path: Path, unit: Unit) -> str:
    """Why what has arrived is not what its metadata says; empty when it is."""
    check = unit.check
    if isinstance(check, BaseBackup):
        return _first(_file_defect(path / file.name, file.bytes, file.sha256) for file in check.files)
    if isinstance(check, Configuration):
        return _first(_file_defect(path / name, None, digest) for name, digest in check.digests.items())
    if isinstance(check, tuple):
        found = _count(path)
        return (
            ""
            if found == check
            else f"{found[0]} files of {found[1]} bytes, expected {check[0]} of {check[1]}"
        )
    return _file_defect(path, check, "") if check is not None else ""


def _first(defects: Iterable[str]) -> str:
    return next(filter(None, defects), "")


def _file_defect(path: Path, size: int | None, sha256: str) -> str:
    try:
        found = path.lstat().st_size
        if size is not None and found != size:
            return f"{path.name} has {found} bytes, expected {size}"
        if sha256:
            with reading(path) as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return "" if digest == sha256 else f"{path.name} differs from its checksum"
    except FileNotFoundError:
        return f"{path.name} is missing"
    return ""


def _count(path: Path) -> tuple[int, int]:
    """Files and bytes of a day tree, or of a loose entry, as metadata counts them: a link has none."""
    if not stat.S_ISDIR(path.lstat().st_mode):
        return 1, 0 if path.is_symlink() else path.lstat().st_size
    statuses = [status for _, status in files_below(os.fsencode(path.parent), os.fsencode(path.name), [])]
    return len(statuses), sum(status.st_size for status in statuses if not stat.S_ISLNK(status.st_mode))


def plan_for(fetching: Fetching, known: Known, backup: str, target: datetime | None) -> FetchPlan:
    """What is to be fetched of a backup ID, or to a target time. Raises Refused."""
    root = fetching.repository.root
    wanted = choose_wanted(known, backup, target)
    return plan_fetch(known, wanted, root, present(fetching.repository))


def present(repository: Repository) -> Callable[[Path], bool]:
    """Whether a path of a repository has its name, and so is whole."""
    return lambda path: os.path.lexists(repository.root / path)
