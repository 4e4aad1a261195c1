"""The last runs by what is on disk: logs, parts and restore journals, without Prefect. Pure."""

import re
from collections.abc import Iterable, Iterator

from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.repository.sets_table import part_names
from alfresco_backup.restore.journal.journal_record import Record, RestoreState
from alfresco_backup.status.facts import StatusFacts
from alfresco_backup.status.report import RunState, RunStatus
from alfresco_backup.times import parse_stamp

RUNS = 10
_BACKUP_LOG = re.compile(r"backup-(\d{8}T\d{6}Z)\.log")
_RESTORED: dict[RestoreState, RunState] = {
    RestoreState.UNFINISHED: "unfinished",
    RestoreState.COMPLETED: "restored",
    RestoreState.UNDOING: "unfinished",
    RestoreState.UNDONE: "undone",
    RestoreState.DISCARDING: "restored",
    RestoreState.DISCARDED: "restored",
}


def last_runs(facts: StatusFacts) -> tuple[RunStatus, ...]:
    """The newest runs, newest first."""
    runs = [*_backups(facts), *(_restore(record) for record in facts.restores)]
    return tuple(sorted(runs, key=lambda run: run.started_at, reverse=True)[:RUNS])


def _backups(facts: StatusFacts) -> Iterator[RunStatus]:
    sets = {item.stamp: item for item in facts.catalogue.sets if not item.legacy}
    logged = {match[1] for name in facts.logs if (match := _BACKUP_LOG.fullmatch(name))}
    left = {stamp for stamp in logged for path in facts.catalogue.partials if stamp in path.name}
    for stamp in _newest({*sets, *logged}):
        yield _published(sets[stamp]) if stamp in sets else _without_a_part(facts, stamp, stamp in left)


def _newest(stamps: Iterable[str]) -> list[str]:
    valid = []
    for stamp in stamps:
        try:
            valid.append((parse_stamp(stamp), stamp))
        except ValueError:  # digits that no calendar has
            continue
    return [stamp for _, stamp in sorted(valid)[-RUNS:]]


def _published(item: BackupSet) -> RunStatus:
    lost = [f"{store}: {snapshot.losses}" for store, snapshot in item.snapshots.items() if snapshot.losses]
    words = "; ".join([f"published {', '.join(part_names(item))}", *lost])
    return RunStatus("backup", item.stamp, item.moment, item.ended_at, "published", words)


def _without_a_part(facts: StatusFacts, stamp: str, left: bool) -> RunStatus:
    """A run of which only the log is there. Retention leaves parts alone until the first age it acts on."""
    moment = parse_stamp(stamp)
    untouched = facts.moment - min(facts.policy.thin_after, facts.policy.window)
    state: RunState
    if left:
        state, words = "unfinished", "running or interrupted; only .partial files are there"
    elif moment >= untouched:
        state, words = "failed", "nothing was published; it failed or has only just begun"
    else:
        state, words = "gone", "nothing of it is there; it failed, or retention has removed it"
    return RunStatus("backup", stamp, moment, None, state, words)


def _restore(record: Record) -> RunStatus:
    flow = f"restore-{record.about.get('kind', 'unknown')}"
    return RunStatus(
        flow, record.restore_id, record.started_at, None, _RESTORED[record.state], f"is {record.state.value}"
    )
