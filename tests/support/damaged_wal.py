"""Archived WAL damaged on purpose, as bad disks and wrong hands damage it: size and times as before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import zstandard

from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.postgres.wal_records import Record, open_segment
from demo.host import DemoHost
from demo.writer import Commit
from tests.support.common import wait_until

PAGE = 8192


def read_segment(path: Path) -> bytes:
    """What an archived segment holds."""
    content = path.read_bytes()
    return zstandard.ZstdDecompressor().decompress(content) if path.suffix == ".zst" else content


@contextmanager
def changed(path: Path, stored: bytes) -> Iterator[None]:
    """For a while the file holds other bytes, its times are those of before."""
    status, before = path.stat(), path.read_bytes()
    path.write_bytes(stored)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stored_as(path: Path, content: bytes) -> bytes:
    """What a file of that name holds to give this content."""
    compress = zstandard.ZstdCompressor(write_checksum=True).compress
    return compress(content) if path.suffix == ".zst" else content


def flipped(content: bytes, offset: int) -> bytes:
    """One bit is another."""
    return content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :]


def flipped_inside(compressed: bytes) -> bytes:
    """One bit about the middle is another, and one that counts: some fill a byte up and mean nothing."""
    whole = zstandard.ZstdDecompressor().decompress(compressed)
    for offset in range(len(compressed) // 2, len(compressed)):
        damaged = flipped(compressed, offset)
        try:
            if zstandard.ZstdDecompressor().decompress(damaged) != whole:
                return damaged
        except zstandard.ZstdError:
            return damaged
    raise AssertionError("no bit of it counts")


def covered_offset(content: bytes, begin: int, end: int) -> int:
    """The middle of a record between two offsets of a segment: a byte that the record's checksum covers.

    Not every byte is. Up to seven are between two records, and page headers have some.
    """
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with open_segment(Path(file.name)) as records:
            at = records.first()
            while isinstance(at, Lsn):
                record = records.record_at(at)
                assert isinstance(record, Record), record
                offset, length = int(record.at) - int(records.start), len(records.body(record.at))
                on_one_page = offset // PAGE == (offset + length - 1) // PAGE
                if (
                    begin <= offset < offset + length <= end
                    and on_one_page
                    and length > 2 * records.layout.size
                ):
                    return offset + (records.layout.size + length) // 2
                at = record.end
    raise AssertionError(f"no record between {begin} and {end}")


def zeros_from(content: bytes, offset: int) -> bytes:
    """Nothing but zeros from there on."""
    return content[:offset] + bytes(len(content) - offset)


@dataclass(frozen=True)
class Written:
    """A commit, and where the WAL ended when it was made."""

    commit: Commit
    end: Lsn

    def offset(self, segment_size: int = 16 << 20) -> int:
        return int(self.end) % segment_size


def write_commits(host: DemoHost, pages: int, least: int = 8) -> list[Written]:
    """Commits of the writer, until they fill that many pages of a segment of their own, which stays open."""
    host.cluster.switch_segment()
    query = f"SELECT {host.cluster.facts.current_lsn}()"
    found: list[Written] = []
    while len(found) < least or found[-1].offset() < pages * PAGE:
        commit = host.writer.add(5)
        found.append(Written(commit, Lsn.parse(host.cluster.sql(query)[0][0])))
    return found


def finish_segment(host: DemoHost) -> Path:
    """Switch, and wait until the segment is archived; its place there. The server forgets its own copy."""
    host.cluster.sql("CHECKPOINT")
    name = host.cluster.switch_segment()
    wait_until(lambda: list(host.wal_archive.glob(f"{name}*")), f"{name} is archived")
    return next(host.wal_archive.glob(f"{name}*"))


def forget_server_copies(host: DemoHost) -> None:
    """See that no finished segment is left under its name in the server's own folder."""
    folder = host.cluster.directory / host.cluster.facts.wal_directory
    archived = {path.name.removesuffix(".zst") for path in host.wal_archive.iterdir()}
    for name in archived:
        path = folder / name
        if path.is_file() and len(name) == 24:
            path.unlink()
