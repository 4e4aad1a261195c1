"""restore-wal under every exit code path: 0 found, 1 proven absent, 200 anything else."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import Segment
from demo.places import give_to, server_account
from tests.support.common import wait_until
from tests.support.wal_commands import (
    Answer,
    call,
    give_all,
    install_commands,
    names_in,
    own_directory,
    runs_program,
    start,
)
from tests.support.wal_files import OWNER, archive_segment, segment_bytes

MIB = 1 << 20
NAME = "000000010000000000000007"
SEGMENT = Segment(1, 7)
CANNOT_TELL = (
    f"{NAME}: whether the archive has it cannot be told; recovery must not take this for the end of WAL"
)


@dataclass
class Recovery:
    """A data directory in recovery, an archive and a folder of salvaged segments."""

    root: Path

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def salvaged(self) -> Path:
        return self.root / "salvaged"

    @property
    def target(self) -> Path:
        return self.root / "pg_wal" / "RECOVERYXLOG"

    def put(self, segment: Segment = SEGMENT, *, folder: str = "archive", **options: object) -> Path:
        path = archive_segment(self.root / folder, segment, MIB, **options)  # type: ignore[arg-type]
        give_all(self.root / folder)
        return path

    def put_file(self, name: str, content: bytes, folder: str = "archive") -> Path:
        path = self.root / folder / name
        path.write_bytes(content)
        give_to(path, server_account())
        return path

    def argv(self, *further: Path | str, name: str = NAME, archive: Path | None = None) -> list[str]:
        command = str(self.root / "wal" / "restore-wal")
        return [command, name, "pg_wal/RECOVERYXLOG", str(archive or self.archive), *map(str, further)]

    def restore_wal(self, *further: Path | str, name: str = NAME, archive: Path | None = None) -> Answer:
        return call(self.argv(*further, name=name, archive=archive), self.root)

    def found(self, content: bytes) -> bool:
        """Whether the target, and nothing else, is there with that content."""
        return names_in(self.target.parent) == ["RECOVERYXLOG"] and self.target.read_bytes() == content


@pytest.fixture
def recovery(reachable_path: Path) -> Recovery:
    install_commands(reachable_path / "wal")
    for name in ("archive", "salvaged", "pg_wal"):
        own_directory(reachable_path / name)
    made = Recovery(reachable_path)
    made.put_file("system-identifier", f"{OWNER}\n".encode())
    return made


def assert_cannot_tell(recovery: Recovery, answer: Answer, words: str) -> None:
    assert answer.code == 200
    assert words in answer.words
    assert CANNOT_TELL in answer.words
    assert names_in(recovery.target.parent) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_segment_is_found_plain_or_compressed(recovery, compressed):
    recovery.put(compressed=compressed)
    assert recovery.restore_wal() == Answer(0, "")
    assert recovery.found(segment_bytes(SEGMENT, MIB))


def test_a_target_that_exists_is_replaced(recovery):
    recovery.put()
    recovery.put_file("RECOVERYXLOG", b"of the segment before", "pg_wal")
    assert recovery.restore_wal() == Answer(0, "")
    assert recovery.found(segment_bytes(SEGMENT, MIB))


def test_the_fork_segment_of_a_new_timeline_is_found(recovery):
    recovery.put(Segment(2, 7), page_timeline=1)
    assert recovery.restore_wal(name=Segment(2, 7).name(MIB)).code == 0


@pytest.mark.parametrize("name", ["00000002.history", "000000010000000000000007.00000028.backup"])
def test_history_files_are_found(recovery, name):
    recovery.put_file(name, b"1\t0/7000060\tx\n")
    assert recovery.restore_wal(name=name) == Answer(0, "")
    assert recovery.found(b"1\t0/7000060\tx\n")


@pytest.mark.parametrize("name", [NAME, "00000002.history"])
def test_what_a_readable_archive_does_not_have_is_proven_absent(recovery, name):
    recovery.put(Segment(1, 6))
    assert recovery.restore_wal(name=name) == Answer(1, "")
    assert recovery.restore_wal(recovery.salvaged, name=name) == Answer(1, "")
    assert names_in(recovery.target.parent) == []


def test_an_archive_without_marker_is_one_by_its_segments(recovery):
    (recovery.archive / "system-identifier").unlink()
    recovery.put(Segment(1, 6), compressed=True)
    assert recovery.restore_wal() == Answer(1, "")


def test_an_empty_folder_is_no_archive(recovery):
    (recovery.archive / "system-identifier").unlink()
    recovery.put_file("README", b"the disk is not mounted here")
    assert_cannot_tell(
        recovery, recovery.restore_wal(), "is not a readable WAL archive (not mounted? permissions?"
    )


def test_a_missing_archive_cannot_tell(recovery):
    answer = recovery.restore_wal(archive=recovery.root / "unmounted")
    assert_cannot_tell(recovery, answer, f"{recovery.root}/unmounted is not a readable WAL archive")


def test_a_file_in_place_of_the_archive_cannot_tell(recovery):
    path = recovery.put_file("file", b"x", "pg_wal").rename(recovery.root / "file")
    assert_cannot_tell(recovery, recovery.restore_wal(archive=path), "is not a readable WAL archive")


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100, 0o600])
def test_an_archive_without_permission_cannot_tell(recovery, mode):
    recovery.put()
    recovery.archive.chmod(mode)
    try:
        answer = recovery.restore_wal(name=NAME if mode != 0o100 else Segment(1, 8).name(MIB))
    finally:
        recovery.archive.chmod(0o700)
    assert answer.code == 200
    assert "is not a readable WAL archive" in answer.words


def test_a_segment_without_permission_cannot_tell(recovery):
    recovery.put().chmod(0o000)
    assert_cannot_tell(recovery, recovery.restore_wal(), "cannot be read whole")


def test_a_link_that_leads_nowhere_is_not_absence(recovery):
    (recovery.archive / NAME).symlink_to(recovery.root / "gone")
    assert_cannot_tell(recovery, recovery.restore_wal(), "cannot be read whole")


@pytest.mark.parametrize("cut", [1, 5, 2000])
def test_a_compressed_segment_that_is_cut_off_cannot_tell(recovery, cut):
    path = recovery.put(compressed=True)
    path.write_bytes(path.read_bytes()[:-cut])
    assert_cannot_tell(recovery, recovery.restore_wal(), f"{path} cannot be read whole")


def test_a_flipped_byte_in_a_compressed_segment_cannot_tell(recovery):
    path = recovery.put(compressed=True)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert_cannot_tell(recovery, recovery.restore_wal(), f"{path} cannot be read whole")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (segment_bytes(SEGMENT, MIB)[: MIB // 2], "has 524288 bytes instead of 1048576"),
        (segment_bytes(SEGMENT, MIB) + b"x", "has 1048577 bytes instead of 1048576"),
        (bytes(MIB), "does not begin as a WAL segment does"),
        (
            segment_bytes(Segment(1, 8), MIB),
            "holds other WAL: timeline 1 address 8388608, not address 7340032",
        ),
        (segment_bytes(SEGMENT, MIB, page_timeline=2), "holds other WAL: timeline 2"),
        (segment_bytes(SEGMENT, MIB, owner="7000000000000000001"), "is of the cluster 7000000000000000001"),
    ],
    ids=["empty", "short", "long", "zeros", "other-place", "other-timeline", "other-cluster"],
)
def test_a_segment_that_is_not_what_its_name_says_cannot_tell(recovery, content, words):
    recovery.put_file(NAME, content)
    assert_cannot_tell(recovery, recovery.restore_wal(), f"{recovery.archive}/{NAME} {words}")


def test_an_empty_history_file_cannot_tell(recovery):
    recovery.put_file("00000002.history", b"")
    answer = recovery.restore_wal(name="00000002.history")
    assert answer.code == 200
    assert "00000002.history is empty" in answer.words


def test_a_damaged_plain_copy_does_not_hide_a_whole_compressed_one(recovery):
    recovery.put_file(NAME, segment_bytes(SEGMENT, MIB)[:-100])
    recovery.put(compressed=True)
    answer = recovery.restore_wal()
    assert answer.code == 0
    assert "has 1048476 bytes instead of 1048576" in answer.words
    assert recovery.found(segment_bytes(SEGMENT, MIB))


def test_salvaged_segments_are_searched_after_the_archive(recovery):
    recovery.put(folder="salvaged", seed=1)
    assert recovery.restore_wal("/var/empty", recovery.salvaged).code == 0
    assert recovery.found(segment_bytes(SEGMENT, MIB, seed=1))
    recovery.put()
    assert recovery.restore_wal(recovery.salvaged) == Answer(0, "")
    assert recovery.found(segment_bytes(SEGMENT, MIB))


def test_a_salvaged_segment_serves_where_the_archive_is_damaged_or_away(recovery):
    recovery.put_file(NAME, b"")
    recovery.put(folder="salvaged")
    assert recovery.restore_wal(recovery.salvaged).code == 0
    assert recovery.restore_wal(recovery.salvaged, archive=recovery.root / "unmounted").code == 0
    assert recovery.found(segment_bytes(SEGMENT, MIB))


def test_of_a_segment_that_is_known_to_be_damaged_only_a_salvaged_one_counts(recovery):
    recovery.put()
    recovery.put(Segment(1, 8))
    argv = recovery.argv(recovery.salvaged)
    skipping = [argv[0], "--skip", f"{Segment(1, 6).name(MIB)},{NAME}", *argv[1:]]
    answer = call(skipping, recovery.root)
    assert_cannot_tell(recovery, answer, f"{recovery.archive}/{NAME} is damaged and not used")
    recovery.put(folder="salvaged", seed=1)
    assert call(skipping, recovery.root).code == 0
    assert recovery.found(segment_bytes(SEGMENT, MIB, seed=1))
    other = [*skipping[:3], Segment(1, 8).name(MIB), *skipping[4:]]
    assert call(other, recovery.root) == Answer(0, "")


def test_a_missing_salvage_folder_cannot_tell(recovery):
    answer = recovery.restore_wal(recovery.root / "gone")
    assert_cannot_tell(recovery, answer, f"{recovery.root}/gone is not a readable folder")


@pytest.mark.parametrize(
    "content",
    [segment_bytes(Segment(1, 3), MIB), bytes(MIB)],
    ids=["recycled", "prepared"],
)
def test_a_file_that_a_server_recycled_or_prepared_is_absent(recovery, content):
    recovery.put_file(NAME, content, "salvaged")
    assert recovery.restore_wal(recovery.salvaged) == Answer(1, "")


def test_a_salvaged_segment_of_another_cluster_cannot_tell(recovery):
    recovery.put(folder="salvaged", owner="7000000000000000001")
    assert_cannot_tell(
        recovery, recovery.restore_wal(recovery.salvaged), "is of the cluster 7000000000000000001"
    )


def test_a_target_that_cannot_be_written_is_not_absence(recovery):
    recovery.put()
    recovery.target.parent.chmod(0o500)
    answer = recovery.restore_wal()
    recovery.target.parent.chmod(0o700)
    assert answer.code == 200
    assert "cannot be written" in answer.words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "at least 3 arguments are expected (NAME TARGET ARCHIVE_DIR), 0 were given"),
        ([NAME, "pg_wal/RECOVERYXLOG"], "2 were given"),
        (["pg_wal/RECOVERYXLOG", NAME, "archive"], "pg_wal/RECOVERYXLOG is not the name of a WAL file"),
        (["%f", "%p", "archive"], "%f is not the name of a WAL file"),
        (["", "%p", "archive"], "is not the name of a WAL file"),
    ],
)
def test_wrong_arguments_are_explained_and_are_not_absence(recovery, arguments, words):
    answer = call([recovery.argv()[0], *arguments], recovery.root)
    assert answer.code == 200
    assert words in answer.words


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGQUIT, 131)]
)
def test_a_server_that_is_shut_down_ends_it_with_the_signals_code(recovery, number, code):
    fifo = recovery.archive / NAME  # opening it waits for a writer, as a hanging network disk would
    os.mkfifo(fifo)
    give_all(recovery.archive)
    process = start(recovery.argv(), recovery.root)
    wait_until(lambda: runs_program(process.pid, "cp"), "it does not read the file")
    os.killpg(process.pid, number)
    process.communicate(timeout=600)
    assert process.returncode == code
    assert names_in(recovery.target.parent) == []
