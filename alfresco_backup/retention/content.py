"""Whether a snapshot's store lost or changed more than is usual. Pure.

What a run no longer finds in the store is in older snapshots only, and retention removes those in time. So
it removes nothing once far more was deleted than usual, or a file was changed in place, until a person has
looked. This is also what notices malware that deletes or encrypts documents.
"""

from dataclasses import dataclass
from statistics import median

from alfresco_backup.contentstore.plan import MANY_DAYS
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.settings.model import Settings


@dataclass(frozen=True)
class ContentLimits:
    """Deletions of one run are usual up to `factor` times the median of a day, and up to `files` files."""

    factor: float
    files: int

    @classmethod
    def of(cls, settings: Settings) -> "ContentLimits":
        return cls(settings.deletion_alarm_factor, settings.deletion_alarm_files)


def content_alarm(snapshot: Snapshot, limits: ContentLimits) -> str:
    """What of a snapshot a person has to look at, as a sentence; empty when nothing.

    Deletions that were accepted before the snapshot was taken are not told again. The median is of the
    days with runs that the snapshot knows of, its own left aside: Alfresco's cleaner runs once a day, so that
    most of several runs a day delete nothing.
    """
    said = []
    own_day = snapshot.day
    earlier = [counts for day, counts in snapshot.deletions.items() if day != own_day]
    usual_files = median([files for files, _ in earlier] or [0])
    usual_days = median([days for _, days in earlier] or [0])
    many_files = snapshot.deleted_files > max(limits.files, limits.factor * usual_files)
    many_days = snapshot.deleted_days >= MANY_DAYS and snapshot.deleted_days > limits.factor * usual_days
    if (many_files or many_days) and not snapshot.accepted:
        said.append(
            f"{snapshot.deleted_files:,} files and {snapshot.deleted_days:,} whole days of {snapshot.store} "
            f"are gone since the snapshot before; usual are {usual_files:,.0f} files a day"
        )
    if snapshot.changed_files:
        more = " …" if snapshot.changed_files > len(snapshot.changed) else ""
        count = snapshot.changed_files
        said.append(
            f"{count:,} file{'s' * (count > 1)} of {snapshot.store} changed in place, which Alfresco never "
            f"does: {', '.join(snapshot.changed)}{more}"
        )
    return "; ".join(said)
