"""Warnings about a published backup: it is kept, but act before older ones are removed. Pure."""

from collections.abc import Iterable
from datetime import timedelta

from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.settings.commands import program_command
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
                f"{said}. HINT: {program_command('backup', '--only', 'contentstore')}"
                for item in snapshots
                if (said := late_warning(base, item, protect_days))
            ]
    found += [links_warning(item) for item in made if isinstance(item, Snapshot) and item.outside]
    return found


def links_warning(snapshot: Snapshot) -> str:
    """Names links of a store that lead out of it; the snapshot's metadata lists all of them."""
    links = snapshot.outside
    more = f" and {len(links) - NAMED} more" if len(links) > NAMED else ""
    counted = "a link that leads" if len(links) == 1 else f"{len(links)} links that lead"
    return (
        f"the content store {snapshot.store} contains {counted} out of it: "
        f"{', '.join(links[:NAMED])}{more}; the snapshot {snapshot.stamp} contains the links only, so that "
        "what they lead to is in no backup. Move it into the store; a link at or above the level of days is "
        "followed where root made it, or leads to a directory of the account that did"
    )


def damage_warning(base: BaseBackup) -> str:
    """Names the files with wrong checksums in a base backup; backup.json lists all of them."""
    files = base.damaged_files
    more = f" and {len(files) - NAMED} more, see backup.json" if len(files) > NAMED else ""
    return (
        f"the server met pages with wrong checksums in {len(files)} files of the database, and base backup "
        f"{base.stamp} contains them as they are: {', '.join(files[:NAMED])}{more}; the server's disk may be "
        "failing (dmesg); pin an older set without damage before it expires. "
        f"HINT: {program_command('status')}"
    )


def late_warning(base: BaseBackup, snapshot: Snapshot, protect_days: float) -> str:
    """Warns of a snapshot that finished so late that content of the database may be purged; empty for none.

    Alfresco removes a content file that many days after its last reference went.
    """
    if snapshot.finished_at <= base.stopped_at + timedelta(days=protect_days):
        return ""
    late = duration_for_people((snapshot.finished_at - base.stopped_at).total_seconds())
    return (
        f"the snapshot {snapshot.stamp} of {snapshot.store} finished at {for_people(snapshot.finished_at)}, "
        f"{late} after the database's copy, and Alfresco keeps orphaned content for {protect_days:g} days "
        "only (system.content.orphanProtectDays): documents may be missing from this set"
    )
