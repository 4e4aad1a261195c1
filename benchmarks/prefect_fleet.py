"""Four hosts with four workers at one Prefect server on PostgreSQL: what each pays for the others.

    python -m benchmarks.prefect_fleet [ROUNDS]

In each round four runs of an empty flow are asked for at once, one for each worker, and when all have ended
four backups. Measured is a run's start delay, from the time it was scheduled for to its first state Running.
Targets: all complete; the median of the backups' delays at most 1.5 times that of the empty flows. At the end
one host's backup fails beside three others: mails of that one, each artifact under its host's name. Workers
ask for work every second, so that the delay is server and process, not the ten seconds between two questions.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from threading import Event, Thread

# Prefect reads its environment when it is imported, which the tests' modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="benchmark-prefect-")
os.environ["DO_NOT_TRACK"] = "1"

from prefect.client.schemas.objects import FlowRun

from tests.support.prefect_hosts import Hosts, several_hosts

NAMES = ("alf1", "alf2", "alf3", "alf4")
ROUNDS = 5
TARGET = 1.5
LOAD = "load of the machine"


def delays(runs: Mapping[str, FlowRun]) -> list[float]:
    found = []
    for run in runs.values():
        assert run.start_time and run.expected_start_time
        found.append((run.start_time - run.expected_start_time).total_seconds())
    return found


class Watch:
    """How many hosts were locked at the same moment while the block ran, at most, and one by how many."""

    def __init__(self, site: Hosts) -> None:
        self._site = site
        self._over = Event()
        self._thread = Thread(target=self._look, daemon=True)
        self.together = self.on_one = 0

    def _look(self) -> None:
        while not self._over.wait(0.2):
            taken = [self._site.lab.locks_taken(name) for name in NAMES]
            self.together, self.on_one = max(self.together, sum(taken)), max(self.on_one, *taken)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)


def start_delays(site: Hosts, rounds: int) -> bool:
    for name in NAMES:
        site.lab.deploy("empty", name, site.hosts[name].env_file, file="benchmarks/empty_flow.py")
    found: dict[str, list[float]] = {"empty": [], "backup": []}
    for number in range(rounds + 1):
        for flow in found:
            runs = site.completed(site.start(flow))
            if number:  # the first runs find nothing in the page cache, the first backups copy everything
                found[flow] += delays(runs)
    empty, backup = (statistics.median(found[flow]) for flow in ("empty", "backup"))
    met = backup <= TARGET * empty
    print(
        f"start delay of {len(NAMES)} at once, median of {len(found['empty'])}: empty flow {empty:.2f} s (at "
        f"most {max(found['empty']):.2f}), backup {backup:.2f} s (at most {max(found['backup']):.2f}), ratio "
        f"{backup / empty:.2f} (target {TARGET:g}): {'met' if met else 'NOT MET'}",
        flush=True,
    )
    return met


def kept_apart(site: Hosts) -> bool:
    """Four backups at once of which one fails, and what of it the other hosts get."""
    site.mailbox.read_all()
    with Watch(site) as watch:
        began = time.monotonic()
        runs = site.start("backup", alf2={"PGPORT": "1"})
        for name, run in runs.items():
            site.lab.await_state(run, "Failed" if name == "alf2" else "Completed")
        took = time.monotonic() - began
    site.lab.await_run(runs["alf2"], site.mailbox.subjects, "its mail")
    mails = site.mailbox.subjects()
    strangers = [(key, host) for key, host in site.artifacts() if not str(key).endswith(f"-{host}")]
    apart = all(" alf2 (" in mail for mail in mails) and not strangers and watch.on_one == 1
    print(
        f"four backups at once, that of alf2 failing, in {took:.0f} s: {watch.together} hosts locked at the "
        f"same moment, one by {watch.on_one} run; mails {mails}; of {len(site.artifacts())} artifacts "
        f"{len(strangers)} under another host's name: {'met' if apart else f'NOT MET {strangers[:3]}'}",
        flush=True,
    )
    return apart


def main(arguments: list[str]) -> int:
    rounds = int(arguments[0]) if arguments else ROUNDS
    with several_hosts(*NAMES) as site:
        before = os.getloadavg()[0]
        met = [start_delays(site, rounds), kept_apart(site)]
        print(f"{LOAD} {before:.1f} before, {os.getloadavg()[0]:.1f} after", flush=True)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
