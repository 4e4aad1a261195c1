"""Pinned sets: kept by retention with what they need and no more; refusals of pinning."""

from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.wal_files import parse_segment_name
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.pins import Pin, pin_file, pin_set, read_pins, unpin_set
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention import bases
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.retention.bases import Rule, Situation
from alfresco_backup.retention.plan import plan_retention
from tests.retention.test_retention_property import a_world
from tests.support.catalogues import NOW, REPOSITORY, SEGMENT, Parts, a_wal_file, age, position, segment_name
from tests.support.repository_on_disk import DiskRepository, listing
from tests.support.retention_tables import a_policy


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    """Four sets, the two oldest to go, with WAL of every hour around them."""
    disk = DiskRepository(tmp_path / "backup")
    for when in ("30d", "20d", "9d", "1d"):
        disk.run(when)
    disk.wal("30d2h", "30d", "29d23h", "20d1h", "20d", "19d", "9d1h", "9d", "3d", "1d")
    return disk


def pin(disk: DiskRepository, stamp: str, reason: str = "before the upgrade") -> Pin:
    return pin_set(disk.repository, stamp, reason, NOW)


def stamps(disk: DiskRepository) -> list[str]:
    return [item.stamp for item in read_catalogue(disk.repository, now=NOW).sets]


def test_a_real_retention_run_keeps_a_pinned_set_whole_and_removes_its_neighbours(disk: DiskRepository):
    oldest, second, *rest = stamps(disk)
    pin(disk, oldest)
    carry_out(make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW))
    kept = read_catalogue(disk.repository, now=NOW)
    assert [item.stamp for item in kept.sets] == [oldest, *rest]
    assert kept.sets[0].complete and second not in str(sorted(listing(disk.repository.root)))
    tree = kept.sets[0].snapshots["contentstore"].path
    assert sorted(path.name for path in tree.rglob("*") if path.is_symlink()) == ["1", "2", "20"]
    assert all(path.exists() for path in tree.rglob("*")), "a day that the pinned snapshot links to is gone"
    assert (kept.sets[0].configuration.path / "keystore/keystore").read_bytes() == b"keys"


def test_of_a_pinned_set_the_wal_from_start_to_stop_stays_and_no_more(disk: DiskRepository):
    pin(disk, stamps(disk)[0])
    base = read_catalogue(disk.repository, now=NOW).bases[0]
    carry_out(make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW))
    left = sorted(path.name for path in disk.repository.wal.iterdir())
    own = segment_name(1, position(NOW - age("30d")))
    assert base.start_wal == base.stop_wal == own
    assert left == [own, *(segment_name(1, position(NOW - age(when))) for when in ("9d", "3d", "1d"))]


def test_the_plan_shows_the_reason_of_a_pin_beside_what_keeps_a_set_anyway(disk: DiskRepository):
    oldest, *_, newest = stamps(disk)
    pin(disk, oldest, "audit 2026,\n  until the court has ruled")
    pin(disk, newest, "first one after the move")
    plan = make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW)
    why = {item.path: item.reason for item in plan.kept}
    assert why[disk.repository.base(oldest)] == "pinned: audit 2026, until the court has ruled"
    assert (
        why[disk.repository.base(newest)]
        == "ended within the recovery window of 7 days; pinned: first one after the move"
    )
    assert any("pinned: audit 2026" in row["why"] for row in plan.rows())
    assert "pinned: audit 2026, until the court has ruled" in plan.text()


def test_an_unpinned_set_goes_with_the_next_run(disk: DiskRepository):
    oldest = stamps(disk)[0]
    pin(disk, oldest)
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert unpin_set(disk.repository, oldest).reason == "before the upgrade"
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert oldest not in stamps(disk)


def test_a_pinned_copy_of_content_alone_is_not_thinned_away(disk: DiskRepository):
    content = [disk.snapshot(NOW - age(when)) for when in ("5d3h", "5d2h", "5d1h")]
    pin(disk, content[0].stamp)
    plan = make_retention_plan(disk.settings(), now=NOW)
    keep = {item.path: item.keep for item in plan.items}
    assert [keep[item.path] for item in content] == [True, False, True]


def test_a_pin_made_after_the_plan_stops_it(disk: DiskRepository):
    plan = make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW)
    before = stamps(disk)
    pin(disk, before[0])
    with pytest.raises(Refused, match=f"set {before[0]} was pinned after the plan was made"):
        carry_out(plan)
    assert stamps(disk) == before


def test_a_pin_whose_file_is_damaged_still_keeps(disk: DiskRepository):
    oldest = stamps(disk)[0]
    pin(disk, oldest)
    pin_file(disk.repository, oldest).write_text('{"schema": 1, "stamp"')
    plan = make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW)
    item = next(item for item in plan.items if item.path == disk.repository.base(oldest))
    assert (item.keep, item.reason) == (True, f"pinned: for a reason that cannot be read ({oldest}.json)")
    assert read_pins(disk.repository)[oldest].defect == "it is damaged"


def test_wal_of_a_pinned_base_that_cannot_be_read_is_kept(disk: DiskRepository):
    oldest = stamps(disk)[0]
    pin(disk, oldest)
    (disk.repository.base(oldest) / "backup.json").write_text("{")
    plan = make_retention_plan(disk.settings(minimum_redundancy=1), now=NOW)
    gone = {item.path.name for item in plan.removals if item.kind == "wal"}
    assert gone == {segment_name(1, position(NOW - age("30d2h")))}


def test_a_pin_takes_a_new_reason_and_is_written_whole(disk: DiskRepository):
    stamp = stamps(disk)[0]
    pin(disk, stamp, "one")
    assert pin(disk, stamp, "  two ").reason == "two"
    assert {name: item.reason for name, item in read_pins(disk.repository).items()} == {stamp: "two"}
    assert [path.name for path in disk.repository.pins.iterdir()] == [f"{stamp}.json"]


def test_pinning_what_is_not_there_names_what_is(disk: DiskRepository):
    names = stamps(disk)
    with pytest.raises(Refused) as refusal:
        pin(disk, "20010101T000000Z")
    assert refusal.value.message == (
        f"there is no set '20010101T000000Z'; there are: {', '.join(reversed(names))}"
    )
    with pytest.raises(Refused, match=r"there is no set '../x'; there are: "):
        pin(disk, "../x")
    (disk.repository.base(names[0]) / "backup.json").unlink()
    disk.repository.contentstore.snapshot(names[0]).rename(disk.repository.root / "aside")
    disk.repository.configuration(names[0]).rename(disk.repository.root / "aside-too")
    with pytest.raises(Refused, match=r"cannot be pinned: .*its metadata backup.json is missing"):
        pin(disk, names[0])
    assert not disk.repository.pins.exists()


def test_a_pin_needs_a_reason(disk: DiskRepository):
    with pytest.raises(Refused, match="pin needs a reason"):
        pin(disk, stamps(disk)[0], " \n ")
    assert not disk.repository.pins.exists()


def test_unpinning_what_is_not_pinned_names_what_is(disk: DiskRepository):
    oldest, second, *_ = stamps(disk)
    with pytest.raises(Refused, match=f"set {oldest} is not pinned; nothing is pinned"):
        unpin_set(disk.repository, oldest)
    pin(disk, second)
    with pytest.raises(Refused, match=f"set {oldest} is not pinned; pinned are: {second}"):
        unpin_set(disk.repository, oldest)


def test_retention_refuses_where_pins_cannot_be_seen(disk: DiskRepository):
    disk.repository.pins.write_text("not a folder")
    before = stamps(disk)
    disk.repository.pins.unlink()
    disk.repository.pins.symlink_to(disk.repository.pins)
    with pytest.raises(Exception, match="retention cannot list the whole repository"):
        make_retention_plan(disk.settings(), now=NOW)
    assert stamps(disk) == before


@pytest.mark.parametrize("seed", range(0, 200, 8))
def test_whatever_happened_a_pinned_set_is_kept_whole_and_no_other_verdict_gets_worse(seed):
    world = a_world(seed)
    catalogue = world.parts.catalogue()
    if not catalogue.sets:
        return
    chosen = catalogue.sets[seed % len(catalogue.sets)]
    inventory = world.parts.full_inventory()
    pins = {chosen.stamp: Pin(chosen.stamp, REPOSITORY.pins, "why not")}
    without = plan_retention(REPOSITORY, catalogue, inventory, world.policy, NOW)
    plan = plan_retention(REPOSITORY, catalogue, replace(inventory, pins=pins), world.policy, NOW)
    kept = {item.path for item in plan.kept}
    assert {part.path for part in chosen.parts} <= kept
    assert {item.path for item in without.kept} <= kept
    base = chosen.base
    if base:
        first, last = (parse_segment_name(name, SEGMENT).number for name in (base.start_wal, base.stop_wal))
        for item in plan.removals:
            if item.kind == "wal" and len(item.path.name) == 24:
                segment = parse_segment_name(item.path.name, SEGMENT)
                assert segment.timeline != base.timeline or not first <= segment.number <= last


def test_a_pinned_base_holds_wal_of_its_own_timeline_only():
    parts = Parts()
    parts.add_set(NOW - age("40d"), timeline=1)
    for when in ("9d", "1d"):
        parts.add_set(NOW - age(when), timeline=1)
    names = [segment_name(line, position(NOW - age("40d"))) for line in (1, 2)]
    parts.wal += [a_wal_file(name, NOW - age("40d")) for name in names]
    stamp = parts.catalogue().sets[0].stamp
    pins = {stamp: Pin(stamp, REPOSITORY.pins, "why not")}
    inventory = replace(parts.full_inventory(), pins=pins)
    plan = plan_retention(REPOSITORY, parts.catalogue(), inventory, a_policy(redundancy=1), NOW)
    verdicts = {item.path.name: (item.keep, item.reason) for item in plan.items if item.kind == "wal"}
    assert verdicts[names[0]] == (True, f"base backup {stamp} cannot be restored without it")
    assert verdicts[names[1]] == (False, "no kept base backup needs WAL that old")


def test_any_rule_may_keep_a_base_backup_with_its_own_wal_only(monkeypatch: pytest.MonkeyPatch):
    """A pin is one reason for that among others; a further rule is a function in the list."""
    parts = Parts()
    for when in ("40d", "30d", "9d", "1d"):
        parts.add_set(NOW - age(when))
    oldest, *_ = parts.catalogue().sets
    parts.wal += [
        a_wal_file(segment_name(1, position(NOW - age(when))), NOW - age(when)) for when in ("40d", "39d")
    ]

    def the_first_of_all(_: Situation, base: BaseBackup) -> str | None:
        return "the first base backup" if base == oldest.base else None

    monkeypatch.setattr(bases, "RULES", (*bases.RULES, Rule(the_first_of_all, own_wal_only=True)))
    inventory = replace(
        parts.full_inventory(), pins={oldest.stamp: Pin(oldest.stamp, REPOSITORY.pins, "why not")}
    )
    for chosen, reason in (
        (parts.full_inventory(), "the first base backup"),
        (inventory, "pinned: why not; the first base backup"),
    ):
        plan = plan_retention(REPOSITORY, parts.catalogue(), chosen, a_policy(redundancy=1), NOW)
        verdicts = {item.path: (item.keep, item.reason) for item in plan.items}
        assert verdicts[oldest.base.path] == (True, reason)
        assert {part.path for part in oldest.parts} <= {item.path for item in plan.kept}
        kept = [item.path.name for item in plan.kept if item.kind == "wal"]
        assert kept == [segment_name(1, position(NOW - age("40d")))]


def test_a_pinned_set_of_the_predecessor_is_kept_with_the_snapshot_that_bears_another_stamp():
    parts = Parts()
    base, snapshot = parts.add_set(NOW - age("40d"), ("base", "content"), legacy=True)
    for when in ("9d", "1d"):
        parts.add_set(NOW - age(when))
    stamp = parts.catalogue().sets[0].stamp
    assert not snapshot.name.endswith(stamp)
    inventory = replace(parts.full_inventory(), pins={stamp: Pin(stamp, REPOSITORY.pins, "why not")})
    plan = plan_retention(REPOSITORY, parts.catalogue(), inventory, a_policy(redundancy=1), NOW)
    assert {base, snapshot} <= {item.path for item in plan.kept}
