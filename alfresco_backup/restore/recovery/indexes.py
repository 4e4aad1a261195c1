"""Solr's indexes: set aside, since they know of transactions that the database no longer has. Acts."""

import os
import shlex
from pathlib import Path

from alfresco_backup.errors import BackupError
from alfresco_backup.findings import Finding, ok, warning
from alfresco_backup.restore.journal.journal import make_directory, rename, restoring_name
from alfresco_backup.restore.planning.plan import IndexPlan
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.system.accounts import Account, owner_of
from alfresco_backup.system.files import sync_filesystem
from alfresco_backup.system.folders import make_folder, open_folder, remove_tree
from alfresco_backup.system.processes import Command, run

HOUR = 3600.0


def replace_index(restoration: Restoration, index: IndexPlan) -> Finding:
    """Set an index aside and leave in its place an empty folder, or the planned copy of the set.

    A copy that cannot be put there is a warning: Solr rebuilds an index that is empty, never one that has a
    part of its files. Raises OSError where the index itself cannot be set aside.
    """
    status, owner = index.source.stat(), owner_of(index.source)
    below = (index.source / "index").is_dir()  # a core's data folder; else the setting names the index itself
    new = restoring_name(index.source, restoration.plan.restore_id)
    make_directory(restoration.journal, new, status.st_mode & 0o7777, owner)
    subject, found = f"index {index.source}", ok(f"index {index.source}", f"set aside as {index.target}")
    if index.copy:
        place = new / "index" if below else new
        try:
            if below:
                make_folder(place, status.st_mode & 0o7777, owner)
            _copy(restoration, index.copy, place, owner)
            found = ok(subject, f"set aside as {index.target}; {index.copy} is in its place")
        except (BackupError, OSError) as error:
            for entry in new.iterdir():
                remove_tree(entry)
            words = f"the copy {index.copy} could not be put back, so that Solr rebuilds it: {error}"
            found = warning(subject, words, f"ls -l {shlex.quote(str(index.copy))}")
    rename(restoration.journal, index.source, index.target)
    rename(restoration.journal, new, index.source)
    return found


def _copy(restoration: Restoration, copy: Path, place: Path, owner: Account) -> None:
    """In the folder itself, whatever its owner puts under its name meanwhile."""
    given = (f"--chown={owner.uid}:{owner.gid}",) if os.geteuid() == 0 else ()
    with open_folder(place) as folder:
        argv = ("rsync", "-rtp", "--numeric-ids", *given, f"{copy}/", "./")
        run(Command(argv, 24 * HOUR, directory=folder), log=restoration.log)
    sync_filesystem(place)
