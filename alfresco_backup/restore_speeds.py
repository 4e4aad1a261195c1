"""How fast earlier restores of a host were, for the estimate of the next one. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from alfresco_backup.restore_facts import Speeds
from alfresco_backup.restore_plan import Step

ENOUGH_BYTES = 256 << 20
ENOUGH_COUNT = 20_000
_MEASURED: tuple[tuple[str, str, Step, int], ...] = (
    ("extract", "database_bytes", Step.EXTRACT_DATABASE, ENOUGH_BYTES),
    ("replay", "wal_bytes", Step.RECOVER_DATABASE, ENOUGH_BYTES),
    ("copy", "content_bytes", Step.RESTORE_CONTENT, ENOUGH_BYTES),
    ("check_rows", "documents_checked", Step.CHECK_CONTENT, ENOUGH_COUNT),
)


def recorded_speeds(reports: Iterable[Mapping[str, Any]]) -> Speeds:
    """The speeds of the newest report that did enough of each kind of work; guesses for the rest.

    `reports` are those of finished restores (restore_report.report_document), oldest first.
    """
    speeds = Speeds()
    for report in reports:
        steps = report.get("steps", {})
        for name, amount_name, step, enough in _MEASURED:
            amount, seconds = report.get(amount_name) or 0, steps.get(step.value) or 0
            if amount >= enough and seconds > 0:
                speeds = replace(speeds, **{name: amount / seconds})
        compared, seconds = report.get("content_compared") or 0, steps.get(Step.RESTORE_CONTENT.value) or 0
        if compared >= ENOUGH_COUNT and seconds > 0 and not report.get("content_bytes"):
            speeds = replace(speeds, compare_files=compared / seconds)
    return speeds
