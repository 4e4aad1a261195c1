"""The beginning of a run that writes to the repository: its stamp, its folders, its log."""

import os

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.catalogue import Catalogue, read_catalogue
from alfresco_backup.errors import HostNotReady
from alfresco_backup.host import Host, Run
from alfresco_backup.restore_record import unreadable_journals
from alfresco_backup.stamps import next_stamp, utc_now
from alfresco_backup.unfinished import demand_finished


@task(name="begin-run", cache_policy=NO_CACHE)
def begin_run(host: Host, flow: str) -> tuple[Run, Catalogue]:
    """Read the catalogue, take the run's stamp and open its log file for the tools' output.

    Raises Refused in the middle of a restore, before anything is written: a backup would be of half a host.
    """
    root = host.repository.root
    host.demand_repository()
    demand_finished(host.repository.restores(host.name), host.name)
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
        host.repository.logs.mkdir(mode=0o750, exist_ok=True)
        log.touch(mode=0o640)
    except OSError as error:
        raise HostNotReady(
            f"BACKUP_DIR={root} cannot be written to: {error}",
            f"run as root or as its owner: ls -ld {root} {log.parent}",
        ) from error
    logger.info("set %s of host %s in %s; raw output in %s", stamp, host.name, root, log)
    return Run(host, stamp, log), catalogue


def set_umask() -> None:
    """Let PostgreSQL's account into the folders of the repository, and nobody else write there.

    What is secret has a mode of its own: base backups, configurations and logs.
    """
    os.umask(0o022)
