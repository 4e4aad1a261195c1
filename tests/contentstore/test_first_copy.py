"""First copies that first_copy.py makes are those that rsync makes, and fail as rsync does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.contentstore import first_copy, rsync
from alfresco_backup.contentstore.plan import SnapshotOptions, SnapshotRequest
from alfresco_backup.contentstore.rsync import Origin, RsyncOutput, copy_command, first_copy_will_do
from alfresco_backup.contentstore.scan import scan_store
from alfresco_backup.contentstore.volumes import Volume
from alfresco_backup.errors import ToolFailed
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.folders import open_folder
from alfresco_backup.system.processes import Command, run
from tests.support.stores import OLD, SampleStore, content, inodes, state

ODD = ("new\nline", "back\\slash", "\\#012", "\udcff\udcfe", "ümlaut", " space ", "#hash", ";semi", "-n", "*")
DAY = "2022/1/2"


@pytest.fixture
def first_copies(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """Every first copy is made by first_copy.py, however small; the commands that were made."""
    made: list[Command] = []
    command = rsync.first_copy_command

    def noted(*given: object) -> Command:
        made.append(command(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(rsync, "SMALLEST_FIRST_COPY", 0)
    monkeypatch.setattr("alfresco_backup.contentstore.snapshot_copy.first_copy_command", noted)
    return made


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return furnished(tmp_path)


def furnished(root: Path) -> SampleStore:
    """A store with everything that may be in one."""
    store = SampleStore(root)
    for number, name in enumerate(ODD):
        store.write(f"{DAY}/3/{number}/{name}.bin", str(number) * number)
        store.write(f"2023/5/6/{name}/file", "x" * (200_000 + number))
    store.write("loose.bin", "loose")
    store.write("2022/above.bin", "above the days")
    (store.live / "2022/link").symlink_to("above.bin")
    (store.live / DAY / "3/within").symlink_to("0")
    (store.live / DAY / "3/out").symlink_to("/dev/null")
    os.mkfifo(store.live / DAY / "3/pipe")
    (store.live / DAY / "empty folder").mkdir()
    (store.live / DAY / "4").mkdir(0o500)
    for name, mode in (("set", 0o6751), ("closed", 0o400), ("open", 0o666)):
        store.write(f"2022/2/2/{name}", name).chmod(mode)
    if os.geteuid() == 0:
        os.chown(store.live / "2022/2/2/set", 1234, 4321)
        (store.live / "2022/2/2/set").chmod(0o6751)
        os.chown(store.live / "2022/2", 1234, 4321)
        os.chown(store.live / "2022/link", 1234, 4321, follow_symlinks=False)
    for number, path in enumerate(sorted(store.live.rglob("*"), reverse=True)):
        time = OLD * 1_000_000_000 + number * 1_001_001
        os.utime(path, ns=(time, time), follow_symlinks=False)
    return store


def looks(root: Path) -> dict[str, tuple[object, ...]]:
    """All that is kept of everything below a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kept = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        numbers = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, kept)
        found[str(path.relative_to(root))] = (*numbers, status.st_mtime_ns)
    return found


def told(snapshot: Snapshot) -> dict[str, object]:
    held = {path: (day.fingerprint, day.files, day.bytes) for path, day in snapshot.days.items()}
    counts = (snapshot.files, snapshot.bytes, snapshot.directories, snapshot.new_files, snapshot.new_bytes)
    return {"days": held, "counts": counts, "vanished": snapshot.vanished, "outside": snapshot.outside}


@pytest.mark.slow
def test_it_copies_what_rsync_copies_and_says_the_same(
    store: SampleStore, first_copies: list[Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(store.live, (OLD, OLD))
    ours = store.snapshot()
    assert first_copies and not any("rsync" in command.argv for command in first_copies)
    log = store.log.read_text()
    trees = looks(store.repository.day_trees(ours.stamp))
    lists = looks(store.repository.checksums(ours.stamp))
    shutil.rmtree(store.repository.root)
    store.log.unlink()
    monkeypatch.setattr(rsync, "SMALLEST_FIRST_COPY", 10_000)
    made = len(first_copies)
    theirs = store.snapshot(stamp=ours.stamp)
    assert len(first_copies) == made
    assert told(ours) == told(theirs)
    theirs_trees = looks(store.repository.day_trees(theirs.stamp))
    assert trees.keys() == theirs_trees.keys()
    assert {
        name: (look, theirs_trees[name]) for name, look in trees.items() if look != theirs_trees[name]
    } == {}
    kept = {name: look[4] for name, look in looks(store.repository.checksums(theirs.stamp)).items()}
    assert {name: look[4] for name, look in lists.items()} == kept
    skipped = [line for line in log.splitlines() if line.startswith("skipping")]
    assert skipped == [line for line in store.log.read_text().splitlines() if line.startswith("skipping")]
    assert len(skipped) == 1


@pytest.mark.slow
def test_the_next_snapshots_link_to_it_and_change_nothing_in_it(
    store: SampleStore, first_copies: list[Command]
) -> None:
    (store.live / DAY / "3/pipe").unlink()
    first = store.snapshot()
    before = state(store.repository.day_trees(first.stamp))
    made = len(first_copies)
    assert store.snapshot("full").new_files == 0
    store.write(f"{DAY}/9/9/new.bin", "new")
    (store.live / "2022/2/2/open").chmod(0o600)
    last = store.snapshot("full")
    assert last.new_files == 1
    assert content(last.path) == content(store.live)
    now = state(store.repository.day_trees(first.stamp))
    assert {path: look[:-1] for path, look in now.items()} == {
        path: look[:-1] for path, look in before.items()
    }
    assert len(first_copies) == made, "what can be linked is left to rsync"
    assert inodes(store.repository.root).isdisjoint(inodes(store.live))


@pytest.mark.slow
def test_a_large_first_copy_is_made_without_rsync(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    for number in range(700):
        store.write(f"2022/{number % 7 + 1}/{number % 11 + 1}/{number}/file", str(number))
    snapshot = store.snapshot()
    assert content(snapshot.path) == content(store.live)
    assert snapshot.new_files == 700
    assert "Total transferred file size: " in store.log.read_text()
    assert "speedup" not in store.log.read_text(), "rsync --stats says it"


def origin_of(store: SampleStore, account: Account | None = None) -> Origin:
    volume = scan_store(store.live, 0).volumes[""]
    return Origin("", Volume(volume.real, volume.identity, account), -1)


@pytest.mark.parametrize(
    "other",
    [
        lambda request: replace(request, mode="checksum"),
        lambda request: replace(request, options=SnapshotOptions(bandwidth_limit_mib=1)),
    ],
)
def test_what_only_rsync_can_do_is_left_to_it(
    store: SampleStore, other: Callable[[SnapshotRequest], SnapshotRequest]
) -> None:
    request, origin = store.request(), origin_of(store)
    assert first_copy_will_do(request, origin, ["2022/1/2"], 300)
    assert not first_copy_will_do(request, origin, ["2022/1/2"], 299)
    assert not first_copy_will_do(request, origin, ["2022/1/2", "."], 300)
    assert not first_copy_will_do(other(request), origin, ["2022/1/2"], 300)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works with another account's rights")
def test_a_volume_that_is_read_with_the_rights_of_an_account_is_left_to_rsync(store: SampleStore) -> None:
    other = origin_of(store, Account(1234, 1234, ""))
    assert not first_copy_will_do(store.request(), other, ["2022/1/2"], 300)


def copy_of(
    store: SampleStore, tmp_path: Path, entries: list[str], *before: str
) -> tuple[int, list[str], Path]:
    """Run the program, in a place with the folders above the days; its exit code and lines."""
    names, target = tmp_path / "names", tmp_path / "target"
    names.write_bytes(b"".join(b"/" + os.fsencode(entry) + b"\0" for entry in entries))
    for entry in entries:
        (target / entry).parent.mkdir(parents=True, exist_ok=True)
    argv = [*before, sys.executable, "-I", first_copy.__file__, str(names), str(target)]
    done = subprocess.run(argv, cwd=store.live, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines(), target


def test_what_is_not_there_any_more_is_passed_over(store: SampleStore, tmp_path: Path) -> None:
    code, lines, target = copy_of(store, tmp_path, ["2022/2/2/open", "2022/2/3", "1999/9/9"])
    assert (code, lines) == (
        0,
        [
            f">f+++++++++ {sha1(b'open')} 2022/2/2/open",
            "Number of regular files transferred: 1",
            "Total transferred file size: 4 bytes",
        ],
    )
    assert (target / "2022/2/2/open").read_text() == "open"
    assert not (target / "2022/2/3").exists()


def sha1(text: bytes) -> str:
    return subprocess.run(["sha1sum"], input=text, capture_output=True, check=True).stdout.split()[0].decode()


def test_what_vanishes_meanwhile_is_told_and_counted_and_the_rest_is_copied(
    store: SampleStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = first_copy._kind

    def vanishing(entry: "os.DirEntry[str]") -> int:
        found = kind(entry)
        if entry.name in ("new\nline", "new\nline.bin"):
            path = store.live / ("2023/5/6" if found & 0o040000 else f"{DAY}/3/0") / entry.name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return found

    (tmp_path / "names").write_bytes(f"/{DAY}\0/2023/5/6\0".encode())
    for day in (DAY, "2023/5/6"):
        (tmp_path / "target" / day).parent.mkdir(parents=True)
    monkeypatch.chdir(store.live)
    monkeypatch.setattr(first_copy, "_kind", vanishing)
    assert first_copy.main(str(tmp_path / "names"), str(tmp_path / "target")) == 24
    said: list[str] = []
    output = RsyncOutput(said.append, origin_of(store))
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        output.on_copy_line(line)
    assert output.vanished == 2
    assert output.short == {DAY, "2023/5/6"}
    here = str(store.live)
    assert f'file has vanished: "{here}/{DAY}/3/0/new\\#012line.bin"' in lines
    assert f'directory has vanished: "{here}/2023/5/6/new\\#012line"' in lines
    assert content(tmp_path / "target/2023") == content(store.live / "2023")


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_copied(
    store: SampleStore, tmp_path: Path
) -> None:
    (store.live / "2022/2/2/closed").chmod(0)
    (store.live / "2022/2/2/set").unlink()
    caps = "--bounding-set=-dac_override,-dac_read_search"
    before = ("setpriv", caps) if os.geteuid() == 0 else ()
    code, lines, target = copy_of(store, tmp_path, ["2022/2/2"], *before)
    assert code == 23
    assert f'copy: cannot read "{store.live}/2022/2/2/closed": Permission denied (13)' in lines
    assert sorted(path.name for path in (target / "2022/2/2").iterdir()) == ["open"]


def test_a_file_that_becomes_shorter_while_it_is_read_is_told_and_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("from/2022", "to"):
        (tmp_path / name).mkdir(parents=True)
    file, read = tmp_path / "from/2022/cut.bin", os.read
    file.write_bytes(b"x" * 3 * first_copy.BLOCK)
    (tmp_path / "from/2022/whole.bin").write_bytes(b"whole")

    def cutting(descriptor: int, size: int) -> bytes:
        block = read(descriptor, size)
        if block.startswith(b"x"):
            os.truncate(file, first_copy.BLOCK)
        return block

    with open_folder(tmp_path / "from") as source, open_folder(tmp_path / "to") as target:
        copy = first_copy.FirstCopy(source, target)
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", cutting)
            copy.entry("2022")
    assert copy.result == first_copy.UNREAD
    assert '2022/cut.bin": it became shorter while it was read' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "to/2022").iterdir()] == ["whole.bin"]


def test_a_link_in_place_of_a_folder_on_the_way_is_not_followed(store: SampleStore, tmp_path: Path) -> None:
    (store.live / "2022/3").symlink_to("2")
    code, lines, target = copy_of(store, tmp_path, ["2022/3/2", "2022/2/2"])
    assert code == 23
    assert f'copy: cannot read "{store.live}/2022/3": Not a directory (20)' in lines
    assert not (target / "2022/3/2").exists() and (target / "2022/2/2/open").exists()


def test_what_cannot_be_written_ends_it_and_leaves_no_part_of_a_file(
    store: SampleStore, tmp_path: Path
) -> None:
    store.write("2024/1/1/large", "x" * 100_000)
    limited = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh")
    code, lines, target = copy_of(store, tmp_path, ["2024/1/1", "2022/2/2"], *limited)
    assert code == 11
    assert lines[-1] == 'copy: cannot write "2024/1/1": File too large (27)'
    assert [path for path in target.rglob("*") if path.is_file()] == []


def test_what_is_in_the_target_is_never_written_to(store: SampleStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("elsewhere")
    (tmp_path / "target/2022/2/2").mkdir(parents=True)
    (tmp_path / "target/2022/2/2/open").symlink_to(tmp_path / "elsewhere")
    code, lines, _ = copy_of(store, tmp_path, ["2022/2/2/open"])
    assert code == 11
    assert lines[-1] == 'copy: cannot write "2022/2/2/open: open": File exists (17)'
    assert (tmp_path / "elsewhere").read_text() == "elsewhere"


@pytest.mark.slow
def test_a_snapshot_of_which_a_file_cannot_be_written_fails_with_the_words_and_is_continued(
    store: SampleStore, first_copies: list[Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.live / DAY / "3/pipe").unlink()
    store.write("2024/1/1/large", "x" * 100_000)
    command = rsync.first_copy_command

    def limited(*given: object) -> Command:
        one = command(*given)  # type: ignore[arg-type]
        return replace(one, argv=("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *one.argv))

    with monkeypatch.context() as patched:
        patched.setattr("alfresco_backup.contentstore.snapshot_copy.first_copy_command", limited)
        with pytest.raises(ToolFailed) as failure:
            store.snapshot()
    assert failure.value.returncode == 11
    assert "first_copy.py" in failure.value.message
    assert "copy: cannot write " in failure.value.message and "File too large (27)" in failure.value.message
    snapshot = store.snapshot()
    assert content(snapshot.path) == content(store.live)


def test_a_copy_killed_in_a_file_leaves_none_that_looks_like_its_original(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the last byte: the next run compares size and time."""
    monkeypatch.chdir(store.live)
    target = tmp_path / "target/2022/2/2"
    target.mkdir(parents=True)
    done = os.fork()
    if done == 0:
        os.fchmod = lambda *given: os.kill(os.getpid(), 9)  # type: ignore[assignment]
        copy = first_copy.FirstCopy(
            os.open(".", first_copy.FOLDER), os.open(tmp_path / "target", first_copy.FOLDER)
        )
        copy.entry("2022/2/2/open")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(done, 0)[1]) == -9
    left, original = (target / "open").stat(), (store.live / "2022/2/2/open").stat()
    assert left.st_size == original.st_size
    assert int(left.st_mtime) != int(original.st_mtime)
    request = store.request()
    names = rsync.write_entries(tmp_path / "list", ["2022/2/2"])
    with open_folder(store.live) as descriptor:
        origin = replace(origin_of(store), descriptor=descriptor)
        (tmp_path / "next").mkdir()
        run(copy_command(request, origin, names, tmp_path / "next", [tmp_path / "target"]))
    assert (tmp_path / "next/2022/2/2/open").stat().st_nlink == 1
