"""The beginning of a run that writes to the repository: its stamp, its folders, its log."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import HostNotReady, ToolFailed, ToolTimedOut
from alfresco_backup.host.host import Host, Run
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import COMPONENTS, Repository
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.journal_record import unreadable_journals
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.system.files import PARTIAL, set_umask
from alfresco_backup.system.folders import appending, make_folder, remove_tree
from alfresco_backup.times import STAMP_PATTERN, next_stamp, utc_now


@task(name="begin-run", cache_policy=NO_CACHE)
def begin_run(host: Host, flow: str) -> tuple[Run, Catalogue]:
    """Read the catalogue, take the run's stamp and open its log file for the tools' output.

    Raises Refused in the middle of a restore, before anything is written: a backup would be of half a host.
    """
    root = host.repository.root
    host.require_repository()
    require_finished(host.repository.restores(host.name), host.name)
    set_umask()
    catalogue = read_catalogue(host.repository)
    logger = get_run_logger()
    for journal in unreadable_journals(host.repository.restores(host.name)):
        logger.warning("%s is damaged; its restore was over before a later one began: passed over", journal)
    for problem in catalogue.problems:
        logger.warning("%s: %s", problem.path, problem.reason)
    stamp = next_stamp(utc_now(), catalogue.newest_stamp)
    log = host.repository.logs / f"{flow}-{stamp}.log"
    try:
        make_folder(host.repository.logs, 0o750, exist_ok=True)
        appending(log).close()
    except OSError as error:
        raise HostNotReady(
            f"BACKUP_DIR={root} cannot be written to: {error}",
            f"run as root or as its owner: ls -ld {root} {log.parent}",
        ) from error
    logger.info("set %s of host %s in %s; raw output in %s", stamp, host.name, root, log)
    return Run(host, stamp, log), catalogue


# What failed runs left of databases and configurations: at full size, and never continued.


@task(name="remove-leftovers", cache_policy=NO_CACHE)
def remove_leftovers_of(run_: Run, components: Collection[str]) -> None:
    """Remove what older runs left unfinished of the parts that this run is about to make.

    Before the space is looked at: otherwise failed copies fill the disk, and then no backup would be let
    begin. With the host's lock held nobody writes them any more. What cannot be removed is a warning.
    """
    logger = get_run_logger()
    for path in old_leftovers(run_.repository, run_.stamp, components):
        try:
            remove_tree(path)
            logger.info("removed %s, left by a run that did not finish", path)
        except OSError as error:
            logger.warning("%s, left by a run that did not finish, cannot be removed: %s", path, error)


def old_leftovers(repository: Repository, stamp: str, components: Collection[str]) -> Iterator[Path]:
    """The `.partial` bases and configurations of stamps before this one, oldest first.

    Those of snapshots are not among them: the next snapshot continues them.
    """
    for component, place in COMPONENTS.items():
        if component not in components or place.continued:
            continue
        for path in sorted(repository.folder_of(component).glob(f"{place.prefix}*{PARTIAL}")):
            name = path.name.removeprefix(place.prefix).removesuffix(PARTIAL).removesuffix(".json")
            if STAMP_PATTERN.fullmatch(name) and name < stamp:
                yield path


# Which failures of an idempotent step are worth another try.


def worth_another_try(_task: Any, _task_run: Any, state: Any) -> bool:
    """A program that failed may succeed the next time; settings, refusals and findings stay what they are.

    A program that ran into its limit, a day or more, is not started again by itself.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ToolFailed, OSError)) and not isinstance(error, ToolTimedOut)
