"""What WAL streaming costs, and how fast it fills the archive, beside archive_command.

    python -m benchmarks.streaming [--seconds 30] [--segments 40]

A demo host that flushes to disk. Idle and under a hundred commits a second: processor, memory and flushes
(fsync, fdatasync; counted by strace where it is installed) of receiver and pg_receivewal. Then as many full
segments at once, by archive_command alone and by the receiver alone. Then the milliseconds of a commit,
without and with synchronous_standby_names.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.streaming.slot import slot_name
from demo.host import DemoHost
from tests.support.streaming import CommitWriter, Receiver, archived, receiving

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--segments", type=int, default=40)
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ab-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        demo = DemoHost.create(place / "host", None, 20)
        try:
            measure(demo, chosen.seconds, chosen.segments)
        finally:
            demo.destroy()
    finally:
        shutil.rmtree(place)


def measure(demo: DemoHost, seconds: float, segments: int) -> None:
    with receiving(demo) as receiver:
        writer = CommitWriter(demo, receiver)
        with costs(receiver, "idle", seconds):
            time.sleep(seconds)
        with costs(receiver, "busy", seconds):
            writer.write(seconds)
        print(f"  {len(writer.acknowledged) / seconds:.0f} commits a second")
        receiver.stop()
    print(f"archive_command alone: {segments / fill(demo, segments):.1f} segments a second")
    restart(demo, "off")
    with receiving(demo):
        print(f"receiver alone: {segments / fill(demo, segments):.1f} segments a second")
    restart(demo, "on")
    with receiving(demo) as receiver:
        for names in ("", slot_name(demo.name)):
            demo.cluster.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            demo.cluster.reload()
            writer = CommitWriter(demo, receiver)
            writer.PAUSE_SECONDS = 0
            demo.cluster.sql("TRUNCATE committed")
            writer.write(10)
            told = f"synchronous_standby_names = '{names}'"
            print(f"{told}: {10_000 / len(writer.acknowledged):.2f} ms a commit, one after the other")
        demo.cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
        demo.cluster.reload()


@contextmanager
def costs(receiver: Receiver, name: str, seconds: float) -> Iterator[None]:
    """Processor and memory of the receiver and its pg_receivewal, and their flushes."""
    pids = {"receiver": receiver.process.pid, "pg_receivewal": receiver.program}
    before = {each: processor(pid) for each, pid in pids.items()}
    traced = Path(tempfile.mkstemp()[1])
    strace = shutil.which("strace")
    argv = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", str(traced)]
    argv += [word for pid in pids.values() for word in ("-p", str(pid))]
    counting = subprocess.Popen(argv, stderr=subprocess.DEVNULL) if strace else None
    yield
    for each, pid in pids.items():
        used = processor(pid) - before[each]
        print(f"{name}: {each} {used / seconds * 100:.2f} % of a processor, {memory(pid):.0f} MiB resident")
    if counting:
        counting.terminate()
        counting.wait()
        calls = re.findall(
            r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*f(?:data)?sync$", traced.read_text(), re.MULTILINE
        )
        print(f"{name}: {sum(map(int, calls)) / seconds:.1f} flushes a second")
    traced.unlink()


def processor(pid: int) -> float:
    """Seconds of the processor that a process and its ended children took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def memory(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def restart(demo: DemoHost, archive_mode: str) -> None:
    demo.cluster.sql(f"ALTER SYSTEM SET archive_mode = {archive_mode}")
    demo.cluster.stop()
    demo.cluster.start()


def fill(demo: DemoHost, segments: int) -> float:
    """Seconds from the first of so many segments to the last one's arrival in the archive."""
    demo.cluster.sql("CREATE TABLE IF NOT EXISTS filler (text text)")
    demo.cluster.sql("TRUNCATE filler")
    began, first = time.monotonic(), len(archived(demo))
    row = "repeat(md5(i::text || random()::text), 200)"
    while len(archived(demo)) - first < segments:
        demo.cluster.sql("ALTER TABLE filler ALTER text SET STORAGE EXTERNAL")
        demo.cluster.sql(f"INSERT INTO filler SELECT {row} FROM generate_series(1, 5000) i")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
