"""Which stored content a drill reads: all of it within the cycle, whatever comes, goes or is lost."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from alfresco_backup.contentstore.reread import ReadState, Reread, choose_entries, state_after, weigh
from alfresco_backup.system.json_fields import document_of, read_record

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def drill(state: ReadState, weights: dict[str, int], cycle: int) -> tuple[list[str], ReadState]:
    chosen = choose_entries(weights, state, cycle)
    return chosen, state_after(state, weights, chosen, NOW + timedelta(days=7 * state.drill))


def test_with_a_cycle_of_one_each_drill_reads_everything() -> None:
    state, weights = ReadState(), {f"2026/1/{day}": day for day in range(1, 20)}
    for _ in range(3):
        chosen, state = drill(state, weights, 1)
        assert sorted(chosen) == sorted(weights)


def test_equal_days_are_read_in_equal_shares_and_each_once_a_cycle() -> None:
    state, weights = ReadState(), {f"2026/1/{day:02}": 10 for day in range(1, 25)}
    for _ in range(3):
        seen: list[str] = []
        for _ in range(12):
            chosen, state = drill(state, weights, 12)
            assert len(chosen) == 2
            seen += chosen
        assert sorted(seen) == sorted(weights)


@pytest.mark.parametrize("seed", range(20))
def test_no_day_waits_longer_than_the_cycle_while_days_come_go_and_grow(seed: int) -> None:
    chance = random.Random(seed)
    cycle = chance.choice([1, 2, 3, 12])
    weights = {f"day {number}": chance.choice([1, 10, 100, 10_000]) for number in range(60)}
    state = ReadState()
    waiting = dict.fromkeys(weights, 0)
    for number in range(60):
        for _ in range(chance.randrange(4)):
            weights[f"later {number} {chance.random()}"] = chance.choice([1, 1000, 100_000])
        for path in chance.sample(sorted(weights), chance.randrange(3)):
            del weights[path]
        chosen, state = drill(state, weights, cycle)
        waiting = {path: waiting.get(path, 0) + 1 for path in weights} | dict.fromkeys(chosen, 0)
        assert max(waiting.values()) < cycle or not weights
        assert set(state.entries) == set(weights)


def test_a_huge_day_is_read_once_a_cycle() -> None:
    state, weights = ReadState(), {"2026/1/1": 1_000_000, "2026/1/2": 1, "2026/1/3": 1}
    read = []
    for _ in range(24):
        chosen, state = drill(state, weights, 12)
        read += chosen
    assert read.count("2026/1/1") == 2


def test_after_a_lost_state_all_is_read_within_a_cycle_again() -> None:
    weights = {f"2026/1/{day:02}": 10 for day in range(1, 25)}
    state = ReadState()
    for _ in range(5):
        _, state = drill(state, weights, 12)
    state, seen = ReadState(), set()
    for _ in range(12):
        chosen, state = drill(state, weights, 12)
        seen |= set(chosen)
    assert seen == set(weights)


def test_a_shorter_cycle_is_kept_from_the_next_drill_on() -> None:
    weights = {f"2026/1/{day:02}": 10 for day in range(1, 25)}
    state = ReadState()
    for _ in range(12):
        _, state = drill(state, weights, 12)
    chosen, _ = drill(state, weights, 2)
    assert {path for path, last in state.entries.items() if last.drill <= state.drill - 1} <= set(chosen)


def test_entries_of_unknown_weight_count_as_average_ones() -> None:
    assert weigh(["a", "b", "c"], {"a": 10, "b": 30}) == {"a": 10, "b": 30, "c": 20}
    assert weigh(["a", "b"], {}) == {"a": 1, "b": 1}


def test_the_state_and_the_result_survive_their_metadata() -> None:
    _, state = drill(ReadState(), {"2026/1/1": 1, "v\udcff/1/2": 5}, 2)
    assert ReadState.from_metadata(state.to_metadata()) == state
    read = Reread(files=5, bytes=7, recorded=1, damaged=2, entries=3, entries_stored=4, cycle=12, oldest=NOW)
    assert read_record(Reread, document_of(read)) == read
    both = Reread(cycle=12) + read + read
    assert (both.files, both.entries_stored, both.cycle, both.oldest) == (10, 8, 12, NOW)
