"""WAL positions, segment names and segment headers: the arithmetic of a WAL archive.

Facts from PostgreSQL's `xlog_internal.h`, the same from 9.4 to 18: a segment's name is timeline, high
and low part of its number, eight hexadecimal digits each; how many segments make up one step of the
middle part depends on the segment size; the first page of a segment carries a long header with the
cluster's system identifier and the segment size. Numbers in it are little-endian here, as on every
platform Alfresco ships for.
"""

import os
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import zstandard

DEFAULT_SEGMENT_SIZE = 16 << 20
SMALLEST_SEGMENT_SIZE = 1 << 20
LARGEST_SEGMENT_SIZE = 1 << 30
LAST_TIMELINE = (1 << 32) - 1
ZST = ".zst"
LONG_HEADER = 0x0002
HEADER = struct.Struct("<HHIQI4xQII")
MARKER = "system-identifier"

FileKind = Literal["segment", "partial", "history", "backup", "marker", "temporary", "other"]

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_KIND = re.compile(
    r"(?P<segment>[0-9A-F]{24})|(?P<partial>[0-9A-F]{24}\.partial)|(?P<history>[0-9A-F]{8}\.history)"
    r"|(?P<backup>[0-9A-F]{24}\.[0-9A-F]{8}\.backup)|(?P<marker>system-identifier)|(?P<temporary>\..*\.tmp)"
)


@dataclass(frozen=True, order=True, slots=True)
class Lsn:
    """A WAL position. Ordered; `int()` is the byte position, `str()` PostgreSQL's `0/2000028`.

    An LSN says nothing about its timeline: compare positions of different timelines only along a
    path (timelines.py).
    """

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << 64:
            raise ValueError(f"WAL position {self.value} is out of range; expected 0 to 2^64-1")

    @classmethod
    def parse(cls, text: str) -> "Lsn":
        """Read `0/2000028`. Raises ValueError for anything else."""
        match = _LSN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a WAL position; expected hexadecimal like 0/2000028")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self.value >> 32:X}/{self.value & 0xFFFFFFFF:X}"

    def __int__(self) -> int:
        return self.value

    def __add__(self, size: int) -> "Lsn":
        return Lsn(self.value + size)

    def __sub__(self, other: "Lsn") -> int:
        """The bytes of WAL between two positions of one timeline path."""
        return self.value - other.value

    def segment(self, segment_size: int) -> int:
        """The number of the segment that holds the byte at this position."""
        return self.value // check_segment_size(segment_size)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of one timeline. Comparing segments of different timelines raises ValueError.

    A greater number on another timeline may well be older WAL, so there is no order to give.
    """

    timeline: int
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.timeline <= LAST_TIMELINE:
            raise ValueError(f"timeline {self.timeline} is out of range; expected 1 to {LAST_TIMELINE}")
        if self.number < 0:
            raise ValueError(f"segment number {self.number} is negative")

    def name(self, segment_size: int) -> str:
        """The file name PostgreSQL gives to this segment."""
        high, low = divmod(self.number, (1 << 32) // check_segment_size(segment_size))
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    def start(self, segment_size: int) -> Lsn:
        """The position of its first byte."""
        return Lsn(self.number * check_segment_size(segment_size))

    def next(self) -> "Segment":
        """The segment that follows on the same timeline."""
        return Segment(self.timeline, self.number + 1)

    def __lt__(self, other: "Segment") -> bool:
        return self.number < self._comparable(other)

    def __le__(self, other: "Segment") -> bool:
        return self.number <= self._comparable(other)

    def __gt__(self, other: "Segment") -> bool:
        return self.number > self._comparable(other)

    def __ge__(self, other: "Segment") -> bool:
        return self.number >= self._comparable(other)

    def _comparable(self, other: "Segment") -> int:
        if other.timeline != self.timeline:
            raise ValueError(
                f"segments of timelines {self.timeline} and {other.timeline} have no order; "
                "follow the .history files instead"
            )
        return other.number


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment's first page says of it.

    `timeline` is that of the page, not of the file: the segment in which a timeline began starts with a copy
    of its parent's pages, so there it is the parent's.
    """

    magic: int
    timeline: int
    address: Lsn
    system_identifier: str
    segment_size: int


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file of a WAL archive.

    `name` is the name in the folder, `wal_name` PostgreSQL's (without `.zst`); `bytes` is the size as stored.
    `modified` is the time of the last write to the segment: archive-wal keeps it; where a plain `cp` filled
    the archive it is the time of copying. `changed_ns` is the inode's change time, which no copy can keep.
    """

    name: str
    wal_name: str
    kind: FileKind
    compressed: bool
    bytes: int
    modified: datetime
    changed_ns: int


def check_segment_size(size: int) -> int:
    """Return a valid segment size. Raises ValueError unless it is a power of two from 1 MiB to 1 GiB."""
    if not SMALLEST_SEGMENT_SIZE <= size <= LARGEST_SEGMENT_SIZE or size & (size - 1):
        raise ValueError(f"WAL segment size {size} is wrong; expected a power of two from 1 MiB to 1 GiB")
    return size


def is_segment_name(name: str) -> bool:
    """Whether a file name is that of a whole segment (no suffix)."""
    return _SEGMENT.fullmatch(name) is not None


def parse_segment_name(name: str, segment_size: int) -> Segment:
    """Read a segment's file name. Raises ValueError for other names and for a size that does not fit it."""
    if _SEGMENT.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a WAL segment; expected 24 hexadecimal digits")
    steps = (1 << 32) // check_segment_size(segment_size)
    timeline, high, low = int(name[:8], 16), int(name[8:16], 16), int(name[16:], 16)
    if low >= steps:
        raise ValueError(f"{name} cannot name a segment of {segment_size} bytes; its size must be smaller")
    return Segment(timeline, high * steps + low)


def segments_between(timeline: int, start: Lsn, stop: Lsn, segment_size: int) -> tuple[Segment, ...]:
    """The segments that hold the WAL from `start` up to `stop`, both on one timeline.

    A stop right at the end of a segment needs that segment only, as for a base backup's stop position.
    """
    last = max(int(stop) - 1, int(start)) // check_segment_size(segment_size)
    return tuple(Segment(timeline, number) for number in range(start.segment(segment_size), last + 1))


def parse_header(page: bytes) -> SegmentHeader:
    """Read the first bytes of a segment. Raises ValueError when they are no long WAL page header.

    The magic number differs by version (0xD07E for 9.4, 0xD118 for 18); only its leading digit is common.
    """
    if len(page) < HEADER.size:
        raise ValueError(f"{len(page)} bytes are too few for the header of a WAL segment")
    if not any(page[: HEADER.size]):
        raise ValueError("the first page is filled with zeros")
    magic, info, timeline, address, _, system_identifier, segment_size, _ = HEADER.unpack(page[: HEADER.size])
    if magic >> 12 != 0xD or not info & LONG_HEADER:
        raise ValueError(f"the first page is no WAL (magic 0x{magic:04X}, flags 0x{info:04X})")
    check_segment_size(segment_size)
    return SegmentHeader(magic, timeline, Lsn(address), str(system_identifier), segment_size)


def read_segment_header(path: Path) -> SegmentHeader:
    """The header of a plain or `.zst` segment; of the latter only the first bytes are decompressed.

    Says nothing of the rest of the file. Raises ValueError when it is no WAL segment, OSError when it
    cannot be read.
    """
    return parse_header(read_small(path, HEADER.size))


def read_small(path: Path, limit: int = 1 << 16) -> bytes:
    """The first bytes of a plain or `.zst` file of the archive. Raises ValueError when it is damaged."""
    with path.open("rb", buffering=0) as stream:
        if path.suffix != ZST:
            return stream.read(limit)
        try:
            with zstandard.ZstdDecompressor().stream_reader(stream, read_size=4096) as reader:
                return reader.read(limit)
        except zstandard.ZstdError as error:
            raise ValueError(f"it cannot be decompressed: {error}") from error


def list_archive(directory: Path) -> tuple[ArchivedFile, ...]:
    """Every file of a WAL archive, ordered by name. Raises OSError when it cannot be listed.

    Looks at names and inodes only. What vanishes meanwhile (a rename by archive-wal) is left out; folders
    are no part of an archive and are skipped.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                if entry.is_file():
                    found.append(_archived_file(entry.name, entry.stat()))
            except FileNotFoundError:
                continue
    return tuple(sorted(found, key=lambda file: file.name))


def _archived_file(name: str, status: os.stat_result) -> ArchivedFile:
    return named_file(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), status.st_ctime_ns)


def named_file(name: str, size: int, modified: datetime, changed_ns: int = 0) -> ArchivedFile:
    """A file of an archive by its name; its change time is not known of one that is elsewhere."""
    wal_name = name.removesuffix(ZST)
    match = _KIND.fullmatch(wal_name)
    kind: FileKind = match.lastgroup if match and match.lastgroup else "other"  # type: ignore[assignment]
    return ArchivedFile(name, wal_name, kind, wal_name != name, size, modified, changed_ns)
