"""Whether a Prefect server stands six clients that write for minutes: bad answers, and the slowest.

    python -m benchmarks.prefect_load [SECONDS]

Once with the server of the unit prefect-server, its program and variables, once with that of `serve`, which
has a worker beside it. Targets: no bad answer, none slower than 10 s. The stock server (3.8.8, SQLite): 114
of 334 requests bad, the slowest 61.9 s. Prints the load of the machine too, which takes part in the result.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Prefect reads its environment when it is imported, which the tests' modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="benchmark-prefect-")
os.environ["DO_NOT_TRACK"] = "1"

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
def of_serve() -> Iterator[tuple[str, Login]]:
    with own_home() as home, serving(home) as running:
        user, _, password = running.login.partition(":")
        yield f"{running.address}/api", (user, password)


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else SECONDS
    missed = 0
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)
    for name, server in (("unit", of_the_unit), ("serve", of_serve)):
        with server() as (address, login):
            before = os.getloadavg()[0]
            load = write_at_once(address, login, seconds)
        good = not load.bad and load.slowest <= SLOWEST_TARGET
        missed += not good
        busy = f"load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after"
        print(f"{name}: {load}; {busy}{'' if good else ' MISSED'}", flush=True)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
