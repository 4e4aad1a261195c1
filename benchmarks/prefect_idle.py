"""What a Prefect server on PostgreSQL and its workers cost while idle, and what its database gains.

    python -m benchmarks.prefect_idle [SECONDS]

Idle: a server with four workers, as the units start them, for five minutes; processor seconds and memory of
the server, of its PostgreSQL and of each worker. Then 1,000 runs by six clients, each run with two states, 50
log lines and an artifact; the growth of the database. Then, three times, those runs and their events are made
old, the server removes what is older than its 90 days, and 1,000 more are written. Without the removal each
time would add as much as the first. Target: after the second, which fills what making rows old left in the
indexes, the size no longer grows: the fourth ends at most a fifth of the first's growth above it.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

# Prefect reads its environment when it is imported, which the tests' modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="benchmark-prefect-")
os.environ["DO_NOT_TRACK"] = "1"

from demo.cluster import Cluster
from deployments.serve_database import CONNECTION, DATABASE
from tests.support.common import wait_until
from tests.support.prefect_hosts import server_database
from tests.support.prefect_lab import API_LOGIN, Lab, alive, descendants, prefect_lab
from tests.support.prefect_load import write_runs

POOLS = ("alf1", "alf2", "alf3", "alf4")
SECONDS, RUNS, TIMES, AGAIN = 300.0, 1000, 4, 0.2
AS_SHIPPED = {
    "PREFECT_WORKER_QUERY_SECONDS": "10",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "60",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "2",
}
MIB = 2**20
EMPTY = ("flow_run", "log", "artifact", "events", "event_resources")
OLD = "interval '100 days'"
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pids: Iterable[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def resident_mib(pids: Iterable[int]) -> float:
    """Memory of processes, what they share counted once for each user of it by parts (PSS)."""
    kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def family(pid: int) -> list[int]:
    return [one for one in (pid, *descendants(pid)) if alive(one)]


def idle(lab: Lab, cluster: Cluster, seconds: float) -> None:
    assert lab.server
    groups = {"server": lab.server.pid, "PostgreSQL": postmaster(cluster)}
    groups |= {f"worker {pool}": worker.pid for pool, worker in lab.workers.items()}
    before = {name: (family(pid), processor_seconds(family(pid))) for name, pid in groups.items()}
    load = os.getloadavg()[0]
    time.sleep(seconds)
    for name, pid in groups.items():
        now = family(pid)
        spent = processor_seconds(now) - before[name][1]
        words = f"idle for {seconds:g} s: {name}: {spent:.1f} s of processor, {resident_mib(now):.0f} MiB"
        print(words, flush=True)
    print(f"load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after", flush=True)


def postmaster(cluster: Cluster) -> int:
    return int((cluster.directory / "postmaster.pid").read_text().split()[0])


def size(cluster: Cluster) -> int:
    [(found,)] = cluster.sql(f"SELECT pg_database_size('{DATABASE}')", DATABASE)
    return int(found)


def write(lab: Lab, cluster: Cluster) -> int:
    """The size of the database afterwards."""
    before = size(cluster)
    load = write_runs(lab.address, API_LOGIN, RUNS)
    assert not load.bad, load
    time.sleep(10)  # events are written behind
    after = size(cluster)
    words = f"{RUNS:,} runs: from {before / MIB:.1f} to {after / MIB:.1f} MiB; {load}"
    print(words, flush=True)
    return after


def remove_old(lab: Lab, cluster: Cluster) -> None:
    """Make all runs and events old and wait until the server's own cleaning has removed them."""
    lab.kill_server()
    cluster.sql(f"UPDATE flow_run SET end_time = end_time - {OLD}", DATABASE)
    cluster.sql(f"UPDATE events SET occurred = occurred - {OLD}", DATABASE)
    cluster.sql(f"UPDATE event_resources SET occurred = occurred - {OLD}", DATABASE)
    began = time.monotonic()
    lab.start_server()
    counted = "SELECT " + ", ".join(f"(SELECT count(*) FROM {t})" for t in EMPTY)

    def gone() -> bool:
        return [int(count) for row in cluster.sql(counted, DATABASE) for count in row] == [0] * len(EMPTY)

    wait_until(gone, "runs, logs, artifacts and events are removed", 600, every=1)
    print(f"made old, it was removed {time.monotonic() - began:.0f} s after the server's start", flush=True)
    cluster.sql("VACUUM", DATABASE)  # autovacuum does it within its minute


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else SECONDS
    with (
        server_database() as (cluster, url),
        tempfile.TemporaryDirectory(prefix="ab-idle-") as home,
        prefect_lab(Path(home), **{CONNECTION: url}, **AS_SHIPPED) as lab,
    ):
        for pool in POOLS:
            lab.start_worker(pool)
        with lab.client() as client:
            wait_until(lambda: len(client.read_work_pools()) == len(POOLS), "the workers are there")
        time.sleep(min(60, seconds))  # what comes after a start is no idling
        idle(lab, cluster, seconds)
        empty = size(cluster)
        sizes = [write(lab, cluster)]
        while len(sizes) < TIMES:
            remove_old(lab, cluster)
            sizes.append(write(lab, cluster))
    added = (sizes[-1] - sizes[1]) / (sizes[0] - empty)
    met = added <= AGAIN
    print(
        f"{TIMES} times {RUNS:,} runs, the old ones removed in between, end with "
        f"{', '.join(f'{found / MIB:.1f}' for found in sizes)} MiB; from the second on {added:.0%} of the "
        f"first's growth came to it (target {AGAIN:.0%}): {'met' if met else 'NOT MET'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
