"""Whether a Prefect server stands six clients that write for minutes: bad answers, and the slowest.

    python -m benchmarks.prefect_load [SECONDS] [NAME...]

Once with the server of the unit prefect-server, its program and variables, once with that of `serve`, which
has a worker beside it; each on SQLite and on PostgreSQL. Targets: no bad answer, none slower than 10 s. NAME,
of those printed, for some of them only. Prints the load of the machine too, which takes part in the result.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Prefect reads its environment when it is imported, which the tests' modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="benchmark-prefect-")
os.environ["DO_NOT_TRACK"] = "1"

from deployments.serve_database import CONNECTION
from tests.support.places import reachable_directory
from tests.support.prefect_hosts import server_database
from tests.support.prefect_lab import API_LOGIN, prefect_lab
from tests.support.prefect_load import write_at_once
from tests.support.prefect_serving import serving

Login = tuple[str, str]
SECONDS, SLOWEST_TARGET = 200.0, 10.0


@contextmanager
def own_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prefect-load-", dir="/var/tmp") as home:
        yield Path(home)


@contextmanager
def of_the_unit() -> Iterator[tuple[str, Login]]:
    with own_home() as home, prefect_lab(home) as lab:
        yield lab.address, API_LOGIN


@contextmanager
def of_the_unit_on_postgresql() -> Iterator[tuple[str, Login]]:
    with own_home() as home, server_database() as (_, url), prefect_lab(home, **{CONNECTION: url}) as lab:
        yield lab.address, API_LOGIN


@contextmanager
def of_serve(*options: str) -> Iterator[tuple[str, Login]]:
    with reachable_directory() as home, serving(home, *options) as running:
        user, _, password = running.login.partition(":")
        yield f"{running.address}/api", (user, password)
        running.process.send_signal(signal.SIGTERM)  # it stops its cluster
        running.process.wait(120)


def of_serve_on_postgresql() -> AbstractContextManager[tuple[str, Login]]:
    return of_serve("--database", "postgresql")


SERVERS: dict[str, Callable[[], AbstractContextManager[tuple[str, Login]]]] = {
    "unit": of_the_unit,
    "serve": of_serve,
    "unit-postgresql": of_the_unit_on_postgresql,
    "serve-postgresql": of_serve_on_postgresql,
}


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else SECONDS
    missed = 0
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)
    for name in arguments[1:] or SERVERS:
        with SERVERS[name]() as (address, login):
            before = os.getloadavg()[0]
            load = write_at_once(address, login, seconds)
        good = not load.bad and load.slowest <= SLOWEST_TARGET
        missed += not good
        busy = f"load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after"
        print(f"{name}: {load}; {busy}{'' if good else ' MISSED'}", flush=True)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
