"""The status of a host's backups, from what is on disk. Pure but for `read_status`.

One place for people and programs: the command `status`, its JSON and the artifacts of each backup show this
record. Why a set is kept comes from retention's own rules, what can be restored from the WAL audit.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.retention.bases import Situation, Verdicts
from alfresco_backup.retention.outlook import kept_until, verdicts_on_parts
from alfresco_backup.settings.model import Settings
from alfresco_backup.status.disk_trend import foresee
from alfresco_backup.status.facts import StatusFacts, read_facts
from alfresco_backup.status.problems import find_problems
from alfresco_backup.status.report import PartStatus, SetStatus, SpaceStatus, StatusReport
from alfresco_backup.status.runs import last_runs


def read_status(settings: Settings, now: datetime) -> StatusReport:
    """Read the repository and judge it. Raises HostNotReady where BACKUP_DIR is not there."""
    return make_status(read_facts(settings, now))


def make_status(facts: StatusFacts) -> StatusReport:
    """The report from the facts."""
    sets = tuple(_sets(facts))
    space = _space(facts)
    runs = last_runs(facts)
    return StatusReport(
        host=facts.host,
        root=facts.repository.root,
        moment=facts.moment,
        headline=facts.audit.summary if facts.audit else "unknown: the WAL archive cannot be listed",
        audited=facts.audit is not None,
        gaps=facts.audit.gaps if facts.audit else (),
        sets=sets,
        space=space,
        runs=runs,
        problems=find_problems(facts, sets, space, runs),
        verification=facts.audit.verification if facts.audit else None,
        holds=facts.holds,
        offsite=facts.offsite,
        streaming=facts.streaming,
    )


def _sets(facts: StatusFacts) -> Iterator[SetStatus]:
    """Newest first. Without the archive, what retention would do is not known."""
    situation = Situation(facts.catalogue, facts.inventory, facts.policy, facts.moment)
    verdicts = verdicts_on_parts(situation) if facts.audit else {}
    until = kept_until(situation) if facts.audit else {}
    windows = {item.stamp: item for item in facts.audit.bases} if facts.audit else {}
    for item in reversed(facts.catalogue.sets):
        base = item.base
        window = windows.get(base.stamp) if base else None
        yield SetStatus(
            item,
            tuple(_part(part, verdicts, until) for part in item.parts),
            window.intervals if window else (),
            facts.proofs.get(base.stamp) if base else None,
            facts.inventory.pins.get(item.stamp),
            end_only=window is not None and window.end_only,
        )


def _part(
    part: BaseBackup | Snapshot | Configuration, verdicts: Verdicts, until: dict[Path, datetime]
) -> PartStatus:
    size: int | None
    new: int | None
    match part:
        case BaseBackup():
            name, size, new = "database", part.database_bytes, part.stored_bytes
        case Snapshot():
            known = not part.legacy
            name, size, new = part.store, part.bytes if known else None, part.new_bytes if known else None
        case Configuration():
            name, size, new = "configuration", part.bytes, part.bytes
    return PartStatus(name, part.path, size, new, verdicts.get(part.path), until.get(part.path))


def _space(facts: StatusFacts) -> SpaceStatus | None:
    if facts.disk is None:
        return None
    catalogue = facts.catalogue
    newest = {snapshot.store: snapshot for snapshot in catalogue.snapshots}
    return SpaceStatus(
        facts.disk,
        sum(base.stored_bytes for base in catalogue.bases),
        sum(file.bytes for file in facts.inventory.wal),
        sum(snapshot.bytes for snapshot in newest.values()),
        sum(item.bytes for item in catalogue.configurations),
        foresee(catalogue, facts.inventory.wal, facts.disk, facts.policy.window, facts.moment),
    )


def newest_complete(report: StatusReport) -> BackupSet | None:
    """The newest set that a whole host can be restored from."""
    return next((status.item for status in report.sets if status.item.complete), None)
