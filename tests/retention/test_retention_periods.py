"""Sets kept for weeks, months and years, against a reckoning of its own: five years, day by day.

The reckoning never names a week: it walks back from one midnight to the next and asks whether a Monday, a
first of the month or a first of January lies between two sets.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from alfresco_backup.backup.proof import Proof
from alfresco_backup.repository.pins import Pin
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention.bases import Situation, decide_bases
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import RetentionPlan, RetentionPolicy
from tests.support.catalogues import (
    NOW,
    REPOSITORY,
    Parts,
    a_snapshot,
    a_wal_file,
    age,
    position,
    segment_name,
)
from tests.support.restore_worlds import local_zone
from tests.support.retention_tables import check

DAY = timedelta(days=1)
FIVE_YEARS = 1827
WORD = {"weekly": "KEEP_WEEKLY", "monthly": "KEEP_MONTHLY", "yearly": "KEEP_YEARLY"}


def begins(kind: str, day: date) -> bool:
    """Whether a period begins with a day."""
    return {"weekly": day.weekday() == 0, "monthly": day.day == 1, "yearly": (day.month, day.day) == (1, 1)}[
        kind
    ]


def reckoned(
    sets: list[BaseBackup], drills: Mapping[str, str], kind: str, wanted: int, now: datetime
) -> set[str]:
    """The backup IDs that are kept for one kind of period, by walking back day by day."""
    by_day: dict[date, list[BaseBackup]] = {}
    for base in sets:
        by_day.setdefault(base.stopped_at.astimezone(UTC).date(), []).append(base)
    kept: set[str] = set()
    of_period: list[BaseBackup] = []
    day = now.astimezone(UTC).date()
    first = min(by_day, default=day)
    while day >= first and wanted > 0:
        of_period += by_day.get(day, [])
        if (begins(kind, day) or day == first) and of_period:
            newest_first = sorted(of_period, key=lambda base: base.stopped_at, reverse=True)
            good = [base for base in newest_first if drills.get(base.stamp, "sound") == "sound"]
            unsure = [base for base in newest_first if drills.get(base.stamp) == "unverified"]
            kept.add([*good, *unsure, *newest_first][0].stamp)
            wanted -= bool(good or unsure)
        if begins(kind, day):
            of_period = []
        day -= DAY
    return kept


def proof_of(stamp: str, found: str) -> Proof:
    unverified = ("the server could not be started",) if found == "unverified" else ()
    return Proof(stamp, NOW, None, 60.0, 10, 3 if found == "damaged" else 0, unverified=unverified)


def a_history(seed: int) -> tuple[Parts, dict[str, str]]:
    """Five years of sets: nightly, weekly or now and then, with weeks and months without any."""
    chance = random.Random(seed)
    parts, drills = Parts(), {}
    step, off_until = chance.choice([1, 1, 2, 3, 7, 20]), NOW - (FIVE_YEARS + 1) * DAY
    at = NOW - FIVE_YEARS * DAY
    while at < NOW - DAY:
        at += step * DAY * chance.choice([1, 1, 1, 1, 2])
        if chance.random() < 0.01:
            off_until = at + chance.choice([10, 40, 400]) * DAY
        if at < off_until or at > NOW - DAY:
            continue
        start = at + timedelta(hours=chance.choice([-14, -12.4, -6, 0, 11, 11.9]))
        chosen = ("base", "content", "configuration") if chance.random() < 0.9 else ("base",)
        parts.add_set(start, chosen, cluster="A" if start < NOW - 900 * DAY else "B")
        if chance.random() < 0.1:
            drills[parts.bases[-1].stamp] = chance.choice(["damaged", "unverified", "sound"])
    return parts, drills


def with_drills(parts: Parts, drills: Mapping[str, str]) -> Parts:
    proofs = {stamp: proof_of(stamp, found) for stamp, found in drills.items()}
    return replace(parts, inventory=replace(parts.inventory, drills=proofs))


def a_policy(chance: random.Random) -> RetentionPolicy:
    wanted = [chance.choice([0, 1, 2, 5, 12, 60]) for _ in WORD]
    return RetentionPolicy(chance.choice([1, 7, 30]) * DAY, 2, 2 * DAY, 90 * DAY, "", *wanted)


def wanted_of(policy: RetentionPolicy) -> dict[str, int]:
    return {"weekly": policy.keep_weekly, "monthly": policy.keep_monthly, "yearly": policy.keep_yearly}


def complete_of(parts: Parts, now: datetime = NOW) -> list[BaseBackup]:
    return [item.base for item in parts.catalogue().complete_sets if item.base and item.moment <= now]


@pytest.mark.parametrize("seed", range(40))
def test_the_sets_of_five_years_are_those_that_a_walk_day_by_day_finds(seed: int):
    parts, drills = a_history(seed)
    parts = with_drills(parts, drills)
    policy = a_policy(random.Random(seed + 1000))
    situation = Situation(parts.catalogue(), parts.full_inventory(), policy, NOW)
    verdicts = decide_bases(situation)
    stamps = {base.path: base.stamp for base in parts.bases}
    for kind, wanted in wanted_of(policy).items():
        found = {stamps[path] for path, verdict in verdicts.items() if WORD[kind] in verdict.reason}
        assert found == reckoned(complete_of(parts), drills, kind, wanted, NOW), kind
    without = decide_bases(Situation(parts.catalogue(), parts.full_inventory(), plain(policy), NOW))
    for path, verdict in without.items():
        assert verdicts[path].keep >= verdict.keep
        if verdict.keep and not verdict.own_wal_only:
            assert not verdicts[path].own_wal_only, "a period took WAL from a set that had it"


def plain(policy: RetentionPolicy) -> RetentionPolicy:
    return replace(policy, keep_weekly=0, keep_monthly=0, keep_yearly=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7, 21])
def test_retention_every_few_days_for_five_years_leaves_what_one_look_at_all_sets_would(seed: int):
    """No set goes today that a period will want tomorrow."""
    everything, drills = a_history(seed)
    policy = RetentionPolicy(7 * DAY, 2, 2 * DAY, 90 * DAY, "", 6, 9, 4)
    made = sorted(everything.bases, key=lambda base: base.started_at)
    complete = {base.stamp for base in complete_of(everything)}
    left: list[BaseBackup] = []
    for number, base in enumerate(made):
        left.append(base)
        if number % 3 and base is not made[-1]:
            continue
        now = base.stopped_at + timedelta(hours=3)
        parts = with_drills(parts_of(left, everything), drills)
        verdicts = decide_bases(Situation(parts.catalogue(), parts.full_inventory(), policy, now))
        left = [one for one in left if verdicts[one.path].keep]
    sets = [base for base in made if base.stamp in complete]
    for kind, wanted in wanted_of(policy).items():
        expected = reckoned(sets, drills, kind, wanted, made[-1].stopped_at)
        assert expected <= {base.stamp for base in left}, kind
    assert len(left) < 40


def parts_of(bases: list[BaseBackup], everything: Parts) -> Parts:
    """Of a repository only the sets with these base backups."""
    stamps = {base.stamp for base in bases}
    return Parts(
        list(bases),
        [item for item in everything.snapshots if item.stamp in stamps],
        [item for item in everything.configurations if item.stamp in stamps],
    )


def reasons(plan: RetentionPlan, parts: Parts) -> dict[str, str]:
    """Day and month of each base backup, and why it is kept; "" where it goes."""
    found = {item.path: item.reason if item.keep else "" for item in plan.items if item.kind == "base"}
    return {f"{base.stopped_at:%Y-%m-%d}": found[base.path] for base in parts.bases}


def planned(parts: Parts, **keep: int) -> RetentionPlan:
    policy = RetentionPolicy(7 * DAY, 1, 2 * DAY, **keep)
    return plan_retention(REPOSITORY, parts.catalogue(), parts.full_inventory(), policy, NOW)


def ended(*days: str) -> Parts:
    """Sets whose base backups ended at these times (UTC), the last one yesterday."""
    parts = Parts()
    for day in (*days, "2026-11-21T02:30"):
        parts.add_set(datetime.fromisoformat(f"{day}+00:00") - timedelta(minutes=30))
    return parts


def test_the_days_around_new_year_belong_to_the_iso_week_of_their_thursday():
    parts = ended("2024-12-29T12:00", "2024-12-31T12:00", "2025-01-02T12:00", "2026-01-01T12:00")
    why = reasons(planned(parts, keep_weekly=10), parts)
    assert "week 2024-W52 (KEEP_WEEKLY)" in why["2024-12-29"]
    assert why["2024-12-31"] == "", "it is of the same week as 2 January"
    assert "week 2025-W01" in why["2025-01-02"] and "week 2026-W01" in why["2026-01-01"]
    why = reasons(planned(parts, keep_yearly=10), parts)
    assert [day for day in why if "KEEP_YEARLY" in why[day]] == ["2024-12-31", "2025-01-02", "2026-11-21"]


def test_a_set_that_begins_in_one_year_and_ends_in_the_next_is_of_the_next():
    parts = ended("2024-12-30T12:00", "2025-01-01T00:10", "2026-01-01T00:00")
    why = reasons(planned(parts, keep_yearly=5), parts)
    assert "year 2024" in why["2024-12-30"]
    assert "year 2025" in why["2025-01-01"] and "KEEP_YEARLY" not in why["2026-01-01"]


def test_weeks_without_a_set_are_passed_over_and_not_counted():
    parts = ended("2026-03-04T12:00", "2026-03-05T12:00", "2026-06-03T12:00", "2026-09-02T12:00")
    why = reasons(planned(parts, keep_weekly=3), parts)
    assert [day for day in why if "KEEP_WEEKLY" in why[day]] == ["2026-06-03", "2026-09-02", "2026-11-21"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_the_choice_is_the_same_in_every_zone_and_in_the_hours_that_daylight_saving_moves(zone: str):
    with local_zone(zone):
        parts = ended(
            "2026-03-29T00:30", "2026-03-29T01:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-31T23:30"
        )
        why = [
            (item.path.name[5:18], item.reason)
            for item in planned(parts, keep_monthly=12).items
            if item.kind == "base" and "KEEP_MONTHLY" in item.reason
        ]
    assert [name for name, _ in why] == ["20260329T0100", "20261031T2300", "20261121T0200"]
    assert "month 2026-03" in why[0][1] and "month 2026-10" in why[1][1]


def test_a_set_of_the_predecessor_counts_like_any_other():
    check(
        """
        predecessor 60d  remove
        predecessor 55d  keep  the last complete set of month 2026-09
        set 40d          keep  the last complete set of month 2026-10
        set 9d           keep
        set 1d           keep  window of 7 days; the last complete set of month 2026-11
        """,
        keep_monthly=3,
    )


def test_a_damaged_set_is_not_the_one_that_is_kept_for_its_week():
    check(
        """
        set 34d drill=verified  keep   the last complete set of week 2026-W43 (KEEP_WEEKLY) but for those
        set 33d drill=damaged   remove
        set 26d                 remove
        set 25d drill=damaged   remove
        set 24d                 keep   the last complete set of week 2026-W44 (KEEP_WEEKLY)
        set 16d drill=damaged   keep   the last complete set of week 2026-W45 (KEEP_WEEKLY)
        set 9d                  keep
        set 1d                  keep
        """,
        keep_weekly=4,
    )


def test_a_set_without_all_its_parts_is_not_the_one_that_is_kept():
    check(
        """
        set 34d                            keep   the last complete set of week 2026-W43
        set 33d parts=base,configuration   remove
        content 32d                        remove
        set 9d                             keep
        set 1d                             keep
        """,
        keep_weekly=4,
        redundancy=1,
    )


def test_pins_and_periods_are_reasons_for_one_state_and_both_are_shown():
    parts = ended("2025-06-03T12:00", "2025-06-04T12:00", "2026-11-13T12:00")
    stamp = parts.bases[0].stamp
    pins = {stamp: Pin(stamp, REPOSITORY.pins, "court case")}
    last = parts.bases[1].stamp
    pins |= {last: Pin(last, REPOSITORY.pins, "the other one")}
    parts.inventory = replace(parts.inventory, pins=pins)
    plan = planned(parts, keep_yearly=2)
    why = reasons(plan, parts)
    assert why["2025-06-03"] == "pinned: court case"
    both = "pinned: the other one; the last complete set of year 2025 (KEEP_YEARLY)"
    assert why["2025-06-04"] == both
    assert both in plan.text() and any(row["why"] == both for row in plan.rows())


def test_of_a_set_kept_for_a_period_its_own_wal_the_next_snapshot_and_their_days_stay():
    """Its own snapshot began before its base backup had ended: the one after it has what is missing there."""
    parts = Parts()
    start = NOW - age("400d")
    parts.add_set(start, ("base", "configuration"), minutes=130)
    parts.bases[0] = replace(parts.bases[0], stop_wal=segment_name(1, position(start + age("2h"))))
    parts.snapshots = [
        a_snapshot(start + age("1h"), parts.bases[0].stamp),
        a_snapshot(start + age("3h")),
        a_snapshot(start + age("4h")),
    ]
    for snapshot in parts.snapshots:
        parts.refer(snapshot.path, parts.add_days(snapshot.stamp, ["2026/1/1"]))
    parts.add_set(NOW - age("9d"))
    parts.add_set(NOW - age("1d"))
    hours = [start + number * age("1h") for number in range(-2, 9)]
    parts.wal = [a_wal_file(segment_name(1, position(hour)), hour) for hour in hours]
    plan = planned(parts, keep_yearly=2)
    keep = {item.path: item.keep for item in plan.items}
    assert [keep[REPOSITORY.wal / file.name] for file in parts.wal] == [False] * 2 + [True] * 3 + [False] * 6
    assert [keep[snapshot.path] for snapshot in parts.snapshots] == [True, True, False, True, True]
    trees = [item.path.name for item in plan.items if item.kind == "days" and item.keep]
    assert trees == [snapshot.stamp for snapshot in parts.snapshots[:2]]
    assert keep[parts.configurations[0].path]
