"""Plans over many segments and sets: the same as what a scan finds, and no step that grows as their product.

Time is that of the processor, and compared with that of a smaller repository in the same run.
"""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from alfresco_backup.postgres.wal_files import Lsn, parse_segment_name
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention.bases import Situation
from alfresco_backup.retention.plan import decide_parts, plan_retention
from alfresco_backup.retention.wal_needs import NeededWal
from alfresco_backup.wal.window import GapSearch
from tests.support.catalogues import (
    NOW,
    REPOSITORY,
    SEGMENT,
    Parts,
    a_base,
    a_wal_file,
    segment_name,
)
from tests.support.retention_tables import a_policy
from tests.wal.test_wal_windows import archive, base

HOUR = timedelta(hours=1)
SIZES = (1 << 20, SEGMENT, 64 << 20)


def seconds(work: Callable[[], object]) -> float:
    """The least of three: whatever else the machine does only adds."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def scanned(bases: list[BaseBackup], alone: list[BaseBackup], name: str) -> tuple[object, object]:
    """The first of each that needs a segment, by looking at one after the other."""

    def number_of(item: BaseBackup, what: str) -> int:
        return parse_segment_name(what, item.segment_size).number

    def from_on(item: BaseBackup) -> bool:
        try:
            segment = parse_segment_name(name, item.segment_size)
        except ValueError:
            return True
        later = segment.number >= item.start_lsn.segment(item.segment_size)
        return segment.timeline >= item.timeline and later

    def own(item: BaseBackup) -> bool:
        try:
            segment, stop = parse_segment_name(name, item.segment_size), number_of(item, item.stop_wal)
        except ValueError:
            return True
        start = item.start_lsn.segment(item.segment_size)
        return segment.timeline == item.timeline and start <= segment.number <= stop

    return next(filter(from_on, bases), None), next(filter(own, alone), None)


def random_base(chance: random.Random, size: int) -> BaseBackup:
    start, timeline = chance.randrange(40), chance.randint(1, 4)
    stop = start + chance.randint(-1, 6)
    name = segment_name(timeline, Lsn(max(0, stop) * SEGMENT)) if chance.random() < 0.97 else "odd"
    made = a_base(NOW - HOUR * chance.randrange(500), timeline=timeline, start=Lsn(start * size + 40))
    return replace(made, segment_size=size, stop_wal=name)


@pytest.mark.parametrize("seed", range(40))
def test_what_needs_a_segment_is_what_a_scan_over_all_base_backups_finds(seed: int) -> None:
    chance = random.Random(seed)
    sizes = chance.choice([(SEGMENT,), SIZES])
    bases = [random_base(chance, chance.choice(sizes)) for _ in range(chance.randrange(12))]
    alone = [random_base(chance, chance.choice(sizes)) for _ in range(chance.randrange(12))]
    needed = NeededWal(bases, alone)
    names = [segment_name(line, Lsn(number * SEGMENT)) for line in range(1, 6) for number in range(60)]
    for name in [*names, "000000010000000000000FFF", "no segment"]:
        assert needed.of(name) == scanned(bases, alone, name), name


@pytest.mark.slow
def test_a_plan_for_forty_times_the_sets_takes_little_more_for_the_same_wal() -> None:
    def plan_with(sets: int) -> Callable[[], object]:
        parts = Parts()
        for place in range(sets):
            parts.add_set(NOW - 6 * HOUR - place * HOUR / 20, start=Lsn((3000 - place) * SEGMENT + 40))
        parts.wal = [a_wal_file(segment_name(1, Lsn(each * SEGMENT)), NOW - HOUR) for each in range(6000)]
        inventory, catalogue = parts.full_inventory(), parts.catalogue()
        return lambda: plan_retention(REPOSITORY, catalogue, inventory, a_policy(), NOW)

    assert seconds(plan_with(400)) < 8 * seconds(plan_with(10))


@pytest.mark.slow
def test_verdicts_on_eight_times_the_sets_take_about_eight_times_as_long() -> None:
    def verdicts_on(sets: int) -> Callable[[], object]:
        parts = Parts()
        for place in range(sets):
            parts.add_set(NOW - (place + 1) * HOUR / 20)
        found, inventory = parts.catalogue(), parts.full_inventory()
        return lambda: decide_parts(Situation(found, inventory, a_policy(window=400), NOW))

    assert seconds(verdicts_on(4000)) < 3 * 8 * seconds(verdicts_on(500))


@pytest.mark.slow
def test_gaps_of_eight_times_the_base_backups_take_about_eight_times_as_long() -> None:
    """Each of them proves how far the WAL went, and is a way out of the gap before it."""

    def gaps_of(sets: int) -> Callable[[], object]:
        bases = [base(100 + place, ended=100 + place, own_wal=True) for place in range(sets)]
        wal = archive((1, 1, 50), (1, 100, 100 + sets))

        def work() -> None:
            search = GapSearch(wal, bases, 1)
            assert [gap for item in bases for gap in search.of(item)] == []

        return work

    assert seconds(gaps_of(1600)) < 3 * 8 * seconds(gaps_of(200))
