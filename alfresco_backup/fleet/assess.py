"""What was read of all hosts, judged: trouble first. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from alfresco_backup.errors import EXIT_ATTENTION, EXIT_SUCCESS
from alfresco_backup.findings import WORST_FIRST, Finding, Level, error, warning, worst_first
from alfresco_backup.fleet.record import HostRecord
from alfresco_backup.settings.commands import worker_status_command
from alfresco_backup.times import duration_for_people, for_people

REPORT_HOURS = 26.0
"""A host that has published nothing for so long is in trouble: a nightly run and some patience."""


@dataclass(frozen=True)
class Published:
    """What was read of a host: its record, or why there is none that can be believed."""

    host: str
    record: HostRecord | None
    refused: str = ""


@dataclass(frozen=True)
class FleetHost:
    """A host with all that is wrong with it, worst first. Its own status says what fixes what that found."""

    name: str
    record: HostRecord | None
    findings: tuple[Finding, ...]
    reported: bool
    """Whether it has reported within REPORT_HOURS."""

    @property
    def level(self) -> Level:
        return self.findings[0].level if self.findings else "ok"


@dataclass(frozen=True)
class FleetReport:
    """All hosts, those in trouble first."""

    moment: datetime
    hosts: tuple[FleetHost, ...]

    @property
    def state(self) -> Literal["good", "attention"]:
        """Warnings alone leave it good; a fleet without a host is not."""
        bad = [host for host in self.hosts if host.level in ("error", "unknown")]
        return "attention" if bad or not self.hosts else "good"

    @property
    def exit_code(self) -> int:
        return EXIT_SUCCESS if self.state == "good" else EXIT_ATTENTION

    @property
    def sentence(self) -> str:
        """Who has reported, of how many."""
        heard = sum(host.reported for host in self.hosts)
        bad = [host.name for host in self.hosts if host.level in ("error", "unknown")]
        said = f"{heard} of {len(self.hosts)} hosts have reported in the last {REPORT_HOURS:g} hours"
        return f"{said}; in trouble: {', '.join(bad) or 'none'}"


def make_fleet(published: Iterable[Published], now: datetime) -> FleetReport:
    """The report of what was read, sorted: worst first, then by the number of errors, then by name."""
    return FleetReport(now, tuple(sorted((_judged(item, now) for item in published), key=_trouble)))


def _trouble(host: FleetHost) -> tuple[int, int, str]:
    errors = sum(item.level == "error" for item in host.findings)
    return WORST_FIRST.index(host.level), -errors, host.name


def _judged(item: Published, now: datetime) -> FleetHost:
    record = item.record
    heard = record is not None and now - record.reported_at <= timedelta(hours=REPORT_HOURS)
    found = worst_first([*_of_reports(item, now, heard=heard), *(_of_record(record, now) if record else ())])
    return FleetHost(item.host, record, found, heard)


def _of_reports(item: Published, now: datetime, *, heard: bool) -> Iterator[Finding]:
    look = worker_status_command(item.host)
    if item.refused:
        yield error("report", f"what was published as this host's state is refused: {item.refused}", look)
    elif item.record is None:
        yield error("report", "it has deployments, and none of its runs has ever published its state", look)
    elif not heard:
        age = duration_for_people((now - item.record.reported_at).total_seconds())
        yield error("report", f"the last one is {age} old; the limit is {REPORT_HOURS:g} h", look)


def _of_record(record: HostRecord, now: datetime) -> Iterator[Finding]:
    """The host's own findings, and what has become too old since."""
    if record.state == "nothing-restorable":
        yield error("restorable window", record.headline, "")
    if record.unfinished_restore:
        yield error("unfinished restore", record.unfinished_restore, "")
    late = record.newest_complete_at and now - record.newest_complete_at > timedelta(
        hours=record.max_age_hours
    )
    if record.newest_complete_at and late:
        begun = for_people(record.newest_complete_at)
        what = f"the newest complete set was begun {begun}; the limit is {record.max_age_hours:g} h"
        yield error("newest backup", what, "")
    told = {"newest backup"} if late else set()
    for item in record.problems:
        if item.subject not in told:
            yield Finding(item.level, item.subject, item.sentence)
    if more := record.problem_count - len(record.problems):
        yield warning("problems", f"{more} further ones are in the host's own status", "")
