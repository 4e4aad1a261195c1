"""Content stores: fill what is missing, or set the store aside and copy all of it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError
from alfresco_backup.restore.content.fill import Fill, fill_store
from alfresco_backup.restore.content.fill_differences import Differences, Source
from alfresco_backup.restore.content.fill_rsync import CopyOptions
from alfresco_backup.restore.content.sound import Damaged, StoredFiles
from alfresco_backup.restore.content.whole import NewStore, WholeCopy, copy_whole
from alfresco_backup.restore.journal.journal import make_directory, rename, restoring_name
from alfresco_backup.restore.planning.plan import Step, StorePlan
from alfresco_backup.restore.recovery.obstacles import existing_part
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.system.accounts import Account, known_account, owner_of
from alfresco_backup.system.files import sync_filesystem, write_text
from alfresco_backup.system.folders import set_access
from alfresco_backup.system.processes import OnProgress
from alfresco_backup.times import size_for_people
from tasks.runs.progress import Progress


@dataclass(frozen=True)
class StoreRestored:
    """What was done to one store. `copied` and `replaced` count files, `compared` those looked at.

    `kept`: files of the store that are larger than those of the backup, which may have been copied while
    they were written, or were changed in place since. `damaged`: files of the backup that differ from their
    recorded checksums, which were not used; they are in the list `damaged_list`. `unread`: lists of checksums
    that cannot be read.
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
    unread: frozenset[Path] = frozenset()

    @property
    def left(self) -> int:
        """Damaged files that the restore had to do without."""
        return sum(item.left for item in self.damaged)

    def sentence(self) -> str:
        """What was done, for people."""
        what = f"{self.copied:,} files copied ({size_for_people(self.bytes)}), {self.replaced:,} replaced"
        doubts = f"{self._of_kept()}{self._of_damaged()}{self._of_unread()}"
        return f"{self.store} ({self.path}): {what}, {self.compared:,} compared{doubts}"

    def _of_kept(self) -> str:
        if not self.kept:
            return ""
        files = "1 file is" if self.kept == 1 else f"{self.kept:,} files are"
        return f"; {files} larger in the store than in the backup and stayed"

    def _of_damaged(self) -> str:
        if not self.damaged:
            return ""
        remedies = Counter(item.remedy for item in self.damaged)
        done = ", ".join(f"{count:,}: {remedy}" for remedy, count in remedies.items())
        count = len(self.damaged)
        files = "1 file of the backup is" if count == 1 else f"{count:,} files of the backup are"
        return f"; {files} damaged and not used ({done}), see {self.damaged_list}"

    def _of_unread(self) -> str:
        if not self.unread:
            return ""
        lists = f"lists of checksums that cannot be read: {len(self.unread):,}, such as {min(self.unread)}"
        return f"; {lists}; their files were used without a comparison"


@task(name="restore-content", task_run_name="restore of contentstores", cache_policy=NO_CACHE, retries=0)
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
            whole = not (done[-1].damaged or done[-1].unread)
            (logger.info if whole else logger.warning)(done[-1].sentence())
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
        return _restored(restoration, plan, counts, fill.stored)
    new = restoring_name(plan.path, restoration.plan.restore_id)
    make_directory(restoration.journal, new, 0o700, known_account(os.geteuid(), os.getegid()))
    copied = copy_whole(_new_store(restoration, plan, new, sources[0]), on_progress)
    fill, counts = _fill(restoration, plan, new, sources[1:], new=True), Differences()
    if len(sources) > 1:
        size = copied.bytes
        counts = fill_store(fill, lambda done, total: on_progress(size + done, size + total))
    fill.stored.found = [item.settled(new) for item in (*copied.damaged, *fill.stored.found)]
    fill.stored.unread |= copied.unread
    own = restoration.account if os.geteuid() else owner_of(Path(sources[0].root))
    owner = new_store_owner(restoration, plan) or own
    like = plan.set_aside or Path(sources[0].root)
    set_access(new, owner.uid, owner.gid, like.stat().st_mode & 0o7777)
    sync_filesystem(new)
    rename(restoration.journal, new, plan.path)
    return _restored(restoration, plan, counts, fill.stored, copied)


def sources_of(plan: StorePlan) -> tuple[Source, ...]:
    """The trees to take files from, in order. The store itself is one only where it was set aside."""
    sources = []
    for source in plan.sources:
        if source.snapshot is not None:
            sources.append(Source(str(source.snapshot.path), source.replaces))
        elif plan.set_aside is not None:
            sources.append(Source(str(plan.set_aside), source.replaces))
    return tuple(sources)


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


def _new_store(restoration: Restoration, plan: StorePlan, new: Path, source: Source) -> NewStore:
    return NewStore(
        source=Path(source.root),
        new=new,
        store=plan.path,
        aside=plan.set_aside,
        folder=restoration.folder / "content" / f"{plan.store}.whole",
        options=copy_options(restoration, plan),
        parallel=restoration.host.settings.parallel_copies,
        log=restoration.log,
        expected_bytes=max((item.snapshot.bytes for item in plan.sources if item.snapshot), default=0),
    )


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
    stored: StoredFiles,
    whole: WholeCopy | None = None,
) -> StoreRestored:
    whole, damaged = whole or WholeCopy(), stored.found
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
        unread=frozenset(stored.unread),
    )
