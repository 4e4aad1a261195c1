"""Throughput of archive-wal and restore-wal on real WAL, and the cost of the WAL audit.

`python -m benchmarks.wal_commands [SEGMENTS] [AUDITED]`: 16 MiB segments written by a real server (24),
made-up small segments for the audit (30,000). `cp` is PostgreSQL's documented example, which flushes nothing
to disk.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import zstandard

from alfresco_backup.errors import NotVerified
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.wal_files import HEADER, LONG_HEADER, Segment, is_segment_name
from alfresco_backup.times import size_for_people, utc_now
from alfresco_backup.wal.audit import audit
from alfresco_backup.wal.contents import read_contents, read_index, write_index
from alfresco_backup.wal.verify import VERIFY_SECONDS, verify_new
from demo.cluster import Cluster, default_bindir
from demo.places import give_to, server_account

COMMANDS = Path(__file__).parent.parent / "deployments/wal"
SMALL = 1 << 20
FILL = """
CREATE TABLE filler AS
SELECT n, md5(n::text) AS hash, repeat('text ', 20) AS words FROM generate_series(1, {}) AS n
"""


def write_segments(directory: Path, count: int) -> list[Path]:
    """WAL as inserts write it: rows with hashes and repeated words, full pages."""
    kept = directory / "kept"
    kept.mkdir()
    give_to(kept, server_account())
    cluster = Cluster(default_bindir(), directory / "server" / "data", durable=False).create()
    cluster.configure(wal_level="replica", archive_mode="on", archive_command=f'cp -p "%p" "{kept}/%f"')
    cluster.start()
    try:
        cluster.sql(FILL.format(count * 90_000))
    finally:
        cluster.stop()
    return sorted(path for path in kept.iterdir() if is_segment_name(path.name))[:count]


def timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def run_all(commands: Sequence[Sequence[str]]) -> Callable[[], None]:
    def work() -> None:
        for command in commands:
            subprocess.run(command, check=True)

    return work


def report(name: str, count: int, size: int, seconds: float, stored: int) -> None:
    rate = f"{count / seconds:6.1f} segments/s {size / seconds / (1 << 20):7.0f} MiB/s"
    print(f"{name:24} {rate} {seconds / count * 1000:7.1f} ms each, stored {size_for_people(stored)}")


def measure_commands(directory: Path, segments: list[Path]) -> None:
    size = sum(path.stat().st_size for path in segments)
    archive_wal, restore_wal = str(COMMANDS / "archive-wal"), str(COMMANDS / "restore-wal")
    target = str(directory / "RECOVERYXLOG")
    variants: dict[str, Callable[[Path, str], list[str]]] = {
        "cp": lambda path, folder: [
            "sh",
            "-c",
            f'test ! -f "{folder}/{path.name}" && cp "{path}" "{folder}/"',
        ],
        "archive-wal": lambda path, folder: [archive_wal, str(path), path.name, folder],
        "archive-wal --zstd": lambda path, folder: [archive_wal, "--zstd", str(path), path.name, folder],
    }
    print(f"{len(segments)} segments, {size_for_people(size)}")
    for name, command in variants.items():
        folder = directory / name.replace(" ", "")
        folder.mkdir()
        seconds = timed(run_all([command(path, str(folder)) for path in segments]))
        stored = sum(path.stat().st_size for path in folder.iterdir())
        report(name, len(segments), size, seconds, stored)
        again = timed(run_all([command(path, str(folder)) for path in segments])) if name != "cp" else 0
        if again:
            report("  the same again", len(segments), size, again, stored)
            back = [[restore_wal, path.name, target, str(folder)] for path in segments]
            report("  restore-wal", len(segments), size, timed(run_all(back)), stored)


def measure_audit(directory: Path, count: int) -> None:
    archive = directory / "audited"
    archive.mkdir()
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    for number in range(1, count + 1):
        head = HEADER.pack(0xD110, LONG_HEADER, 1, number * SMALL, 0, 1, SMALL, 8192)
        name = Segment(1, number).name(SMALL)
        (archive / f"{name}.zst").write_bytes(compressor.compress(head + bytes(SMALL - len(head))))
    index = directory / "seen.json"
    for words in ("first look", "later look, all verified"):
        started = time.monotonic()
        contents = read_contents(archive, read_index(index, archive))
        verify_new(contents, _no_program, 0.0 if words == "first look" else VERIFY_SECONDS)
        audit(contents, [], None, utc_now())
        looks = {name: replace(look, verified_at=utc_now()) for name, look in contents.looks.items()}
        write_index(index, replace(contents, looks=looks))
        print(f"audit of {count:,} compressed segments, {words}: {time.monotonic() - started:.2f} s")


def _no_program(name: str, version: int) -> Programs:
    raise NotVerified(f"{name} of {version} is not measured here")


def main(arguments: list[str]) -> None:
    segments, audited = (int(text) for text in (*arguments, *("24", "30000")[len(arguments) :]))
    directory = Path(tempfile.mkdtemp(prefix="benchmark-wal-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        measure_commands(directory, write_segments(directory, segments))
        measure_audit(directory, audited)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1:])
