"""What `make bench-peers` found: records, their table as markdown and JSON, their plot as SVG."""

import json
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Point = tuple[float, float]
STARTS = "starting"
"""The work of rows that say what a process costs before it does anything."""
COLOURS = ("#1b7837", "#762a83", "#b35806", "#2166ac", "#c51b7d", "#777777", "#01665e")
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 250, 20, 50, 860, 460


@dataclass(frozen=True)
class Timing:
    """One run of a process: clock and processor seconds; `inner` is the step within it that does the work.

    `parts`: seconds of what was measured within it, by name.
    """

    seconds: float
    cpu: float
    inner: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """One kind of work done by one tool, as often as it was measured.

    `size`: the files or bytes it was asked for. `note`: why it was left out; `broke`: it was here, and
    failed. `floor`: no tool to use instead, but what the work cannot do without.
    """

    work: str
    tool: str
    timings: list[Timing] = field(default_factory=list)
    ours: bool = False
    folders: int = 0
    note: str = ""
    broke: bool = False
    size: int = 0
    floor: bool = False

    @property
    def median(self) -> float:
        return statistics.median(timing.seconds for timing in self.timings)

    @property
    def cpu(self) -> float:
        return statistics.median(timing.cpu for timing in self.timings)

    @property
    def inner(self) -> float | None:
        found = [timing.inner for timing in self.timings if timing.inner is not None]
        return statistics.median(found) if found else None

    def parts(self) -> dict[str, float]:
        """The median of each part that was measured."""
        names = dict.fromkeys(name for timing in self.timings for name in timing.parts)
        return {
            name: statistics.median(timing.parts.get(name, 0.0) for timing in self.timings) for name in names
        }

    def spread(self) -> str:
        seconds = [timing.seconds for timing in self.timings]
        return f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "once"


@dataclass(frozen=True)
class Target:
    """At most `share` of the peer's time plus `more` seconds; without a peer `more` seconds alone.

    `size`: of what it was set for (files, bytes); elsewhere it is not judged. `unit` is said with it.
    """

    work: str
    tool: str
    peer: str
    share: float
    more: float = 0.0
    size: int = 0
    unit: str = "files"

    def verdict(self, rows: Sequence[Row]) -> str:
        """Met or missed and why, or why that is not said here."""
        found = {row.tool: row for row in rows if row.work == self.work and row.timings}
        if self.tool not in found or (self.peer and self.peer not in found):
            return "not measured"
        ours = found[self.tool]
        theirs = found[self.peer].median if self.peer else 0.0
        ratio = f"{theirs / ours.median:.1f} times as fast; " if self.peer else f"{ours.median:.2f} s; "
        if self.size and not 0.95 <= ours.size / self.size <= 1.2:
            return f"{ratio}not judged at this size, the target is of {self.size:,} {self.unit}"
        if ours.median <= theirs * self.share + self.more:
            return f"{ratio}met"
        return f"{ratio}missed: {reason(ours, rows)}"

    def words(self) -> str:
        if not self.peer:
            return f"at most {self.more:g} s"
        if self.more:
            return f"at most {self.more:g} s more than {self.peer}"
        return f"at least {1 / self.share:.3g} times as fast as {self.peer}"


def reason(missed: Row, rows: Sequence[Row]) -> str:
    """Where the time of a row goes and what it cannot be below, from what was measured in this run."""
    said = [f"of {missed.median:.2f} s"]
    if missed.inner is not None:
        said.append(f"the step itself takes {missed.inner:.2f} s")
    said += [f"{name} {seconds:.2f} s" for name, seconds in missed.parts().items()]
    floors = [row for row in rows if row.floor and row.timings and row.work in (missed.work, STARTS)]
    alone = [f"{row.tool} {row.median:.2f} s" for row in floors]
    if alone:
        said.append(f"alone take {', '.join(alone)}")
    return ", ".join(said).replace("s, ", "s: ", 1)


def table(rows: Sequence[Row], targets: Sequence[Target]) -> str:
    """One table for each kind of work, its targets below it."""
    parts: list[str] = []
    for work in dict.fromkeys(row.work for row in rows):
        lines = ["| | median | least to most | processor | inner step |", "|---|---|---|---|---|"]
        for row in (row for row in rows if row.work == work):
            if not row.timings:
                what = "failed" if row.broke else "left out"
                lines.append(f"| {row.tool} | {what}: {row.note.replace('|', '/')} | | | |")
                continue
            inner = f"{row.inner:.2f} s" if row.inner is not None else ""
            name = f"**{row.tool}**" if row.ours else row.tool
            lines.append(f"| {name} | {row.median:.2f} s | {row.spread()} | {row.cpu:.2f} s | {inner} |")
        lines.append("")
        lines += [
            f"- {target.tool}, target: {target.words()}. {target.verdict(rows)}."
            for target in targets
            if target.work == work
        ]
        parts.append(f"## {work}\n\n" + "\n".join(lines).rstrip())
    return "\n\n".join(parts)


def as_json(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    return json.dumps({"schema": 1, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=1)


def machine_facts(directory: Path) -> dict[str, str]:
    """Cores, memory, kernel, file system; nothing that tells whose machine it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = {mount[1]: mount[2] for mount in mounts}
    kinds = [kind for path, kind in places.items() if _device(Path(path)) == directory.stat().st_dev]
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": os.uname().release.split("-")[0],
        "file system": kinds[-1] if kinds else "unknown",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def _device(path: Path) -> int:
    try:
        return path.stat().st_dev
    except OSError:
        return -1


def plot(series: Mapping[str, Sequence[Point]]) -> str:
    """Seconds against folders, both logarithmic; a line for each tool, named at its end."""
    points = [point for line in series.values() for point in line]
    x = _scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y = _scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    parts += [_tick(x(value), HEIGHT - BOTTOM + 18, f"{value:,.0f}", "middle") for value in _ticks(points, 0)]
    parts += [_tick(LEFT - 8, y(value) + 4, f"{value:g} s", "end") for value in _ticks(points, 1)]
    parts.append(_tick((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "folders of an unchanged store", "middle"))
    for number, (tool, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(at):.1f},{y(seconds):.1f}" for at, seconds in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(at):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for at, s in line]
        last = TOP + 14 + 18 * number
        parts.append(f'<text x="{WIDTH - RIGHT + 20}" y="{last}" fill="{colour}">{tool}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333">{text}</text>'


def _ticks(points: Sequence[Point], axis: int) -> list[float]:
    values = [point[axis] for point in points]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in ticks if min(values) <= tick <= max(values)]


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return lambda value: start + (math.log10(value) - low) / ((high - low) or 1) * (end - start)
