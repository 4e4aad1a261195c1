"""What failed runs left of databases and configurations: at full size, and never continued."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.durable import PARTIAL
from alfresco_backup.host import Run
from alfresco_backup.layout import BASE_PREFIX, CONFIGURATION_PREFIX, Repository
from alfresco_backup.stamps import STAMP_PATTERN


@task(name="remove-leftovers", cache_policy=NO_CACHE)
def remove_leftovers_of(run_: Run, components: Collection[str]) -> None:
    """Remove what older runs left unfinished of the parts that this run is about to make.

    Before the space is looked at: otherwise failed copies fill the disk, and then no backup would be let
    begin. With the host's slot held nobody writes them any more. What cannot be removed is a warning.
    """
    logger = get_run_logger()
    for path in old_leftovers(run_.repository, run_.stamp, components):
        try:
            remove(path)
            logger.info("removed %s, left by a run that did not finish", path)
        except OSError as error:
            logger.warning("%s, left by a run that did not finish, cannot be removed: %s", path, error)


def old_leftovers(repository: Repository, stamp: str, components: Collection[str]) -> Iterator[Path]:
    """The `.partial` bases and configurations of stamps before this one, oldest first.

    Those of snapshots are not among them: the next snapshot continues them.
    """
    places = {"postgres": (repository.postgres, BASE_PREFIX)}
    places["configuration"] = (repository.configurations, CONFIGURATION_PREFIX)
    for folder, prefix in (places[name] for name in places if name in components):
        for path in sorted(folder.glob(f"{prefix}*{PARTIAL}")):
            name = path.name.removeprefix(prefix).removesuffix(PARTIAL).removesuffix(".json")
            if STAMP_PATTERN.fullmatch(name) and name < stamp:
                yield path


def remove(path: Path) -> None:
    """Remove a left-over, be it a folder or a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
