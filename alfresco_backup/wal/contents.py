"""What is in a WAL archive, file by file, read cheaply enough to do it every quarter of an hour.

Only a segment that is new or has changed since the last look (by size and change time, which no copy can
keep) is opened: its header is read, and of a `.zst` one the block chain is followed to its end. What is
in the middle of a segment only verify.py sees, which reads all of it; what that found is kept here.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.postgres.timelines import Histories, read_histories
from alfresco_backup.postgres.wal_files import (
    MARKER,
    ArchivedFile,
    Lsn,
    SegmentHeader,
    list_archive,
    read_segment_header,
)
from alfresco_backup.system.files import SCHEMA_VERSION, read_json, write_text
from alfresco_backup.system.zstd_files import content_size, same_content
from alfresco_backup.times import utc_now
from alfresco_backup.wal.timelines import TimelineRecord

Defect = Literal["", "empty", "short", "damaged"]
DEEP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class SegmentLook:
    """What one stored segment says of itself. `defect` is empty when it is whole; `words` describe it.

    `deep` is False where a later look may tell more: a compressed segment whose end has not been looked at
    yet, a file that could not be read. `verified_at` is when all of it was last read, whatever was found;
    None where that was not done yet, or could not be: `unverified` says why then.
    """

    header: SegmentHeader | None
    defect: Defect = ""
    words: str = ""
    deep: bool = True
    verified_at: datetime | None = None
    unverified: str = ""


@dataclass(frozen=True)
class ArchiveContents:
    """Everything the audit knows of an archive. `looks` goes by file name.

    `duplicates` tells of segments stored both plain and compressed, by PostgreSQL's name, whether both hold
    the same. `owner` is the cluster's system identifier from the marker file, empty where that tells none.
    `timelines` is what is recorded of its server's; whoever reads the archive adds it.
    """

    directory: Path
    listed_at: datetime
    files: tuple[ArchivedFile, ...] = ()
    looks: Mapping[str, SegmentLook] = field(default_factory=dict)
    duplicates: Mapping[str, bool] = field(default_factory=dict)
    histories: Histories = field(default_factory=lambda: Histories({}, {}))
    owner: str = ""
    timelines: TimelineRecord = field(default_factory=TimelineRecord)

    @property
    def marker_is_damaged(self) -> bool:
        """Whether the marker names no cluster: archive-wal and restore-wal refuse to work then."""
        return not self.owner and any(file.kind == "marker" for file in self.files)


def read_contents(
    directory: Path, known: ArchiveContents | None = None, *, deep_seconds: float = DEEP_SECONDS
) -> ArchiveContents:
    """Look at every file of an archive; what has not changed since `known` is taken from there.

    Following compressed segments to their end and comparing duplicates stop after `deep_seconds`, the newest
    come first; the next call goes on. Raises OSError when the folder cannot be listed.
    """
    listed_at = utc_now()
    files = list_archive(directory)
    deadline = time.monotonic() + deep_seconds
    unchanged = _unchanged(files, known)
    looks: dict[str, SegmentLook] = {}
    for file in reversed(files):
        if file.kind == "segment":
            look = unchanged.get(file.name)
            in_time = time.monotonic() < deadline
            if look is None or (in_time and not look.deep):
                look = look_at(directory / file.name, file, deep=in_time)
            if look is not None:
                looks[file.name] = look
    duplicates = {} if known is None else dict(known.duplicates)
    duplicates = _compare_duplicates(directory, files, duplicates, unchanged, deadline)
    histories = read_histories(directory, files)
    return ArchiveContents(directory, listed_at, files, looks, duplicates, histories, read_owner(directory))


def joined(contents: ArchiveContents, other: ArchiveContents) -> ArchiveContents:
    """An archive's contents with what only another copy of the archive has."""
    here = {file.name for file in contents.files}
    added = [file for file in other.files if file.name not in here]
    files = tuple(sorted((*contents.files, *added), key=lambda file: file.name))
    histories = Histories(
        {**other.histories.paths, **contents.histories.paths}, contents.histories.unreadable
    )
    return replace(
        contents,
        files=files,
        looks={**other.looks, **contents.looks},
        histories=histories,
        owner=contents.owner or other.owner,
    )


def with_received(contents: ArchiveContents, folder: Path) -> ArchiveContents:
    """An archive's contents with the whole segments that only the receiver's folder has as yet.

    Without streaming, or where this account may not list that folder, there are none.
    """
    try:
        received = read_contents(folder)
    except OSError:
        return contents
    names = {file.wal_name for file in contents.files}
    whole = tuple(
        file
        for file in received.files
        if file.name in received.looks
        and not received.looks[file.name].defect
        and file.wal_name not in names
        and received.looks[file.name].header
    )
    return joined(contents, replace(received, files=whole))


def look_at(path: Path, file: ArchivedFile, *, deep: bool = True) -> SegmentLook | None:
    """Judge one stored segment by itself; None when it has vanished meanwhile.

    Says nothing of whether it is the segment its name promises: that needs the archive's cluster and
    histories.
    """
    if file.bytes == 0:
        return SegmentLook(None, "empty", "it is empty")
    try:
        header = read_segment_header(path)
        deep = deep or not file.compressed
        size = header.segment_size
        if deep:
            size = content_size(path) if file.compressed else file.bytes
    except FileNotFoundError:
        return None
    except ValueError as error:
        return SegmentLook(None, "damaged", str(error))
    except OSError as error:
        return SegmentLook(None, "damaged", f"it cannot be read: {error.strerror}", deep=False)
    if size != header.segment_size:
        return SegmentLook(header, "short", f"it has {size} of {header.segment_size} bytes")
    return SegmentLook(header, deep=deep)


def read_owner(directory: Path) -> str:
    """The system identifier of the cluster an archive belongs to; empty without a marker that says so."""
    try:
        text = (directory / MARKER).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
    return text if text.isdecimal() else ""


def _unchanged(files: tuple[ArchivedFile, ...], known: ArchiveContents | None) -> Mapping[str, SegmentLook]:
    if known is None:
        return {}
    before = {file.name: (file.bytes, file.changed_ns) for file in known.files}
    return {
        file.name: known.looks[file.name]
        for file in files
        if before.get(file.name) == (file.bytes, file.changed_ns) and file.name in known.looks
    }


def _compare_duplicates(
    directory: Path,
    files: tuple[ArchivedFile, ...],
    before: Mapping[str, bool],
    unchanged: Mapping[str, SegmentLook],
    deadline: float,
) -> dict[str, bool]:
    """Whether segments stored in both forms hold the same.

    What could not be compared in time is left out, and what cannot be read: a look at each file tells of it,
    or somebody is compressing the archive, and one of the two has just gone.
    """
    plain = {file.wal_name for file in files if file.kind == "segment" and not file.compressed}
    result: dict[str, bool] = {}
    for file in reversed(files):
        name = file.wal_name
        if not (file.compressed and name in plain):
            continue
        if name in before and name in unchanged and file.name in unchanged:
            result[name] = before[name]
        elif time.monotonic() < deadline:
            with suppress(OSError):
                result[name] = same_content(directory / name, directory / file.name)
    return result


# What the last audit saw of the archive's segments, kept so that the next one opens only what is new.
#
# A cache: it may be deleted at any time, and one that cannot be read counts as none.

INDEX = "wal-seen.json"
"""Its name in the folder of logs."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def read_index(path: Path, directory: Path) -> ArchiveContents | None:
    """What was seen of the archive `directory`; None when nothing is known of it."""
    try:
        document = read_json(path)
        if document["archive"] != str(directory):
            return None
        entries: dict[str, list[Any]] = document["segments"]
        files = tuple(_file(name, entry) for name, entry in entries.items())
        verified: dict[str, list[Any]] = document.get("verified", {})
        looks = {name: _look(entry, verified.get(name)) for name, entry in entries.items()}
        duplicates = {str(name): bool(same) for name, same in document["duplicates"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return ArchiveContents(directory, _LONG_AGO, files, looks, duplicates)


def is_known(contents: ArchiveContents, known: ArchiveContents | None) -> bool:
    """Whether an index tells all of it already: every look at a segment was taken from there."""
    if known is None or known.duplicates != contents.duplicates or len(known.looks) != len(contents.looks):
        return False
    return all(known.looks.get(name) is look for name, look in contents.looks.items())


def write_index(path: Path, contents: ArchiveContents) -> None:
    """Keep what was seen, whole or not at all: one line a segment."""
    lines = ",\n".join(
        f"{json.dumps(file.name)}: {json.dumps(_entry(file, contents.looks[file.name]))}"
        for file in contents.files
        if file.name in contents.looks
    )
    verified = {
        name: [int(look.verified_at.timestamp()) if look.verified_at else None, look.unverified]
        for name, look in contents.looks.items()
        if look.verified_at or look.unverified
    }
    head = {
        "schema": SCHEMA_VERSION,
        "archive": str(contents.directory),
        "duplicates": contents.duplicates,
        "verified": verified,
    }
    write_text(path, f'{json.dumps(head)[:-1]}, "segments": {{\n{lines}\n}}}}\n', 0o640)


def _entry(file: ArchivedFile, look: SegmentLook) -> list[Any]:
    seen = [file.bytes, file.changed_ns, look.deep, look.defect, look.words]
    if look.header is None:
        return seen
    header = look.header
    words = [
        header.magic,
        header.timeline,
        int(header.address),
        header.system_identifier,
        header.segment_size,
    ]
    return [*seen, *words]


def _file(name: str, entry: list[Any]) -> ArchivedFile:
    wal_name = name.removesuffix(".zst")
    return ArchivedFile(name, wal_name, "segment", wal_name != name, entry[0], _LONG_AGO, entry[1])


def _look(entry: list[Any], verified: list[Any] | None) -> SegmentLook:
    header = None
    if len(entry) > 5:
        magic, timeline, address, system_identifier, segment_size = entry[5:]
        header = SegmentHeader(magic, timeline, Lsn(address), system_identifier, segment_size)
    at, unverified = verified or (None, "")
    moment = None if at is None else datetime.fromtimestamp(at, UTC)
    return SegmentLook(header, entry[3], entry[4], entry[2], moment, unverified)
