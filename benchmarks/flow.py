"""What the flow adds to its tools: seconds beside them, and the peak memory of its process.

    python -m benchmarks.flow [FILES …]      default: 30000 300000

For each size a demo host with a content store of that many files; the flow `backup` runs twice with a Prefect
server up, the second run is measured. The tools' time is that in which at least one program runs; what is
left is Prefect, waiting for WAL and our own work. Targets: at most 5 s besides, peak memory at most 400 MiB
and flat: not more than a fifth higher for ten times the files.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.processes import Child, Finished
from benchmarks.content_check import peak_memory
from benchmarks.store import generate
from demo.host import DemoHost
from flows.backup import backup
from tasks.runs.embedded_server import prefect_server

SECONDS_TARGET = 5.0
MEMORY_TARGET = 400.0
FLAT = 1.2


def measure(env_file: Path) -> tuple[float, float, float]:
    """Seconds of the flow, of its tools, and the peak memory of this process in MiB."""
    spans: list[tuple[float, float]] = []
    judge = Child.judge

    def noted(child: Child) -> Finished:
        spans.append((child.started, time.monotonic()))
        return judge(child)

    Child.judge = noted  # type: ignore[method-assign]
    os.environ[ENV_FILE_VARIABLE] = str(env_file)
    started = time.monotonic()
    backup()
    return time.monotonic() - started, covered(spans), peak_memory()


def covered(spans: list[tuple[float, float]]) -> float:
    """The time in which at least one of the spans ran."""
    total, until = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def main(sizes: list[int]) -> int:
    good, smallest = True, 0.0
    with prefect_server():
        for files in sizes:
            directory = Path(tempfile.mkdtemp(prefix="flow-benchmark-", dir="/var/tmp"))
            directory.chmod(0o755)
            host = DemoHost.create(directory / "host", documents=50)
            try:
                shutil.rmtree(host.layout.contentstore)
                generate(host.layout.contentstore, files)
                for _ in range(2):
                    with multiprocessing.get_context("spawn").Pool(1) as fresh:
                        seconds, tools, peak = fresh.apply(measure, (host.env_file,))
            finally:
                host.destroy()
                shutil.rmtree(directory)
            smallest = smallest or peak
            met = seconds - tools <= SECONDS_TARGET and peak <= min(MEMORY_TARGET, smallest * FLAT)
            good = good and met
            print(
                f"{files:>9,} files: flow {seconds:5.1f} s, its tools {tools:5.1f} s, besides "
                f"{seconds - tools:4.1f} s, peak {peak:.0f} MiB: {'met' if met else 'NOT MET'}",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main([int(item) for item in sys.argv[1:]] or [30_000, 300_000]))
