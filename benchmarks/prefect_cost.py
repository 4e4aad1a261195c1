"""What Prefect costs a run, with its server up: seconds beside the tools, seconds for lines of their output.

    python -m benchmarks.prefect_cost

A backup of the demo host, twice, the second measured as benchmarks/flow.py does. Then a flow whose task runs
a program that prints 10 or 10,000 lines, read as those of pg_basebackup and of rsync are: each run a process
of its own, measured from its imports to its end, with all that it still has to tell the server. Both numbers
of lines in turn, medians compared. Targets: at most 5 s beside the tools, at most 2 s for 10,000 lines.
"""

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prefect import flow, task

from alfresco_backup.backup.base import parse_progress
from alfresco_backup.contentstore.rsync import RsyncOutput
from alfresco_backup.system.processes import Command, run
from benchmarks.flow import SECONDS_TARGET, measure
from demo.host import DemoHost
from tasks.runs.embedded_server import prefect_server
from tasks.runs.progress import Progress

LINES_TARGET = 2.0
FEW, MANY = 10, 10_000
ROUNDS = 5
READY = "ready\n"
LIMIT = 600.0
PRINTED = {
    "pg_basebackup": "f'{n * 1024:>10}/{total * 1024} kB (50%), 0/1 tablespace'",
    "rsync": "f'cd+++++++++ 2026/11/22/{n % 24}/{n // 24}/' if n % 2 else f'problem number {n}'",
}


@flow(name="measured-output")
def measured_output(tool: str, lines: int, log: Path) -> None:
    print_lines(tool, lines, log)


@task(name="print-lines")
def print_lines(tool: str, lines: int, log: Path) -> None:
    """Run the program with its output read as in a backup: to a file, and a look at each line."""
    program = f"total = {lines}\nfor n in range(1, total + 1): print({PRINTED[tool]})"
    command = Command((sys.executable, "-c", program), LIMIT)
    progress = Progress(tool)
    if tool == "pg_basebackup":
        run(command, log=log, on_line=_pg_basebackup_line(progress))
        return
    with log.open("a", encoding="utf-8") as file:
        output = RsyncOutput(keep_line=lambda line: print(line, file=file, flush=True))

        def on_line(line: str) -> None:
            output.on_copy_line(line)
            progress(output.directories, lines)

        run(command, on_line=on_line)


def _pg_basebackup_line(progress: Progress) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        measured = parse_progress(line)
        if measured:
            progress(*measured)

    return on_line


def run_seconds(tool: str, lines: int, log: Path) -> float:
    """A run as a process of its own, from the end of its imports to its end."""
    argv = [sys.executable, "-m", "benchmarks.prefect_cost", tool, str(lines), str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in {READY, ""}:
            pass
        started = time.monotonic()
        process.stdout.read()
        process.wait()
    if process.returncode != 0:
        raise SystemExit(f"a run with {lines} lines of {tool} ended with {process.returncode}")
    return time.monotonic() - started


def cost_of_lines(tool: str, directory: Path) -> bool:
    seconds: dict[int, list[float]] = {FEW: [], MANY: []}
    for number in range(ROUNDS):
        for lines, found in seconds.items():
            found.append(run_seconds(tool, lines, directory / f"{tool}-{lines}-{number}.log"))
    few, many = (statistics.median(seconds[lines]) for lines in (FEW, MANY))
    met = many - few <= LINES_TARGET
    words = "met" if met else "NOT MET"
    print(
        f"{tool}: a run with {FEW} lines {few:.1f} s, with {MANY:,} {many:.1f} s, "
        f"added {many - few:.1f} s (target {LINES_TARGET:g}): {words}",
        flush=True,
    )
    return met


def cost_of_backup(directory: Path) -> bool:
    host = DemoHost.create(directory / "host")
    try:
        for _ in range(2):
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                seconds, tools, _peak = fresh.apply(measure, (host.env_file,))
    finally:
        host.destroy()
    met = seconds - tools <= SECONDS_TARGET
    print(
        f"backup of the demo host: {seconds:.1f} s, its tools {tools:.1f} s, besides {seconds - tools:.1f} s "
        f"(target {SECONDS_TARGET:g}): {'met' if met else 'NOT MET'}",
        flush=True,
    )
    return met


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="prefect-cost-", dir="/var/tmp") as name, prefect_server():
        directory = Path(name)
        directory.chmod(0o755)
        met = [cost_of_backup(directory), *(cost_of_lines(tool, directory) for tool in PRINTED)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(READY, end="", flush=True)
        measured_output(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
