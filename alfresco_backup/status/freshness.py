"""Whether the newest complete set is recent enough, and what can be restored."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alfresco_backup.notify.messages import LastGood, RunFacts
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import duration_for_people, for_people
from alfresco_backup.wal.audit import audit
from alfresco_backup.wal.contents import INDEX, read_contents, read_index
from alfresco_backup.wal.timelines import read_timelines


@dataclass(frozen=True)
class Freshness:
    """The newest complete set, if any, and whether it is too old."""

    newest: LastGood | None
    overdue: bool
    sentence: str


def judge_freshness(catalogue: Catalogue, settings: Settings, now: datetime) -> Freshness:
    """Compare the newest complete set with BACKUP_MAX_AGE_HOURS.

    One that is dated in the future does not count, or there would be no alarm until then; it is named.
    """
    limit = timedelta(hours=settings.backup_max_age_hours)
    future = [item.stamp for item in catalogue.complete_sets if item.moment > now]
    odd = f"; {', '.join(future)} dated in the future; check the clock" if future else ""
    newest = last_good(catalogue, now)
    if newest is None:
        return Freshness(None, True, f"there is no complete backup in {settings.backup_dir}{odd}")
    age = now - newest.moment
    words = f"the newest complete set {newest.stamp} was begun {for_people(newest.moment)}"
    aged = f"{duration_for_people(age.total_seconds())} ago"
    sentence = f"{words}, {aged}; the limit is {settings.backup_max_age_hours:g} h{odd}"
    return Freshness(newest, age > limit, sentence)


def last_good(catalogue: Catalogue, now: datetime) -> LastGood | None:
    """The newest complete set that is not dated in the future."""
    past = [item for item in catalogue.complete_sets if item.moment <= now]
    return LastGood(past[-1].stamp, past[-1].moment) if past else None


def overdue_facts(
    settings: Settings, freshness: Freshness, window: str, checker: str, now: datetime
) -> RunFacts:
    """What the mail about an overdue backup says. `checker` is who noticed."""
    return RunFacts(
        host=settings.alf_host_name,
        customer=settings.customer_name,
        flow="backup",
        run=checker,
        outcome="is overdue",
        moment=now,
        message=freshness.sentence,
        last_good=freshness.newest,
        window=window,
    )


def restorable_window(settings: Settings, catalogue: Catalogue, now: datetime) -> str:
    """From when to when the host can be restored, by the archive alone: PostgreSQL may be down."""
    repository = Repository(settings.backup_dir)
    try:
        contents = read_contents(repository.wal, read_index(repository.logs / INDEX, repository.wal))
    except OSError as error:
        return f"unknown: the WAL archive {repository.wal} cannot be listed: {error.strerror}"
    wait = timedelta(minutes=settings.archive_wait_minutes)
    contents = replace(contents, timelines=read_timelines(repository))
    return audit(contents, catalogue.bases, None, now, wait).summary
