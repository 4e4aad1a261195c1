"""The records of a WAL segment: where they end, and whether that is where a segment should end.

Format, from PostgreSQL's `xlog_internal.h`, `xlogrecord.h` and `xlogreader.c`: a segment consists of pages,
each with a header that names its own position; records follow each other at multiples of 8 bytes, run on over
pages (each such page says how much of the record is left) and into the next segment. Each names the position
of the one before. A segment that the server finished ends with a record that fills it, that goes on in the
next segment, or with XLOG_SWITCH, after which nothing counts. Record headers have 24 bytes, before 9.5 32.

Reads headers only: a changed bit in the body of a record is not seen here, but by its checksum, of which
`pg_waldump` and the server know more (checksum() is for single records).
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from alfresco_backup.postgres.versions import facts_of_wal
from alfresco_backup.postgres.wal_files import (
    HEADER,
    LONG_HEADER,
    Lsn,
    SegmentHeader,
    read_segment_header,
)

EndKind = Literal["complete", "crossing", "unfinished", "cut off", "damaged"]
WHOLE: tuple[EndKind, ...] = ("complete", "crossing")
CONTINUES = 0x0001
REPLACES = 0x0008  # from 14 on, and late minor versions before: the record that a crash cut off is given up
PAGE_HEADER = struct.Struct("<HHIQI4x")
ALIGNMENT = 8
SWITCH = (0, 0x40)  # resource manager, upper half of the info byte
_LENGTH = struct.Struct("<I")
_POSITION = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a record's header has what. `size` is its length, `crc` where its checksum is."""

    size: int
    previous: int
    info: int
    crc: int


_LAYOUT = Layout(size=24, previous=8, info=16, crc=20)
_LAYOUT_BEFORE_95 = Layout(size=32, previous=16, info=12, crc=24)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `at` its first byte, `end` where the next one may begin: for a switch the next segment.

    `given_up`: a crash cut it off, and the server went on without it.
    """

    at: Lsn
    end: Lsn
    previous: Lsn
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class RecordsEnd:
    """Where the records of a segment end.

    `complete`: with the segment, or with a switch; `at` is the next segment's first byte. `crossing`: the
    record that begins at `at` goes on in the next segment. `unfinished`: nothing more was written, as in the
    segment that a server is writing; `cut off`: the same, within the record at `at`, as after a crash.
    `damaged`: what is at `at` is no record, as `words` say.
    """

    kind: EndKind
    at: Lsn
    words: str = ""


class SegmentRecords:
    """The records of one plain segment file that has its full size; see open_segment."""

    def __init__(self, descriptor: int, header: SegmentHeader) -> None:
        self._descriptor = descriptor
        self.header = header
        self.start = header.address
        self.size = header.segment_size
        self.block = HEADER.unpack(os.pread(descriptor, HEADER.size, 0))[-1] or 8192
        facts = facts_of_wal(header.magic)
        self.layout = _LAYOUT_BEFORE_95 if facts and facts.long_record_headers else _LAYOUT
        self._number, self._page = -1, b""

    @property
    def end(self) -> Lsn:
        """The first byte of the next segment."""
        return self.start + self.size

    def page(self, number: int) -> bytes:
        if number != self._number:
            self._page = os.pread(self._descriptor, self.block, number * self.block)
            self._number = number
        return self._page

    def first(self) -> RecordsEnd | Lsn:
        """Where the first record begins; its end where none does."""
        return self._first_from(0)

    def records_end(self, start: Lsn | None = None) -> RecordsEnd:
        """Follow the records from `start`, by default from the first, to their end."""
        at: RecordsEnd | Lsn = self.first() if start is None else start
        previous: Lsn | None = None
        while isinstance(at, Lsn):
            record = self.record_at(at, previous)
            if isinstance(record, RecordsEnd):
                return record
            previous, at = previous if record.given_up else record.at, record.end
        return at

    def last_records_end(self) -> RecordsEnd:
        """The same, from the last page on which a record begins: cheap, and blind to what is before it."""
        for number in range(self.size // self.block - 1, -1, -1):
            page = self.page(number)
            if self._problem(number) or _blank(page, PAGE_HEADER.size):
                continue
            first = self._first_from(number)
            if isinstance(first, Lsn):
                on_page, inside = divmod(int(first) - int(self.start), self.block)
                # A switch that crosses into this page has nothing behind it but pages of zeros with headers.
                if on_page == number and not _blank(page, inside):
                    return self.records_end(first)
        return self.records_end()

    def record_at(self, at: Lsn, previous: Lsn | None = None) -> Record | RecordsEnd:
        """The record at a position, or why there is none. `previous`: the position of the one before it."""
        offset = int(at) - int(self.start)
        if offset >= self.size:
            return RecordsEnd("complete", at)
        number, inside = divmod(offset, self.block)
        page = self.page(number)
        problem = self._problem(number)
        if problem:
            return RecordsEnd("unfinished" if self._unwritten_from(number, 0) else "damaged", at, problem)
        flags = PAGE_HEADER.unpack_from(page)[1]
        if inside == 0:
            inside = _header_size(flags)
            at += inside  # as the next record will name it
            if flags & CONTINUES:
                return RecordsEnd("damaged", at, "the page begins within a record that is not there")
        length = _LENGTH.unpack_from(page, inside)[0]
        if length < self.layout.size:
            unwritten = length == 0 and self._unwritten_from(number, inside)
            return RecordsEnd("unfinished" if unwritten else "damaged", at, f"a record of {length} bytes")
        return self._read(at, number, inside, length, previous)

    def body(self, at: Lsn) -> bytes:
        """The bytes of the record at a position, as far as this segment has them."""
        number, inside = divmod(int(at) - int(self.start), self.block)
        if inside == 0:
            inside = _header_size(PAGE_HEADER.unpack_from(self.page(number))[1])
        left = _LENGTH.unpack_from(self.page(number), inside)[0]
        parts = []
        while left and number * self.block < self.size:
            part = self.page(number)[inside : inside + left]
            parts.append(part)
            left -= len(part)
            number += 1
            if number * self.block < self.size:
                inside = _header_size(PAGE_HEADER.unpack_from(self.page(number))[1])
        return b"".join(parts)

    def continuation(self) -> bytes | None:
        """What this segment has of a record that began in the one before it. None: the server gave it up."""
        flags, left = PAGE_HEADER.unpack_from(self.page(0))[1::3]
        if flags & REPLACES:
            return None
        parts = []
        for number in range(self.size // self.block if flags & CONTINUES else 0):
            inside = _header_size(PAGE_HEADER.unpack_from(self.page(number))[1])
            part = self.page(number)[inside : inside + left]
            parts.append(part)
            left -= len(part)
            if not left:
                break
        return b"".join(parts)

    def _read(
        self, at: Lsn, number: int, inside: int, length: int, previous: Lsn | None
    ) -> Record | RecordsEnd:
        """The record of a length, over as many pages as it needs."""
        head, left = b"", length
        while True:
            part = self.page(number)[inside : inside + left]
            head += part[: self.layout.size - len(head)]
            left -= len(part)
            if not left:
                break
            number += 1
            if number * self.block >= self.size:
                return self._crossing(at, head, previous)
            problem = self._problem(number)
            flags, rest = PAGE_HEADER.unpack_from(self.page(number))[1::3]
            if not problem and flags & REPLACES:
                return Record(at, self.start + number * self.block, at, given_up=True)
            if problem or not flags & CONTINUES or rest != left:
                why = problem or f"page {number} does not go on with the record's last {left} bytes"
                cut_off = problem and self._unwritten_from(number, 0)
                return RecordsEnd("cut off" if cut_off else "damaged", at, why)
            inside = _header_size(flags)
        end = self.start + _aligned(number * self.block + inside + len(part))
        before = Lsn(_POSITION.unpack_from(head, self.layout.previous)[0])
        if previous is not None and before != previous:
            return RecordsEnd(
                "damaged", at, f"the record names {before}, not {previous}, as the one before it"
            )
        info, manager = head[self.layout.info], head[self.layout.info + 1]
        return Record(at, self.end if (manager, info & 0xF0) == SWITCH else end, before)

    def _crossing(self, at: Lsn, head: bytes, previous: Lsn | None) -> RecordsEnd:
        """A record that goes on in the next segment; damaged where its length cannot be right.

        Pages say how much of a record is left. On the last one nothing does: there another record that names
        this one as the one before it shows that this one ends earlier.
        """
        place = slice(self.layout.previous, self.layout.previous + _POSITION.size)
        if previous is not None and len(head) >= place.stop and head[place] != _POSITION.pack(int(previous)):
            return RecordsEnd("damaged", at, f"the record does not name {previous} as the one before it")
        if int(self.end) - int(at) < self.block:
            page, wanted = self.page(self.size // self.block - 1), _POSITION.pack(int(at))
            first = int(at) % self.block + _aligned(self.layout.size)
            for begin in range(first, self.block - place.stop + 1, ALIGNMENT):
                if page[begin + place.start : begin + place.stop] == wanted:
                    return RecordsEnd("damaged", at, "the record is longer than the distance to the next one")
        return RecordsEnd("crossing", at)

    def _first_from(self, number: int) -> RecordsEnd | Lsn:
        """Where the first record begins on a page or after it."""
        at = self.start + number * self.block
        while number * self.block < self.size:
            problem = self._problem(number)
            if problem:
                return RecordsEnd("damaged", self.start + number * self.block, problem)
            flags, left = PAGE_HEADER.unpack_from(self.page(number))[1::3]
            inside = _header_size(flags)
            if not flags & CONTINUES:
                return self.start + number * self.block
            if left <= self.block - inside:
                return self.start + (number * self.block + _aligned(inside + left))
            number += 1
        return RecordsEnd("crossing", at)

    def _problem(self, number: int) -> str:
        """What is wrong with a page's header; empty when nothing is."""
        magic, _, _, address, _ = PAGE_HEADER.unpack_from(self.page(number))
        expected = int(self.start) + number * self.block
        if magic != self.header.magic:
            return f"page {number} has the magic number {magic:04X} instead of {self.header.magic:04X}"
        return "" if address == expected else f"page {number} is of {Lsn(address)}, not of {Lsn(expected)}"

    def _unwritten_from(self, number: int, inside: int) -> bool:
        """Whether nothing was written from there on: zeros, then pages of an older use of the file.

        Servers write whole pages in order, and use files again without emptying them.
        """
        if not _blank(self.page(number), inside) and not (inside == 0 and self._is_older(number)):
            return False
        last = self.size // self.block
        return all(_blank(self.page(each)) or self._is_older(each) for each in range(number + 1, last))

    def _is_older(self, number: int) -> bool:
        magic, _, _, address, _ = PAGE_HEADER.unpack_from(self.page(number))
        return bool(magic == self.header.magic and address < int(self.start))


@contextmanager
def open_segment(path: Path) -> Iterator[SegmentRecords]:
    """The records of a plain segment file. Raises ValueError when it is none, or has not its full size."""
    header = read_segment_header(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size != header.segment_size:
            raise ValueError(f"it holds {size} of {header.segment_size} bytes")
        yield SegmentRecords(descriptor, header)
    finally:
        os.close(descriptor)


def record_length(record: bytes) -> int:
    """How long a record says it is; more than `record` has where only its beginning is at hand."""
    return int(_LENGTH.unpack_from(record)[0]) if len(record) >= _LENGTH.size else 1 << 32


def checksum_is_right(record: bytes, header: SegmentHeader) -> bool | None:
    """Whether a whole record has the checksum it states (CRC-32C); None before 9.5, which had another.

    Slow, about 10 MB/s: for the few records that no other program checks, those between two segments.
    """
    facts = facts_of_wal(header.magic)
    if facts is None or facts.long_record_headers:
        return None
    stated = _LENGTH.unpack_from(record, _LAYOUT.crc)[0]
    crc = 0xFFFFFFFF
    table = _crc_table()
    for part in (record[_LAYOUT.size :], record[: _LAYOUT.crc]):
        for byte in part:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return bool(stated == crc ^ 0xFFFFFFFF)


@cache
def _crc_table() -> tuple[int, ...]:
    """The table of CRC-32C (Castagnoli), bits reversed."""

    def entry(value: int) -> int:
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        return value

    return tuple(map(entry, range(256)))


def _header_size(flags: int) -> int:
    return HEADER.size if flags & LONG_HEADER else PAGE_HEADER.size


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def _blank(page: bytes, start: int = 0) -> bool:
    return page.count(0, start) == len(page) - start
