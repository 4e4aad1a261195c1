"""The status for people: the rows of the table `backup-sets`, text for a terminal, markdown."""

from collections.abc import Iterator
from datetime import timedelta

from alfresco_backup.findings import finding_lines
from alfresco_backup.repository.pins import pin_words
from alfresco_backup.repository.sets_table import (
    in_words,
    new_bytes_of,
    part_names,
    set_row,
    size_of,
    state_of,
)
from alfresco_backup.status.offsite import OffsiteReport
from alfresco_backup.status.report import PartStatus, RunStatus, SetStatus, SpaceStatus, StatusReport
from alfresco_backup.times import duration_for_people, for_people, size_for_people

NOT_YET = "not yet verified"


def status_rows(report: StatusReport) -> list[dict[str, str]]:
    """One row a set, newest first, then one for everything that is wrong."""
    rows = [
        set_row(item.item)
        | {
            "restore drill": drill_words(item),
            "pinned": pin_words(item.pin) if item.pin else "",
            "kept": why_words(item.leading),
            "until": until_words(item),
        }
        for item in report.sets
    ]
    empty = dict.fromkeys(rows[0] if rows else ("set", "state"), "")
    rows += [empty | {"set": item.subject, "state": item.sentence} for item in report.problems]
    return rows


def drill_words(item: SetStatus) -> str:
    """When a restore drill verified the set, and what it found."""
    if item.item.base is None:
        return ""
    if item.proof is None:
        return NOT_YET
    failed = "FAILED" if item.proof.damaged else "NOT verified"
    return item.proof.sentence if item.proof.sound else f"{failed}: {item.proof.sentence}"


def why_words(part: PartStatus) -> str:
    """Retention's reason."""
    return part.verdict.reason if part.verdict else "unknown: the WAL archive cannot be listed"


def until_words(item: SetStatus) -> str:
    """Until when the set stays, as far as that is known."""
    part = item.leading
    if part.verdict is None:
        return "unknown"
    if not part.verdict.keep:
        return "the next retention run"
    if item.pin:
        return "it is unpinned"
    return for_people(part.until) if part.until else "newer backups take its place"


def status_text(report: StatusReport) -> str:
    """The report for a terminal."""
    lines = [f"{report.host}: {report.headline}", ""]
    lines += [*(finding_lines(report.problems) or ["No problems."]), ""]
    lines += [f"Sets in {report.root}, newest first:", *_set_lines(report), ""]
    lines += space_lines(report.space)
    lines += [f"WAL: {report.verification.sentence}", ""] if report.verification else [""]
    lines += [f"WAL streaming: {report.streaming.sentence}", ""] if report.streaming else []
    lines += offsite_lines(report.offsite)
    lines += ["Last runs:", *(run_line(run) for run in report.runs)] if report.runs else ["No runs yet."]
    return "\n".join(lines)


def status_markdown(report: StatusReport) -> str:
    """The report as an artifact: the headline, then the text as it is."""
    return f"# Backups of {report.host}\n\n**{report.headline}**\n\n```\n{status_text(report)}\n```\n"


def _set_lines(report: StatusReport) -> Iterator[str]:
    """Sets with a database or a pin in full; those between them in one line."""
    passed: list[SetStatus] = []
    for item in report.sets:
        if item.item.base is None and item.pin is None:
            passed.append(item)
            continue
        yield from _in_one_line(passed)
        passed = []
        yield from _in_full(item, report)
    yield from _in_one_line(passed)
    if not report.sets:
        yield "  none"


def _in_full(item: SetStatus, report: StatusReport) -> Iterator[str]:
    backup = item.item
    age = age_words(report.moment - backup.moment)
    sizes = f"{in_words(size_of(backup))}, {in_words(new_bytes_of(backup))} new"
    yield f"  {backup.stamp}  {state_of(backup)}, {age} old"
    yield f"    parts   {', '.join(part_names(backup))}; {sizes}"
    if backup.base:
        yield f"    drill   {drill_words(item)}"
    if item.pin:
        yield f"    pinned  {pin_words(item.pin)}"
    if item.end_only:
        yield f"    restore as of its end, {for_people(item.intervals[0].start)}; later WAL is not kept"
    yield f"    {kept_words(item)}"


def kept_words(item: SetStatus) -> str:
    """What retention does with a set, why, and until when."""
    part = item.leading
    if part.verdict is not None and not part.verdict.keep:
        return f"removed by the next retention run: {part.verdict.reason}"
    return f"kept    {why_words(part)}; until {until_words(item)}"


def age_words(age: timedelta) -> str:
    """`3 h 10 min`; from two days on `2 days`."""
    return f"{age.days} days" if age.days > 1 else duration_for_people(max(0.0, age.total_seconds()))


def _in_one_line(items: list[SetStatus]) -> Iterator[str]:
    if items:
        newest, oldest = items[0].item.stamp, items[-1].item.stamp
        stamps = newest if len(items) == 1 else f"{oldest} to {newest}"
        new = sum(new_bytes_of(item.item) or 0 for item in items)
        yield f"  {len(items):,} without database, {stamps}, {size_for_people(new)} new"


def space_lines(space: SpaceStatus | None) -> list[str]:
    """The disk, what is stored on it, and its trend."""
    if space is None:
        return ["Space: unknown"]
    disk = space.disk
    inodes = f"; {disk.free_inodes:,} of {disk.inodes:,} inodes free" if disk.inodes else ""
    names = (
        ("base backups", space.database),
        ("WAL", space.wal),
        ("content at least", space.content),
        ("configurations", space.configuration),
    )
    return [
        f"Space: {size_for_people(disk.free)} of {size_for_people(disk.total)} free{inodes}",
        f"  {', '.join(f'{name} {size_for_people(size)}' for name, size in names)}",
        f"  {space.trend.sentence}",
    ]


def offsite_lines(offsite: OffsiteReport | None) -> list[str]:
    """What is off-site, a line for each thing that is judged."""
    if offsite is None:
        return ["Off-site copy: none is set up", ""]
    lines = [f"  {item.subject}: {item.sentence}" for item in offsite.findings]
    return [f"Off-site copy in {offsite.repository}:", *lines, ""]


def run_line(run: RunStatus) -> str:
    """One run in a line."""
    seconds = (run.ended_at - run.started_at).total_seconds() if run.ended_at else None
    took = f" in {duration_for_people(seconds)}" if seconds is not None else ""
    return f"  {for_people(run.started_at)}  {run.flow} {run.stamp}: {run.words}{took}"
