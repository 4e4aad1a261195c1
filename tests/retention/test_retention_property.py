"""Random repositories with recoveries, failures, upgrades and lost WAL: what must hold for every plan.

What is reachable is worked out here by other means than in the planner: for each hour of each timeline,
whether a base and every WAL segment on the way exist.
"""

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.postgres.timelines import TimelinePath, parse_history, path_to
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import RetentionPlan, RetentionPolicy
from alfresco_backup.times import make_stamp
from tests.support.catalogues import (
    NOW,
    REPOSITORY,
    SEGMENT,
    Parts,
    a_snapshot,
    a_wal_file,
    position,
    segment_name,
)

HOUR = timedelta(hours=1)
QUICK = 15
"""So many worlds of each hundred are tried by `make test-quick`."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Moment:
    """A moment of a timeline, and where that timeline's WAL stood then."""

    cluster: str
    timeline: int
    at: datetime
    stands: Lsn


@dataclass(frozen=True)
class World:
    parts: Parts
    moments: tuple[Moment, ...]
    paths: dict[int, TimelinePath]
    policy: RetentionPolicy


def a_world(seed: int) -> World:
    """Up to forty days of a host's life: hours pass, runs succeed or fail, recoveries go back in time."""
    chance = random.Random(seed)
    parts, moments, paths = Parts(), [], {}
    cluster, timeline, lag, entries = "A", 1, timedelta(), ""
    gone = chance.choice([0.0, 0.0, 0.01, 0.1])
    history = timedelta(days=chance.randint(1, 40))
    hours = int(history / HOUR)
    started = NOW - history + timedelta(minutes=chance.randint(1, 59))
    for hour in range(hours):
        at = started + hour * HOUR
        stands = position(at - lag)
        moments.append(Moment(cluster, timeline, at, stands))
        if chance.random() >= gone:
            parts.wal.append(a_wal_file(segment_name(timeline, stands), at))
        if chance.random() < 1 / 24:
            _a_run(chance, parts, at, timeline, stands, cluster)
        if chance.random() < 1 / 8:
            parts.snapshots.append(a_snapshot(at + timedelta(minutes=50)))
        if chance.random() < 1 / 300 and timeline == 1:
            cluster = "B"
        if chance.random() < 1 / 200 and hour > 30 and cluster == "A":
            back = timedelta(hours=chance.randint(1, 30))
            entries += f"{timeline}\t{position(at - lag - back)}\tbefore something\n"
            lag, timeline = lag + back, timeline + 1
            try:
                paths[timeline] = parse_history(timeline, entries)
            except ValueError:  # it went back beyond an earlier recovery, to a timeline that was left then
                return replace(a_world(seed + 100_000), policy=_a_policy(chance))
            parts.wal.append(a_wal_file(f"{timeline:08X}.history", at))
            parts.wal.append(a_wal_file(segment_name(timeline, position(at - lag)), at))
    _refer(chance, parts)
    parts.inventory = replace(parts.inventory, histories=paths)
    chance.shuffle(parts.bases)
    chance.shuffle(parts.snapshots)
    return World(parts, tuple(moments), paths, _a_policy(chance))


def _a_run(
    chance: random.Random, parts: Parts, at: datetime, timeline: int, stands: Lsn, cluster: str
) -> None:
    chosen = chance.choice([("base", "content", "configuration")] * 4 + [("base",), ("base", "content")])
    parts.add_set(at, chosen, minutes=5, timeline=timeline, cluster=cluster, start=stands)


def _refer(chance: random.Random, parts: Parts) -> None:
    """Each snapshot refers to three days, in the version of its own run or of an earlier one."""
    versions: dict[str, str] = {}
    for snapshot in sorted(parts.snapshots, key=lambda item: item.started_at):
        for day in ("2026/1/1", "2026/1/2", "2026/1/3"):
            if day not in versions or chance.random() < 0.3:
                (versions[day],) = parts.add_days(snapshot.stamp, [day])
        parts.refer(snapshot.path, versions.values())


def _a_policy(chance: random.Random) -> RetentionPolicy:
    window, thin = chance.choice([1, 7, 14, 30]), chance.choice([0, 2, 5])
    return RetentionPolicy(window * DAY, chance.randint(1, 5), thin * DAY)


def reachable(world: World, bases: set[Path], wal: set[str], since: datetime) -> set[Moment]:
    """The moments of the window for which a base and all WAL from its start on exist."""
    found: set[Moment] = set()
    for timeline in {moment.timeline for moment in world.moments}:
        path = path_to(timeline, world.paths)
        for base in world.parts.bases:
            if base.path not in bases or path.why_not(base.timeline, base.start_lsn, base.stop_lsn):
                continue
            end = base.start_lsn.segment(SEGMENT)
            while path.segment(end, SEGMENT).name(SEGMENT) in wal:
                end += 1
            found |= {
                moment
                for moment in world.moments
                if moment.timeline == timeline
                and moment.cluster == base.system_identifier
                and moment.at >= since
                and moment.stands >= base.stop_lsn
                and moment.stands.segment(SEGMENT) < end
            }
    return found


def plan_for(world: World) -> RetentionPlan:
    parts = world.parts
    return plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), world.policy, NOW)


def worlds(first: int) -> list[Any]:
    """A hundred seeds from `first` on, most of them left to the slow tests."""
    quick, slow = range(first, first + QUICK), range(first + QUICK, first + 100)
    return [*quick, *(pytest.param(seed, marks=pytest.mark.slow) for seed in slow)]


@pytest.mark.parametrize("seed", worlds(0))
def test_every_moment_of_the_window_that_was_reachable_still_is(seed):
    world = a_world(seed)
    plan = plan_for(world)
    kept = {item.path for item in plan.kept}
    everything = {item.path for item in plan.items}
    names = {path.name for path in everything if path.parent == REPOSITORY.wal}
    kept_names = {path.name for path in kept if path.parent == REPOSITORY.wal}
    before = reachable(world, everything, names, plan.window_start)
    after = reachable(world, kept, kept_names, plan.window_start)
    assert before - after == set()


def newest_cluster(world: World) -> str:
    return (
        max(world.parts.bases, key=lambda base: base.stopped_at).system_identifier
        if world.parts.bases
        else ""
    )


@pytest.mark.parametrize("seed", worlds(100))
def test_the_redundancy_holds_and_nothing_kept_needs_what_goes(seed):
    world = a_world(seed)
    plan = plan_for(world)
    kept = {item.path for item in plan.kept}
    catalogue = world.parts.catalogue()
    cluster = newest_cluster(world)
    complete = [item for item in catalogue.complete_sets if item.base.system_identifier == cluster]
    whole = [item for item in complete if {part.path for part in parts_of(item)} <= kept]
    newest = sorted(complete, key=lambda item: item.base.stopped_at)[-world.policy.minimum_redundancy :]
    assert {item.stamp for item in newest} <= {item.stamp for item in whole}
    for snapshot, links in world.parts.references.items():
        if snapshot in kept:
            assert not [link for link in links if is_removed(plan, Path(link))]
    names = {path.name for path in kept if path.parent == REPOSITORY.wal}
    present = {file.name for file in world.parts.wal}
    for base in catalogue.bases:
        if base.path in kept and base.start_wal in present:
            assert base.start_wal in names
        after = [item for item in catalogue.snapshots if item.started_at >= base.stopped_at]
        if base.path in kept and after:
            assert after[0].path in kept


def parts_of(item):
    return [item.base, *item.snapshots.values(), item.configuration]


def is_removed(plan: RetentionPlan, path: Path) -> bool:
    gone = {item.path for item in plan.removals}
    return path in gone or any(parent in gone for parent in path.parents)


@pytest.mark.slow
def test_the_random_worlds_are_not_trivial():
    """The two tests above would hold for a plan that removes nothing, and for worlds without recoveries."""
    worlds = [a_world(seed) for seed in range(120)]
    plans = [plan_for(world) for world in worlds]
    assert sum(1 for world in worlds if world.paths) >= 30
    assert sum(1 for world in worlds if newest_cluster(world) == "B") >= 20
    for kind in ("base", "snapshot", "configuration", "wal", "days"):
        assert sum(1 for plan in plans if any(item.kind == kind for item in plan.removals)) >= 20, kind
    lengths = [
        len(
            reachable(
                world,
                {base.path for base in world.parts.bases},
                {file.name for file in world.parts.wal},
                NOW - world.policy.window,
            )
        )
        for world in worlds[:20]
    ]
    assert sum(lengths) > 500


@pytest.mark.slow
def test_a_plan_of_what_is_kept_removes_nothing_more():
    """Retention twice at the same moment is retention once."""
    for seed in range(60):
        world = a_world(seed)
        kept = {item.path for item in plan_for(world).kept}
        parts = world.parts
        parts.bases = [base for base in parts.bases if base.path in kept]
        parts.snapshots = [item for item in parts.snapshots if item.path in kept]
        parts.configurations = [item for item in parts.configurations if item.path in kept]
        parts.wal = [file for file in parts.wal if REPOSITORY.wal / file.name in kept]
        parts.references = {path: links for path, links in parts.references.items() if path in kept}
        used = {link for links in parts.references.values() for link in links}
        parts.day_trees = [tree for tree in parts.day_trees if tree.path in used]
        assert plan_for(world).removals == (), make_stamp(NOW)


def with_a_foreign_timeline(world: World, chance: random.Random) -> tuple[World, set[str]]:
    """The same where a copy of the server, promoted by hand, archives too; the names of its files."""
    number = max(world.paths, default=1) + chance.randint(1, 3)
    left = chance.choice(world.moments)
    name = f"{number:08X}.history"
    parents = [span for span in path_to(left.timeline, world.paths).spans if span.end is not None]
    entries = [f"{span.timeline}\t{span.end}\tx\n" for span in parents]
    history = parse_history(number, "".join([*entries, f"{left.timeline}\t{left.stands}\tx\n"]))
    files = [a_wal_file(name, left.at)] if chance.random() < 0.8 else []
    for hour in range(chance.randint(1, 400)):
        at = min(left.at + hour * HOUR, NOW)
        stands = Lsn(int(left.stands) + hour * SEGMENT)
        files.append(a_wal_file(segment_name(number, stands), at))
    histories = {**world.paths, number: history} if any(file.name == name for file in files) else world.paths
    inventory = replace(world.parts.inventory, histories=histories)
    parts = replace(world.parts, wal=[*world.parts.wal, *files], inventory=inventory)
    return replace(world, parts=parts), {file.name for file in files}


@pytest.mark.parametrize("seed", worlds(200))
def test_a_foreign_timeline_makes_retention_remove_nothing_that_it_would_keep_without_it(seed):
    world = a_world(seed)
    other, foreign = with_a_foreign_timeline(world, random.Random(seed))
    alone = plan_for(world)
    beside = {item.path for item in plan_for(other).removals if item.path.name not in foreign}
    assert {path for path in beside if not is_removed(alone, path)} == set()
