"""Random lives of a host, for property tests of restore plans: commits, base backups, snapshots, recoveries.

The life is the truth: it knows every commit with its time, timeline and position, and when the host was on
which timeline. Times are minutes of the made-up day of restore_worlds.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from alfresco_backup.postgres.timelines import TimelinePath, parse_history, path_to
from alfresco_backup.postgres.wal_files import Lsn, Segment, parse_segment_name
from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.restore.planning.facts import LiveServer, SavedWal
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.wal.chain import WalMap, make_map
from tests.support.restore_worlds import BACKUP, OWNER, SIZE, World, at, base, minute, snapshot

STEP = 1000


@dataclass(frozen=True)
class Commit:
    """One transaction: when, and where in the WAL."""

    time: float
    timeline: int
    lsn: int


@dataclass(frozen=True)
class Period:
    """From `start` on the host lived on a timeline."""

    start: float
    timeline: int


@dataclass
class Life:
    """A host that lives. `loses`: the chance that a finished segment never reaches the archive.

    `undoes`: the chance that a recovery is undone instead of another one being made. `before` are the lives
    that undoing leads back to, `down` the times at which nothing ran.
    """

    dice: random.Random
    loses: float = 0.0
    undoes: float = 0.3
    now: float = 1.0
    timeline: int = 1
    lsn: int = SIZE + 100
    commits: list[Commit] = field(default_factory=list)
    periods: list[Period] = field(default_factory=lambda: [Period(0.0, 1)])
    bases: list[BaseBackup] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    histories: dict[int, str] = field(default_factory=dict)
    promoted: dict[int, float] = field(default_factory=dict)
    written: dict[Segment, float] = field(default_factory=dict)
    archived: set[Segment] = field(default_factory=set)
    saved: dict[Segment, float] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)
    before: list[int] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)

    def live_on(self, steps: int) -> "Life":
        """Let it live for a while; the first thing it does is a base backup."""
        self.back_up()
        deeds = (
            [self.commit] * 8 + [self.switch] * 4 + [self.take_snapshot] * 2 + [self.back_up] + [self.recover]
        )
        for _ in range(steps):
            self.now += self.dice.uniform(0.1, 1.0)
            self.dice.choice(deeds)()
        return self

    def commit(self) -> None:
        self.lsn += STEP
        self.commits.append(Commit(self.now, self.timeline, self.lsn))
        self._touch()

    def switch(self) -> None:
        """Finish the current segment and archive it."""
        segment = self._segment()
        if segment not in self.written:
            return
        self.written[segment] = self.now
        if self.dice.random() >= self.loses:
            self.archived.add(segment)
        self.lsn = (segment.number + 1) * SIZE + 100
        self.now += 0.01

    def back_up(self) -> None:
        start = self.lsn
        self.lsn += STEP
        self._touch()
        self.now += self.dice.uniform(0.1, 1.5)
        made = base(1, timeline=self.timeline)
        fields = {
            "stamp": f"20261122T{len(self.bases):06d}Z",
            "start_lsn": Lsn(start),
            "stop_lsn": Lsn(self.lsn),
            "started_at": at(self.now - 0.1),
            "stopped_at": at(self.now),
        }
        self.bases.append(BaseBackup(**{**vars(made), **fields}))
        self.switch()

    def take_snapshot(self) -> None:
        self.snapshots.append(snapshot(self.now, minutes=self.dice.uniform(0.1, 3)))

    def recover(self) -> None:
        """Go back to a random moment, or undo the last time that was done."""
        if self.before and self.dice.random() < self.undoes:
            return self._undo()
        target = self.dice.uniform(minute(self.bases[0].stopped_at) + 0.01, self.now)
        old = self.lived_at(target)
        if old in self.undone:
            return None
        later = [item for item in self.along(old) if item.time > target]
        end = self.lsn if old == self.timeline else self.left[old]
        position = later[0].lsn - STEP // 2 if later else end + 8
        if not any(self._leads_to(item, old, position, target) for item in self.bases):
            return None
        reason = "no recovery target specified"
        if later:
            reason = f"before {at(later[0].time).isoformat(sep=' ')}"
        self._shut_down()
        self._save_wal()
        self.before.append(self.timeline)
        new = max([1, *self.histories]) + 1
        parents = [span for span in self.path(old).spans if int(span.start) < position]
        lines = [f"{span.timeline}\t{span.end}\t{span.reason}\n" for span in parents[:-1]]
        lines.append(f"{parents[-1].timeline}\t{Lsn(position)}\t{reason}\n")
        self.histories[new] = "".join(lines)
        self._go_down()
        self.promoted[new] = self.now
        self.timeline, self.lsn = new, position + STEP // 4
        self.periods.append(Period(self.now, new))
        self._touch()
        return None

    def _undo(self) -> None:
        self._shut_down()
        self.undone.add(self.timeline)
        before = self.before.pop()
        self._go_down()
        self.timeline, self.lsn = before, self.left[before]
        self.periods.append(Period(self.now, before))
        self._touch()

    def _leads_to(self, made: BaseBackup, timeline: int, position: int, target: float) -> bool:
        ended = minute(made.stopped_at) < target and int(made.stop_lsn) < position
        return ended and not self.path(timeline).why_not(made.timeline, made.start_lsn, made.stop_lsn)

    def _shut_down(self) -> None:
        """A server that stops writes a checkpoint."""
        self.lsn += STEP // 10
        self._touch()
        self.left[self.timeline] = self.lsn

    def _go_down(self) -> None:
        self.down.append((self.now, self.now + 0.5))
        self.now += 0.5

    def _save_wal(self) -> None:
        waiting = {item: when for item, when in self.written.items() if item.timeline == self.timeline}
        self.saved |= {item: when for item, when in waiting.items() if item not in self.archived}

    def _segment(self) -> Segment:
        return Segment(self.timeline, self.lsn // SIZE)

    def _touch(self) -> None:
        self.written[self._segment()] = self.now

    def path(self, timeline: int) -> TimelinePath:
        known = {number: parse_history(number, text) for number, text in self.histories.items()}
        return path_to(timeline, known)

    def lived_at(self, moment: float) -> int:
        return [period.timeline for period in self.periods if period.start <= moment][-1]

    def along(self, timeline: int) -> list[Commit]:
        """The commits on the way to a timeline's end, in the order of the WAL."""
        path = self.path(timeline)
        found = [
            item
            for item in self.commits
            for span in path.spans
            if item.timeline == span.timeline
            and int(span.start) <= item.lsn
            and (span.end is None or item.lsn < int(span.end))
        ]
        return sorted(found, key=lambda item: item.lsn)

    def truth(self, moment: float) -> list[Commit]:
        """What the database held at a moment."""
        return [item for item in self.along(self.lived_at(moment)) if item.time <= moment]

    def world(self, *, live: bool, saved: bool) -> World:
        """What is left of it: repository and host."""
        facts: dict[str, object] = {}
        if saved and self.saved:
            facts["saved_wal"] = tuple(self._saved_folders())
        server = None
        if live:
            own = {item: when for item, when in self.written.items() if item.timeline == self.timeline}
            newest = sorted(own, key=lambda item: item.number)[-3:]
            waiting = [item for item in own if item not in self.archived]
            server = LiveServer(
                150000, True, OWNER, self._map({item: own[item] for item in {*newest, *waiting}})
            )
        archive = self._map({item: self.written[item] for item in self.archived})
        return World(
            self.bases, archive, self.snapshots, server, now=self.now + 0.1, full_sets=False, facts=facts
        )

    def _saved_folders(self) -> Iterator[SavedWal]:
        for timeline in sorted({item.timeline for item in self.saved}):
            held = {item: moment for item, moment in self.saved.items() if item.timeline == timeline}
            yield SavedWal(BACKUP / f"saved-{timeline}", self._map(held))

    def _map(self, segments: dict[Segment, float]) -> WalMap:
        usable = {item: at(when) for item, when in segments.items()}
        paths = {number: parse_history(number, text) for number, text in self.histories.items()}
        return make_map(OWNER, SIZE, usable, paths, {key: at(when) for key, when in self.promoted.items()})

    def recovered(self, plan: RestorePlan, world: World) -> list[Commit]:
        """What PostgreSQL comes to when it carries out a plan: it reads on until it finds a later commit."""
        database = plan.database
        available = {Segment(line, number) for line, times in world.wal.times.items() for number in times}
        for folder in [item.wal for item in world.host.saved_wal] + ([world.live.wal] if world.live else []):
            available |= {Segment(line, number) for line, times in folder.times.items() for number in times}
        path = self.path(database.timeline)
        number = parse_segment_name(database.first_segment, SIZE).number
        while path.segment(number, SIZE) in available:
            number += 1
        held = []
        for item in self.along(database.timeline):
            if item.lsn >= number * SIZE:
                break
            if database.target.kind == "time" and item.time > minute(database.target.time):
                return held
            held.append(item)
        assert database.target.kind == "end-of-wal" or database.target.end_of_wal_suffices
        return held
