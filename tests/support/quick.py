"""What keeps `make test-quick` quick: a test without the mark `slow` that is not quick fails, and says why.

A quick test starts no server, does not sleep, and needs little of the processor. How long it takes is no
measure: the machine may be busy.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SLEEP_SECONDS = 0.5
"""At once; short sleeps between two looks at something are as many as the machine is busy."""
PROCESSOR_SECONDS = 10.0
"""Its own and its children's. A flow in a process of its own, which starts a Prefect server, needs more."""
SERVERS = {"initdb", "postgres", "prefect", "uvicorn"}
STARTERS = {"pg_ctl", "alfresco.sh"}
ADVICE = "mark it with @pytest.mark.slow; a fixture that does it requests the fixture `slow`"


class _Watch:
    """What the quick test does that is running now, if one is."""

    def __init__(self) -> None:
        self.active = False
        self.sleep_really = time.sleep

    def audit(self, event: str, arguments: Sequence[Any]) -> None:
        """An audit hook of Python, which tells of every program that this process starts."""
        if self.active and event == "subprocess.Popen" and (server := _server_in(arguments[1])):
            self.fail(f"starts {server}")

    def sleep(self, seconds: float) -> None:
        if self.active and seconds > SLEEP_SECONDS:
            self.fail(f"sleeps for {seconds:g} s")
        self.sleep_really(seconds)

    def fail(self, what: str) -> None:
        self.active = False
        pytest.fail(f"not quick: it {what}; {ADVICE}")


_watch = _Watch()


def begin() -> None:
    """Watch the quick tests of this process from now on."""
    sys.addaudithook(_watch.audit)
    time.sleep = _watch.sleep


@contextmanager
def watched() -> Iterator[None]:
    """Around a quick test and what is set up for it. Fails it as soon as it is not quick."""
    before, _watch.active = _processor_seconds(), True
    try:
        yield
        used = _processor_seconds() - before
        if _watch.active and used > PROCESSOR_SECONDS:
            _watch.fail(f"needs {used:.0f} s of the processor")
    finally:
        _watch.active = False


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def _server_in(argv: object) -> str:
    """The server that a command starts or makes; empty when it does neither."""
    if not isinstance(argv, list | tuple) or {"--help", "--version"} & set(argv):
        return ""
    words = [os.fsdecode(word) for word in argv]
    names = [Path(word).name for word in words if " " not in word]
    started = [name for name in names if name in SERVERS or (name in STARTERS and "start" in names)]
    return started[0] if started else ""
