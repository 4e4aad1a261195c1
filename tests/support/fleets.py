"""Records of hosts as their runs publish them, made by hand."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from alfresco_backup.fleet.record import HostRecord, LastDrill, SetPoint
from alfresco_backup.times import make_stamp
from tests.support.catalogues import NOW

HOUR = timedelta(hours=1)


def a_record(host: str, **others: Any) -> HostRecord:
    """A host with which all is well, as of NOW."""
    stamps = [make_stamp(NOW - timedelta(days=days) - 6 * HOUR) for days in range(9, -1, -1)]
    history = tuple(SetPoint(stamp, 10**9 + n * 10**7, 10**7, 300.0 + n) for n, stamp in enumerate(stamps))
    record = HostRecord(
        schema=1,
        host=host,
        machine_id=f"machine-{host}",
        system_identifier=f"system-{host}",
        reported_at=NOW - HOUR / 4,
        run="wal-audit",
        state="good",
        headline="restorable from A to B (no gaps)",
        max_age_hours=26.0,
        newest_complete=stamps[-1],
        newest_complete_at=NOW - 6 * HOUR,
        window_from=NOW - timedelta(days=9),
        window_to=NOW - HOUR / 3,
        drill=LastDrill(stamps[-3], NOW - timedelta(days=2), 840.0, 1203411, 0, True, "RTO 14 min 00 s"),
        offsite_level="ok",
        offsite_newest_at=NOW - 5 * HOUR,
        full_on=None,
        free_bytes=10**12,
        unfinished_restore="",
        holds=(),
        problems=(),
        problem_count=0,
        history=history,
    )
    return replace(record, **others)
