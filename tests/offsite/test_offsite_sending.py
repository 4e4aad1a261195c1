"""What is being sent off-site stays here meanwhile; what was not sent to its end does not count there."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.offsite.copy import Watching, begin, read_own, send_together
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, metadata_of
from alfresco_backup.repository.sending import being_sent, no_new_notes, noted_sending, read_notes
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.times import utc_now
from tests.support.far_sides import FarDisk
from tests.support.places import reachable_directory
from tests.support.restore_command import PROJECT

HOLDER = """
import sys, time
from pathlib import Path
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.sending import noted_sending
from alfresco_backup.times import utc_now
with noted_sending(Repository(Path(sys.argv[1])), sys.argv[2], [sys.argv[2]], utc_now()):
    print("noted", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def far(tmp_path: Path) -> FarDisk:
    """Sets of 40, 30, 2 and 1 days ago; with the settings as they are the oldest may go."""
    disk = FarDisk(tmp_path)
    for when in ("40d", "30d", "2d", "1d"):
        disk.disk.run(when)
    disk.disk.wal("40d", "30d", "2d", "1d")
    return disk


def going(far: FarDisk) -> set[str]:
    plan = make_retention_plan(far.host.settings)
    return {item.path.name for item in plan.removals}


def test_a_set_that_is_being_sent_is_kept_with_its_wal_until_it_is_sent(far: FarDisk) -> None:
    oldest = min(going(far) & {path.name for path in far.repository.postgres.iterdir()})
    stamp = oldest.removeprefix("base-")
    before = going(far)
    with noted_sending(far.repository, stamp, [stamp], utc_now()):
        assert not any(stamp in name for name in going(far))
        assert being_sent(far.repository) == {stamp}
        kept = {item.path.name: item.reason for item in make_retention_plan(far.host.settings).kept}
        assert "is being sent off-site" in kept[oldest]
        assert any("cannot be restored without it" in reason for reason in kept.values())
    assert going(far) == before and not read_notes(far.repository)


def test_days_that_are_being_sent_are_kept_though_no_snapshot_refers_to_them(far: FarDisk) -> None:
    (far.repository.contentstore.day_trees("20260101T000000Z") / "2026/1/5/10/30").mkdir(parents=True)
    assert "20260101T000000Z" in going(far)
    with noted_sending(far.repository, "20260101T000000Z", ["20260101T000000Z"], utc_now()):
        assert "20260101T000000Z" not in going(far)


def test_retention_waits_for_the_next_run_where_sending_began_after_its_plan(far: FarDisk) -> None:
    plan = make_retention_plan(far.host.settings)
    names = [item.path.name for item in plan.removals]
    stamp = next(name.removeprefix("base-") for name in names if name.startswith("base-"))
    with noted_sending(far.repository, stamp, [stamp], utc_now()):
        told = carry_out(plan).summary()
    assert told.startswith(f"Retention removed nothing this time: {stamp}, which was to be removed, is being")
    assert carry_out(make_retention_plan(far.host.settings)).counts


@pytest.mark.slow
def test_the_note_of_a_killed_sender_keeps_nothing(far: FarDisk) -> None:
    before = going(far)
    oldest = min(path.name for path in far.repository.postgres.iterdir()).removeprefix("base-")
    argv = [sys.executable, "-c", HOLDER, str(far.repository.root), oldest]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout and sender.stdout.readline() == "noted\n"
        assert being_sent(far.repository) == {oldest}
        os.kill(sender.pid, signal.SIGKILL)
    (note,) = read_notes(far.repository)
    assert (note.name, note.live) == (oldest, False)
    assert going(far) == before


@pytest.mark.slow
def test_a_set_that_retention_removed_after_the_plan_is_not_sent(far: FarDisk) -> None:
    _, shipments = begin(far.host, far.engine)
    carry_out(make_retention_plan(far.host.settings))
    gone = [item for item in shipments if not far.repository.base(item.stamp).exists()]
    assert gone
    needed = {stamp for item in shipments if item not in gone for stamp in item.needed_by}
    for item in gone:
        if not set(item.needed_by) & needed:
            assert not list(send_together(far.host, far.engine, (item,), Watching()))
    assert not read_notes(far.repository)


@pytest.mark.slow
def test_a_file_that_vanishes_while_it_is_sent_is_planned_again_once(
    far: FarDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, shipments = begin(far.host, far.engine)
    sends = far.place.parent / "sends"
    bin_folder = far.place.parent / "bin"
    bin_folder.mkdir()
    program = bin_folder / "restic"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" backup "*) echo >>{sends}\n'
        f'[ "$(wc -l <{sends})" -gt 1 ] || {{ /usr/bin/restic "$@"; exit 3; }};; esac\n'
        'exec /usr/bin/restic "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    [sent] = send_together(far.host, far.engine, shipments[:1], Watching())
    assert sends.read_text() == "\n\n"
    (there,) = far.far.snapshots
    assert there.snapshot.startswith(sent.snapshot)
    program.write_text('#!/bin/sh\ncase " $* " in *" backup "*) exit 3;; esac\nexec /usr/bin/restic "$@"\n')
    with pytest.raises(ToolFailed, match="exit code 3"):
        list(send_together(far.host, far.engine, shipments[1:2], Watching()))


@pytest.mark.slow
def test_a_snapshot_whose_sending_was_not_seen_to_end_does_not_count_and_is_sent_again(far: FarDisk) -> None:
    sent = far.copy()
    stamp = sent[0]
    with (
        pytest.raises(KeyboardInterrupt),
        noted_sending(far.repository, stamp, [stamp], far.far.sets[stamp].taken_at),
    ):
        raise KeyboardInterrupt
    assert stamp in far.far.sets and stamp not in read_own(far.host, far.engine).sets
    assert far.copy() == [stamp]
    assert read_own(far.host, far.engine).sets.keys() == set(sent)
    assert not read_notes(far.repository)


def test_the_notes_can_be_read_by_the_account_that_backup_dir_belongs_to() -> None:
    stamp = "20261101T000000Z"
    with reachable_directory() as folder:
        root = FarDisk(folder).repository.root
        os.chown(root, 65534, 65534)
        repository = Repository(root)
        with noted_sending(repository, stamp, [stamp], utc_now()), acting_as(owner_of(root)):
            assert being_sent(repository) == {stamp}
        with acting_as(owner_of(root)):
            assert being_sent(repository) == frozenset()
            with no_new_notes(repository):
                assert (repository.offsite / ".sending.lock").stat().st_uid == 65534


@pytest.mark.slow
def test_an_id_whose_days_are_lost_here_is_not_sent_as_nothing_and_does_not_count(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    first, second = far.disk.run("2d"), far.disk.run("1d")
    store = far.repository.contentstore
    for tree in (far.repository.base(first), store.snapshot(first), far.repository.configuration(first)):
        shutil.rmtree(tree)
        metadata_of(tree).unlink(missing_ok=True)
    shutil.rmtree(store.day_trees(first))
    assert far.copy() == [second]
    (item,) = read_catalogue(far.repository).sets
    assert not read_own(far.host, far.engine).has(item) and not read_notes(far.repository)
