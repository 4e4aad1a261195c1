"""Files that a fill replaces are kept whole at any moment, wherever BACKUP_DIR and volumes lie."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.restore.content import fill as kept_files
from alfresco_backup.restore.content.fill import Fill
from alfresco_backup.restore.content.fill_differences import Source
from alfresco_backup.restore.content.fill_rsync import CopyOptions
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.restore.content.test_restore_fill import STAMP, Filling, read
from tests.support.common import wait_until
from tests.support.places import directory_in
from tests.support.restoring import details, differences

pytestmark = pytest.mark.slow

MIB = 1 << 20
FILL = """
import pickle, sys
from alfresco_backup.restore.content.fill import fill_store
fill_store(pickle.loads(sys.stdin.buffer.read()), lambda done, total: None)
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    with directory_in("/dev/shm") as folder:
        yield folder


@pytest.fixture
def filling(memory: Path, tmp_path: Path) -> Filling:
    """A store in memory, whose restores are kept on another file system."""
    if memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the tests' folder lies on the file system of /dev/shm")
    filling = Filling(memory)
    filling.restore = tmp_path / "restores/demo" / STAMP
    return filling


def kill_all(mark: str) -> int:
    """Kill every process whose command line holds a text; returns how many there were."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                count += 1
        except (OSError, ValueError):
            continue
    return count


def test_a_replaced_file_is_whole_after_a_kill_while_rsync_keeps_it(filling: Filling) -> None:
    name = "2023/11/14/9/5/large.bin"
    filling.sample.write(name)
    os.truncate(filling.live / name, 301 * MIB)
    snapshot = filling.sample.snapshot()
    (filling.live / name).unlink()
    filling.sample.write(name, "old content")
    os.truncate(filling.live / name, 300 * MIB)
    before = details(filling.live)
    folder = filling.restore
    folder.mkdir(parents=True)
    filling.journal = Journal.begin(folder, folder.name, "demo", {})
    options = CopyOptions(None, 1, 0, "")
    source = Source(str(snapshot.path), True)
    fill = Fill(
        filling.live, (source,), folder / "content", filling.journal, options, 1, folder / "log", STAMP
    )
    process = subprocess.Popen([sys.executable, "-c", FILL], stdin=subprocess.PIPE, cwd=PROJECT_DIRECTORY)
    assert process.stdin
    with process.stdin as stream:
        stream.write(pickle.dumps(fill))
    kept = [place / "kept" / name for place in (fill.folder, filling.live / f".restoring-{STAMP}")]
    while process.poll() is None and not any(path.exists() for path in kept):
        pass
    process.kill()
    kill_all(str(filling.live))
    process.wait()
    wait_until(lambda: kill_all(str(filling.live)) == 0, "every rsync has ended")
    assert process.returncode == -signal.SIGKILL
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_replaced_files_are_put_back_from_both_places_where_the_end_of_a_fill_was_broken_off(
    filling: Filling, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"2023/11/14/9/{number}/a.bin" for number in range(3)]
    for name in names:
        filling.sample.write(name, "all of it")
    snapshot = filling.sample.snapshot()
    for name in names:
        filling.sample.write(name, name[-7:])
    before = details(filling.live)
    copied: list[Path] = []

    def break_off(path: Path) -> None:
        copied.append(path)
        if len(copied) == len(names) - 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept_files, "fsync_file", break_off)
    with pytest.raises(KeyboardInterrupt):
        filling.fill(snapshot.path)
    content = filling.restore.with_name("20261121T020000Z") / "content"
    assert [path.name for path in (content / "kept").rglob("*.bin")] == ["a.bin"]
    assert all(read(filling.live / name) == "all of it" for name in names)
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_what_is_replaced_on_a_volume_of_its_own_is_kept_there_first_and_put_back(
    filling: Filling, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (filling.live / "volume2").symlink_to(volume)
    name = "volume2/2023/11/14/9/5/a.bin"
    filling.sample.write(name, "all of it")
    snapshot = filling.sample.snapshot()
    filling.sample.write(name, "all")
    before, behind = details(filling.live), details(volume)
    time = volume.stat().st_mtime_ns
    filling.fill(snapshot.path)
    assert read(filling.live / name) == "all of it"
    assert read(filling.last.kept / name) == "all"
    assert volume.stat().st_mtime_ns == time
    assert sorted(path.name for path in volume.iterdir()) == ["2023"]
    filling.undo()
    assert differences(before, details(filling.live)) == []
    assert differences(behind, details(volume)) == []
