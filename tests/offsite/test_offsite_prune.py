"""What may go from the off-site repository follows local retention, late and never too far."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from alfresco_backup.offsite.copy import older_wal
from alfresco_backup.offsite.far import FarSet, FarSide, FarSnapshot
from alfresco_backup.offsite.prune import FarPolicy, Here, PrunePlan, plan_prune
from alfresco_backup.times import make_stamp
from tests.support.far_sides import at

NOW = at(28)
DAY = timedelta(days=1)
POLICY = FarPolicy(grace=10 * DAY, minimum_redundancy=2)


def of(day: int) -> str:
    return make_stamp(at(day))


def a_set(day: int, *needs: int, complete: bool = True) -> FarSet:
    return FarSet(of(day), frozenset(map(of, (day, *needs))), complete)


def there(*sets: FarSet, wal: Collection[FarSnapshot] = ()) -> FarSide:
    items = [
        FarSnapshot(f"snap-{item.stamp}", at(int(item.stamp[6:8]), 1), "alf1", "set", item.stamp, "r")
        for item in sets
    ]
    return FarSide("alf1", tuple(sorted([*items, *wal], key=lambda item: item.taken_at)))


def wal(day: int, first: int, files: int, hour: int = 0) -> FarSnapshot:
    return FarSnapshot(f"wal-{day}-{hour}", at(day, hour), "alf1", "wal", "", "r", f"{first:016X}", files)


def plan(
    far: FarSide,
    sets: Collection[FarSet],
    here: Collection[int],
    gone: Mapping[int, datetime] | None = None,
    *,
    referred: Collection[int] = (),
    policy: FarPolicy = POLICY,
) -> PrunePlan:
    stamps = frozenset(map(of, here))
    since = {of(day): when for day, when in (gone or {}).items()}
    known = {item.stamp: item for item in sets}
    return plan_prune(far, known, Here(stamps, frozenset(map(of, referred)), since), policy, NOW)


def going(made: PrunePlan) -> list[str]:
    return [item.snapshot.snapshot for item in made.removals]


def test_what_is_gone_here_goes_there_after_the_grace_period_and_not_a_day_before() -> None:
    sets = [a_set(day) for day in (1, 2, 20, 21)]
    made = plan(there(*sets), sets, [20, 21], {1: NOW - 10 * DAY, 2: NOW - 10 * DAY + timedelta(seconds=1)})
    assert going(made) == [f"snap-{of(1)}"]
    assert made.summary() == (
        "To remove off-site: 1 snapshots of backup IDs and 0 of the WAL archive; 3 of 4 stay."
    )


def test_a_date_that_is_lost_or_in_the_future_begins_anew() -> None:
    sets = [a_set(day) for day in (1, 2, 20, 21)]
    made = plan(there(*sets), sets, [20, 21], {2: NOW + 400 * DAY})
    assert not made.removals and made.gone_since == {of(1): NOW, of(2): NOW}


def test_what_came_back_here_loses_its_date() -> None:
    sets = [a_set(day) for day in (1, 20)]
    assert plan(there(*sets), sets, [1, 20], {1: NOW - 50 * DAY}).gone_since == {}


def test_days_that_a_set_there_refers_to_stay_and_so_do_those_of_the_set_in_between() -> None:
    sets = [a_set(1), a_set(2, 1), a_set(20, 2), a_set(21)]
    gone = {1: NOW - 40 * DAY, 2: NOW - 40 * DAY}
    made = plan(there(*sets), sets, [20, 21], gone)
    assert not made.removals
    made = plan(there(*sets), [a_set(1), a_set(2, 1), a_set(20), a_set(21)], [20, 21], gone)
    assert going(made) == [f"snap-{of(1)}", f"snap-{of(2)}"]


def test_days_that_a_local_set_refers_to_stay_though_that_set_was_not_sent_yet() -> None:
    sets = [a_set(1), a_set(20), a_set(21)]
    gone = {1: NOW - 40 * DAY}
    assert not plan(there(*sets), sets, [20, 21, 27], gone, referred=[1, 27]).removals


def test_the_newest_complete_sets_stay_with_all_they_refer_to_however_long_they_are_gone() -> None:
    sets = [a_set(1), a_set(2), a_set(3, 1), a_set(4, complete=False), a_set(5)]
    gone = dict.fromkeys((1, 2, 3, 4, 5), NOW - 90 * DAY)
    made = plan(there(*sets), sets, [27], gone)
    assert going(made) == [f"snap-{of(2)}", f"snap-{of(4)}"]
    kept = {item.name: item.reason for item in made.items if item.keep}
    assert kept[of(5)] == "one of the 2 newest complete sets there"
    assert kept[of(1)] == f"{of(3)}, which stays, refers to its days"


def test_a_set_whose_days_are_not_there_does_not_count_for_the_redundancy() -> None:
    sets = [a_set(1), a_set(2), a_set(5, 4)]
    gone = dict.fromkeys((1, 2, 5), NOW - 90 * DAY)
    assert going(plan(there(*sets), sets, [27], gone)) == [f"snap-{of(5)}"]


def test_wal_goes_once_a_newer_copy_has_all_its_segments() -> None:
    copies = [wal(27, first=10, files=5), wal(27, first=10, files=6, hour=1), wal(28, first=10, files=7)]
    sets = [a_set(20), a_set(21)]
    assert going(plan(there(*sets, wal=copies), sets, [20, 21])) == ["wal-27-0", "wal-27-1"]


def test_wal_that_local_retention_removed_stays_while_a_set_within_its_grace_needs_it() -> None:
    sets = [a_set(2), a_set(20), a_set(21)]
    copies = [wal(1, 5, 9), wal(10, first=10, files=9), wal(28, first=30, files=9)]
    far = there(*sets, wal=copies)
    assert going(plan(far, sets, [20, 21], {2: NOW - 9 * DAY})) == ["wal-1-0"]
    assert going(plan(far, sets, [20, 21], {2: NOW - 10 * DAY})) == ["wal-1-0", f"snap-{of(2)}", "wal-10-0"]


def test_wal_does_not_stay_for_a_set_that_stays_only_for_its_days() -> None:
    sets = [a_set(2), a_set(20, 2), a_set(21)]
    copies = [wal(10, first=10, files=9), wal(28, first=30, files=9)]
    made = plan(there(*sets, wal=copies), sets, [20, 21], {2: NOW - 10 * DAY}, referred=[2])
    assert going(made) == ["wal-10-0"]


def test_what_was_sent_together_goes_together_with_all_it_refers_to_and_keeps_no_wal() -> None:
    def in_one(*days: int) -> FarSide:
        items = [
            replace(item, snapshot="one") if item.stamp in map(of, days) else item
            for item in there(*sets, wal=copies).snapshots
        ]
        return FarSide("alf1", tuple(items))

    sets = [a_set(1), a_set(2), a_set(3, 1), a_set(4), a_set(20), a_set(21)]
    copies = [wal(5, first=10, files=9), wal(28, first=30, files=9)]
    gone = dict.fromkeys((1, 2, 3), NOW - 40 * DAY)
    made = plan(in_one(3, 4), sets, [4, 20, 21], gone)
    assert going(made) == [f"snap-{of(2)}", "wal-5-0"]
    kept = {item.name: item.reason for item in made.items if item.keep}
    assert kept[of(3)] == f"sent together with {of(4)}, which stays"
    assert kept[of(1)] == f"{of(3)}, which stays, refers to its days"
    made = plan(in_one(3, 4), sets, [20, 21], {**gone, 4: NOW - 40 * DAY})
    assert set(going(made)) == {f"snap-{of(1)}", f"snap-{of(2)}", "one", "wal-5-0"}
    assert made.forgotten.count("one") == 1
    assert made.summary().startswith("To remove off-site: 3 snapshots of backup IDs and 1 of the WAL")


def archive(*runs: range) -> list[str]:
    """The names of segments on timeline 1, 16 MiB each."""
    return [f"{1:08X}{number // 256:08X}{number % 256:08X}" for run in runs for number in run]


def test_the_older_wal_of_an_archive_changes_with_what_retention_removes_and_not_as_it_grows() -> None:
    before = older_wal(archive(range(3, 5), range(250, 300)))
    assert before == older_wal(archive(range(3, 5), range(250, 900)))
    assert before != older_wal(archive(range(3, 5), range(260, 300)))
    assert before != older_wal(archive(range(4, 5), range(250, 300)))
    assert before != older_wal(archive(range(3, 5), range(100, 101), range(250, 300)))
    assert older_wal([]) == ""
    both = [*archive(range(3, 9)), *(f"{2:08X}{name[8:]}" for name in archive(range(7, 12)))]
    assert older_wal(both) != older_wal(both[:6])


def test_wal_removed_between_sets_that_are_kept_stays_while_a_set_within_its_grace_needs_it() -> None:
    """The oldest segment is that of a set kept for a year, so that it tells nothing any more."""

    def copy(day: int, *runs: range) -> FarSnapshot:
        names = archive(*runs)
        return replace(wal(day, runs[0][0], len(names)), older_wal=older_wal(names))

    year = range(5, 6)
    copies = [
        copy(9, year, range(100, 160)),
        copy(10, year, range(100, 170)),
        copy(11, year, range(150, 190)),
        copy(28, year, range(150, 900)),
    ]
    sets = [a_set(2), a_set(20), a_set(21)]
    far = there(*sets, wal=copies)
    assert going(plan(far, sets, [20, 21], {2: NOW - 9 * DAY})) == ["wal-9-0", "wal-11-0"]
    gone = going(plan(far, sets, [20, 21], {2: NOW - 10 * DAY}))
    assert gone == [f"snap-{of(2)}", "wal-9-0", "wal-10-0", "wal-11-0"]


def test_wal_of_an_archive_that_was_emptied_here_stays_for_the_grace_period() -> None:
    sets = [a_set(20), a_set(21)]
    copies = [wal(17, 10, 400), wal(19, 10, 500), wal(20, 11, 500), wal(28, 800, 3)]
    made = plan(there(*sets, wal=copies), sets, [20, 21])
    assert going(made) == ["wal-17-0"]
    lost_in_the_middle = [wal(27, 10, 500), wal(28, 10, 300)]
    assert not plan(there(*sets, wal=lost_in_the_middle), sets, [20, 21]).removals


def test_what_was_sent_again_goes_but_for_its_newest_snapshot() -> None:
    sets = [a_set(20), a_set(21)]
    again = FarSnapshot("again", at(25), "alf1", "set", of(20), "r")
    far = FarSide("alf1", (*there(*sets).snapshots, again))
    assert going(plan(far, sets, [20, 21])) == [f"snap-{of(20)}"]
