"""The WAL audit for people: the table of what each base backup can be restored to, and the details."""

from alfresco_backup.findings import findings_markdown
from alfresco_backup.pages import page
from alfresco_backup.times import for_people, size_for_people
from alfresco_backup.wal.audit import BaseWindow, WalAudit


def window_rows(result: WalAudit) -> list[dict[str, str]]:
    """One row for each base backup and timeline, newest base backup first."""
    return [row for base in reversed(result.bases) for row in _rows_of(base)]


def _rows_of(base: BaseWindow) -> list[dict[str, str]]:
    gaps = "; ".join(gap.sentence for gap in base.gaps) or "none"
    if base.end_only:
        gaps = "kept without later WAL: restorable as of its end"
    if not base.intervals:
        return [_row(base.stamp, "not restorable", "", "", "", gaps)]
    return [
        _row(
            base.stamp,
            for_people(interval.start),
            for_people(interval.end),
            str(interval.timeline),
            interval.last_segment,
            gaps,
        )
        for interval in base.intervals
    ]


def _row(*cells: str) -> dict[str, str]:
    heads = ("base backup", "restorable from", "to", "timeline", "last segment", "gaps")
    return dict(zip(heads, cells, strict=True))


def audit_markdown(result: WalAudit, host: str) -> str:
    """The details as markdown that reads well as plain text too."""
    wal = result.wal
    return page(
        f"WAL archive of {host}",
        f"**{result.summary}**",
        f"Audited {for_people(result.moment)}: {result.files:,} files, {size_for_people(result.bytes)};"
        f" cluster {wal.owner or 'unknown'}, segments of {size_for_people(wal.segment_size)},"
        f" timelines {', '.join(map(str, wal.timelines)) or 'none'}.",
        "The end of the window is the time up to which every commit is in the archive; the last commit may"
        " be earlier. What the server has not archived yet is not counted.",
        "\n".join(findings_markdown(result.findings)).strip(),
    )
