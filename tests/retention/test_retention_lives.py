"""Random lives of a host, on disk: what could be restored before a run of retention can be afterwards.

Weeks pass hour by hour, with failed backups, clocks that jump, recoveries, drills, pins, disks that are not
mounted for a while and a host that was off. What can be restored is worked out from the life itself: what was
written when by the true time, and whether its files are there. No code of the program is asked for that. A
failure names its seed; `RETENTION_LIVES=FROM-TO` tries others.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import Proof, write_proof
from alfresco_backup.errors import BackupError
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.repository.pins import pin_set, unpin_set
from alfresco_backup.retention.apply import carry_out, make_retention_plan, note_holds, with_holds
from alfresco_backup.retention.holds import accept_hold, open_holds, read_holds
from alfresco_backup.times import make_stamp, parse_stamp
from tests.support.catalogues import NOW, SEGMENT, position, segment_name
from tests.support.repository_on_disk import DiskRepository

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RIGHT = timedelta()
COMPLETE = ("base", "content", "configuration")
FROM, TO = map(int, os.environ.get("RETENTION_LIVES", "0-10").split("-"))
QUICK = 1
LIVES = [
    pytest.param(seed, marks=() if seed < FROM + QUICK else pytest.mark.slow) for seed in range(FROM, TO)
]


@dataclass(frozen=True)
class Made:
    """A set as it was made, by the true time. `rotten`: a drill would find it damaged."""

    stamp: str
    at: datetime
    timeline: int
    start: int
    stop: int
    parts: tuple[Path, ...]
    complete: bool
    rotten: bool


@dataclass
class Life:
    """One host. `ahead` is how far its clock is from the true time `now`."""

    disk: DiskRepository
    chance: random.Random
    patch: pytest.MonkeyPatch
    now: datetime
    window: timedelta
    redundancy: int
    ahead: timedelta = RIGHT
    wrong_until: datetime = NOW
    lag: timedelta = RIGHT
    timeline: int = 1
    branches: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {1: []})
    """For each timeline the ones before it, and the segment in which each was left."""
    wal: dict[tuple[int, int], datetime] = field(default_factory=dict)
    sets: list[Made] = field(default_factory=list)
    verified: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def clock(self) -> datetime:
        return self.now + self.ahead

    @property
    def stands(self) -> Lsn:
        return position(self.now - self.lag)

    # What can be restored, by what was done and whether it is there.

    def file(self, timeline: int, number: int) -> Path:
        return self.disk.repository.wal / segment_name(timeline, Lsn(number * SEGMENT))

    def holder(self, timeline: int, number: int) -> int:
        """The timeline whose file recovery along a timeline reads for a segment."""
        return next((each for each, left in self.branches[timeline] if number < left), timeline)

    def reachable(self) -> dict[tuple[int, int], int]:
        """For every segment of the window that recovery can replay: from which byte on it can stop there."""
        found: dict[tuple[int, int], int] = {}
        for timeline in self.branches:
            leads = dict(self.branches[timeline]) | {timeline: 1 << 60}
            for made in self.sets:
                number = made.start // SEGMENT
                if leads.get(made.timeline, 0) <= made.stop // SEGMENT or not made.parts[0].is_dir():
                    continue
                while self.file(self.holder(timeline, number), number).exists():
                    key = (timeline, number)
                    written = self.wal.get((self.holder(timeline, number), number))
                    if written is not None and written >= self.now - self.window:
                        lowest = max(made.stop, number * SEGMENT)
                        found[key] = min(found.get(key, lowest), lowest)
                    number += 1
        return found

    def whole(self, made: Made) -> bool:
        """Whether a set restores to its own end, its documents and configuration included."""
        numbers = range(made.start // SEGMENT, made.stop // SEGMENT + 1)
        trees = [path for part in made.parts for path in (part, *part.rglob("*"))]
        return (
            all(path.exists() for path in trees)
            and all(part.exists() and (part.name.startswith("base-") or metadata_of(part).exists())
                    for part in made.parts)
            and all(self.file(made.timeline, number).exists() for number in numbers)
        )  # fmt: skip

    def treasures(self) -> dict[str, Made]:
        """The sets that must outlive any retention as they are, and why."""
        whole = [made for made in self.sets if made.complete and self.whole(made)]
        sound = [made for made in whole if made.stamp not in self.damaged]
        verified = [made for made in whole if made.stamp in self.verified]
        found = {"newest": sound[-1:], "newest verified": verified[-1:]}
        found["pinned"] = [made for made in whole if made.stamp in self.pinned]
        return {f"{why} {made.stamp}": made for why, each in found.items() for made in each}

    @contextmanager
    def nothing_lost(self, what: str) -> Iterator[None]:
        before, kept = self.reachable(), self.treasures()
        yield
        after = self.reachable()
        lost = {key: byte for key, byte in before.items() if after.get(key, 1 << 62) > byte}
        assert not lost, f"{what} at {self.now}, clock {self.clock}: {len(lost)} segments, first {min(lost)}"
        gone = [why for why, made in kept.items() if not self.whole(made)]
        assert not gone, f"{what} at {self.now}, clock {self.clock}: {gone}"

    # What happens.

    def hour(self) -> None:
        """The server archives a segment, or not."""
        self.now += HOUR
        if self.now >= self.wrong_until:
            self.ahead = RIGHT
        if self.chance.random() > 0.005:
            self.archive(self.stands.segment(SEGMENT))

    def archive(self, number: int) -> None:
        path = self.file(self.timeline, number)
        path.write_bytes(b"segment" * 10)
        self.disk.date(path, self.clock)
        self.wal[(self.timeline, number)] = self.now

    def backup(self) -> None:
        """A run, and its retention where it succeeds. It is refused where the clock is behind the sets."""
        if any(parse_stamp(made.stamp) >= self.clock for made in self.there()):
            self.happened["refused"] += 1
            return
        stamp, stands = make_stamp(self.clock), self.stands
        outcome = self.chance.choice([COMPLETE] * 7 + [("base",), ("base", "content"), ("content",), ()])
        parts: list[Path] = []
        if "base" in outcome:
            base = self.disk.base(parse_stamp(stamp), timeline=self.timeline, start=stands)
            parts.append(base.path)
            for number in {base.start_lsn.segment(SEGMENT), base.stop_lsn.segment(SEGMENT)}:
                self.archive(number)
            note = self.disk.repository.wal / f"{base.start_wal}.{int(base.start_lsn) % SEGMENT:08X}.backup"
            note.write_text("as PostgreSQL notes each base backup\n")
            self.disk.date(note, self.clock)
        if "content" in outcome:
            copied = (f"2026/11/{self.chance.randint(1, 9)}",) if self.disk.versions else ()
            parts.append(
                self.disk.snapshot(self.clock + HOUR / 2 + timedelta(seconds=1), stamp, copied=copied).path
            )
        if "configuration" in outcome:
            parts.append(self.disk.configuration(self.clock + HOUR / 2, stamp).path)
        if "base" in outcome:
            start, stop = int(base.start_lsn), int(base.stop_lsn)
            rotten = self.chance.random() < 0.2
            made = Made(
                stamp, self.now, self.timeline, start, stop, tuple(parts), outcome == COMPLETE, rotten
            )
            self.sets.append(made)
        if outcome in (COMPLETE, ("content",)):
            self.retain(stamp)

    def there(self) -> list[Made]:
        return [made for made in self.sets if made.parts[0].is_dir()]

    def retain(self, running: str = "") -> None:
        settings = self.disk.settings(
            retention_days=self.window.days, minimum_redundancy=self.redundancy, clock_gap_days=3
        )
        self.patch.setattr("alfresco_backup.retention.apply.file_system_time", lambda _: self.clock)
        with self.nothing_lost(f"retention of {running or 'a person'}"):
            try:
                plan = make_retention_plan(settings, running, now=self.clock)
                plan = with_holds(plan, settings, running, None)
                if plan.holds:
                    note_holds(plan)
                    self.happened["held"] += 1
                else:
                    self.happened["removed"] += sum(carry_out(plan).counts.values())
            except BackupError:
                self.happened["refused to remove"] += 1

    def recover(self) -> None:
        """A restore to some hours ago: a new timeline branches off where the target was."""
        if len(self.wal) < 40 or self.timeline > 3:
            return
        back = timedelta(hours=self.chance.randint(1, 20))
        left = position(self.now - self.lag - back)
        entries = self.branches[self.timeline]
        if entries and left.segment(SEGMENT) <= entries[-1][1] + 1:
            return
        self.lag += back
        self.branches[self.timeline + 1] = [*entries, (self.timeline, left.segment(SEGMENT))]
        self.timeline += 1
        lines = [
            f"{each}\t{Lsn(number * SEGMENT)}\tno reason\n" for each, number in self.branches[self.timeline]
        ]
        history = self.disk.repository.wal / f"{self.timeline:08X}.history"
        history.write_text("".join(lines))
        self.disk.date(history, self.clock)
        self.archive(left.segment(SEGMENT))
        self.happened["recovery"] += 1

    def drill(self) -> None:
        made = self.chance.choice([*[each for each in self.there() if each.complete], None])
        if made is None:
            return
        findings = ("page 7 is damaged",) if made.rotten else ()
        write_proof(made.parts[0], Proof(made.stamp, self.clock, None, 60.0, 10, 0, findings))
        (self.damaged if made.rotten else self.verified).add(made.stamp)
        self.happened["damaged" if made.rotten else "verified"] += 1

    def pin(self) -> None:
        there = [made for made in self.there() if made.stamp not in self.pinned]
        if self.pinned and self.chance.random() < 0.5:
            stamp = self.chance.choice(sorted(self.pinned))
            unpin_set(self.disk.repository, stamp)
            self.pinned.remove(stamp)
        elif there and self.ahead == RIGHT:
            made = self.chance.choice(there)
            if parse_stamp(made.stamp) < self.clock:
                pin_set(self.disk.repository, made.stamp, "before the upgrade", self.clock)
                self.pinned.add(made.stamp)

    def lose_a_mount(self) -> None:
        """Retention by hand while a disk is not mounted: its place is an empty folder."""
        repository = self.disk.repository
        place = self.chance.choice([repository.postgres, repository.contentstore.root, repository.wal])
        if not place.is_dir():
            return
        with self.nothing_lost(f"retention without {place.name}"):
            away = place.rename(place.with_name("away"))
            place.mkdir()
            inner, self.nothing_lost = self.nothing_lost, lambda _: _no_check()  # type: ignore[method-assign]
            self.retain()
            self.nothing_lost = inner  # type: ignore[method-assign]
            place.rmdir()
            away.rename(place)
        self.happened["mount"] += 1

    def jump(self) -> None:
        """The clock is wrong for some hours: far ahead, or behind."""
        if self.ahead == RIGHT:
            self.ahead = (
                self.chance.choice([4, 12, 40, 1700]) * DAY if self.chance.random() < 0.7 else -2 * DAY
            )
            self.wrong_until = self.now + timedelta(hours=self.chance.randint(1, 40))
            self.happened["jump"] += 1

    def stand_still(self) -> None:
        self.now += timedelta(days=self.chance.randint(1, 9))
        self.happened["off"] += 1

    def person(self) -> None:
        """With the clock right, holds are accepted, and what is dated in the future is moved away."""
        if self.ahead != RIGHT:
            return
        repository = self.disk.repository
        for hold in open_holds(read_holds(repository), self.clock):
            accept_hold(repository, hold.run, "the clock is right", self.clock)
        future = [made for made in self.there() if parse_stamp(made.stamp) > self.clock]
        for path in (part for made in future for part in made.parts):
            moved = repository.root.with_name("moved")
            moved.mkdir(exist_ok=True)
            for each in (path, metadata_of(path)):
                if each.exists():
                    each.rename(moved / each.name)
        for path in sorted(repository.contentstore.root.glob("contentstore-*Z")):
            if parse_stamp(path.name.removeprefix("contentstore-")) > self.clock:
                path.rename(moved_to(repository.root, path.name))
                metadata_of(path).rename(moved_to(repository.root, metadata_of(path).name))
        self.sets = [made for made in self.sets if made not in future]

    def live(self, days: int) -> None:
        daily = (
            self.recover,
            self.drill,
            self.drill,
            self.pin,
            self.lose_a_mount,
            self.jump,
            self.stand_still,
        )
        weights = (1, 4, 4, 2, 2, 2, 1)
        for _ in range(days):
            run_at = self.chance.randrange(24)
            for hour in range(24):
                self.hour()
                if hour == run_at or self.chance.random() < 1 / 40:
                    self.backup()
            if self.chance.random() < 0.6:
                self.chance.choices(daily, weights)[0]()
            if self.chance.random() < 0.3:
                self.person()


@contextmanager
def _no_check() -> Iterator[None]:
    yield


def moved_to(root: Path, name: str) -> Path:
    folder = root.with_name("moved")
    folder.mkdir(exist_ok=True)
    return folder / name


def a_life(seed: int, folder: Path, patch: pytest.MonkeyPatch) -> Life:
    chance = random.Random(seed)
    started = NOW - timedelta(days=chance.randint(40, 60))
    disk = DiskRepository(folder / "backup", started)
    window = timedelta(days=chance.choice([1, 3, 7]))
    return Life(disk, chance, patch, started, window, chance.randint(1, 3))


@pytest.mark.parametrize("seed", LIVES)
def test_after_any_run_what_was_restorable_in_the_window_is_restorable(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"seed {seed}")  # noqa: T201 - for who reads a failure
    life = a_life(seed, tmp_path, monkeypatch)
    life.live(days=6 if seed < FROM + QUICK else 40)
    print(dict(life.happened))  # noqa: T201


@pytest.mark.slow
def test_the_lives_are_not_trivial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hold for a retention that removes nothing, and for a clock that is always right."""
    happened: Counter[str] = Counter()
    for seed in range(6):
        life = a_life(seed, tmp_path / str(seed), monkeypatch)
        life.live(days=40)
        happened += life.happened
    for what, least in (("removed", 500), ("held", 3), ("recovery", 2), ("damaged", 5), ("verified", 15)):
        assert happened[what] >= least, (what, happened)
    assert happened["mount"] >= 5 and happened["jump"] >= 5, happened
