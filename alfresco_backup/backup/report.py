"""How a set that was just made is shown: a row for each part, and the report. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from alfresco_backup.backup.concerns import Part
from alfresco_backup.host.host import Run
from alfresco_backup.pages import markdown_table, page
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.times import duration_for_people, for_people, parse_stamp, size_for_people


@dataclass(frozen=True)
class PartRow:
    """One part of a run as a row: sizes in bytes, duration in seconds."""

    part: str
    size: int
    new_bytes: int
    files: int
    seconds: float
    state: str

    def for_people(self) -> dict[str, str]:
        return {
            "part": self.part,
            "size": size_for_people(self.size),
            "new data": size_for_people(self.new_bytes),
            "files": f"{self.files:,}",
            "duration": duration_for_people(self.seconds),
            "state": self.state,
        }


def base_row(backup: BaseBackup) -> PartRow:
    damaged = f"{len(backup.damaged_files)} files with wrong checksums, " if backup.damaged_files else ""
    state = f"{damaged}WAL {backup.start_wal} to {backup.stop_wal} archived"
    return PartRow(
        "database", backup.database_bytes, backup.stored_bytes, len(backup.files), backup.seconds, state
    )


def snapshot_row(snapshot: Snapshot) -> PartRow:
    gone = f", {snapshot.vanished:,} vanished while copying" if snapshot.vanished else ""
    lost = f", {snapshot.losses}" if snapshot.losses else ""
    state = f"{snapshot.mode}, {snapshot.new_files:,} new files{lost}{gone}"
    return PartRow(
        snapshot.store, snapshot.bytes, snapshot.new_bytes, snapshot.files, snapshot.seconds, state
    )


def configuration_row(configuration: Configuration) -> PartRow:
    seconds = (configuration.finished_at - configuration.started_at).total_seconds()
    size = configuration.bytes
    return PartRow("configuration", size, size, configuration.files, seconds, "copied")


def row_of(part: Part) -> PartRow:
    if isinstance(part, BaseBackup):
        return base_row(part)
    return snapshot_row(part) if isinstance(part, Snapshot) else configuration_row(part)


def losses_of(parts: Iterable[Part]) -> str:
    """What the content stores lost since the snapshots before, as a run's last words; empty for nothing."""
    return "".join(
        f"; {part.store}: {part.losses}" for part in parts if isinstance(part, Snapshot) and part.losses
    )


def backup_report(
    run_: Run, parts: Iterable[PartRow], warnings: Iterable[str], window: str, freed: str
) -> str:
    """The report as markdown that reads well as plain text too."""
    return page(
        f"Backup of {run_.host.name}: set {run_.stamp}",
        f"Started {for_people(parse_stamp(run_.stamp))}, stored in `{run_.repository.root}`.",
        markdown_table([part.for_people() for part in parts]),
        *(f"**Warning**: {warning}" for warning in warnings),
        f"**{window}**" if window else "",
        freed,
    ).rstrip()
