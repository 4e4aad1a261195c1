"""What the last audit saw of the archive's segments, kept so that the next one opens only what is new.

A cache: it may be deleted at any time, and one that cannot be read counts as none.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alfresco_backup.durable import SCHEMA_VERSION, read_json, write_text
from alfresco_backup.wal import ArchivedFile, Lsn, SegmentHeader
from alfresco_backup.wal_contents import ArchiveContents, SegmentLook

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
        looks = {name: _look(entry) for name, entry in entries.items()}
        duplicates = {str(name): bool(same) for name, same in document["duplicates"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return ArchiveContents(directory, _LONG_AGO, files, looks, duplicates)


def write_index(path: Path, contents: ArchiveContents) -> None:
    """Keep what was seen, whole or not at all: one line a segment."""
    lines = ",\n".join(
        f"{json.dumps(file.name)}: {json.dumps(_entry(file, contents.looks[file.name]))}"
        for file in contents.files
        if file.name in contents.looks
    )
    head = {"schema": SCHEMA_VERSION, "archive": str(contents.directory), "duplicates": contents.duplicates}
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


def _look(entry: list[Any]) -> SegmentLook:
    header = None
    if len(entry) > 5:
        magic, timeline, address, system_identifier, segment_size = entry[5:]
        header = SegmentHeader(magic, timeline, Lsn(address), system_identifier, segment_size)
    return SegmentLook(header, entry[3], entry[4], entry[2])
