"""The fleet for people and programs: rows, text, JSON, one page of HTML. Pure."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alfresco_backup.findings import JSON_SCHEMA, MARKS, finding_documents, finding_lines
from alfresco_backup.fleet.assess import FleetHost, FleetReport
from alfresco_backup.fleet.record import HostRecord, SetPoint, record_document
from alfresco_backup.pages import markdown_table
from alfresco_backup.status.as_html import findings_list
from alfresco_backup.status.as_text import NOT_YET, age_words
from alfresco_backup.status.web_page import Markup, Point, bar_chart, element, joined, table, web_page
from alfresco_backup.system.json_fields import time_text
from alfresco_backup.times import duration_for_people, for_people, size_for_people

NONE = "none"
WHERE_FIXES = "The verb `status`, typed on a host, says how each of its problems is fixed."
COLUMNS = (
    "host",
    "state",
    "newest complete set",
    "age",
    "restorable",
    "WAL lag",
    "last restore drill",
    "off-site",
    "disk full on",
    "unfinished restore",
    "on hold",
    "reported",
)


def fleet_rows(report: FleetReport) -> list[dict[str, str]]:
    """One row a host, trouble first."""
    return [_row(host, report.moment) for host in report.hosts]


def _row(host: FleetHost, now: datetime) -> dict[str, str]:
    first = host.findings[0] if host.findings else None
    state = f"{MARKS[first.level]}: {first.subject}" if first else "ok"
    values = _values(host.record, now) if host.record else ["unknown"] * (len(COLUMNS) - 3) + ["never"]
    return dict(zip(COLUMNS, (host.name, state, *values), strict=True))


def _values(record: HostRecord, now: datetime) -> list[str]:
    return [
        record.newest_complete or NONE,
        age_words(now - record.newest_complete_at) if record.newest_complete_at else "",
        _window(record),
        duration_for_people(record.wal_lag.total_seconds()) if record.wal_lag is not None else NONE,
        _drill(record),
        _offsite(record, now),
        f"{record.full_on.astimezone():%Y-%m-%d}" if record.full_on else "not foreseen",
        record.unfinished_restore or NONE,
        "; ".join(record.holds) or NONE,
        f"{for_people(record.reported_at)} by {record.run}",
    ]


def _window(record: HostRecord) -> str:
    if not (record.window_from and record.window_to):
        return "nothing"
    return f"{for_people(record.window_from)} to {for_people(record.window_to)}"


def _drill(record: HostRecord) -> str:
    if record.drill is None:
        return NOT_YET
    return record.drill.sentence if record.drill.sound else f"NOT sound: {record.drill.sentence}"


def _offsite(record: HostRecord, now: datetime) -> str:
    if record.offsite_level is None:
        return "none is set up"
    seen = record.offsite_newest_at
    age = f"newest complete set there {age_words(now - seen)} ago" if seen else "no complete set is there"
    return f"{MARKS[record.offsite_level]}: {age}"


def fleet_text(report: FleetReport) -> str:
    """For a terminal: the sentence, a block a host, then what is wrong."""
    lines = [report.sentence, ""]
    for row, host in zip(fleet_rows(report), report.hosts, strict=True):
        lines.append(f"{row['host']}: {row['state']}")
        lines += [f"  {name:<20}{row[name]}" for name in COLUMNS[2:]]
        lines += [f"  {line}" for line in finding_lines(host.findings)]
        lines.append("")
    return "\n".join([*lines, WHERE_FIXES])


def fleet_markdown(report: FleetReport) -> str:
    """The table in short, for an artifact of text."""
    short = [{name: row[name] for name in COLUMNS[:5]} for row in fleet_rows(report)]
    return f"# Fleet\n\n{report.sentence}\n\n{markdown_table(short)}\n"


def fleet_json(report: FleetReport) -> str:
    return json.dumps(fleet_document(report), indent=1)


def fleet_document(report: FleetReport) -> dict[str, Any]:
    """The document, made of what JSON knows."""
    return {
        "schema": JSON_SCHEMA,
        "state": report.state,
        "exit_code": report.exit_code,
        "checked_at": time_text(report.moment),
        "sentence": report.sentence,
        "hosts": [
            {
                "host": host.name,
                "level": host.level,
                "reported": host.reported,
                "record": record_document(host.record) if host.record else None,
                "findings": finding_documents(host.findings),
            }
            for host in report.hosts
        ],
    }


def fleet_page(report: FleetReport) -> str:
    """One page: the table, then for each host what is wrong and its charts."""
    rows = [[*_first_cells(row, host), *list(row.values())[2:]] for row, host in _pairs(report)]
    parts = [
        element("p", f"{report.sentence}. As of {for_people(report.moment)}."),
        table("Hosts, those in trouble first", COLUMNS, rows),
        element("p", WHERE_FIXES),
        *(_host(host) for host in report.hosts),
    ]
    return web_page("Backups of all hosts", parts)


def _pairs(report: FleetReport) -> Sequence[tuple[dict[str, str], FleetHost]]:
    return list(zip(fleet_rows(report), report.hosts, strict=True))


def _first_cells(row: dict[str, str], host: FleetHost) -> list[str]:
    return [row["host"], element("span", row["state"], host.level)]


def _host(host: FleetHost) -> Markup:
    parts = [element("h2", host.name), findings_list(host.findings) or element("p", "No problems.")]
    if host.record:
        parts.append(element("p", host.record.headline))
        parts.append(element("div", _charts(host.record.history), "charts"))
    return element("section", joined(parts))


def _charts(history: Sequence[SetPoint]) -> Markup:
    total, grown = 0, []
    for item in history:
        total += item.new_bytes or 0
        grown.append(Point(item.backup_id, total, size_for_people(total)))
    sizes = [Point(item.backup_id, item.bytes, size_for_people(item.bytes or 0)) for item in history]
    seconds = [Point(item.backup_id, item.seconds, duration_for_people(item.seconds)) for item in history]
    return joined(
        [
            bar_chart("Set size", sizes),
            bar_chart("Duration of a complete set", seconds),
            bar_chart("Repository growth: data that these sets added", grown),
        ]
    )
