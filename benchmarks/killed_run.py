"""What a kill -9 of a running backup costs: seconds until it is Crashed, mailed, and the host free again.

    python -m benchmarks.killed_run

A demo host with Prefect server, worker and mail server, as the tests have it. Targets: Crashed and mailed
within 15 s, no child alive by then, the host free within 90 s. A lease of a minute has to run out for that.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor

# Prefect reads its environment when it is imported, which the tests' modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="benchmark-prefect-")
os.environ["DO_NOT_TRACK"] = "1"

from tests.support.prefect_lab import alive
from tests.support.prefect_site import NAME, Copying, Site, running_site

TOLD_TARGET, FREE_TARGET = 15.0, 90.0


def kill_and_measure(site: Site, copying: Copying) -> tuple[dict[str, float], int]:
    """Seconds until each happened, and how many children were still there when the mail came."""
    since = time.monotonic()

    def timed(wait: object, *arguments: object) -> float:
        assert callable(wait)
        wait(*arguments)
        return time.monotonic() - since

    os.kill(copying.pid, signal.SIGKILL)
    waits: dict[str, Future[float]] = {}
    with ThreadPoolExecutor(3) as pool:
        waits["Crashed"] = pool.submit(timed, site.lab.await_state, copying.run, "Crashed")
        waits["mailed"] = pool.submit(timed, site.await_mail, f"{NAME} (Demo): backup crashed")
        waits["host free"] = pool.submit(timed, site.wait_until_free)
        waits["mailed"].result()
        left = sum(map(alive, copying.children))
    return {what: wait.result() for what, wait in waits.items()}, left


def main() -> None:
    try:
        with running_site() as site:
            site.require_set()
            seconds, left = kill_and_measure(site, site.begin_slow_backup())
    finally:
        shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)
    for what, took in seconds.items():
        target = FREE_TARGET if what == "host free" else TOLD_TARGET
        print(f"{what} after {took:.1f} s (target {target:.0f} s){'' if took <= target else ' MISSED'}")
    print(f"{left} of its children alive when the mail came (target 0)")
    if left:
        sys.exit(1)


if __name__ == "__main__":
    main()
