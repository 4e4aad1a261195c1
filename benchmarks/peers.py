"""`make bench-peers`: this project beside what one would use instead, on this machine, in one run.

    python -m benchmarks.peers                     about 10 minutes
    PEERS=full python -m benchmarks.peers          hours, 60 GiB: up to 1,500,000 files
    PEERS='6000 20000' python -m benchmarks.peers  stores of these numbers of files

Needs Debian's rsync, restic, borgbackup, rsnapshot and pgbackrest; as root it installs what is missing, and
says so before. To another user it names what is missing and leaves those rows out by name. Writes
docs/explanation/performance.md, .json and .svg, or into the folder that is named as argument. PEERS_DIR is
where the data is made, /var/tmp by default. Not one of `make bench`: it has no `main`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from alfresco_backup.system.signals import interrupt_at_termination
from alfresco_backup.times import utc_now
from benchmarks.peers_database import database_targets, measure_database
from benchmarks.peers_report import Row, Target, as_json, machine_facts, plot, table
from benchmarks.peers_store import measure_store, store_targets
from benchmarks.snapshot import PROJECT

PACKAGES = {
    "rsync": "rsync",
    "restic": "restic",
    "borg": "borgbackup",
    "rsnapshot": "rsnapshot",
    "pgbackrest": "pgbackrest",
}
SIZES = (6_000, 20_000, 60_000)
FULL = (30_000, 100_000, 300_000, 1_500_000)
ROWS, FULL_ROWS = 3_000_000, 10_000_000
ROUNDS = 3


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
            found[program] = (done.stdout.strip().splitlines() or ["?"])[0]
    return found


def sizes() -> tuple[tuple[int, ...], int]:
    """Files of each store, rows of the database."""
    asked = os.environ.get("PEERS", "")
    if asked == "full":
        return FULL, FULL_ROWS
    return tuple(int(word) for word in asked.split()) or SIZES, ROWS


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
        "after the other in turn, warm caches; medians, with the least and the most. Where other work runs\n"
        "on the machine, the seconds of the processor count. What each tool stored of the content store was\n"
        "compared with it byte by byte, both restored databases row by row.\n\n"
        f"| | |\n|---|---|\n{facts}{picture}\n{table(rows, targets)}\n"
    )
    (folder / "performance.md").write_text(text)
    (folder / "performance.json").write_text(as_json(rows, machine) + "\n")
    if lines:
        (folder / "performance.svg").write_text(plot(lines))


def compare(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else PROJECT / "docs/explanation"
    missing = missing_programs()
    files, database_rows = sizes()
    place = os.environ.get("PEERS_DIR", "/var/tmp")  # noqa: S108 - the default of mkdtemp may be memory
    directory = Path(tempfile.mkdtemp(prefix="peers-", dir=place))
    directory.chmod(0o755)
    os.environ["PEERS_LOG"] = str(directory / "said.log")
    machine = {"measured": f"{utc_now():%Y-%m-%d}", **machine_facts(directory), **versions(missing)}
    rows: list[Row] = []
    try:
        for count in files:
            rows += measure_store(directory / f"store-{count}", count, ROUNDS, missing)
        rows += measure_database(directory / "database", database_rows, ROUNDS, missing)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    targets = [*store_targets(rows), *database_targets(rows)]
    write(folder, rows, targets, machine)
    print(f"written: {folder / 'performance.md'}")
    return 1 if any(row.broke and row.ours for row in rows) else 0


if __name__ == "__main__":
    interrupt_at_termination()
    sys.exit(compare(sys.argv[1:]))
