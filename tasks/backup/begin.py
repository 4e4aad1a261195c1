"""The beginning of a run that writes to the repository: its ID, its log, what failed runs left."""

import shlex
from collections.abc import Collection
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.variables import Variable

from alfresco_backup.documents.scratch import remove_abandoned
from alfresco_backup.errors import BackupError, HostNotReady, Refused, ToolFailed, ToolTimedOut
from alfresco_backup.host.host import Host, Run
from alfresco_backup.repository.catalogue import old_leftovers, read_catalogue
from alfresco_backup.repository.marker import (
    begin_repository,
    read_marker,
    read_note,
    require_repository,
    write_note,
)
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.journal_record import unreadable_journals
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.settings.commands import own_links
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.system.files import set_umask
from alfresco_backup.system.folders import appending, make_folder, remove_tree, untrusted_link
from alfresco_backup.times import next_stamp, utc_now
from tasks.runs.history import not_essential, of_host


@task(name="begin-run", task_run_name="begin the run", cache_policy=NO_CACHE)
def begin_run(host: Host, flow: str, *, only_reads: bool = False) -> tuple[Run, Catalogue]:
    """Read the catalogue, choose the run's ID and open its log file for the tools' output.

    Raises Refused while a restore is unfinished, before anything is written: a backup would be inconsistent.
    A run that `only_reads` the repository is warned: documents are wanted most when a host is not whole.
    """
    root = host.repository.root
    host.require_repository()
    require_repository(host.repository, known_repository(host))
    logger = get_run_logger()
    try:
        require_finished(host.repository.restores(host.name), host.name)
    except Refused as unfinished:
        if not only_reads:
            raise
        logger.warning("the live host is not whole: %s", unfinished.message)
    set_umask()
    catalogue = read_catalogue(host.repository)
    for journal in unreadable_journals(host.repository.restores(host.name)):
        logger.warning("%s is damaged; its restore ended before a later one began, so it is ignored", journal)
    for problem in catalogue.problems:
        logger.warning("%s: %s", problem.path, problem.reason)
    stamp = next_stamp(utc_now(), catalogue.newest_stamp)
    log = host.repository.logs / f"{flow}-{stamp}.log"
    try:
        make_folder(host.repository.logs, 0o750, exist_ok=True)
        appending(log).close()
    except OSError as error:
        link = untrusted_link(log)
        raise HostNotReady(
            f"BACKUP_DIR={root} cannot be written to: {error}; only root and its owner may",
            own_links(link) if link else f"ls -ld {shlex.join((str(root), str(log.parent)))}",
        ) from error
    logger.info("set %s of host %s in %s; raw output in %s", stamp, host.name, root, log)
    return Run(host, stamp, log), catalogue


def known_repository(host: Host) -> str:
    """The identity that BACKUP_DIR is known to have: by the note beside the `.env`, else by Prefect."""
    noted = read_note(host.repository, env_file_path())
    if noted:
        return noted
    value: object = None
    with not_essential("the question for the repository's identity"):
        value = Variable.get(of_host("repository", host.name))
    own = isinstance(value, dict) and value.get("backup_dir") == str(host.repository.root)
    return str(value.get("id", "")) if own and isinstance(value, dict) else ""


def settle_repository(host: Host, catalogue: Catalogue) -> None:
    """Give a repository its marker where it has none; note its identity beside the `.env` and in Prefect."""
    logger = get_run_logger()
    repository = host.repository
    identity = read_marker(repository)
    if not identity:
        identity = begin_repository(repository, host.name)
        if catalogue.bases or catalogue.snapshots or catalogue.configurations:
            logger.info("%s contains backups; it is marked as repository %s", repository.root, identity)
        else:
            logger.warning("a new repository begins: BACKUP_DIR=%s contains no backup", repository.root)
    try:
        write_note(repository, env_file_path(), identity)
    except OSError as error:
        logger.info("the repository's identity is noted in Prefect only: %s", error)
    known = {"backup_dir": str(repository.root), "id": identity}
    with not_essential("the repository's identity"):
        if Variable.get(of_host("repository", host.name)) != known:
            Variable.set(of_host("repository", host.name), dict(known), overwrite=True)


@task(name="remove-leftovers", task_run_name="remove left-overs", cache_policy=NO_CACHE)
def remove_leftovers_of(run_: Run, components: Collection[str]) -> None:
    """Remove what older runs left unfinished of the parts that this run is about to make.

    Before the space is checked: otherwise failed copies fill the disk until no backup can begin. With the
    host's lock held no process writes them any more. What cannot be removed is a warning.
    """
    logger = get_run_logger()
    for path in old_leftovers(run_.repository, run_.stamp, components):
        try:
            remove_tree(path)
            logger.info("removed %s, left by a run that did not finish", path)
        except OSError as error:
            logger.warning("%s, left by a run that did not finish, cannot be removed: %s", path, error)
    remove_searched_databases(run_)


def remove_searched_databases(run_: Run) -> None:
    """Remove recovered databases that nobody has searched for long, or a killed search left."""
    logger = get_run_logger()
    try:
        for name in remove_abandoned(run_.host, utc_now(), run_.log):
            logger.info("removed %s, which is not searched any more", name)
    except (BackupError, OSError) as error:
        logger.warning("a recovered database cannot be removed: %s", error)


def worth_another_try(_task: Any, _task_run: Any, state: Any) -> bool:
    """A program that failed may succeed the next time; settings, refusals and findings stay what they are.

    A program that ran into its limit, a day or more, is not started again by itself.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ToolFailed, OSError)) and not isinstance(error, ToolTimedOut)
