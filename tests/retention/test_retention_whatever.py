"""Random repositories with drills, pins, sets of weeks, lost histories and parts that cannot be read.

What a kept set needs and what can be reached is worked out by walking from byte to byte; see also
test_retention_property, whose worlds these are.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import Proof
from alfresco_backup.repository.pins import Pin
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.repository.sets import BackupSet, Problem
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import RetentionPlan
from tests.retention.test_retention_property import World, a_world, newest_cluster, reachable, worlds
from tests.support.catalogues import NOW, REPOSITORY, SEGMENT, Parts


@dataclass
class Case:
    """A world with what is known of its sets; `unread` are the parts that cannot be read just now."""

    world: World
    damaged: set[str]
    verified: set[str]
    pinned: set[str]
    unread: set[Path]

    def plan(self, *, readable: bool = False) -> RetentionPlan:
        parts = self.world.parts if readable else without(self.world.parts, self.unread)
        return plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), self.world.policy, NOW)


def a_case(seed: int, *, lost_history: float = 0.0) -> Case:
    chance = random.Random(seed)
    world = a_world(seed)
    stamps = sorted(base.stamp for base in world.parts.bases)
    drilled = {stamp for stamp in stamps if chance.random() < 0.5}
    rotten = chance.choice([0.1, 0.5, 0.9])
    damaged = {stamp for stamp in sorted(drilled) if chance.random() < rotten}
    pinned = {stamp for stamp in stamps if chance.random() < 0.1}
    drills = {each: Proof(each, NOW, None, 60.0, 10, 3 if each in damaged else 0) for each in drilled}
    histories = {
        timeline: path
        for timeline, path in world.parts.inventory.histories.items()
        if chance.random() >= lost_history
    }
    pins = {stamp: Pin(stamp, REPOSITORY.pins, "why not") for stamp in pinned}
    inventory = replace(world.parts.inventory, drills=drills, pins=pins, histories=histories)
    policy = replace(world.policy, keep_weekly=chance.randint(0, 4), keep_monthly=chance.randint(0, 2))
    world = replace(world, parts=replace(world.parts, inventory=inventory), policy=policy)
    everything = [*world.parts.bases, *world.parts.snapshots, *world.parts.configurations]
    unread = {part.path for part in everything if chance.random() < 0.03}
    return Case(world, damaged, drilled - damaged, pinned, unread)


def without(parts: Parts, unread: set[Path]) -> Parts:
    return replace(
        parts,
        bases=[item for item in parts.bases if item.path not in unread],
        snapshots=[item for item in parts.snapshots if item.path not in unread],
        configurations=[item for item in parts.configurations if item.path not in unread],
        problems=[Problem(path, "cannot be read: Input/output error") for path in sorted(unread)],
    )


def own_segments(base: BaseBackup) -> Iterator[str]:
    """The names of those that contain a byte from its start up to its end."""
    byte = int(base.start_lsn)
    while byte < int(base.stop_lsn):
        yield f"{base.timeline:08X}{byte >> 32:08X}{(byte >> 24) & 0xFF:08X}"
        byte = (byte // SEGMENT + 1) * SEGMENT


def names(plan: RetentionPlan, *, keep: bool) -> set[str]:
    return {item.path.name for item in plan.items if item.kind == "wal" and item.keep == keep}


def kept_parts(plan: RetentionPlan) -> set[Path]:
    return {item.path for item in plan.kept}


def whole(item: BackupSet, kept: set[Path], removed_wal: set[str]) -> bool:
    assert item.base
    return {part.path for part in item.parts} <= kept and not removed_wal & set(own_segments(item.base))


@pytest.mark.parametrize("seed", worlds(300))
def test_no_segment_of_a_kept_base_backup_goes_and_the_best_sets_stay_whole(seed: int) -> None:
    case = a_case(seed, lost_history=0.2)
    plan = case.plan(readable=True)
    kept, gone = kept_parts(plan), names(plan, keep=False)
    for base in case.world.parts.bases:
        if base.path in kept:
            assert not gone & set(own_segments(base)), base.stamp
    sets = case.world.parts.catalogue().complete_sets
    by_age = sorted(sets, key=lambda item: item.base.stopped_at if item.base else NOW)
    sound = [item for item in by_age if item.stamp not in case.damaged]
    best = [*by_age[-1:], *sound[-1:], *[item for item in by_age if item.stamp in case.pinned]]
    assert [item.stamp for item in best if not whole(item, kept, gone)] == []
    verified = [base for base in case.world.parts.bases if base.stamp in case.verified]
    newest = max(verified, key=lambda base: base.stopped_at, default=None)
    assert newest is None or newest.path in kept


@pytest.mark.parametrize("seed", worlds(400))
def test_what_sound_base_backups_reach_in_the_window_they_reach_afterwards(seed: int) -> None:
    case = a_case(seed, lost_history=0.2)
    plan = case.plan(readable=True)
    bases = {base.path for base in case.world.parts.bases}
    sound = {base.path for base in case.world.parts.bases if base.stamp not in case.damaged}
    wal = {file.name for file in case.world.parts.wal}
    for chosen in (bases, sound):
        before = reachable(case.world, chosen, wal, plan.window_start)
        after = reachable(case.world, chosen & kept_parts(plan), names(plan, keep=True), plan.window_start)
        assert before - after == set()


@pytest.mark.parametrize("seed", worlds(500))
def test_a_part_that_cannot_be_read_makes_retention_remove_nothing_that_it_would_keep_otherwise(
    seed: int,
) -> None:
    """But for WAL that base backups need of which it is not known, from before the window; and where none of
    the newest cluster can be read, the rules are those of the one before.
    """
    case = a_case(seed)
    readable, plan = case.plan(readable=True), case.plan()
    parts = {item.path for item in plan.removals if item.kind != "wal"}
    seen = replace(case.world, parts=without(case.world.parts, case.unread))
    if newest_cluster(seen) == newest_cluster(case.world):
        assert {str(path) for path in parts & kept_parts(readable)} == set()
    bases = {base.path for base in case.world.parts.bases}
    wal = {file.name for file in case.world.parts.wal}
    before = reachable(case.world, bases, wal, plan.window_start)
    after = reachable(case.world, bases & kept_parts(plan), names(plan, keep=True), plan.window_start)
    assert before - after == set()
