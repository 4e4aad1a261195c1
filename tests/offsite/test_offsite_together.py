"""Backup IDs with little in them that wait together are sent as one snapshot; each still counts by itself."""

from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.copy import Watching, begin, read_own, send_together
from alfresco_backup.offsite.far import FarSide, FarSnapshot, far_side
from alfresco_backup.offsite.fetch import Fetching, fetch, learn, plan_for
from alfresco_backup.offsite.shipments import BATCH_BYTES, BATCH_SETS, Shipment, batches, plan_copy
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, metadata_of
from alfresco_backup.repository.sending import noted_sending, read_notes
from alfresco_backup.system.folders import remove_tree
from alfresco_backup.times import make_stamp, utc_now
from tests.support.catalogues import age
from tests.support.far_sides import FarDisk, at, with_checksums
from tests.support.repository_on_disk import DAYS, listing

HOURS = ("6h", "5h", "4h", "3h", "2h", "1h")
HOT = DAYS[-1]


def hourly_sets(folder: Path) -> tuple[FarDisk, list[str]]:
    """A complete set, and hourly ones after it, each of which copied the hot day again."""
    far = FarDisk(folder)
    whole = far.disk.run("2d")
    later = [far.disk.snapshot(far.disk.now - age(hour), copied=(HOT,)).stamp for hour in HOURS]
    return far, [whole, *later]


def shipment(number: int, size: int = 1, *, partly: bool = False) -> Shipment:
    return Shipment(make_stamp(at(1, number)), (), size, partly)


def sizes(*shipments: Shipment) -> list[list[int]]:
    return [[item.bytes for item in batch] for batch in batches(shipments)]


def test_what_is_large_or_a_part_is_sent_alone_and_nothing_changes_places() -> None:
    half = BATCH_BYTES // 2
    assert sizes() == []
    assert sizes(*(shipment(number, half) for number in range(3))) == [[half, half], [half]]
    large = BATCH_BYTES * 40
    given = (shipment(0, 5), shipment(1, large), shipment(2, 6), shipment(3, 7))
    assert sizes(*given) == [[5], [large], [6, 7]]
    given = (shipment(0, 5), shipment(1, 6, partly=True), shipment(2, 7), shipment(3, 8))
    assert sizes(*given) == [[5], [6], [7, 8]]


def test_so_many_are_sent_together_and_no_more() -> None:
    given = [Shipment(str(number), ()) for number in range(2 * BATCH_SETS + 1)]
    made = list(batches(given))
    assert [len(batch) for batch in made] == [BATCH_SETS, BATCH_SETS, 1]
    assert [item for batch in made for item in batch] == given


def test_the_newest_complete_set_and_what_it_needs_are_first_and_sizes_are_those_of_the_metadata(
    tmp_path: Path,
) -> None:
    far, (first, *later, needed) = hourly_sets(tmp_path)
    complete = far.disk.run("30m")
    newest = far.disk.snapshot(far.disk.now - age("10m"), copied=(HOT,)).stamp
    catalogue = read_catalogue(far.repository)
    plan = plan_copy(catalogue, FarSide("alf1", ()))
    assert [item.stamp for item in plan] == [first, needed, complete, *later, newest]
    found = {item.stamp: item.bytes for item in plan}
    trees = {
        stamp: sum(
            path.lstat().st_size
            for path in far.repository.contentstore.day_trees(stamp).rglob("*")
            if path.is_file()
        )
        for stamp in found
    }
    base = {item.stamp: sum(file.bytes for file in item.files) for item in catalogue.bases}
    others = {item.stamp: item.bytes for item in catalogue.configurations}
    assert found == {stamp: trees[stamp] + base.get(stamp, 0) + others.get(stamp, 0) for stamp in found}
    assert trees[newest] > 0 and base[first] > 0


def test_an_id_of_a_snapshot_with_several_is_read_as_one_of_its_own_and_an_older_form_as_before() -> None:
    def document(name: str, *ids: str) -> dict[str, object]:
        tags = ["alfresco-backup", "kind=set", "repository=r", *(f"id={each}" for each in ids), "machine=m"]
        return {"id": name, "time": at(2).isoformat(), "hostname": "alf1", "tags": tags}

    far = far_side([document("one", "A"), document("two", "C", "B"), document("two", "D")], "alf1")
    assert {stamp: item.snapshot for stamp, item in far.sets.items()} == {
        "A": "one",
        "B": "two",
        "C": "two",
        "D": "two",
    }
    assert far.sets["B"] == FarSnapshot("two", at(2), "alf1", "set", "B", "r", machine="m")
    assert far.sent_with("A") == {"A"} and far.sent_with("C") == {"B", "C", "D"}


@pytest.mark.slow
def test_all_that_wait_become_one_snapshot_and_each_comes_back_as_it_is_here(tmp_path: Path) -> None:
    far, stamps = hourly_sets(tmp_path)
    with_checksums(far.repository.base(stamps[0]))
    assert sorted(far.copy()) == sorted(stamps)
    there = read_own(far.host, far.engine)
    assert {item.snapshot for item in there.sets.values()} == {there.sets[stamps[0]].snapshot}
    assert all(there.has(item) for item in read_catalogue(far.repository).sets) and not read_notes(
        far.repository
    )
    far.wal()
    here = listing(far.repository.root)
    for number, stamp in enumerate((stamps[3], stamps[-1])):
        fetching = Fetching(far.engine, "alf1", Repository(tmp_path / f"back-{number}"))
        fetching.repository.root.mkdir()
        known = learn(fetching, backup=stamp)
        found = fetch(fetching, known, plan_for(fetching, known, stamp, None))
        assert not [item for item in found if not item.startswith("configuration/")], "these are made up"
        back = listing(fetching.repository.root)
        wanted = {name: what for name, what in here.items() if stamp in name}
        assert f"contentstore/days/{stamp}/{HOT}" in wanted
        assert {name: back.get(name) for name in wanted} == wanted
    later = far.disk.snapshot(far.disk.now, copied=(HOT,)).stamp
    assert far.copy() == [later], "what is there is not sent again"


@pytest.mark.slow
def test_one_that_cannot_be_read_does_not_keep_those_here_that_wait_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, stamps = hourly_sets(tmp_path)
    program = tmp_path / "bin/restic"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n/usr/bin/restic "$@"; code=$?\n'
        f'case " $* " in *" backup "*"id={stamps[4]}"*) exit 3;; esac\nexit $code\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    arrived: list[str] = []
    with pytest.raises(ToolFailed, match="exit code 3"):
        for sent in send_together(far.host, far.engine, begin(far.host, far.engine)[1], Watching()):
            arrived += sent.stamps
    assert arrived == [stamp for stamp in stamps if stamp != stamps[4]]
    assert read_own(far.host, far.engine).sets.keys() == set(arrived)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert far.copy() == [stamps[4]]
    assert all(read_own(far.host, far.engine).has(item) for item in read_catalogue(far.repository).sets)


@pytest.mark.slow
def test_an_id_whose_sending_did_not_end_is_sent_again_and_those_that_arrived_with_it_are_not(
    tmp_path: Path,
) -> None:
    far, stamps = hourly_sets(tmp_path)
    far.copy()
    one, taken_at = stamps[2], far.far.sets[stamps[2]].taken_at
    with pytest.raises(KeyboardInterrupt), noted_sending(far.repository, one, [one], taken_at):
        raise KeyboardInterrupt
    assert read_own(far.host, far.engine).sets.keys() == {*stamps} - {one}
    plan = make_prune_plan(far.host, far.engine, utc_now())
    assert not plan.removals and "sent together with" in {item.name: item.reason for item in plan.items}[one]
    assert far.copy() == [one]
    again = make_prune_plan(far.host, far.engine, utc_now())
    assert (again.snapshots, len(again.items)) == (2, len(stamps) + 1) and not again.removals


@pytest.mark.slow
def test_what_was_sent_together_is_forgotten_once_nothing_of_it_stays(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    first, second = far.disk.run("9d", copied=DAYS), far.disk.run("8d", copied=DAYS)
    assert sorted(far.copy()) == [first, second]
    third, fourth = far.disk.run("2d", copied=DAYS), far.disk.run("1d", copied=DAYS)
    assert sorted(far.copy()) == [third, fourth]
    host = far.host_with(offsite_grace_days=0, minimum_redundancy=1)
    remove_set(far, first)
    plan = make_prune_plan(host, far.engine, utc_now())
    reasons = {item.name: item.reason for item in plan.items}
    assert not plan.removals and reasons[first] == f"sent together with {second}, which stays"
    remove_set(far, second)
    plan = make_prune_plan(host, far.engine, utc_now())
    assert {item.name for item in plan.removals} == {first, second} and len(plan.forgotten) == 1
    assert carry_out(host, far.engine, plan) == "1 snapshots removed off-site, 1 stay"
    assert read_own(host, far.engine).sets.keys() == {third, fourth}


def remove_set(far: FarDisk, stamp: str) -> None:
    """As retention does it, once no other set refers to its days."""
    store = far.repository.contentstore
    configuration = far.repository.configuration(stamp)
    for path in (far.repository.base(stamp), store.snapshot(stamp), store.day_trees(stamp), configuration):
        remove_tree(path)
    for tree in (store.snapshot(stamp), configuration):
        metadata_of(tree).unlink()
    assert stamp not in {part.stamp for part in read_catalogue(far.repository).parts}
