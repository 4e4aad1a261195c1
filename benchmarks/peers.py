"""`make bench-peers`: this project beside what one would use instead, on this machine, in one run.

    python -m benchmarks.peers                     10 minutes; no target but that of a run by hand is judged
    PEERS=targets python -m benchmarks.peers       half an hour: the sizes that the targets were set for
    PEERS=full python -m benchmarks.peers          hours, 60 GiB: up to 1,500,000 files
    PEERS='300 6000' python -m benchmarks.peers    stores of these numbers of files, a small database

Without PEERS=full what has taken 20 s in one row, 10 s by default, is not repeated, and borg and rsnapshot
are left out of a large store. Needs Debian's rsync, restic, borgbackup, rsnapshot, pgbackrest and barman; as
root it installs what is missing, and says so before; nothing else needs root. To another user it names what
is missing and leaves those rows out by name. Writes docs/explanation/performance.md, .json and .svg, or into
the folder that is named as argument. PEERS_DIR is where the data is made, /var/tmp by default. Not one of
`make bench`: it has no `main`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alfresco_backup.system.signals import interrupt_at_termination
from alfresco_backup.times import utc_now
from benchmarks.peers_database import database_targets, measure_database
from benchmarks.peers_report import Row, Target, as_json, machine_facts, plot, table
from benchmarks.peers_store import Effort, measure_starts, measure_store, store_targets
from benchmarks.snapshot import PROJECT

PACKAGES = {
    "rsync": "rsync",
    "restic": "restic",
    "borg": "borgbackup",
    "rsnapshot": "rsnapshot",
    "pgbackrest": "pgbackrest",
    "barman": "barman",
}
SIZES, SOME_ROWS = (6_000, 20_000), 1_500_000
TARGETS, ROWS = (6_000, 20_000, 300_000), 9_000_000
FULL = (6_000, 30_000, 100_000, 300_000, 1_500_000)
FEW_ROWS = 300_000
ROUNDS = 3
QUICK, DEFAULT = (Effort(ROUNDS, patience, everything=False) for patience in (10.0, 20.0))
THOROUGH = Effort(ROUNDS)


def missing_programs() -> dict[str, str]:
    """Programs that are not here, by name, with why their rows are left out; root installs them first."""
    found = [program for program in PACKAGES if not shutil.which(program)]
    packages = " ".join(PACKAGES[program] for program in found)
    if found and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"bench-peers: installing Debian packages: {packages} (nothing is upgraded)", flush=True)
        apt = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "--no-upgrade", *packages.split()]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=False, stdin=subprocess.DEVNULL)
        subprocess.run(apt, check=False, env=environment, stdin=subprocess.DEVNULL)
        found = [program for program in found if not shutil.which(program)]
    elif found:
        print(f"bench-peers: missing, their rows are left out: {packages}", flush=True)
        print(f"HINT: ask an administrator for: apt-get install {packages}", flush=True)
    return {program: f"the package {PACKAGES[program]} is not installed" for program in found}


def versions(missing: dict[str, str]) -> dict[str, str]:
    """The first line in which each peer tells its version."""
    asked = {"rsnapshot": ["rsnapshot", "version"], "restic": ["restic", "version"]}
    asked["pgbackrest"] = ["pgbackrest", "version"]
    found = {}
    for program in PACKAGES:
        if program not in missing:
            argv = asked.get(program, [program, "--version"])
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            found[program] = ((done.stdout + done.stderr).strip().splitlines() or ["?"])[0]
    return found


def sizes() -> tuple[tuple[int, ...], int, Effort]:
    """Files of each store, rows of the database, and how often each is measured."""
    asked = os.environ.get("PEERS", "")
    if asked == "full":
        return FULL, ROWS, THOROUGH
    if asked == "targets":
        return TARGETS, ROWS, DEFAULT
    named = tuple(int(word) for word in asked.split())
    return (named, FEW_ROWS, DEFAULT) if named else (SIZES, SOME_ROWS, QUICK)


def remove(directory: Path) -> None:
    """Five copies of a store side by side: one after the other it takes longer than all that is measured."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [
            pool.submit(subprocess.run, ["rm", "-rf", path], check=True) for path in directory.iterdir()
        ]:
            done.result()
    directory.rmdir()


def write(folder: Path, rows: list[Row], targets: list[Target], machine: dict[str, str]) -> None:
    facts = "".join(f"| {name} | {value} |\n" for name, value in machine.items())
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.folders and row.timings:
            lines.setdefault(row.tool, []).append((float(row.folders), row.median))
    picture = "\n![Time of an unchanged run against folders](performance.svg)\n" if lines else ""
    text = (
        "# Beside other tools\n\n"
        "Written by `make bench-peers`; [the same as JSON](performance.json). Whole processes, one tool\n"
        "after the other in turn, warm caches; medians, with the least and the most. First copies end when\n"
        "all is on disk. Where other work runs on the machine, the seconds of the processor count. What\n"
        "each tool stored of the content store was compared with it byte by byte, restored databases by a\n"
        "sum over all rows. A target is judged at the size it was set for; a missed one names where the\n"
        "time goes and what that work cannot be below, as measured in the same run.\n\n"
        f"| | |\n|---|---|\n{facts}{picture}\n{table(rows, targets)}\n"
    )
    (folder / "performance.md").write_text(text)
    (folder / "performance.json").write_text(as_json(rows, machine) + "\n")
    if lines:
        (folder / "performance.svg").write_text(plot(lines))


def compare(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else PROJECT / "docs/explanation"
    missing = missing_programs()
    files, database_rows, effort = sizes()
    place = os.environ.get("PEERS_DIR", "/var/tmp")  # noqa: S108 - the default of mkdtemp may be memory
    directory = Path(tempfile.mkdtemp(prefix="peers-", dir=place))
    directory.chmod(0o755)
    os.environ["PEERS_LOG"] = str(directory / "said.log")
    machine = {"measured": f"{utc_now():%Y-%m-%d}", **machine_facts(directory), **versions(missing)}
    rows: list[Row] = []
    try:
        for count in files:
            rows += measure_store(directory / f"store-{count}", count, effort, missing)
            remove(directory / f"store-{count}")
        rows += measure_starts(directory, effort.rounds)
        rows += measure_database(directory / "database", database_rows, effort, missing)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    targets = [*store_targets(rows), *database_targets(rows)]
    write(folder, rows, targets, machine)
    print(f"written: {folder / 'performance.md'}")
    return 1 if any(row.broke and row.ours for row in rows) else 0


def run(arguments: list[str]) -> int:
    """As compare; SIGTERM and Ctrl-C end it with 1, with nothing written and nothing left behind."""
    interrupt_at_termination()
    try:
        return compare(arguments)
    except KeyboardInterrupt:
        print("bench-peers: interrupted; what was made for it is removed, nothing is written", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
