"""The sets of a catalogue in words, for the table `backup-sets`, status and the prompts of restore. Pure."""

from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.times import for_people, size_for_people

UNKNOWN = "unknown"


def backup_set_rows(catalogue: Catalogue) -> list[dict[str, str]]:
    """One row a set, newest first, then one for everything that is no backup."""
    rows = [set_row(item) for item in reversed(catalogue.sets)]
    rows += [
        {
            "set": problem.path.name,
            "started": "",
            "state": problem.reason,
            "parts": "",
            "size": "",
            "new data": "",
        }
        for problem in catalogue.problems
    ]
    return rows


def set_row(item: BackupSet) -> dict[str, str]:
    """A set as a row; its state early, where a narrow screen still shows it."""
    return {
        "set": item.stamp,
        "started": for_people(item.moment),
        "state": state_of(item),
        "parts": ", ".join(part_names(item)),
        "size": in_words(size_of(item)),
        "new data": in_words(new_bytes_of(item)),
    }


def part_names(item: BackupSet) -> list[str]:
    """`database`, the stores by name, `configuration`."""
    database = ["database"] if item.base else []
    configuration = ["configuration"] if item.configuration else []
    return [*database, *sorted(item.snapshots), *configuration]


def size_of(item: BackupSet) -> int | None:
    """Bytes that the set restores; None where a predecessor's snapshot was never measured."""
    if _unmeasured(item):
        return None
    total = item.configuration.bytes if item.configuration else 0
    total += sum(snapshot.bytes for snapshot in item.snapshots.values())
    return total + (item.base.database_bytes if item.base else 0)


def new_bytes_of(item: BackupSet) -> int | None:
    """Bytes that its run wrote into the repository; None where that was never measured."""
    if _unmeasured(item):
        return None
    total = item.configuration.bytes if item.configuration else 0
    total += sum(snapshot.new_bytes for snapshot in item.snapshots.values())
    return total + (item.base.stored_bytes if item.base else 0)


def in_words(size: int | None) -> str:
    return UNKNOWN if size is None else size_for_people(size)


def state_of(item: BackupSet) -> str:
    """What can be restored from it."""
    whose = " (predecessor's)" if item.legacy else ""
    if item.complete:
        return f"complete{whose}"
    if item.base is None:
        kept = "content only" if item.snapshots else "configuration only"
        return f"{kept}{whose}"
    return f"incomplete: no {' and no '.join(item.missing)}{whose}"


def _unmeasured(item: BackupSet) -> bool:
    return any(snapshot.legacy for snapshot in item.snapshots.values())
