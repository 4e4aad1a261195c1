"""The beginning of a run that writes to the repository: its stamp, its folders, its log."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.catalogue import Catalogue, read_catalogue
from alfresco_backup.host import Host, Run
from alfresco_backup.stamps import next_stamp, utc_now


@task(name="begin-run", cache_policy=NO_CACHE)
def begin_run(host: Host, flow: str) -> tuple[Run, Catalogue]:
    """Read the catalogue, take the run's stamp and open its log file for the tools' output."""
    root = host.repository.root
    host.demand_repository()
    catalogue = read_catalogue(host.repository)
    logger = get_run_logger()
    for problem in catalogue.problems:
        logger.warning("%s: %s", problem.path, problem.reason)
    stamp = next_stamp(utc_now(), catalogue.newest_stamp)
    host.repository.logs.mkdir(mode=0o750, exist_ok=True)
    log = host.repository.logs / f"{flow}-{stamp}.log"
    log.touch(mode=0o640)
    logger.info("set %s of host %s in %s; raw output in %s", stamp, host.name, root, log)
    return Run(host, stamp, log), catalogue
