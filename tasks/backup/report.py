"""What a run leaves for people: its report, the table of its parts, the catalogue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.backup.concerns import Part, warnings_about
from alfresco_backup.host.host import Run
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.times import duration_for_people, for_people, parse_stamp, size_for_people
from tasks.runs.history import publish_markdown, publish_table


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
    state = f"{snapshot.mode}, {snapshot.new_files:,} new files{gone}"
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


@task(name="report", cache_policy=NO_CACHE)
def report_backup(run_: Run, parts: Sequence[Part], window: str, freed: str) -> str:
    """Publish the run's report and its table of parts; returns the report's text."""
    warnings = warnings_about(parts, run_.host.installation.orphan_protect_days)
    text = backup_report(run_, [row_of(part) for part in parts], warnings, window, freed)
    rows = [row_of(part).for_people() for part in parts]
    publish_table(rows, "backup-parts", f"Set {run_.stamp} of {run_.host.name}")
    publish_markdown(f"{text}\n\nRaw output of the tools: `{run_.log}`\n", "backup-report")
    for warning in warnings:
        get_run_logger().warning("%s", warning)
    get_run_logger().info("set %s published in %s; %s", run_.stamp, run_.repository.root, window)
    return text


def backup_report(
    run_: Run, parts: Iterable[PartRow], warnings: Iterable[str], window: str, freed: str
) -> str:
    """The report as markdown that reads well as plain text too."""
    rows = [part.for_people() for part in parts]
    lines = [
        f"# Backup of {run_.host.name}: set {run_.stamp}",
        "",
        f"Started {for_people(parse_stamp(run_.stamp))}, kept in `{run_.repository.root}`.",
        "",
        "| part | size | new data | files | duration | state |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row.values())} |" for row in rows),
        "",
        *(f"**Warning**: {warning}\n" for warning in warnings),
        f"**{window}**",
        "",
        freed,
    ]
    return "\n".join(lines)
