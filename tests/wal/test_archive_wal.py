"""archive-wal under every exit code path, run as the server would run it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import Segment, list_archive
from demo.places import give_to, server_account
from tests.support.common import wait_until
from tests.support.wal_commands import (
    Answer,
    call,
    give_all,
    install_commands,
    names_in,
    own_directory,
    start,
)
from tests.support.wal_files import OWNER, archive_segment, segment_bytes

MIB = 1 << 20
NAME = "000000010000000000000007"
SEGMENT = Segment(1, 7)
WRITTEN = 1_700_000_000.25
PLAIN: tuple[str, ...] = ()
ZSTD = ("--zstd",)


@dataclass
class Server:
    """A data directory's pg_wal and an archive, both the server account's; the command's working folder."""

    root: Path

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def source(self) -> Path:
        return self.root / "pg_wal" / NAME

    def write(self, content: bytes, name: str = NAME) -> Path:
        path = self.root / "pg_wal" / name
        path.write_bytes(content)
        os.utime(path, (WRITTEN, WRITTEN))
        give_to(path, server_account())
        return path

    def argv(self, *options: str, name: str = NAME, source: str = "") -> list[str]:
        command = str(self.root / "wal" / "archive-wal")
        return [command, *options, source or f"pg_wal/{name}", name, str(self.archive)]

    def archive_wal(self, *options: str, name: str = NAME, first_in_path: Path | None = None) -> Answer:
        return call(self.argv(*options, name=name), self.root, first_in_path)

    def archived(self, name: str) -> bytes:
        path = self.archive / name
        if path.suffix == ".zst":
            return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
        return path.read_bytes()


@pytest.fixture
def server(reachable_path: Path) -> Server:
    install_commands(reachable_path / "wal")
    own_directory(reachable_path / "archive")
    own_directory(reachable_path / "pg_wal")
    made = Server(reachable_path)
    made.write(segment_bytes(SEGMENT, MIB))
    return made


@contextmanager
def program(root: Path, name: str, script: str) -> Iterator[Path]:
    """A folder with one program that takes the place of the system's."""
    folder = root / "first"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    yield folder


@pytest.mark.parametrize("size", [MIB, 16 * MIB, 64 * MIB])
@pytest.mark.parametrize(("options", "stored"), [(PLAIN, NAME), (ZSTD, f"{NAME}.zst")])
def test_a_segment_is_archived_with_its_content_and_its_time(server, options, stored, size):
    content = segment_bytes(SEGMENT, size)
    server.write(content)
    assert server.archive_wal(*options) == Answer(0, "")
    assert names_in(server.archive) == [stored, "system-identifier"]
    assert server.archived(stored) == content
    status = (server.archive / stored).stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (WRITTEN, 0o600)
    assert (server.archive / "system-identifier").read_text() == f"{OWNER}\n"


@pytest.mark.parametrize("options", [PLAIN, ZSTD])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00000002.history", b"1\t0/7000060\tno recovery target specified\n"),
        ("000000010000000000000007.00000028.backup", b"START WAL LOCATION: 0/7000028\n"),
    ],
)
def test_history_files_are_archived_plain(server, options, name, content):
    server.write(content, name)
    assert server.archive_wal(*options, name=name) == Answer(0, "")
    assert server.archived(name) == content
    assert names_in(server.archive) == [name]


def test_the_partial_last_segment_of_a_timeline_is_archived(server):
    name = f"{NAME}.partial"
    server.write(segment_bytes(SEGMENT, MIB), name)
    assert server.archive_wal(*ZSTD, name=name) == Answer(0, "")
    assert server.archived(f"{name}.zst") == segment_bytes(SEGMENT, MIB)


def test_the_fork_segment_of_a_new_timeline_holds_its_parents_page_and_is_archived(server):
    name = Segment(2, 7).name(MIB)
    server.write(segment_bytes(Segment(2, 7), MIB, page_timeline=1), name)
    assert server.archive_wal(name=name).code == 0


@pytest.mark.parametrize("first", [PLAIN, ZSTD])
@pytest.mark.parametrize("second", [PLAIN, ZSTD])
def test_the_same_content_again_is_a_success_and_leaves_the_archived_file(server, first, second):
    assert server.archive_wal(*first).code == 0
    (path,) = server.archive.glob(f"{NAME}*")
    before = path.stat()
    assert server.archive_wal(*second) == Answer(0, "")
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert names_in(server.archive) == [path.name, "system-identifier"]


@pytest.mark.parametrize("options", [PLAIN, ZSTD])
def test_the_same_content_again_is_a_success_only_when_it_can_be_flushed(server, options):
    assert server.archive_wal(*options).code == 0
    with program(server.root, "sync", "exit 1") as folder:
        answer = server.archive_wal(*options, first_in_path=folder)
    assert answer.code == 1
    assert f"{NAME}{'.zst' if options else ''} cannot be flushed to disk" in answer.words


@pytest.mark.parametrize("options", [PLAIN, ZSTD])
def test_file_and_folder_are_flushed_around_the_rename(server, options):
    server.archive_wal(*options)  # writes the marker
    name = Segment(1, 8).name(MIB)
    server.write(segment_bytes(Segment(1, 8), MIB), name)
    record = server.root / "pg_wal" / "record"
    script = f'echo "$2 $(ls -A {server.archive} | grep {name} | head -1)" >>{record}'
    with program(server.root, "sync", script) as folder:
        assert server.archive_wal(*options, name=name, first_in_path=folder).code == 0
    (temporary, seen), (directory, then) = [line.split() for line in record.read_text().splitlines()]
    assert Path(temporary).name == seen
    assert seen.startswith(f".{name}.")
    assert (directory, then) == (str(server.archive), f"{name}.zst" if options else name)


@pytest.mark.parametrize("first", [PLAIN, ZSTD])
@pytest.mark.parametrize("second", [PLAIN, ZSTD])
def test_other_content_under_the_same_name_is_a_failure_and_never_overwrites(server, first, second):
    assert server.archive_wal(*first).code == 0
    (path,) = server.archive.glob(f"{NAME}*")
    before = path.read_bytes()
    server.write(segment_bytes(SEGMENT, MIB, seed=1))
    answer = server.archive_wal(*second)
    assert answer.code == 1
    assert f"{path} exists with other content than pg_wal/{NAME}" in answer.words
    assert "HINT: compare them" in answer.words
    assert path.read_bytes() == before
    assert names_in(server.archive) == [path.name, "system-identifier"]


def test_an_archived_file_that_is_damaged_is_a_failure_and_left_alone(server):
    server.archive_wal(*ZSTD)
    path = server.archive / f"{NAME}.zst"
    path.write_bytes(path.read_bytes()[:-2])  # all content is there, its checksum is not
    before = path.read_bytes()
    answer = server.archive_wal(*ZSTD)
    assert (answer.code, path.read_bytes()) == (1, before)
    assert "(or is damaged); it is left as it is" in answer.words


def test_the_servers_own_folder_is_no_archive(server):
    argv = [*server.argv()[:3], str(server.root / "pg_wal")]
    answer = call(argv, server.root)
    assert (answer.code, server.source.read_bytes()) == (1, segment_bytes(SEGMENT, MIB))
    assert "is in the archive itself" in answer.words


def test_a_segment_of_another_cluster_is_refused(server):
    assert server.archive_wal().code == 0
    name = Segment(1, 8).name(MIB)
    server.write(segment_bytes(Segment(1, 8), MIB, owner="7000000000000000001"), name)
    answer = server.archive_wal(name=name)
    assert answer.code == 1
    assert (
        f"system identifier is 7000000000000000001, but the archive {server.archive} belongs to {OWNER}"
        in (answer.words)
    )
    assert "each cluster needs its own" in answer.words
    assert names_in(server.archive) == [NAME, "system-identifier"]


def test_an_empty_marker_is_a_failure(server):
    (server.archive / "system-identifier").touch()
    answer = server.archive_wal()
    assert answer.code == 1
    assert "system-identifier cannot be read or is empty" in answer.words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (
            segment_bytes(SEGMENT, MIB)[:-1],
            "is not a whole segment: it has 1048575 bytes, its header says 1048576",
        ),
        (segment_bytes(SEGMENT, MIB) + b"x", "is not a whole segment: it has 1048577 bytes"),
        (bytes(MIB), "does not begin as a WAL segment does"),
        (b"x" * MIB, "does not begin as a WAL segment does"),
        (segment_bytes(SEGMENT, MIB)[:20], "(20 bytes) does not begin as a WAL segment does"),
        (segment_bytes(Segment(1, 8), MIB), "holds other WAL than"),
        (segment_bytes(SEGMENT, MIB, page_timeline=2), "holds other WAL than"),
    ],
    ids=["empty", "short", "long", "zeros", "text", "twenty", "other-place", "other-timeline"],
)
def test_a_source_that_is_not_the_whole_segment_of_that_name_is_refused(server, content, words):
    server.write(content)
    answer = server.archive_wal()
    assert answer.code == 1
    assert words in answer.words
    assert "HINT: " in answer.words
    assert names_in(server.archive) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "3 arguments are expected (SOURCE NAME ARCHIVE_DIR), 0 were given"),
        (["pg_wal/NAME", "NAME"], "3 arguments are expected (SOURCE NAME ARCHIVE_DIR), 2 were given"),
        (["pg_wal/NAME", "NAME", "ARCHIVE", "more"], "4 were given"),
        (["NAME", "NAME", "ARCHIVE"], 'pass "%p" (not "%f") as the first argument'),
        (["pg_wal/NAME", "pg_wal/NAME", "ARCHIVE"], 'pass "%f" (not "%p") as the second argument'),
        (["NAME", "pg_wal/NAME", "ARCHIVE"], 'pass "%f" (not "%p") as the second argument'),
        (["pg_wal/missing", "NAME", "ARCHIVE"], "pg_wal/missing does not exist or is no file"),
        (["pg_wal/NAME", "%f", "ARCHIVE"], "%f is not the name of a WAL file"),
        (["%p", "NAME", "ARCHIVE"], "%p does not exist"),
        (["pg_wal/NAME", "postgresql.conf", "ARCHIVE"], "postgresql.conf is not the name of a WAL file"),
        (["pg_wal/NAME", "NAME", "/nonexistent/archive"], "/nonexistent/archive does not exist"),
        (["pg_wal", "NAME", "ARCHIVE"], "pg_wal does not exist or is no file"),
    ],
)
def test_wrong_arguments_are_explained(server, arguments, words):
    given = [item.replace("NAME", NAME).replace("ARCHIVE", str(server.archive)) for item in arguments]
    answer = call([server.argv()[0], *given], server.root)
    assert answer.code == 1
    assert words in answer.words
    assert names_in(server.archive) == []


def test_an_archive_that_cannot_be_written_to_is_a_failure(server):
    server.archive.chmod(0o500)
    answer = server.archive_wal()
    assert answer.code == 1
    assert f"the archive {server.archive} is not writable for" in answer.words


@pytest.mark.parametrize(
    ("options", "tool", "words"),
    [
        (PLAIN, "cp", "cannot be copied into"),
        (ZSTD, "zstd", "cannot be compressed into"),
        (PLAIN, "mv", "its name"),
    ],
)
@pytest.mark.parametrize("end", ["exit 255", "exit 127", "kill -KILL $$", "kill -TERM $$"])
def test_however_a_tool_ends_the_failure_stays_below_126(server, options, tool, words, end):
    (server.archive / "system-identifier").write_text(OWNER)
    give_all(server.archive)
    with program(server.root, tool, end) as folder:
        answer = server.archive_wal(*options, first_in_path=folder)
    assert answer.code == 1
    assert words in answer.words
    assert names_in(server.archive) == ["system-identifier"]


@contextmanager
def stuck_copy(server: Server) -> Iterator["subprocess.Popen[str]"]:
    """archive-wal in the middle of copying: half of the file is there, and no more comes."""
    script = 'shift; head -c 524288 "$1" >"$2"; exec sleep 600'
    with program(server.root, "cp", script) as folder:
        process = start(server.argv(), server.root, folder)
        wait_until(
            lambda: any(path.stat().st_size == MIB // 2 for path in server.archive.glob(".*.tmp")),
            "half a copy",
        )
        try:
            yield process
        finally:
            process.communicate(timeout=600)


def test_a_copy_that_is_killed_leaves_only_a_temporary_file_that_disturbs_nobody(server):
    with stuck_copy(server) as process:
        os.killpg(process.pid, signal.SIGKILL)
    (left,) = [file for file in list_archive(server.archive) if file.kind != "marker"]
    assert (left.kind, left.bytes) == ("temporary", MIB // 2)
    assert server.archive_wal() == Answer(0, "")
    assert server.archived(NAME) == segment_bytes(SEGMENT, MIB)
    assert names_in(server.archive) == [left.name, NAME, "system-identifier"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_copy_that_is_told_to_stop_cleans_up_and_counts_as_a_failure(server, number):
    with stuck_copy(server) as process:
        os.killpg(process.pid, number)
    assert 1 <= process.returncode <= 125
    assert names_in(server.archive) == ["system-identifier"]


def test_two_at_once_for_one_segment_end_with_one_whole_file(server):
    processes = [start(server.argv(*options), server.root) for options in (PLAIN, PLAIN, PLAIN, PLAIN)]
    codes = [(process.communicate(timeout=600), process.returncode)[1] for process in processes]
    assert codes == [0, 0, 0, 0]
    assert names_in(server.archive) == [NAME, "system-identifier"]
    assert server.archived(NAME) == segment_bytes(SEGMENT, MIB)


@contextmanager
def small_file_system(directory: Path) -> Iterator[None]:
    """A tmpfs of half a megabyte there; skips where this account may not mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0777", "none", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let root mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_a_failure_that_leaves_nothing(server):
    with small_file_system(server.archive):
        answer = server.archive_wal()
        assert answer.code == 1
        assert "cannot be copied into" in answer.words
        assert f"HINT: df -h {server.archive}" in answer.words
        assert names_in(server.archive) == ["system-identifier"]


def test_a_file_size_limit_which_kills_the_copy_is_a_failure_below_126(server):
    limited = ["sh", "-c", 'ulimit -f 512; exec "$@"', "sh", *server.argv()]
    answer = call(limited, server.root)
    assert answer.code == 1
    assert "cannot be copied into" in answer.words
    assert names_in(server.archive) == ["system-identifier"]


def test_an_archive_on_a_path_with_spaces_and_quotes_works(server):
    odd = own_directory(server.root / "archive of 'Müller' & \"Söhne\" $HOME")
    answer = call([*server.argv(*ZSTD)[:-1], str(odd)], server.root)
    assert answer == Answer(0, "")
    assert names_in(odd) == [f"{NAME}.zst", "system-identifier"]


def test_an_archive_that_already_holds_segments_gets_its_marker_and_keeps_them(server):
    archive_segment(server.archive, Segment(1, 6), MIB)
    give_all(server.archive)
    assert server.archive_wal().code == 0
    assert names_in(server.archive) == [Segment(1, 6).name(MIB), NAME, "system-identifier"]
