"""A data directory whose pg_wal lies on another disk: set aside with it, and led to again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.restore.planning.plan import Move, Step
from alfresco_backup.restore.planning.plan_text import plan_markdown
from alfresco_backup.restore.undo.undo_plan import set_aside_by
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from demo.places import give_to
from flows.backup import backup
from flows.restore_full import restore_full
from flows.undo_restore import undo_restore
from tests.support.places import reachable_directory
from tests.support.restore_worlds import World, base, live_server, snapshot, wal_map
from tests.support.restoring import (
    details,
    differences,
    forget_slot,
    killed_restore,
    restores_of,
    state_of,
    undo_latest,
)

EXECUTE = {"mode": "execute", "confirm": "demo"}
OUTSIDE = Path("/wal/pg_wal")


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    """A host made with initdb -X, and its set."""
    with reachable_directory() as directory, pytest.MonkeyPatch.context() as patch:
        disk = directory / "wal disk"
        disk.mkdir()
        bare = DemoHost.install(directory / "host", durable=False)
        give_to(disk, bare.cluster.account)
        host = replace(bare, cluster=replace(bare.cluster, initdb_options=("-X", str(disk / "pg_wal"))))
        try:
            host.furnish(40)
            patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
            backup()
            yield host
        finally:
            host.destroy()


def wal_disk(host: DemoHost) -> Path:
    return host.directory.parent / "wal disk"


def test_wal_on_another_disk_is_put_back_after_a_kill_and_led_to_after_a_restore(host: DemoHost) -> None:
    link = host.layout.data_directory / host.cluster.facts.wal_directory
    in_set = host.writer.state.copy()
    host.writer.add(3)
    lived = host.writer.state.copy()
    host.writer.close()
    host.stop()
    home, disk = state_of(host), details(wal_disk(host))
    entry = {"entry": "step-end", "step": Step.EXTRACT_DATABASE.value}
    assert killed_restore(host, "restore_full", entry, 1, EXECUTE)
    undo_latest(host)
    assert differences(home, state_of(host)) == []
    assert differences(disk, details(wal_disk(host))) == []
    host.start()
    forget_slot(host)
    text = restore_full(**EXECUTE)
    assert host.read_state().difference(in_set) == []
    assert link.is_symlink() and link.resolve() == wal_disk(host) / "pg_wal"
    asides = [
        act.target for act in set_aside_by(restores_of(host)[-1]) if act.target.parent == wal_disk(host)
    ]
    assert len(asides) == 1 and f"`{asides[0]}`" in text
    undo_restore(**EXECUTE)
    assert host.read_state().difference(lived) == []
    assert link.resolve() == wal_disk(host) / "pg_wal" and not asides[0].exists()
    undo_restore(discard=True, **EXECUTE)
    assert [path.name for path in wal_disk(host).iterdir()] == ["pg_wal"]


def world(**facts: object) -> World:
    """A host whose pg_wal is a link."""
    live = replace(live_server((1, 49, 55)), wal_location=OUTSIDE)
    return World([base(3)], wal_map((1, 1, 50)), [snapshot(5)], live, facts=facts)


def test_a_plan_says_where_the_wal_lies_and_what_becomes_of_it():
    plain = world().plan("full")
    known = world(existing=(plain.database.data_directory, OUTSIDE)).plan("full")
    aside = OUTSIDE.with_name(f"pg_wal.before-restore-{known.restore_id}")
    assert Move(OUTSIDE, aside) in known.set_aside
    assert "- pg_wal in `/wal/pg_wal`, outside the data directory, as it is now" in plan_markdown(known)
    assert known.warnings == ()


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"existing": (OUTSIDE,), "mount_points": (OUTSIDE,)}, "is a mount point and cannot be renamed"),
        ({"existing": ()}, "does not exist"),
    ],
)
def test_wal_that_cannot_stay_outside_is_a_warning_in_the_plan(facts, why):
    plan = world(**facts).plan("full")
    assert plan.database.wal_location is None
    assert plan.warnings[0] == (
        f"pg_wal of the server in place links to /wal/pg_wal, which {why}: the restored pg_wal will be a "
        "folder inside the data directory; move it afterwards, while PostgreSQL is down"
    )
