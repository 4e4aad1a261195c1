"""The status as metrics for Prometheus, in its text format; docs/reference/metrics.md describes them. Pure.

Points in time are exported as such, not as ages: the file is read for as long as it lies there, and an age in
it would stand still when nothing writes it any more.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from alfresco_backup.repository.sets_table import new_bytes_of, size_of
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.status.report import StatusReport
from alfresco_backup.times import parse_stamp

PREFIX = "alfresco_backup_"
LEVELS = ("error", "warning", "unknown")
Sample = tuple[str, dict[str, str], float | None]
"""Name, labels but the host's, and value; None is not exported."""

HELP = {
    "repository_readable": "Whether BACKUP_DIR could be read; 0: nothing else but the time is known.",
    "checked_timestamp_seconds": "When these metrics were written.",
    "restorable": "Whether anything can be restored.",
    "problems": "Problems that status lists, by level.",
    "complete_sets": "Sets that a whole host can be restored from.",
    "newest_complete_timestamp_seconds": "When the run of the newest complete set began.",
    "newest_complete_duration_seconds": "How long that run copied.",
    "newest_complete_bytes": "What that set restores.",
    "newest_complete_new_bytes": "What that run wrote.",
    "window_start_timestamp_seconds": "The first target time that can be restored.",
    "window_end_timestamp_seconds": "The last target time that can be restored.",
    "window_gaps": "Gaps between these two.",
    "wal_lag_seconds": "How old the last target time was when these metrics were written.",
    "streaming_active": "Whether somebody receives WAL.",
    "streaming_lag_seconds": "How far the receiver was behind.",
    "streaming_behind_bytes": "WAL that the receiver did not have yet.",
    "restore_drill_timestamp_seconds": "When the last restore drill ended, by the copy it restored.",
    "restore_drill_rto_seconds": "How long a restore would have taken.",
    "restore_drill_documents": "Documents whose content file was looked for.",
    "restore_drill_missing_documents": "Those without one.",
    "restore_drill_sound": "Whether all was verified and nothing was wrong.",
    "offsite_newest_complete_timestamp_seconds": "When the run of the newest complete set off-site began.",
    "offsite_wal_timestamp_seconds": "Up to when commits are safe off-site.",
    "offsite_stored_bytes": "What is stored off-site, as the last check measured it.",
    "disk_size_bytes": "The disk of BACKUP_DIR.",
    "disk_free_bytes": "What is free of it for ordinary users.",
    "disk_full_timestamp_seconds": "When it is full at the present pace, where that can be foreseen.",
    "stored_bytes": "What is stored, by part.",
    "retention_holds": "Reasons for which retention removes nothing.",
}


class _Families(Collector):
    """What a registry of prometheus_client exports: the samples of one host, by metric."""

    def __init__(self, host: str, samples: Iterable[Sample]) -> None:
        self.host = host
        self.samples = [sample for sample in samples if sample[2] is not None]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, words in HELP.items():
            mine = [sample for sample in self.samples if sample[0] == name]
            if mine:
                family = GaugeMetricFamily(PREFIX + name, words, labels=["host", *mine[0][1]])
                for _, labels, value in mine:
                    assert value is not None
                    family.add_metric([self.host, *labels.values()], value)
                yield family


def metrics_text(report: StatusReport) -> str:
    """The metrics of a host whose repository could be read."""
    return _text(report.host, [("repository_readable", {}, 1), *_samples(report)])


def unreadable_text(host: str, now: datetime) -> str:
    """The metrics of a host whose repository could not be read."""
    return _text(host, [("repository_readable", {}, 0), ("checked_timestamp_seconds", {}, now.timestamp())])


def _text(host: str, samples: Iterable[Sample]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(host, samples))
    return generate_latest(registry).decode()


def _samples(report: StatusReport) -> Iterator[Sample]:
    yield "checked_timestamp_seconds", {}, report.moment.timestamp()
    yield "restorable", {}, report.state != "nothing-restorable"
    for level in LEVELS:
        yield "problems", {"level": level}, sum(item.level == level for item in report.problems)
    yield "retention_holds", {}, len(report.holds)
    yield from _of_sets(report)
    yield from _of_wal(report)
    yield from _of_drills(report)
    yield from _of_offsite(report)
    yield from _of_space(report)


def _of_sets(report: StatusReport) -> Iterator[Sample]:
    yield "complete_sets", {}, sum(item.item.complete for item in report.sets)
    newest = newest_complete(report)
    if newest is None:
        return
    yield "newest_complete_timestamp_seconds", {}, newest.moment.timestamp()
    if not newest.legacy:
        yield "newest_complete_duration_seconds", {}, (newest.ended_at - newest.moment).total_seconds()
    yield "newest_complete_bytes", {}, size_of(newest)
    yield "newest_complete_new_bytes", {}, new_bytes_of(newest)


def _of_wal(report: StatusReport) -> Iterator[Sample]:
    if report.window:
        start, end = report.window
        yield "window_start_timestamp_seconds", {}, start.timestamp()
        yield "window_end_timestamp_seconds", {}, end.timestamp()
        yield "wal_lag_seconds", {}, max(0.0, (report.moment - end).total_seconds())
    if report.audited:
        yield "window_gaps", {}, len(report.gaps)
    slot = report.streaming.slot if report.streaming else None
    if slot:
        yield "streaming_active", {}, slot.active
        yield "streaming_lag_seconds", {}, slot.age
        yield "streaming_behind_bytes", {}, slot.behind


def _of_drills(report: StatusReport) -> Iterator[Sample]:
    """The newest drill of each copy."""
    proofs = [item.proof for item in report.sets if item.proof]
    newest = {"local": max(proofs, key=lambda proof: proof.proven_at, default=None)}
    newest["offsite"] = report.offsite.proof if report.offsite else None
    for source, proof in newest.items():
        if proof:
            labels = {"source": source}
            yield "restore_drill_timestamp_seconds", labels, proof.proven_at.timestamp()
            yield "restore_drill_rto_seconds", labels, proof.rto_seconds
            yield "restore_drill_documents", labels, proof.documents
            yield "restore_drill_missing_documents", labels, proof.missing
            yield "restore_drill_sound", labels, proof.sound


def _of_offsite(report: StatusReport) -> Iterator[Sample]:
    state = report.offsite.state if report.offsite else None
    if state is None:
        return
    if state.newest_complete:
        newest = parse_stamp(state.newest_complete).timestamp()
        yield "offsite_newest_complete_timestamp_seconds", {}, newest
    if state.wal_until:
        yield "offsite_wal_timestamp_seconds", {}, state.wal_until.timestamp()
    if state.measured_at:
        yield "offsite_stored_bytes", {}, state.stored_bytes


def _of_space(report: StatusReport) -> Iterator[Sample]:
    space = report.space
    if space is None:
        return
    yield "disk_size_bytes", {}, space.disk.total
    yield "disk_free_bytes", {}, space.disk.free
    if space.trend.full_on:
        yield "disk_full_timestamp_seconds", {}, space.trend.full_on.timestamp()
    for part in ("database", "wal", "content", "configuration"):
        yield "stored_bytes", {"part": part}, getattr(space, part)
