"""What speaks against a published backup: no reason to discard it, but to act before older ones go. Pure."""

from collections.abc import Iterable
from datetime import timedelta

from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.times import duration_for_people, for_people

Part = BaseBackup | Snapshot | Configuration
NAMED = 20


def warnings_about(parts: Iterable[Part], protect_days: float) -> list[str]:
    """Warnings about the parts of one set; `protect_days` is how long Alfresco keeps orphaned content."""
    made = list(parts)
    found = []
    for base in made:
        if isinstance(base, BaseBackup):
            found += [damage_warning(base)] if base.damaged_files else []
            snapshots = (item for item in made if isinstance(item, Snapshot))
            found += [
                f"{said}; take a quick snapshot soon, or raise system.content.orphanProtectDays"
                for item in snapshots
                if (said := late_warning(base, item, protect_days))
            ]
    return found


def damage_warning(base: BaseBackup) -> str:
    """Names the files with wrong checksums that a base backup holds; backup.json lists all of them."""
    files = base.damaged_files
    more = f" and {len(files) - NAMED} more, see backup.json" if len(files) > NAMED else ""
    return (
        f"the server met pages with wrong checksums in {len(files)} files of the database, and the base "
        f"backup {base.stamp} holds them as they are: {', '.join(files[:NAMED])}{more}; check the server's "
        "log and its disk (dmesg | tail), and pin an older set that is whole before it expires"
    )


def late_warning(base: BaseBackup, snapshot: Snapshot, protect_days: float) -> str:
    """Warns of a snapshot that finished so late that content of the base may be purged; empty for none.

    Alfresco removes a content file that many days after its last reference went.
    """
    if snapshot.finished_at <= base.stopped_at + timedelta(days=protect_days):
        return ""
    late = duration_for_people((snapshot.finished_at - base.stopped_at).total_seconds())
    return (
        f"the snapshot {snapshot.stamp} of {snapshot.store} finished at {for_people(snapshot.finished_at)}, "
        f"{late} after the database's copy, and Alfresco keeps orphaned content for {protect_days:g} days "
        "only: documents may be missing from this set"
    )
