"""The status as one page of HTML, of the same report as its JSON. Pure."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from alfresco_backup.findings import MARKS, Finding
from alfresco_backup.repository.sets_table import in_words, new_bytes_of, size_of
from alfresco_backup.status.as_text import offsite_lines, run_line, space_lines, status_rows
from alfresco_backup.status.report import SetStatus, StatusReport
from alfresco_backup.status.web_page import Markup, Point, bar_chart, element, joined, listed, table, web_page
from alfresco_backup.times import duration_for_people, for_people, size_for_people

CHARTED = 60
"""Sets in a chart, the newest ones: more bars are too thin to see."""


def status_page(report: StatusReport) -> str:
    """The page. It shows all that status' text does, and charts."""
    parts = [
        element("p", f"{report.headline}. As of {for_people(report.moment)}."),
        element("h2", "Problems"),
        findings_list(report.problems) or element("p", "No problems."),
        element("h2", "Course"),
        _charts(report.sets),
        element("h2", "Sets"),
        _sets(report),
        element("h2", "Space and WAL"),
        listed([*space_lines(report.space), *_wal_lines(report)]),
        element("h2", "Off-site copy"),
        listed(filter(None, offsite_lines(report.offsite))),
        element("h2", "Last runs"),
        listed(run_line(run) for run in report.runs) or element("p", "No runs yet."),
    ]
    return web_page(f"Backups of {report.host}", parts)


def findings_list(findings: Iterable[Finding]) -> Markup:
    """Findings with their fixes."""
    return listed(_finding(item) for item in findings)


def _finding(item: Finding) -> Markup:
    fixes = (joined([Markup("<br>"), element("code", line)]) for line in item.fix.splitlines())
    return joined([element("span", MARKS[item.level], item.level), f": {item.line}", *fixes])


def _charts(sets: Sequence[SetStatus]) -> Markup:
    """Of complete sets size and duration; of all the data that each added, summed up."""
    whole = [item for item in reversed(sets) if item.item.complete][-CHARTED:]
    every = list(reversed(sets))
    grown = list(accumulate(new_bytes_of(item.item) or 0 for item in every))
    growth = [
        Point(item.item.stamp, total, size_for_people(total))
        for item, total in zip(every, grown, strict=True)
    ]
    charts = [
        bar_chart("Set size", [_size_point(item) for item in whole]),
        bar_chart("Duration of a complete set", [_duration_point(item) for item in whole]),
        bar_chart("Repository growth: data that these sets added", growth[-CHARTED:]),
    ]
    return element("div", joined(charts), "charts")


def _size_point(item: SetStatus) -> Point:
    size = size_of(item.item)
    return Point(item.item.stamp, size, in_words(size))


def _duration_point(item: SetStatus) -> Point:
    seconds = (item.item.ended_at - item.item.moment).total_seconds()
    return Point(item.item.stamp, max(0.0, seconds), duration_for_people(max(0.0, seconds)))


def _sets(report: StatusReport) -> Markup:
    rows = status_rows(report)[: len(report.sets)]
    if not rows:
        return element("p", "none")
    return table(f"In {report.root}, newest first", list(rows[0]), [list(row.values()) for row in rows])


def _wal_lines(report: StatusReport) -> list[str]:
    lines = [f"WAL: {report.verification.sentence}"] if report.verification else []
    return lines + ([f"WAL streaming: {report.streaming.sentence}"] if report.streaming else [])
