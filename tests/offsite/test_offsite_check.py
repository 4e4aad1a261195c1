"""A check reads a share of the packs and the IDs; what is damaged or missing is named."""

import os
from pathlib import Path

import pytest

from alfresco_backup.errors import NotVerified
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.check import Share, check, next_share
from alfresco_backup.offsite.engine import FarSideDamaged
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.system.files import write_json
from alfresco_backup.times import utc_now
from tests.support.far_sides import FarDisk

pytestmark = pytest.mark.slow


@pytest.fixture
def far(tmp_path: Path) -> FarDisk:
    disk = FarDisk(tmp_path)
    disk.disk.run("2d")
    disk.disk.run("1d", copied=("2026/11/20",))
    disk.copy(alone=True)
    return disk


def test_metadata_that_was_changed_here_after_it_was_sent_is_named(far: FarDisk) -> None:
    assert check(far.host, far.engine, utc_now()).metadata == 6
    newest = sorted(far.repository.configurations.glob("*.json"))[-1]
    newest.write_text(newest.read_text() + " ")
    with pytest.raises(FarSideDamaged, match=f"1 of 6 metadata files differ between .*{newest.name}"):
        check(far.host, far.engine, utc_now())


def test_shares_take_turns_and_a_lost_note_begins_with_the_first() -> None:
    assert next_share({}, 3) == Share(1, 3)
    assert next_share({"share": 1}, 3) == Share(2, 3)
    assert next_share({"share": 3}, 3) == Share(1, 3)
    assert next_share({"share": "x"}, 3) == Share(1, 3)
    assert next_share({"share": 200}, 12).number <= 12


def test_every_pack_is_read_within_the_cycle(far: FarDisk) -> None:
    host = far.host_with(offsite_check_cycle=2)
    first, second = (check(host, far.engine, utc_now()) for _ in range(2))
    assert (first.share, second.share) == (Share(1, 2), Share(2, 2))
    assert first.packs_read + second.packs_read == first.packs == len(far.packs())
    assert str(first).startswith("2 of 2 sets whole; share 1 of 2 of the packs read: ")


@pytest.mark.parametrize("what", ["data", "folders"])
def test_a_flipped_byte_is_named_with_the_sets_that_it_affects_and_sent_again(
    far: FarDisk, what: str
) -> None:
    pack = a_pack(far, what)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    heals_damage(far, pack)


def test_a_deleted_pack_is_named_with_the_sets_that_it_affects_and_sent_again(far: FarDisk) -> None:
    pack = a_pack(far, "data")
    pack.unlink()
    share = int(pack.name[:2], 16) + 1  # not read: restic would try for most of a minute
    write_json(far.repository.offsite / "check.json", {"share": share})
    heals_damage(far, pack)


def a_pack(far: FarDisk, what: str) -> Path:
    """The largest pack, of content that was sent for it; or of folders, which it is without."""
    if what == "data":
        far.disk.run("1h", copied=("2026/11/20",))
        base = sorted(far.repository.postgres.iterdir())[-1]
        (base / "backup_label.extra").write_bytes(os.urandom(300_000))
        far.copy()
    return far.packs()[0]


def heals_damage(far: FarDisk, pack: Path) -> None:
    """The check names pack and sets; what it prints to type removes them there and sends them again."""
    host = far.host_with(offsite_check_cycle=1 if pack.exists() else 256)
    sets = set(far.far.sets)
    with pytest.raises(FarSideDamaged, match=f"is damaged: .*{pack.name}.*; affected: 20") as raised:
        check(host, far.engine, utc_now())
    assert "offsite prune --damaged --execute --confirm alf1" in raised.value.hint
    plan = make_prune_plan(host, far.engine, utc_now(), damaged=True)
    assert {item.reason for item in plan.removals} == {"uses a damaged pack"}
    carry_out(host, far.engine, plan)
    assert set(far.copy()) == {item.name for item in plan.removals}
    assert check(host, far.engine, utc_now()).whole == len(sets)
    assert not make_prune_plan(host, far.engine, utc_now(), damaged=True).removals


def test_a_check_that_crashed_has_proved_nothing(far: FarDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = far.place.parent / "bin"
    bin_folder.mkdir()
    program = bin_folder / "restic"
    program.write_text('#!/bin/sh\ncase "$1" in check) kill -9 $$;; esac\nexec /usr/bin/restic "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    with pytest.raises(NotVerified, match="could not be checked"):
        check(far.host, far.engine, utc_now())


def test_a_set_without_the_days_it_refers_to_is_not_whole(far: FarDisk) -> None:
    older, newer = far.far.sets
    far.restic("forget", far.far.sets[older].snapshot)
    with pytest.raises(FarSideDamaged, match=f"1 of 1 sets .* are not whole: {newer} lacks {older}"):
        check(far.host, far.engine, utc_now())
    with action_lock(far.host, "copy"):  # it will send it
        assert str(check(far.host, far.engine, utc_now())).startswith("0 of 1 sets whole; ")
    assert far.copy() == [older]
    assert check(far.host, far.engine, utc_now()).whole == 2
