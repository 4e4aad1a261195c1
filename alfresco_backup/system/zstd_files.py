"""Looking into a zstd file without decompressing it: how much it holds and whether it is whole.

Format: RFC 8878. A frame is a header, blocks that each state their stored size, and mostly a checksum.
Walking from block to block shows a cut-off file at the cost of a few short reads; a flipped byte within a
block is found only by decompressing (`zstd -t`).
"""

import os
import shutil
from pathlib import Path

import zstandard

from alfresco_backup.system.folders import reading

SKIPPABLE_MAGIC = 0x184D2A5  # without its last digit
LONGEST_HEADER = 18
RAW, RLE, COMPRESSED = 0, 1, 2


def content_size(path: Path) -> int:
    """The number of bytes a zstd file decompresses to.

    Raises ValueError when it is cut off, has something appended, or is no zstd file; OSError when it cannot
    be read. A file that does not state its content's size (written from a pipe) is decompressed to find out.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        position = 0
        contents = []
        while position < size:
            position, content = _walk_frame(descriptor, position, size)
            contents.append(content)
        return sum(contents) if min(contents, default=0) >= 0 else _decompressed_size(path)
    finally:
        os.close(descriptor)


def _walk_frame(descriptor: int, start: int, size: int) -> tuple[int, int]:
    """The end of the frame at `start` and the size of its content, -1 when it does not say."""
    head = os.pread(descriptor, LONGEST_HEADER, start)
    if int.from_bytes(head[:4], "little") >> 4 == SKIPPABLE_MAGIC and len(head) >= 8:
        return _within(start + 8 + int.from_bytes(head[4:8], "little"), size), 0
    try:
        frame = zstandard.get_frame_parameters(head)
        position = start + zstandard.frame_header_size(head)
        content = zstandard.frame_content_size(head)
    except zstandard.ZstdError as error:
        raise ValueError(f"it is no zstd file at byte {start}: {error}") from error
    last = False
    while not last:
        block = int.from_bytes(_exactly(descriptor, 3, position), "little")
        last, kind, stored = bool(block & 1), block >> 1 & 3, block >> 3
        if kind > COMPRESSED:
            raise ValueError(f"it is damaged: no zstd block at byte {position}")
        position = _within(position + 3 + (1 if kind == RLE else stored), size)
    return _within(position + (4 if frame.has_checksum else 0), size), content


def _exactly(descriptor: int, count: int, position: int) -> bytes:
    data = os.pread(descriptor, count, position)
    if len(data) < count:
        raise ValueError(f"it is cut off at byte {position + len(data)}")
    return data


def _within(position: int, size: int) -> int:
    if position > size:
        raise ValueError(f"it is cut off: {size} bytes of at least {position}")
    return position


def _decompressed_size(path: Path) -> int:
    with path.open("rb") as stream:
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            return sum(len(block) for block in iter(lambda: reader.read(1 << 20), b""))
        except zstandard.ZstdError as error:
            raise ValueError(f"it cannot be decompressed: {error}") from error


def decompress(path: Path, target: Path) -> None:
    """Write what a zstd file holds into another, every checksum in it compared.

    Raises ValueError when it is damaged or cut off, OSError when one of the two cannot be read or written.
    """
    content_size(path)  # the decompressor takes a cut-off file for one that ends there
    with reading(path) as stream, target.open("wb") as plain:
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        try:
            shutil.copyfileobj(reader, plain, 1 << 20)
        except zstandard.ZstdError as error:
            raise ValueError(f"it cannot be decompressed: {error}") from error


def same_content(plain: Path, compressed: Path) -> bool:
    """Whether a plain file and a zstd file hold the same bytes; a damaged zstd file holds others.

    The decompressor takes a cut-off file for one that ends there, so its end is looked at first.
    """
    try:
        if content_size(compressed) != plain.stat().st_size:
            return False
    except ValueError:
        return False
    with plain.open("rb") as first, compressed.open("rb") as stream:
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        try:
            while True:
                block = reader.read(1 << 20)
                if block != first.read(len(block) or 1):
                    return False
                if not block:
                    return True
        except zstandard.ZstdError:
            return False
