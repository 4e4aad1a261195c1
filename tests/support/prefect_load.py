"""Writers that use a Prefect server as runs do: runs, states, logs, artifacts. Each answer is timed."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

LIMIT_SECONDS = 120.0
LOG_LINES = 50


@dataclass
class Load:
    """What a server answered: seconds of each request, and what was wrong with how many."""

    seconds: list[float] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)

    @property
    def slowest(self) -> float:
        return max(self.seconds, default=0.0)

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {what}" for what, count in self.bad.items()) or "none"
        middle = sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0
        return (
            f"{len(self.seconds)} requests, bad: {wrong}, median {middle:.2f} s, slowest {self.slowest:.1f} s"
        )


@dataclass(frozen=True)
class Writer:
    """A client that writes runs."""

    client: httpx.Client
    load: Load
    name: str

    def work(self, until: float) -> None:
        """One run after the other until then."""
        self.write(itertools.takewhile(lambda _: time.monotonic() < until, itertools.count()))

    def write(self, numbers: Iterator[int]) -> None:
        """A run for each number, as long as there are some."""
        flow = self.ask("POST", "/flows/", {"name": "load"}).get("id")
        for number in numbers:
            self.run_once(flow, f"{self.name} {number}")

    def run_once(self, flow: object, name: str) -> None:
        run = self.ask("POST", "/flow_runs/", {"flow_id": flow, "name": name}).get("id")
        self.set_state(run, "RUNNING")
        now = datetime.now(UTC).isoformat()
        line = {"name": "load", "level": 20, "message": "x" * 200, "timestamp": now, "flow_run_id": run}
        self.ask("POST", "/logs/", [line] * LOG_LINES)
        wanted = {"key": f"load-{self.name}", "type": "progress", "data": 1.0, "flow_run_id": run}
        artifact = self.ask("POST", "/artifacts/", wanted).get("id")
        self.ask("PATCH", f"/artifacts/{artifact}", {"data": 100.0})
        self.set_state(run, "COMPLETED")

    def set_state(self, run: object, kind: str) -> None:
        said = self.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": kind}})
        if said and said.get("status") != "ACCEPT":
            self.load.bad[f"state not accepted ({said.get('status')})"] += 1

    def ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        began = time.monotonic()
        try:
            answer = self.client.request(method, path, json=body)
        except httpx.HTTPError as error:
            self.load.bad[type(error).__name__] += 1
            return {}
        finally:
            self.load.seconds.append(time.monotonic() - began)
        if not answer.is_success:
            self.load.bad[f"HTTP {answer.status_code}"] += 1
            return {}
        found = answer.json() if answer.content else {}
        return found if isinstance(found, dict) else {}


def write_at_once(address: str, login: tuple[str, str], seconds: float, writers: int = 6) -> Load:
    """Let so many writers work for so long; no request is tried twice."""
    until = time.monotonic() + seconds
    return _together(address, login, writers, lambda writer: writer.work(until))


def write_runs(address: str, login: tuple[str, str], runs: int, writers: int = 6) -> Load:
    """Have so many runs written, by as many writers at once."""
    left = iter(range(runs))
    return _together(address, login, writers, lambda writer: writer.write(left))


def _together(address: str, login: tuple[str, str], writers: int, work: Callable[[Writer], None]) -> Load:
    load = Load()

    def write(number: int) -> None:
        with httpx.Client(base_url=address, auth=login, timeout=LIMIT_SECONDS) as client:
            work(Writer(client, load, f"writer-{number}"))

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    return load
