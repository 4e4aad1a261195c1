"""Refusals because of the host: programs, space, mount points, an unfinished restore."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.repository.records import MAIN_STORE, Tablespace
from alfresco_backup.restore.planning.facts import Space, StoreFacts
from alfresco_backup.settings.commands import edit_setting, program_command, undo_command
from tests.support.restore_worlds import (
    BACKUP,
    DATA,
    GIB,
    SIZE,
    STAMP,
    STORE,
    World,
    at,
    base,
    live_server,
    local_zone,
    short,
    wal_map,
)

PLAIN = World([base(3), base(20)], wal_map((1, 1, 50)))


def refusal(world: World, kind="pitr", **wanted) -> Refused:
    with pytest.raises(Refused) as caught:
        world.plan(kind, **wanted)
    return caught.value


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


def test_no_server_of_the_bases_version_is_here():
    world = World([base(3, version=100023)], wal_map((1, 1, 50)))
    said = refusal(world, "full")
    assert said.message == (
        "base backup 20261122T100300Z is of PostgreSQL 10, whose server programs are not installed here; "
        "found: /alf/postgresql/bin (15.18), /usr/lib/postgresql/16/bin (16.4)"
    )
    setting = edit_setting("PG_BINDIR", "/usr/lib/postgresql/10/bin")
    assert said.hint == f"install PostgreSQL 10, or {setting}"


def test_a_version_nobody_knows_is_refused_rather_than_guessed():
    said = refusal(World([base(3, version=90299)], wal_map((1, 1, 50))), "full")
    assert said.message == "PostgreSQL version 90299 is not supported; 9.4 to 18 are"
    old = Programs(Path("/old/bin"), 90426)
    world = World([base(3, version=90500)], wal_map((1, 1, 50)), facts={"programs": (old,)})
    assert "is of PostgreSQL 9.5, whose server programs" in refusal(world, "full").message


def test_an_unfinished_restore_comes_first():
    said = refusal(replace(PLAIN, facts={"unfinished": ("20261120T000000Z",)}), "full")
    assert said.message == "restore 20261120T000000Z of alfresco-1 was interrupted; undo it first"
    assert said.hint == undo_command("20261120T000000Z", "alfresco-1")


def test_too_little_space_is_named_by_file_system():
    tight = (Space(Path("/alf"), 1, GIB), Space(BACKUP, 2, GIB))
    said = refusal(replace(PLAIN, facts={"spaces": tight}), "full")
    assert said.message == (
        "not enough space: /alf/data: 2.0 GiB needed (database 2.0 GiB, WAL to replay 1.0 MiB, content of "
        "contentstore 0 B), 1.0 GiB free. Data that earlier restores set aside can be removed by undo "
        "--discard"
    )
    assert said.hint == "df -h /alf/data"


def test_replacing_needs_the_space_of_a_second_store():
    tight = (Space(Path("/alf"), 1, 5 * GIB), Space(BACKUP, 2, GIB), Space(STORE, 3, GIB // 2))
    world = replace(PLAIN, facts={"spaces": tight})
    assert world.plan("full").space[1].needed_bytes == 0
    said = refusal(world, "full", contentstore="replace")
    assert said.message.startswith(
        "not enough space: /alf/contentstore: 1.0 GiB needed (content of contentstore 1.0 GiB), "
        "512.0 MiB free. "
    )


def test_all_wal_that_never_reached_the_archive_needs_space_though_little_of_it_is_needed():
    """A BACKUP_DIR that is nearly full is the usual reason why it was never archived."""
    tight = (Space(Path("/alf"), 1, 5 * GIB), Space(BACKUP, 2, GIB))
    world = replace(PLAIN, facts={"spaces": tight}, live=live_server((1, 41, 50 + 2048)))
    for plan in (partial(refusal, world, "full"), partial(refusal, world, target_time=at(51.5))):
        assert plan().message.startswith(
            f"not enough space: /backup/restores/alfresco-1/{STAMP}/wal: 2.0 GiB needed (WAL saved that is "
            "not in the archive 2.0 GiB), 1.0 GiB free. "
        )
    saved = replace(world, live=live_server((1, 41, 50 + 1024))).pitr(51.5)
    assert [short(name) for name in saved.database.live_segments] == ["1:51", "1:52"]
    (need,) = [need for need in saved.space if need.path == saved.database.saved_wal]
    assert need.needed_bytes == GIB
    unread = {"spaces": tight, "archive_readable": False}
    world = World([base(3, own_wal=True)], wal_map(), live=live_server((1, 41, 50 + 2048)), facts=unread)
    assert "2.0 GiB needed (WAL saved" in refusal(world, "full").message
    foreign = live_server((1, 41, 50 + 2048), owner="7000000000000000001")
    plan = replace(world, live=foreign).plan("full")
    assert [need.needed_bytes for need in plan.space if need.path == plan.database.saved_wal] == [SIZE]


def test_a_mount_point_cannot_be_set_aside():
    said = refusal(replace(PLAIN, facts={"mount_points": (DATA,)}), "full")
    assert said.message.startswith("/alf/data is a mount point, which cannot be set aside by renaming")
    within = replace(PLAIN, facts={"data_mounts": (DATA / "pg_wal",)})
    told = "/alf/data/pg_wal is mounted in the data directory and moves with it when that is set aside"
    assert [line.startswith(told) for line in within.plan("full").warnings].count(True) == 1
    store = replace(PLAIN, facts={"mount_points": (STORE,)})
    assert store.plan("full").content[0].set_aside is None
    said = refusal(store, "full", contentstore="replace")
    assert "use fill, which copies what is missing and deletes nothing" in said.message
    assert said.hint == program_command("restore", "--mode", "full")
    volumes = StoreFacts(MAIN_STORE, STORE, exists=True, bytes=GIB, mounts=(STORE / "vol1", STORE / "vol2"))
    inside = replace(PLAIN, facts={"stores": (volumes,)})
    assert inside.plan("full").content[0].set_aside is None
    said = refusal(inside, "full", contentstore="replace")
    assert said.message == (
        "contentstore replace: /alf/contentstore/vol1, /alf/contentstore/vol2 is mounted in "
        "/alf/contentstore, which cannot be set aside by renaming it: the mount would move with it; use "
        "fill, which copies what is missing and deletes nothing"
    )
    assert said.hint == program_command("restore", "--mode", "full")
    space = Tablespace(16400, "fast", "/fast/pg")
    world = World(
        [base(3, tablespaces=(space,))], wal_map((1, 1, 50)), facts={"mount_points": (Path("/fast/pg"),)}
    )
    assert refusal(world, "full").message.startswith("/fast/pg is a mount point")


def test_no_content_at_all_is_to_be_had():
    gone = (StoreFacts(MAIN_STORE, STORE, exists=False),)
    said = refusal(replace(PLAIN, full_sets=False, facts={"stores": gone}), target_time=at(30))
    assert said.message == (
        "there is no snapshot of the content store /alf/contentstore, and the store does not exist: only "
        "the database can be restored, and every document would be missing"
    )
    target = at(30).isoformat()
    assert said.hint == program_command("restore", "--mode", "postgres", "--target-time", target)
