"""Which files of a WAL archive are what their names promise, and what is wrong with the others. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alfresco_backup.findings import Finding, error, warning
from alfresco_backup.postgres.timelines import TimelinePath, path_to
from alfresco_backup.postgres.wal_files import (
    MARKER,
    ArchivedFile,
    Segment,
    SegmentHeader,
    parse_segment_name,
)
from alfresco_backup.wal.contents import ArchiveContents

NAMED = 5
KILLED_AFTER = timedelta(hours=1)
_SUBJECTS = {
    "empty": "empty segments",
    "short": "short segments",
    "damaged": "damaged segments",
    "foreign": "segments of another cluster",
    "misnamed": "segments under a wrong name",
}
_FIXES = {
    "empty": "was the disk full? move them away; what needs them shows as a gap",
    "short": "was the disk full? move them away; what needs them shows as a gap",
    "damaged": "check the disk (dmesg | tail); zstd -t says more; what needs them shows as a gap",
    "foreign": "another server archives here: give it its own archive (SHOW archive_command there)",
    "misnamed": "somebody renamed them, or archive_command mixes up %p and %f; move them away",
}


@dataclass(frozen=True)
class Judgement:
    """The segments that can be used with the time of their last write, and findings on all other files.

    `promoted`: timeline → when its history file was written.
    """

    usable: Mapping[Segment, datetime]
    promoted: Mapping[int, datetime]
    findings: tuple[Finding, ...]


def judge_segments(contents: ArchiveContents, owner: str, segment_size: int) -> Judgement:
    """Compare every segment's header with its name, the cluster `owner` and the timelines' histories."""
    usable: dict[Segment, datetime] = {}
    defective: dict[str, list[str]] = {}
    for file in contents.files:
        if file.name not in contents.looks:
            continue
        look = contents.looks[file.name]
        problem: str = look.defect
        if look.header is not None and not problem:
            problem = judge_header(file.wal_name, look.header, owner, segment_size, contents.histories.paths)
        if problem:
            defective.setdefault(problem, []).append(
                f"{file.name} ({look.words})" if look.words else file.name
            )
        else:
            segment = parse_segment_name(file.wal_name, segment_size)
            usable[segment] = min(file.modified, usable.get(segment, file.modified))
    promoted = {
        int(file.wal_name.removesuffix(".history"), 16): file.modified
        for file in contents.files
        if file.kind == "history"
    }
    findings = [
        warning(_SUBJECTS[problem], _count_and_names(names), _FIXES[problem])
        for problem, names in sorted(defective.items())
    ]
    return Judgement(usable, promoted, (*findings, *_judge_others(contents)))


def judge_header(
    name: str, header: SegmentHeader, owner: str, segment_size: int, paths: Mapping[int, TimelinePath]
) -> str:
    """Why a whole segment is not the one its name says: `foreign`, `misnamed`, or empty when it is.

    The page's timeline is the name's, or that of an ancestor in the segment where the name's timeline began.
    Servers before 9.5 begin a timeline with a copy of the segment that holds its parent's last byte: where
    the parent ended with a segment, that is the whole one before the fork.
    """
    if header.system_identifier != owner or header.segment_size != segment_size:
        return "foreign"
    try:
        segment = parse_segment_name(name, segment_size)
    except ValueError:
        return "misnamed"
    if header.address != segment.start(segment_size):
        return "misnamed"
    if header.timeline == segment.timeline:
        return ""
    path = path_to(segment.timeline, paths)
    begun = (path.fork.segment(segment_size), (int(path.fork) - 1) // segment_size)
    at_fork = segment.number in begun and path.span_of(header.timeline) is not None
    unknown = segment.timeline not in paths and header.timeline < segment.timeline
    return "" if at_fork or unknown else "misnamed"


def _judge_others(contents: ArchiveContents) -> list[Finding]:
    """Duplicates, a damaged marker or history, left-overs and files that do not belong here."""
    findings = []
    different = [name for name, same in contents.duplicates.items() if not same]
    same = [name for name, same in contents.duplicates.items() if same]
    if different:
        fix = (
            "find out which is right (zstd -t; pg_waldump, pg_xlogdump before 10), move the other away, "
            "make a new base backup"
        )
        what = f"{_count_and_names(different)} lie in the archive plain and as .zst with different content"
        findings.append(error("contradicting segments", what, fix))
    if same:
        fix = "harmless; the plain ones may be removed"
        what = f"{_count_and_names(same)} lie in the archive plain and as .zst with the same content"
        findings.append(warning("segments stored twice", what, fix))
    if contents.marker_is_damaged:
        fix = f"rm {contents.directory}/{MARKER}; archive-wal writes it anew with the next segment"
        what = f"{MARKER} in the archive is damaged: archive-wal takes no segment"
        findings.append(error("system identifier", what, fix))
    for name, reason in contents.histories.unreadable.items():
        fix = "a copy may still lie in the server's pg_wal (pg_xlog before 10): put it back under this name"
        findings.append(error("timeline history", f"{name} cannot be used: {reason}", fix))
    leftovers = [
        file
        for file in contents.files
        if file.kind == "temporary" and contents.listed_at - file.modified > KILLED_AFTER
    ]
    if leftovers:
        what = f"{_names(leftovers)} were left by killed runs of archive-wal"
        findings.append(warning("temporary files", what, f"rm {contents.directory}/.*.tmp"))
    others = [file for file in contents.files if file.kind == "other"]
    if others:
        what = f"{_names(others)} do not belong into a WAL archive"
        findings.append(warning("unknown files", what, "move them elsewhere; nothing here reads them"))
    return findings


def _names(files: Iterable[ArchivedFile]) -> str:
    return _count_and_names([file.name for file in files])


def _count_and_names(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{len(names):,}: {shown}{more}"
