"""Tars that are read back while they are written, and what is found out about those that are not whole."""

import hashlib
import io
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from alfresco_backup.backup.tar_verify import TarContents, reading_along
from alfresco_backup.errors import BackupUnsound

LABEL = "START WAL LOCATION: 0/2000028"
WANTED = frozenset({"backup_label"})


def tar_of(files: dict[str, bytes]) -> bytes:
    """An uncompressed tar, with its end-of-archive blocks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def compressed(data: bytes, *options: str) -> bytes:
    return subprocess.run(
        ["zstd", "-q", "-1", *options], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


FILES = {
    "backup_label": LABEL.encode(),
    "base/1/1247": os.urandom(300_000),
    "base/1/empty": b"",
    "zeros": bytes(5 << 20),
}
WHOLE = compressed(tar_of(FILES))


def read(folder: Path) -> list[TarContents]:
    with reading_along(folder, WANTED) as reading:
        pass
    return reading.result()


def test_members_sizes_texts_and_checksum_are_found(tmp_path: Path) -> None:
    (tmp_path / "base.tar.zst").write_bytes(WHOLE)
    (tar,) = read(tmp_path)
    assert tar.members == {name: len(content) for name, content in FILES.items()}
    assert tar.texts == {"backup_label": LABEL}
    assert (tar.name, tar.bytes, tar.sha256) == (
        "base.tar.zst",
        len(WHOLE),
        hashlib.sha256(WHOLE).hexdigest(),
    )


def test_a_tar_is_read_while_it_grows_and_the_next_one_after_it(tmp_path: Path) -> None:
    second = compressed(tar_of({"16400/1": b"row" * 1000}))
    with reading_along(tmp_path, WANTED) as reading:
        for name, data in (("base.tar.zst", WHOLE), ("16400.tar.zst", second)):
            with (tmp_path / name).open("wb", buffering=0) as stream:
                for start in range(0, len(data), 50_000):
                    stream.write(data[start : start + 50_000])
                    threading.Event().wait(0.01)
        assert not reading.done()
    first, other = reading.result()
    assert (first.name, first.bytes, other.name) == ("base.tar.zst", len(WHOLE), "16400.tar.zst")
    assert other.members == {"16400/1": 3000}


@pytest.mark.parametrize("options", [(), ("--no-check",), ("-T2",)])
@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5, 8, 20, 1000, 200_000])
def test_a_tar_that_lacks_its_last_bytes_is_not_whole(
    tmp_path: Path, lost: int, options: tuple[str, ...]
) -> None:
    (tmp_path / "base.tar.zst").write_bytes(compressed(tar_of(FILES), *options)[:-lost])
    with pytest.raises(BackupUnsound, match=r"base\.tar\.zst cannot be read back"):
        read(tmp_path)


@pytest.mark.parametrize("cut", [512, 20_480, 400_000])
def test_a_tar_cut_before_it_was_compressed_is_not_whole(tmp_path: Path, cut: int) -> None:
    plain = tar_of({"base/1/1247": FILES["base/1/1247"], "base/1/2": bytes(500_000)})
    (tmp_path / "base.tar.zst").write_bytes(compressed(plain.rstrip(b"\0") if cut == 512 else plain[:-cut]))
    with pytest.raises(BackupUnsound, match="cannot be read back"):
        read(tmp_path)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    damaged = bytearray(WHOLE)
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "base.tar.zst").write_bytes(damaged)
    with pytest.raises(BackupUnsound, match="cannot be read back"):
        read(tmp_path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    plain = bytearray(
        tar_of({"base/1/1": b"a" * 512, "base/1/2": b"b" * 512, "global/pg_control": b"c" * 512})
    )
    plain[1024 + 10] ^= 1
    (tmp_path / "base.tar.zst").write_bytes(compressed(bytes(plain)))
    with pytest.raises(BackupUnsound, match=r"what comes after its first 1,024 bytes is no tar"):
        read(tmp_path)


def test_a_failed_writer_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "base.tar.zst").write_bytes(WHOLE[:1000])
    with pytest.raises(RuntimeError, match="no space"), reading_along(tmp_path, WANTED):
        raise RuntimeError("no space")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading-along")]
