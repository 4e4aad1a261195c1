"""Which files of a WAL archive are what their names promise, and what is wrong with the others. Pure."""

import shlex
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
from alfresco_backup.settings.commands import move_command, program_command
from alfresco_backup.wal.contents import ArchiveContents

NAMED = 5
MOVED_AT_ONCE = 20
"""How many files a fix names; the next audit names the next ones."""
KILLED_AFTER = timedelta(hours=1)
_SUBJECTS = {
    "empty": "empty segments",
    "short": "short segments",
    "damaged": "damaged segments",
    "foreign": "segments of another cluster",
    "misnamed": "segments under a wrong name",
}
_CAUSES = {
    "empty": "the disk may have been full",
    "short": "the disk may have been full",
    "damaged": "the disk may be failing (dmesg)",
    "foreign": "another server archives to this folder; it needs an archive of its own",
    "misnamed": "they were renamed, or archive_command confuses %p and %f",
}


@dataclass(frozen=True)
class Judgement:
    """The usable segments with the time of their last write, and findings on all other files.

    `promoted`: timeline → when its history file was written. `damaged`: segments that were read to their end
    and found damaged, with no other copy in the archive.
    """

    usable: Mapping[Segment, datetime]
    promoted: Mapping[int, datetime]
    findings: tuple[Finding, ...]
    damaged: frozenset[Segment] = frozenset()


def judge_segments(contents: ArchiveContents, owner: str, segment_size: int) -> Judgement:
    """Compare every segment's header with its name, the cluster `owner` and the timelines' histories."""
    usable: dict[Segment, datetime] = {}
    damaged: set[Segment] = set()
    defective: dict[str, dict[str, str]] = {}
    for file in contents.files:
        if file.name not in contents.looks:
            continue
        look = contents.looks[file.name]
        problem: str = look.defect
        if look.header is not None and not problem:
            problem = judge_header(file.wal_name, look.header, owner, segment_size, contents.histories.paths)
        if problem:
            words = f"{file.name} ({look.words})" if look.words else file.name
            defective.setdefault(problem, {})[file.name] = words
            if look.verified_at and look.header and look.header.system_identifier == owner:
                damaged.add(parse_segment_name(file.wal_name, look.header.segment_size))
        else:
            segment = parse_segment_name(file.wal_name, segment_size)
            usable[segment] = min(file.modified, usable.get(segment, file.modified))
    promoted = {
        int(file.wal_name.removesuffix(".history"), 16): file.modified
        for file in contents.files
        if file.kind == "history"
    }
    findings = [
        warning(
            _SUBJECTS[problem],
            f"{_count_and_names(list(named.values()))}: not used; {_CAUSES[problem]}",
            _move_away(contents, named),
        )
        for problem, named in sorted(defective.items())
    ]
    found = (*findings, *_judge_others(contents))
    return Judgement(usable, promoted, found, frozenset(damaged - set(usable)))


def judge_header(
    name: str, header: SegmentHeader, owner: str, segment_size: int, paths: Mapping[int, TimelinePath]
) -> str:
    """Why a complete segment is not the one its name says: `foreign`, `misnamed`, or empty when it is.

    The page's timeline is the name's, or that of an ancestor in the segment where the name's timeline began.
    Servers before 9.5 begin a timeline with a copy of the segment that holds its parent's last byte: where
    the parent ended with a segment, that is the complete one before the fork.
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
    """Duplicates, a damaged marker or history, leftovers and files that are no WAL."""
    findings = []
    different = [name for name, same in contents.duplicates.items() if not same]
    same = [name for name, same in contents.duplicates.items() if same]
    if different:
        what = f"{_count_and_names(different)}: in the archive plain and as .zst, with different content"
        fix = (
            "check both forms with zstd -t and pg_waldump (pg_xlogdump before 10), move the damaged one out "
            f"of {contents.directory}, then: {program_command('backup', '--only', 'postgres')}"
        )
        findings.append(error("contradicting segments", what, fix))
    if same:
        what = f"{_count_and_names(same)}: in the archive plain and as .zst, with the same content"
        plain = shlex.join(sorted(same)[:MOVED_AT_ONCE])
        fix = f"cd {shlex.quote(str(contents.directory))} && rm -- {plain}"
        findings.append(warning("segments stored twice", what, fix))
    if contents.marker_is_damaged:
        what = f"{MARKER} in the archive is damaged: archive-wal refuses every segment until it is removed"
        fix = f"rm {shlex.quote(str(contents.directory / MARKER))}"
        findings.append(error("system identifier", what, fix))
    for name, reason in contents.histories.unreadable.items():
        what = f"{name} cannot be used: {reason}; the server's WAL folder may have a good copy"
        fix = f"{_move_away(contents, [name])}\n{program_command('wal-audit')}"
        findings.append(error("timeline history", what, fix))
    leftovers = [
        file
        for file in contents.files
        if file.kind == "temporary" and contents.listed_at - file.modified > KILLED_AFTER
    ]
    if leftovers:
        what = f"{_names(leftovers)}: left by killed runs of archive-wal"
        fix = f"rm {shlex.quote(str(contents.directory))}/.*.tmp"
        findings.append(warning("temporary files", what, fix))
    others = [file for file in contents.files if file.kind == "other"]
    if others:
        what = f"{_names(others)}: no WAL; nothing reads them"
        findings.append(warning("unknown files", what, _move_away(contents, [file.name for file in others])))
    return findings


def _move_away(contents: ArchiveContents, names: Iterable[str]) -> str:
    return move_command(contents.directory, sorted(names)[:MOVED_AT_ONCE])


def _names(files: Iterable[ArchivedFile]) -> str:
    return _count_and_names([file.name for file in files])


def _count_and_names(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{len(names):,}: {shown}{more}"
