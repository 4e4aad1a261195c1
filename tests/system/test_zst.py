"""Looking into files that the real zstd wrote: their content's size, and whether they are whole."""

import random
import subprocess
from pathlib import Path

import pytest

from alfresco_backup.system.zstd_files import content_size, same_content

MIXED = random.Random(1).randbytes(300_000) + bytes(700_000) + b"words " * 50_000


def compressed(path: Path, content: bytes, *options: str, from_pipe: bool = False) -> Path:
    source, target = path / "source", path / "source.zst"
    source.write_bytes(content)
    if from_pipe:
        with source.open("rb") as stream, target.open("wb") as sink:
            subprocess.run(["zstd", "-q", *options], stdin=stream, stdout=sink, check=True)
    else:
        subprocess.run(["zstd", "-q", "-f", *options, source, "-o", target], check=True)
    return target


@pytest.mark.parametrize(
    "content", [b"", b"x", MIXED, bytes(5_000_000)], ids=["empty", "one", "mixed", "zeros"]
)
@pytest.mark.parametrize("options", [(), ("-19",), ("-T2",), ("--no-check",), ("--long",), ("--fast",)])
@pytest.mark.parametrize("from_pipe", [False, True])
def test_the_size_of_the_content_is_told_without_decompressing(tmp_path, content, options, from_pipe):
    path = compressed(tmp_path, content, *options, from_pipe=from_pipe)
    assert content_size(path) == len(content)
    assert same_content(tmp_path / "source", path)


def test_several_frames_count_together(tmp_path):
    path = compressed(tmp_path, MIXED)
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    path.write_bytes(path.read_bytes() + skippable + path.read_bytes())
    assert content_size(path) == 2 * len(MIXED)


@pytest.mark.parametrize("from_pipe", [False, True])
def test_a_file_cut_off_anywhere_is_found_out(tmp_path, from_pipe):
    path = compressed(tmp_path, MIXED, from_pipe=from_pipe)
    whole = path.read_bytes()
    for length in [*range(1, 40), *range(40, len(whole), 9973), len(whole) - 4, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it is "):
            content_size(path)
        assert not same_content(tmp_path / "source", path)


@pytest.mark.parametrize("more", [b"x", b"trailing rubbish"])
def test_something_appended_is_found_out(tmp_path, more):
    path = compressed(tmp_path, MIXED)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(ValueError, match="it is "):
        content_size(path)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"y" + b[1:]])
def test_other_content_is_told_apart(tmp_path, change):
    path = compressed(tmp_path, MIXED)
    (tmp_path / "source").write_bytes(change(MIXED))
    assert not same_content(tmp_path / "source", path)
