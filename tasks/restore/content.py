"""Content stores: fill what is missing, or set the store aside and copy all of it."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.contentstore.rsync import write_entries
from alfresco_backup.errors import BackupError
from alfresco_backup.restore.content.fill import Fill, fill_store, require_days
from alfresco_backup.restore.content.fill_differences import Differences, Source
from alfresco_backup.restore.content.fill_rsync import (
    CopyOptions,
    Ends,
    copied_bytes,
    copied_file,
    deal,
    whole_trees,
)
from alfresco_backup.restore.content.sound import Damaged, StoredFiles, has_content
from alfresco_backup.restore.content.sources import Tree, Units, find_units
from alfresco_backup.restore.journal.journal import make_directory, rename, restoring_name
from alfresco_backup.restore.planning.plan import Step, StorePlan
from alfresco_backup.restore.recovery.obstacles import existing_part
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.system.accounts import Account, known_account, owner_of
from alfresco_backup.system.files import sync_filesystem, write_text
from alfresco_backup.system.folders import (
    appending_text,
    creating,
    make_folders,
    open_file,
    open_folder,
    set_access,
    unlink,
)
from alfresco_backup.system.processes import Command, OnProgress, run_side_by_side
from alfresco_backup.times import size_for_people
from tasks.runs.progress import Progress

SMALLEST_SHARE = 20


@dataclass(frozen=True)
class WholeCopy:
    """Files and bytes that were copied into a new store, and what of the source was `damaged`."""

    files: int = 0
    bytes: int = 0
    damaged: tuple[Damaged, ...] = ()


@dataclass(frozen=True)
class StoreRestored:
    """What was done to one store. `copied` and `replaced` count files, `compared` those looked at.

    `kept`: files of the store that are larger than those of the backup, which were copied while being
    written. `damaged`: files of the backup that differ from their recorded checksums, which were not used;
    they are in the list `damaged_list`.
    """

    store: str
    path: Path
    strategy: str
    compared: int
    copied: int
    replaced: int
    kept: int
    bytes: int
    damaged: tuple[Damaged, ...] = ()
    damaged_list: Path | None = None

    @property
    def left(self) -> int:
        """Damaged files that the restore had to do without."""
        return sum(item.left for item in self.damaged)

    def sentence(self) -> str:
        """What was done, for people."""
        what = f"{self.copied:,} files copied ({size_for_people(self.bytes)}), {self.replaced:,} replaced"
        return f"{self.store} ({self.path}): {what}, {self.compared:,} compared{self._of_damaged()}"

    def _of_damaged(self) -> str:
        if not self.damaged:
            return ""
        remedies = Counter(item.remedy for item in self.damaged)
        done = ", ".join(f"{count:,}: {remedy}" for remedy, count in remedies.items())
        count = len(self.damaged)
        files = "1 file of the backup is" if count == 1 else f"{count:,} files of the backup are"
        return f"; {files} damaged and not used ({done}), see {self.damaged_list}"


@task(name="restore-content", cache_policy=NO_CACHE, retries=0)
def restore_content(restoration: Restoration) -> list[StoreRestored]:
    """Copy the files of its snapshots into every store of the plan; nothing is deleted from a store."""
    if not restoration.plans(Step.RESTORE_CONTENT):
        return []
    logger = get_run_logger()
    if restoration.plans(Step.SET_ASIDE_CONTENT):
        with restoration.step(Step.SET_ASIDE_CONTENT):
            set_aside_stores(restoration)
    done = []
    with restoration.step(Step.RESTORE_CONTENT):
        for plan in restoration.plan.content:
            progress = Progress(restoration.host.name, f"content {plan.store}")
            done.append(restore_store(restoration, plan, progress))
            progress.finish()
            (logger.warning if done[-1].damaged else logger.info)(done[-1].sentence())
    return done


def set_aside_stores(restoration: Restoration) -> None:
    """Rename the stores that are to be replaced."""
    for plan in restoration.plan.content:
        if plan.set_aside is not None:
            rename(restoration.journal, plan.path, plan.set_aside)


def restore_store(restoration: Restoration, plan: StorePlan, on_progress: OnProgress) -> StoreRestored:
    """Fill a store that exists; build a missing one beside its place, then rename it when it is complete."""
    sources = sources_of(plan)
    if not sources:
        raise BackupError(f"store {plan.store}: the plan has no source for it")
    if plan.path.exists():
        fill = _fill(restoration, plan, plan.path, sources, new=False)
        counts = fill_store(fill, on_progress)
        return _restored(restoration, plan, counts, fill.stored.found)
    new = restoring_name(plan.path, restoration.plan.restore_id)
    make_directory(restoration.journal, new, 0o700, known_account(os.geteuid(), os.getegid()))
    copied = copy_whole(restoration, plan, sources[0], new, on_progress)
    fill, counts = _fill(restoration, plan, new, sources[1:], new=True), Differences()
    if len(sources) > 1:
        size = copied.bytes
        counts = fill_store(fill, lambda done, total: on_progress(size + done, size + total))
    damaged = [item.settled(new) for item in (*copied.damaged, *fill.stored.found)]
    own = restoration.account if os.geteuid() else owner_of(Path(sources[0].root))
    owner = new_store_owner(restoration, plan) or own
    like = plan.set_aside or Path(sources[0].root)
    set_access(new, owner.uid, owner.gid, like.stat().st_mode & 0o7777)
    sync_filesystem(new)
    rename(restoration.journal, new, plan.path)
    return _restored(restoration, plan, counts, damaged, copied)


def sources_of(plan: StorePlan) -> tuple[Source, ...]:
    """The trees to take files from, in order. The store itself is one only where it was set aside."""
    sources = []
    for source in plan.sources:
        if source.snapshot is not None:
            sources.append(Source(str(source.snapshot.path), source.replaces))
        elif plan.set_aside is not None:
            sources.append(Source(str(plan.set_aside), source.replaces))
    return tuple(sources)


def copy_whole(
    restoration: Restoration, plan: StorePlan, source: Source, new: Path, on_progress: OnProgress
) -> WholeCopy:
    """Copy a whole tree into a new store, by several rsyncs in parallel, and take out what is damaged.

    rsync says the checksum of what it has copied; that is compared with the recorded one.
    """
    folder = restoration.folder / "content" / f"{plan.store}.whole"
    make_folders(folder)
    options = copy_options(restoration, plan)
    expected = max((item.snapshot.bytes for item in plan.sources if item.snapshot), default=0)
    units = find_units(Path(source.root))
    require_days(units.lost, plan.path)
    files = done = 0
    stored = StoredFiles(restoration.host.settings.parallel_copies)
    differing: list[tuple[str, Tree, bytes]] = []
    with appending_text(restoration.log) as said, open_folder(new) as top:

        def on_line(line: str) -> None:
            nonlocal files, done
            size = copied_bytes(line)
            if size is None:
                said.write(f"{line}\n" if not line.startswith("cd") else "")
                return
            files, done = files + 1, done + size
            if (copied := copied_file(line)) and (found := _differs(units, stored, *copied)):
                differing.append(found)
            on_progress(done, max(expected, done))

        make_whole_folders(units, top)
        for commands in whole_commands(restoration, options, units, folder, top):
            run_side_by_side(commands, on_line=on_line)
        give_whole_folders(units, options.owner, top)
    damaged = replace_damaged(new, stored, differing, plan.set_aside)
    return WholeCopy(files - sum(item.left for item in damaged), done, damaged)


def replace_damaged(
    new: Path, stored: StoredFiles, files: Sequence[tuple[str, Tree, bytes]], aside: Path | None
) -> tuple[Damaged, ...]:
    """Replace files that were copied with another checksum than the recorded one, or take them out."""

    def has(path: str, recorded: bytes) -> bool:
        return aside is not None and has_content(aside / path, recorded)

    damaged = [stored.judge(*file, has, aside) for file in files]
    for item in damaged:
        put_right(new, item)
    return tuple(damaged)


def _differs(units: Units, stored: StoredFiles, path: str, digest: bytes) -> tuple[str, Tree, bytes] | None:
    """The path, tree and recorded checksum of a file that was copied with another checksum."""
    tree = units.of(path)
    recorded = stored.recorded(tree, path) if tree else None
    if tree is None or recorded is None or recorded == digest:
        return None
    if len(recorded) != len(digest) and stored.is_sound(tree, path):
        return None
    return path, tree, recorded


def put_right(new: Path, item: Damaged) -> None:
    """Give a file that was copied damaged the content of another copy, or remove it where there is none.

    Nobody but this process's account can enter the new store yet.
    """
    file = new / item.path
    status = file.stat()
    unlink(file)
    if item.tree is None:
        return
    source = Path(item.tree.real(item.path))
    with os.fdopen(open_file(source, os.O_RDONLY), "rb") as stream, creating(file, 0o600) as target:
        shutil.copyfileobj(stream, target)
        if os.geteuid() == 0:
            os.fchown(target.fileno(), status.st_uid, status.st_gid)
        os.fchmod(target.fileno(), status.st_mode & 0o7777)
    os.utime(file, ns=(status.st_atime_ns, source.stat().st_mtime_ns))


def whole_commands(
    restoration: Restoration, options: CopyOptions, units: Units, folder: Path, top: int
) -> Iterator[list[Command]]:
    """The rsyncs that copy all units into the folder `top`, those that run side by side together.

    Nobody but this process's account can enter that yet.
    """
    groups: dict[tuple[Ends, str], list[str]] = {}
    for path, tree in sorted(units.trees.items()):
        key = (Ends(tree.base, tree.account), tree.prefix)
        groups.setdefault(key, []).append(tree.entry(path, tree.prefix))
    for count, ((source, place), entries) in enumerate(groups.items()):
        with below(top, place) as target:
            shares = deal(entries, restoration.host.settings.parallel_copies, SMALLEST_SHARE)
            yield [
                options.command(
                    whole_trees(), write_entries(folder / f"copy.{count}.{number}", share), source, target
                )
                for number, share in enumerate(shares)
            ]


@contextmanager
def below(top: int, path: str) -> Iterator[int]:
    """A folder within one that is held open, in which nobody else can make links."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_whole_folders(units: Units, top: int) -> None:
    """Make the folders above the units: rsyncs in parallel would make the same ones at the same time."""
    volumes = {path for path, tree in units.trees.items() if tree.prefix == path}
    for path in sorted({*units.folders, *volumes} - {""}):
        os.mkdir(path, 0o700, dir_fd=top)


def give_whole_folders(units: Units, owner: Account | None, top: int) -> None:
    """Give these folders what they have in the source; the owner of the new store, where it has one."""
    for path, tree in sorted(units.folders.items(), reverse=True):
        if path:
            status = Path(tree.real(path)).stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=top)
            os.chmod(path, status.st_mode & 0o7777, dir_fd=top)
            if os.geteuid() == 0:
                account = owner or known_account(status.st_uid, status.st_gid)
                os.chown(path, account.uid, account.gid, dir_fd=top)


def copy_options(restoration: Restoration, plan: StorePlan) -> CopyOptions:
    """How files are copied into a store of this host."""
    settings = restoration.host.settings
    in_place = _unless_root(owner_of(plan.path)) if plan.path.exists() else None
    owner = in_place or new_store_owner(restoration, plan)
    return CopyOptions(
        owner, settings.contentstore_limit_hours, settings.bandwidth_limit_mib, f"less {restoration.log}"
    )


def new_store_owner(restoration: Restoration, plan: StorePlan) -> Account | None:
    """The owner of a new store: that of the one set aside, else of the folder it is in.

    None where that is root: then as recorded in the backup. So are the files of a store whose own folder
    belongs to root, as that of a newly mounted disk does, and of a store made up of volumes.
    """
    if os.geteuid() != 0:
        return restoration.account
    if plan.set_aside is not None and plan.set_aside.exists():
        return _unless_root(owner_of(plan.set_aside))
    return _unless_root(owner_of(existing_part(plan.path.parent)))


def _unless_root(owner: Account) -> Account | None:
    return owner if owner.uid != 0 else None


def _fill(
    restoration: Restoration, plan: StorePlan, store: Path, sources: Sequence[Source], *, new: bool
) -> Fill:
    return Fill(
        store=store,
        sources=tuple(sources),
        folder=restoration.folder / "content" / plan.store,
        journal=None if new else restoration.journal,
        options=copy_options(restoration, plan),
        parallel=restoration.host.settings.parallel_copies,
        log=restoration.log,
        stamp=restoration.plan.restore_id,
    )


def _restored(
    restoration: Restoration,
    plan: StorePlan,
    counts: Differences,
    damaged: Sequence[Damaged],
    whole: WholeCopy | None = None,
) -> StoreRestored:
    whole = whole or WholeCopy()
    listed = restoration.folder / f"damaged-{plan.store}.txt" if damaged else None
    if listed:
        text = "".join(item.line for item in damaged)
        write_text(listed, os.fsencode(text).decode("utf-8", "backslashreplace"))
    return StoreRestored(
        store=plan.store,
        path=plan.path,
        strategy=plan.strategy,
        compared=counts.files,
        copied=whole.files + counts.missing,
        replaced=counts.differing,
        kept=counts.kept,
        bytes=whole.bytes + counts.bytes,
        damaged=tuple(damaged),
        damaged_list=listed,
    )
