"""Which snapshots a restore takes content from, in which order, and what it warns of."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.repository.records import MAIN_STORE
from alfresco_backup.restore.planning.facts import Space, StoreFacts
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.request import RestoreRequest, command_of
from alfresco_backup.settings.commands import edit_setting
from tests.support.restore_worlds import (
    BACKUP,
    GIB,
    STAMP,
    STORE,
    World,
    base,
    local_zone,
    minute,
    of_set,
    snapshot,
    wal_map,
)

WORLD = World([base(3)], wal_map((1, 1, 50)), [snapshot(number) for number in (10, 20, 30)])
GONE = (StoreFacts(MAIN_STORE, STORE, exists=False),)
DAY_IN_MINUTES = 24 * 60


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    with local_zone("UTC"):
        yield


def sources(plan: RestorePlan, store: int = 0) -> list[tuple[str, float | None]]:
    """The sources of a store as (role, minute the snapshot started)."""
    return [
        (item.role, round(minute(item.snapshot.started_at), 3) if item.snapshot else None)
        for item in plan.content[store].sources
    ]


def test_content_of_a_moment_comes_from_the_snapshots_around_it():
    assert sources(WORLD.pitr(15)) == [("after", 20), ("before", 10)]


def test_a_snapshot_started_at_the_very_moment_holds_all_of_it():
    assert sources(WORLD.pitr(20)) == [("after", 20), ("before", 10)]


def test_a_snapshot_still_running_at_the_moment_is_the_one_before():
    assert sources(WORLD.pitr(20.1)) == [("after", 30), ("before", 20)]


def test_a_plan_tells_of_files_that_were_changed_in_place_since_and_what_has_them_as_they_were():
    changed = replace(snapshot(20), changed_files=2, changed=("2023/1/1/1/1/a.bin", "2023/1/1/1/1/b.bin"))
    world = replace(WORLD, snapshots=[snapshot(10), changed, snapshot(30)])
    head = (
        "store contentstore: 2 files (2023/1/1/1/1/a.bin, ...) were changed in place later, as snapshot "
        f"{changed.stamp} recorded; what is larger than it was stays as changed"
    )
    assert world.pitr(15).warnings == (f"{head}; snapshot {snapshot(10).stamp} has them as they were",)
    assert world.pitr(25).warnings == ()
    request = RestoreRequest("full")
    exact = replace(request, contentstore="replace")
    assert world.ask(request).warnings == (f"{head}. HINT: {command_of(exact)}",)
    assert world.ask(exact).warnings == ()
    assert world.plan("contentstore", backup=base(3).stamp).warnings[0].startswith(head)
    assert world.plan("contentstore").warnings == ()


def test_where_none_started_after_the_moment_the_store_fills_the_rest():
    plan = WORLD.pitr(40)
    assert sources(plan) == [("live", None), ("before", 30)]
    assert plan.warnings == ()


def test_only_sources_that_hold_the_target_state_replace_files():
    around, late = WORLD.pitr(15).content[0].sources, WORLD.pitr(40).content[0].sources
    assert [item.replaces for item in (*around, *late)] == [True, False, False, False]


def test_when_the_store_is_gone_too_the_plan_says_which_documents_will_be_missing():
    plan = replace(WORLD, facts={"stores": GONE}).pitr(40)
    assert sources(plan) == [("before", 30)]
    assert plan.warnings == (
        "store contentstore: no snapshot started after the target time and the store does not exist; "
        "documents added after 2026-11-22 10:30:00 +00:00 (UTC) will be missing. A target time up to then "
        "has all its documents",
    )


def test_before_the_first_snapshot_the_first_one_after_is_enough():
    late = replace(WORLD, full_sets=False)
    assert sources(late.pitr(5)) == [("after", 10)]


def test_replacing_takes_everything_from_the_snapshots_around():
    plan = WORLD.pitr(15, contentstore="replace")
    assert sources(plan) == [("after", 20), ("before", 10)]
    assert plan.content[0].set_aside == Path(f"/alf/contentstore.before-restore-{STAMP}")


def test_replacing_without_a_later_snapshot_takes_the_rest_from_the_store_set_aside():
    plan = WORLD.pitr(40, contentstore="replace")
    assert sources(plan) == [("live", None), ("before", 30)]
    words = next(item.what for item in plan.steps if item.step == "set-aside-content")
    assert words == f"rename /alf/contentstore to /alf/contentstore.before-restore-{STAMP}"


def test_a_missing_store_has_nothing_to_set_aside():
    plan = replace(WORLD, facts={"stores": GONE}).pitr(15, contentstore="replace")
    assert (plan.content[0].set_aside, sources(plan)) == (None, [("after", 20), ("before", 10)])


def test_a_late_snapshot_after_a_long_pause_does_not_prove_that_nothing_was_purged():
    late = snapshot(15 * DAY_IN_MINUTES)
    world = World([base(3)], wal_map((1, 1, 50)), [snapshot(10), late], now=16 * DAY_IN_MINUTES)
    plan = world.pitr(20)
    assert sources(plan) == [("after", 15 * DAY_IN_MINUTES), ("live", None), ("before", 10)]
    assert "more than 14 days later: files purged meanwhile may be missing" in plan.warnings[0]
    longer = replace(world, facts={"orphan_protect_days": 30.0})
    assert longer.pitr(20).warnings == ()


def test_of_a_moment_long_ago_the_store_alone_is_not_trusted():
    world = replace(WORLD, now=20 * DAY_IN_MINUTES)
    assert "is more than 14 days ago: files deleted since may have been purged" in world.pitr(40).warnings[0]
    assert world.pitr(15).warnings == ()
    postgres = world.plan("postgres", backup="20261122T100300Z")
    assert "the content store is not restored" in postgres.warnings[0]


def test_eager_cleanup_is_told():
    world = replace(WORLD, facts={"eager_cleanup": True})
    assert "Alfresco purges deleted files at once" in world.pitr(15).warnings[0]


def test_a_full_restore_takes_the_sets_own_snapshot_only():
    assert sources(WORLD.plan("full")) == [("set", 3.6)]


def test_a_full_restore_tells_of_a_snapshot_that_finished_after_the_protection_time():
    assert WORLD.plan("full").warnings == ()
    hasty = replace(WORLD, facts={"orphan_protect_days": 10 / 86400})
    (warning,) = hasty.plan("full").warnings
    assert warning.startswith(
        "store contentstore: the snapshot 20261122T100300Z of contentstore finished at "
    )
    assert warning.endswith("documents may be missing from this set")


def test_content_only_takes_the_newest_snapshot_or_the_one_asked_for():
    assert sources(WORLD.plan("contentstore")) == [("newest", 30)]
    assert sources(WORLD.plan("contentstore", backup="20261122T102000Z")) == [("set", 20)]
    assert sources(WORLD.plan("contentstore", backup="20261122T100300Z")) == [("set", 3.6)]


def test_snapshots_dated_in_the_future_are_left_out():
    world = replace(WORLD, snapshots=[*WORLD.snapshots, snapshot(70)])
    assert sources(world.plan("contentstore")) == [("newest", 30)]
    assert sources(world.pitr(40)) == [("live", None), ("before", 30)]


def test_content_only_without_a_snapshot_is_refused():
    with pytest.raises(Refused, match="no backup is complete enough for a contentstore restore"):
        replace(WORLD, snapshots=[], full_sets=False).plan("contentstore")


# A host with a second store, which the nightly set does not always hold.
DELETED = StoreFacts("deleted", Path("/alf/deleted"), exists=True)
STORES = (StoreFacts(MAIN_STORE, STORE, exists=True, bytes=GIB // 2), DELETED)


def test_each_store_has_its_own_sources():
    more = [*WORLD.snapshots, snapshot(25, store="deleted")]
    world = replace(WORLD, snapshots=more, facts={"stores": STORES})
    plan = world.pitr(22)
    assert [item.store for item in plan.content] == [MAIN_STORE, "deleted"]
    assert sources(plan, 1) == [("after", 25)]


def test_a_store_the_set_does_not_hold_is_filled_from_around_the_sets_end():
    more = [*WORLD.snapshots, snapshot(25, store="deleted")]
    plan = replace(WORLD, snapshots=more, facts={"stores": STORES}).plan("full")
    assert sources(plan, 1) == [("after", 25)]
    with_own = replace(WORLD, snapshots=[of_set(base(3), "deleted")], facts={"stores": STORES}).plan("full")
    assert sources(with_own, 1) == [("set", 3.6)]


def test_a_store_without_any_snapshot_is_left_as_it_is_and_named():
    plan = replace(WORLD, facts={"stores": STORES}).pitr(15)
    assert [item.store for item in plan.content] == [MAIN_STORE]
    assert plan.warnings == ("store deleted: there is no snapshot to fill it from; it is left as it is",)


SECOND = replace(snapshot(20, store="second"), source="/alf/second")
NAMED = edit_setting("EXTRA_CONTENT_DIRS", "deleted=/alf/deleted,second=/alf/second")


def test_a_store_in_the_backup_that_no_setting_names_is_refused():
    """As on a host that was set up again, whose .env lacks EXTRA_CONTENT_DIRS."""
    own = replace(of_set(base(3), "second"), source="/alf/second")
    world = replace(WORLD, snapshots=[*WORLD.snapshots, own, SECOND], facts={"stores": STORES})
    asked: list[tuple[Callable[[], RestorePlan], str]] = [
        (lambda: world.plan("full"), "20261122T100300Z"),
        (lambda: world.plan("full", backup="20261122T100300Z", contentstore="replace"), "20261122T100300Z"),
        (lambda: world.plan("contentstore", backup="20261122T102000Z"), "20261122T102000Z"),
        (lambda: world.pitr(15), "20261122T102000Z"),
        (lambda: world.pitr(22), "20261122T102000Z"),
    ]
    for plan, stamp in asked:
        with pytest.raises(Refused) as refused:
            plan()
        assert refused.value.message == (
            "the backup contains content stores that are not in EXTRA_CONTENT_DIRS: second (backed up from "
            f"/alf/second, in {stamp}); their documents would be missing"
        )
        assert refused.value.hint == f"{NAMED} (with the paths of this host)"
    assert world.plan("postgres").content == ()
    named = (*STORES, StoreFacts("second", Path("/srv/second"), exists=False))
    assert sources(replace(world, facts={"stores": named}).plan("full"), 1) == [("set", 3.6)]


def test_a_store_that_was_given_up_is_warned_of_where_the_backup_is_from_after_that():
    world = replace(WORLD, snapshots=[SECOND, *(snapshot(number) for number in (10, 20, 30, 40))])
    for plan in (world.plan("full"), world.plan("contentstore"), world.pitr(35), world.pitr(50)):
        (warning,) = [line for line in plan.warnings if "is not in EXTRA_CONTENT_DIRS" in line]
        assert warning == (
            "store second is not in EXTRA_CONTENT_DIRS and is not restored; it was last backed up from "
            "/alf/second at 2026-11-22 10:20:00 +00:00 (UTC). If it is still in use: "
            f"{edit_setting('EXTRA_CONTENT_DIRS', 'second=/alf/second')} (with the paths of this host)"
        )


def test_a_fill_needs_the_space_of_what_the_store_lacks():
    world = replace(WORLD, facts={"stores": STORES[:1]})
    (need,) = world.plan("contentstore").space
    assert need.needed_bytes == GIB // 2
    gone = replace(WORLD, facts={"stores": GONE}).plan("contentstore").space
    assert [item.needed_bytes for item in gone] == [GIB]


def test_what_nobody_measured_is_said_to_be_unknown():
    unknown = (StoreFacts(MAIN_STORE, STORE, exists=True),)
    (need,) = replace(WORLD, facts={"stores": unknown}).plan("contentstore").space
    assert need.why == "content of contentstore (size unknown)"


def test_a_store_on_a_file_system_of_its_own_is_counted_there():
    spaces = (Space(Path("/alf"), 1, 9 * GIB), Space(STORE, 3, 8 * GIB), Space(BACKUP, 2, GIB))
    plan = replace(WORLD, facts={"stores": GONE, "spaces": spaces}).plan("full")
    assert [(str(item.path), item.free_bytes // GIB) for item in plan.space] == [
        ("/alf/data", 9),
        ("/alf/contentstore", 8),
    ]


def test_a_store_in_use_that_became_roots_is_warned_of():
    store = StoreFacts(MAIN_STORE, STORE, exists=True, became_roots=True)
    world = replace(WORLD, facts={"stores": (store,)})
    assert world.plan("full").warnings == (
        "store contentstore: /alf/contentstore itself belongs to root, which it did not when it was backed "
        "up; the restore does not change that. Alfresco must be able to write to it: ls -ld "
        "/alf/contentstore",
    )
    assert world.plan("full", contentstore="replace").warnings == ()
