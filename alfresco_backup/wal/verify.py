"""Reading archived segments to their last byte: what only their content can show. Runs programs.

Decompressing compares zstd's checksum. The pages and record headers are followed to where they end
(wal_records.py), and pg_waldump of the version that wrote them compares the checksum of every record. The one
that goes on in the next segment is compared when that is read. Where there is no pg_waldump, damage to pages
and headers is found all the same; a segment without any is then not verified, and says why.
"""

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from alfresco_backup.errors import NotVerified, ToolFailed
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.timelines import path_to
from alfresco_backup.postgres.versions import facts_of_wal
from alfresco_backup.postgres.wal_files import ZST, Lsn, SegmentHeader, parse_segment_name
from alfresco_backup.postgres.wal_records import (
    WHOLE,
    RecordsEnd,
    SegmentRecords,
    checksum_is_right,
    open_segment,
    record_length,
)
from alfresco_backup.system.accounts import owner_of_program
from alfresco_backup.system.folders import reading
from alfresco_backup.system.processes import Command, run
from alfresco_backup.system.zstd_files import decompress
from alfresco_backup.times import utc_now
from alfresco_backup.wal.contents import ArchiveContents, SegmentLook

VERIFY_SECONDS = 120.0
DUMP_SECONDS = 600.0
_DAMAGE = re.compile(r"error in WAL record at \S+ (.*)|(could not find a valid record after .*)")
FindProgram = Callable[[str, int], Programs]
"""The folder with a program of the same major version; raises NotVerified where there is none."""


class Damaged(ValueError):
    """A segment is not what the server wrote. The words say where, and what was found."""


class Verifier:
    """Verifies segments of one archive. What it uncompresses into a temporary folder is removed at once."""

    def __init__(self, contents: ArchiveContents, find_program: FindProgram) -> None:
        self.contents, self._find_program = contents, find_program
        self._programs: dict[int, Programs | NotVerified] = {}
        self._stored: dict[str, str] = {}
        for file in contents.files:  # of a segment stored twice the plain one, as restore-wal takes it
            if file.kind == "segment":
                self._stored.setdefault(file.wal_name, file.name)

    def look(self, name: str) -> SegmentLook:
        """What is known of a stored segment once all of it was read."""
        before = self.contents.looks[name]
        try:
            with tempfile.TemporaryDirectory(prefix="alfresco-backup-wal-", dir=_open_place()) as scratch:
                self._verify(name, before.header, Path(scratch))
        except NotVerified as why:
            return replace(before, unverified=why.message, verified_at=None)
        except ValueError as damage:
            return replace(before, defect="damaged", words=str(damage), verified_at=utc_now(), unverified="")
        except OSError as error:
            return replace(before, unverified=f"it cannot be read: {error.strerror}", verified_at=None)
        return replace(before, deep=True, verified_at=utc_now(), unverified="")

    def may_verify(self, look: SegmentLook) -> bool:
        """Whether another try may tell more: not where the program is still missing."""
        return not (look.unverified and look.header and isinstance(self._dump(look.header), NotVerified))

    def _verify(self, name: str, header: SegmentHeader | None, scratch: Path) -> None:
        plain = self._plain(name, scratch)
        dump = self._dump(header) if header else NotVerified("it has no header")
        with open_segment(plain) as records:
            has_dump = isinstance(dump, Programs)
            end = records.last_records_end() if has_dump else records.records_end()
            if end.kind not in WHOLE and not self._was_left(plain.name, end, records.header):
                raise Damaged(f"{end.words or 'its records end'} at {end.at}")
            self._check_beginning(plain.name, records, scratch)
            if not isinstance(dump, Programs):
                raise dump
            if isinstance(records.first(), Lsn):
                until = () if end.kind in WHOLE else ("-e", str(end.at))
                _dump_records(dump, records.header, plain, until)

    def _plain(self, name: str, scratch: Path) -> Path:
        """A copy without compression: the archive may change meanwhile. Raises ValueError, OSError."""
        path = self.contents.directory / name
        target = scratch / name.removesuffix(ZST)
        if path.suffix == ZST:
            decompress(path, target)
        else:
            with reading(path) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        return target

    def _was_left(self, name: str, end: RecordsEnd, header: SegmentHeader) -> bool:
        """Whether a timeline began where a segment ends unfinished: servers before 9.5 archive such ones."""
        facts, timeline = facts_of_wal(header.magic), int(name[:8], 16)
        if facts is None or not facts.archives_unfinished:
            return False
        spans = (span for path in self.contents.histories.paths.values() for span in path.spans)
        return end.kind == "unfinished" and any(
            (span.timeline, span.end) == (timeline, end.at) for span in spans
        )

    def _check_beginning(self, name: str, records: SegmentRecords, scratch: Path) -> None:
        """Compare the beginning of a segment with the end of the one before it, if the archive has that."""
        segment = parse_segment_name(name, records.size)
        if segment.number == 0:
            return
        path = path_to(segment.timeline, self.contents.histories.paths)
        before = path.segment(segment.number - 1, records.size).name(records.size)
        look = self.contents.looks.get(self._stored.get(before, ""))
        if look is None or look.defect or not look.deep:
            return
        try:
            plain = self._plain(self._stored[before], scratch)
            with open_segment(plain) as earlier:
                problem = _why_not_joined(earlier, records)
        except (OSError, ValueError):  # what is wrong with that one its own turn will tell
            return
        if problem:
            raise Damaged(f"{problem} (which begins in {before})")

    def _dump(self, header: SegmentHeader) -> Programs | NotVerified:
        if header.magic not in self._programs:
            facts = facts_of_wal(header.magic)
            try:
                if facts is None:
                    raise NotVerified(f"no PostgreSQL known here writes the magic number {header.magic:04X}")
                self._programs[header.magic] = self._find_program(facts.wal_dump[0], facts.major)
            except NotVerified as why:
                self._programs[header.magic] = why
        return self._programs[header.magic]


def _why_not_joined(before: SegmentRecords, after: SegmentRecords) -> str:
    """Why the record between two segments is none, in words; empty when it is, or there is none."""
    end = before.last_records_end()
    rest = after.continuation()
    if rest is None or end.kind not in WHOLE:  # given up, or no segment that says anything of the next one
        return ""
    if end.kind == "complete":
        return f"it begins within a record that does not exist at {end.at}" if rest else ""
    record = before.body(end.at) + rest
    length = record_length(record)
    if not rest or len(record) > length:
        return f"it does not go on with the record at {end.at}"
    if len(record) < length or checksum_is_right(record, after.header) is not False:
        return ""
    return f"incorrect checksum in the record at {end.at}"


def _open_place() -> str | None:
    """Where uncompressed segments go: not to a TMPDIR that only root may enter, as the worker's is.

    pg_waldump runs as the account that owns it, and must get there; a relative path is of no use to it (it
    changes to its own folder and back). The folder made in /tmp is this process's own, then that account's.
    """
    place = Path(tempfile.gettempdir())
    closed = any(not item.stat().st_mode & stat.S_IXOTH for item in (place, *place.parents))
    return "/tmp" if closed and os.geteuid() == 0 else None  # noqa: S108


def _dump_records(programs: Programs, header: SegmentHeader, segment: Path, until: Iterable[str]) -> None:
    """Let pg_waldump read every record. Raises Damaged with its words, NotVerified where it failed itself."""
    facts = facts_of_wal(header.magic)
    assert facts is not None
    name, *options = facts.wal_dump
    program = programs.path(name)
    account = owner_of_program(Path(program))
    if account is not None:
        for path in (segment, segment.parent):
            os.chown(path, account.uid, account.gid)
    argv = (program, *options, *until, str(segment))
    try:
        run(Command(argv, DUMP_SECONDS, {"LC_ALL": "C"}, account))
    except ToolFailed as error:
        found = _DAMAGE.search(error.tail)
        if found is None:
            raise NotVerified(error.message) from error
        raise Damaged(found[1] or found[2]) from error


def verify_new(
    contents: ArchiveContents, find_program: FindProgram, seconds: float = VERIFY_SECONDS
) -> ArchiveContents:
    """Verify what was not verified yet, newest first, for that long; the next call goes on."""
    waiting = [
        file.name
        for file in reversed(contents.files)
        if (look := contents.looks.get(file.name)) and _is_due(look) and look.verified_at is None
    ]
    return _verified(contents, find_program, waiting, seconds)


def verify_again(
    contents: ArchiveContents, find_program: FindProgram, share: int, on_progress: Callable[[int, int], None]
) -> ArchiveContents:
    """Verify one of `share` parts of all segments again: those first that were not verified for longest."""
    sound = {name: look for name, look in contents.looks.items() if _is_due(look)}
    never = utc_now().replace(year=1970)
    oldest = sorted(sound, key=lambda name: (sound[name].verified_at or never, name))
    chosen = oldest[: -(-len(oldest) // share)]
    return _verified(contents, find_program, chosen, float("inf"), on_progress)


def _is_due(look: SegmentLook) -> bool:
    """Not where something is known to be wrong, or where somebody may still be writing."""
    return not look.defect and look.deep


def _verified(
    contents: ArchiveContents,
    find_program: FindProgram,
    names: list[str],
    seconds: float,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ArchiveContents:
    verifier = Verifier(contents, find_program)
    deadline = time.monotonic() + seconds
    looks = dict(contents.looks)
    for number, name in enumerate(names):
        if time.monotonic() > deadline:
            break
        if verifier.may_verify(looks[name]):
            looks[name] = verifier.look(name)
        on_progress(number + 1, len(names))
    return replace(contents, looks=looks)
