"""A restore killed at any step: the host is put back byte for byte, and can be restored afterwards."""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.host.service_control import look_at
from alfresco_backup.restore.journal.journal_record import Record, RestoreState, find_unfinished
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.undo.undo_plan import make_undo_plan, may_be_in_use
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_pitr import restore_pitr
from tasks.restore.undo import discard, find_restore, undo
from tests.support.common import temporary_demo_host
from tests.support.restoring import (
    Detail,
    differences,
    forget_slot,
    interrupted_restore,
    killed_restore,
    loaded,
    state_of,
    undo_latest,
)


class Scene:
    """A stopped host with a set, whose content store has lost some documents and holds a short one."""

    def __init__(self, host: DemoHost) -> None:
        self.host = host
        backup()
        host.writer.add(5)
        host.writer.add(5)
        self.moment: datetime = host.writer.commits[0].committed_at
        host.writer.close()
        self.expected = host.writer.state_at(self.moment)
        self.damaged = [
            host.layout.contentstore / item.path for item in self.expected.live_documents()[10:40:3]
        ]
        self.damaged[0].write_bytes(b"cut off")
        for path in self.damaged[1:]:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        host.stop()
        self.before: dict[str, Detail] = state_of(host)

    def kill_after(self, entry: dict[str, str], count: int = 1, strategy: str = "fill") -> bool:
        return killed_restore(self.host, "restore_pitr", entry, count, self.wanted(strategy))

    def wanted(self, strategy: str = "fill") -> dict[str, str]:
        """The parameters of restore-pitr."""
        return {
            "target_time": self.moment.isoformat(),
            "contentstore": strategy,
            "mode": "execute",
            "confirm": self.host.name,
        }


def step(name: Step) -> dict[str, str]:
    return {"entry": "step", "step": name.value}


def end_of(name: Step) -> dict[str, str]:
    return {"entry": "step-end", "step": name.value}


def act(name: str) -> dict[str, str]:
    return {"entry": "act", "act": name}


@pytest.fixture(scope="module")
def scene(prefect_server: None) -> Iterator[Scene]:
    with temporary_demo_host(documents=80) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Scene(host)


@pytest.mark.parametrize(
    ("entry", "count", "strategy"),
    [
        ({"entry": "begin"}, 1, "fill"),
        (act("Stopped"), 2, "fill"),
        (end_of(Step.SAVE_WAL), 1, "fill"),
        (act("Renamed"), 1, "fill"),  # before the data directory is set aside
        ({"entry": "done", "act": "Renamed"}, 1, "fill"),
        (act("Created"), 1, "fill"),  # before anything is extracted
        (end_of(Step.EXTRACT_DATABASE), 1, "fill"),
        (act("Renamed"), 2, "fill"),  # before the new data directory gets its name
        (step(Step.RECOVER_DATABASE), 1, "fill"),
        (end_of(Step.RECOVER_DATABASE), 1, "fill"),
        (act("Filled"), 1, "fill"),
        (end_of(Step.RESTORE_CONTENT), 1, "fill"),
        (end_of(Step.CHECK_CONTENT), 1, "replace"),
        (step(Step.OPEN_DATABASE), 1, "fill"),
        (end_of(Step.OPEN_DATABASE), 1, "fill"),
        (act("Renamed"), 4, "replace"),  # before the new store gets its name
        (end_of(Step.SET_ASIDE_INDEXES), 1, "replace"),
    ],
)
def test_a_host_whose_restore_was_killed_is_put_back_byte_for_byte(
    scene: Scene, entry: dict[str, str], count: int, strategy: str
) -> None:
    assert scene.kill_after(entry, count, strategy)
    (record,) = find_unfinished(loaded(scene.host).repository.restores(scene.host.name))
    with pytest.raises(Refused, match="was interrupted; this host is only partly restored") as refusal:
        restore_pitr(target_time=scene.moment)
    assert undo_command(record.restore_id, scene.host.name) in refusal.value.hint
    assert undo_latest(scene.host).restore_id == record.restore_id
    assert_put_back(scene, record)


def assert_put_back(scene: Scene, record: Record) -> None:
    """Byte for byte; from the start of PostgreSQL on with what was restored kept beside it."""
    if not may_be_in_use(record):
        assert differences(scene.before, state_of(scene.host)) == []
        return
    after = state_of(scene.host)
    kept = f"alf_data/postgresql.undone-{record.restore_id}"
    assert f"{kept}/PG_VERSION" in after
    assert (
        differences(without_times(scene.before), without_times(after, f".undone-{record.restore_id}")) == []
    )
    assert scene.host.home / kept in discard(
        find_restore(loaded(scene.host), record.restore_id, discard=True)
    )
    assert differences(without_times(scene.before), without_times(state_of(scene.host))) == []
    scene.before = state_of(scene.host)


EXTRACTS_A_PART = """#!/bin/sh
case "$*" in *base.tar.zst*) ;; *) exec {real} "$@" ;; esac
{real} "$@" | head -c 6000000
touch {folder}/reached
exec sleep 600
"""
COPIES_SLOWLY = """#!/bin/sh
case "$*" in *--temp-dir=*) touch {folder}/reached; exec {real} --bwlimit=1 "$@" ;; esac
exec {real} "$@"
"""
WAITS_FOR_THE_SECOND_SEGMENT = """#!/bin/sh
case "$1" in *.history) exec {real} "$@" ;; esac
if [ -e {folder}/first ]; then
    touch {folder}/reached
    until [ -e {folder}/go ]; do sleep 0.1; done
fi
touch {folder}/first
exec {real} "$@"
"""


def stand_in(folder: Path, name: str, text: str) -> Path:
    """A program found before the real one, that leaves a file `reached` when it is where it shall be."""
    folder.chmod(0o777)
    real = shutil.which(name)
    if real is None:
        real = str(shutil.copy(PROJECT_DIRECTORY / "deployments/wal" / name, folder / f"real-{name}"))
    program = folder / name
    program.write_text(text.format(real=real, folder=folder))
    program.chmod(0o755)
    return program


def killed_inside(scene: Scene, step: Step) -> Record:
    """The restore that was killed, which had begun a step and not ended it."""
    (record,) = find_unfinished(loaded(scene.host).repository.restores(scene.host.name))
    assert (record.steps[-1].step, record.steps[-1].seconds) == (step, None)
    return record


def test_a_restore_killed_inside_the_extraction_is_put_back(scene: Scene, reachable_path: Path) -> None:
    stand_in(reachable_path, "zstd", EXTRACTS_A_PART)
    data = scene.host.layout.data_directory

    def extracting() -> bool:
        begun = data.parent.glob(f"{data.name}.restoring-*/*")
        return (reachable_path / "reached").exists() and any(begun)

    interrupted_restore(scene.host, "restore_pitr", scene.wanted(), extracting, programs=reachable_path)
    record = killed_inside(scene, Step.EXTRACT_DATABASE)
    assert not data.exists()
    assert undo_latest(scene.host).restore_id == record.restore_id
    assert differences(scene.before, state_of(scene.host)) == []


def test_a_restore_killed_inside_an_rsync_is_put_back(scene: Scene, reachable_path: Path) -> None:
    stand_in(reachable_path, "rsync", COPIES_SLOWLY)

    def missing() -> int:
        return sum(not path.exists() for path in scene.damaged)

    lost = missing()
    assert lost > 1
    interrupted_restore(
        scene.host, "restore_pitr", scene.wanted(), lambda: missing() < lost, programs=reachable_path
    )
    record = killed_inside(scene, Step.RESTORE_CONTENT)
    assert 0 < missing() < lost
    undo_latest(scene.host)
    assert_put_back(scene, record)


def test_a_restore_killed_inside_the_replay_is_put_back_while_the_server_waits_for_wal(
    scene: Scene, reachable_path: Path
) -> None:
    program = stand_in(reachable_path, "restore-wal", WAITS_FOR_THE_SECOND_SEGMENT)
    interrupted_restore(
        scene.host,
        "restore_pitr",
        scene.wanted(),
        (reachable_path / "reached").exists,
        programs=reachable_path,
        restore_wal=program,
    )
    record = killed_inside(scene, Step.RECOVER_DATABASE)
    assert look_at(loaded(scene.host), "postgresql").pid
    try:
        undo_latest(scene.host)
    finally:
        (reachable_path / "go").touch()
    assert look_at(loaded(scene.host), "postgresql").down
    assert_put_back(scene, record)


def test_an_undo_that_is_broken_off_anywhere_goes_on_where_it_stopped(scene: Scene) -> None:
    assert scene.kill_after(end_of(Step.RESTORE_CONTENT), 1, "replace")
    host = loaded(scene.host)
    record = find_restore(host, "latest", discard=False)

    class BrokenOffError(Exception):
        pass

    for count in range(1, len(make_undo_plan(record))):
        said = iter(range(count))

        def say(_: str, said: Iterator[int] = said) -> None:
            if next(said, None) is None:
                raise BrokenOffError

        try:
            undo(host, record, say)
        except BrokenOffError:
            assert find_restore(host, "latest", discard=False).state is RestoreState.UNDOING
        else:
            break
    with pytest.raises(Refused, match="it is undone"):
        find_restore(host, record.restore_id, discard=False)
    assert_put_back(scene, record)


def test_a_restore_killed_after_its_end_counts_as_complete_and_what_it_brought_outlives_the_undo(
    scene: Scene,
) -> None:
    assert scene.kill_after(step(Step.START_ALFRESCO))
    record = undo_latest(scene.host)
    assert record.state is RestoreState.COMPLETED
    assert_put_back(scene, record)


def test_work_done_by_hand_in_what_a_killed_restore_left_outlives_the_undo(scene: Scene) -> None:
    """The flow died, the administrator started PostgreSQL, and people worked."""
    assert scene.kill_after(end_of(Step.OPEN_DATABASE))
    scene.host.start("postgresql")
    scene.host.cluster.sql("CREATE TABLE work AS SELECT 'done by hand' AS what")
    record = undo_latest(scene.host)
    kept = scene.host.home / f"alf_data/postgresql.undone-{record.restore_id}"
    tables = [path for path in kept.glob("base/*/*") if path.is_file()]
    assert any(b"done by hand" in path.read_bytes() for path in tables)
    assert look_at(loaded(scene.host), "postgresql").down
    assert_put_back(scene, record)


def without_times(found: dict[str, Detail], left_out: str = "//") -> dict[str, Detail]:
    """Without what is left out, and without the times of folders: names came and went in them."""
    return {
        name: detail[:3] if str(detail[0]).startswith("d") else detail
        for name, detail in found.items()
        if left_out not in name
    }


def test_after_all_that_the_host_is_restored_to_completion(scene: Scene) -> None:
    forget_slot(scene.host)
    said = restore_pitr(target_time=scene.moment, mode="execute", confirm=scene.host.name)
    assert "9 files copied" in said and "1 replaced" in said and "all are there" in said
    assert scene.host.read_state().difference(scene.expected) == []
    assert scene.host.missing_documents(scene.expected) == []
