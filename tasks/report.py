"""What a run leaves for people: its report, the table of its parts, the catalogue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.host import Run
from alfresco_backup.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.stamps import duration_for_people, for_people, parse_stamp, size_for_people
from tasks.history import publish_markdown, publish_table


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
    state = f"WAL {backup.start_wal} to {backup.stop_wal} archived"
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


@task(name="report", cache_policy=NO_CACHE)
def report_backup(run_: Run, parts: Sequence[PartRow], window: str, freed: str) -> str:
    """Publish the run's report and its table of parts; returns the report's text."""
    text = backup_report(run_.host.name, run_.stamp, run_.repository.root, parts, window, freed)
    rows = [part.for_people() for part in parts]
    publish_table(rows, "backup-parts", f"Set {run_.stamp} of {run_.host.name}")
    publish_markdown(f"{text}\n\nRaw output of the tools: `{run_.log}`\n", "backup-report")
    get_run_logger().info("set %s published in %s; %s", run_.stamp, run_.repository.root, window)
    return text


def backup_report(
    host: str, stamp: str, place: Path, parts: Iterable[PartRow], window: str, freed: str
) -> str:
    """The report as markdown that reads well as plain text too."""
    rows = [part.for_people() for part in parts]
    lines = [
        f"# Backup of {host}: set {stamp}",
        "",
        f"Started {for_people(parse_stamp(stamp))}, kept in `{place}`.",
        "",
        "| part | size | new data | files | duration | state |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row.values())} |" for row in rows),
        "",
        f"**{window}**",
        "",
        freed,
    ]
    return "\n".join(lines)
