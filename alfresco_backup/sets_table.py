"""The catalogue as rows for people: the table artifact `backup-sets` and the list of restore.py."""

from alfresco_backup.records import MAIN_STORE
from alfresco_backup.sets import BackupSet, Catalogue
from alfresco_backup.stamps import for_people, size_for_people

UNKNOWN = "unknown"


def backup_set_rows(catalogue: Catalogue) -> list[dict[str, str]]:
    """One row a set, newest first, then one for everything that is no backup."""
    rows = [_row(item) for item in reversed(catalogue.sets)]
    rows += [
        {
            "set": problem.path.name,
            "started": "",
            "parts": "",
            "size": "",
            "new data": "",
            "state": problem.reason,
        }
        for problem in catalogue.problems
    ]
    return rows


def _row(item: BackupSet) -> dict[str, str]:
    return {
        "set": item.stamp,
        "started": for_people(item.moment),
        "parts": ", ".join(_parts(item)),
        "size": _size(item, new=False),
        "new data": _size(item, new=True),
        "state": _state(item),
    }


def _parts(item: BackupSet) -> list[str]:
    database = ["database"] if item.base else []
    configuration = ["configuration"] if item.configuration else []
    return [*database, *sorted(item.snapshots), *configuration]


def _size(item: BackupSet, *, new: bool) -> str:
    """What the set holds, or what its run wrote; a predecessor's snapshot was never measured."""
    if any(snapshot.legacy for snapshot in item.snapshots.values()):
        return UNKNOWN
    total = item.configuration.bytes if item.configuration else 0
    total += sum(shot.new_bytes if new else shot.bytes for shot in item.snapshots.values())
    if item.base:
        total += item.base.stored_bytes if new else item.base.database_bytes
    return size_for_people(total)


def _state(item: BackupSet) -> str:
    """What can be restored from it."""
    whose = " (predecessor's)" if item.legacy else ""
    if item.complete:
        return f"complete{whose}"
    if item.base is None:
        kept = "content only" if item.snapshots else "configuration only"
        return f"{kept}{whose}"
    missing = [] if MAIN_STORE in item.snapshots else ["contentstore"]
    if not item.configuration and not item.legacy:
        missing.append("configuration")
    return f"incomplete: no {' and no '.join(missing)}{whose}"
