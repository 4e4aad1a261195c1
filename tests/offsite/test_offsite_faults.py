"""What goes wrong at the place of the off-site copy is named, loses nothing, and the next copy completes."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.errors import BackupError, HostNotReady, SettingsError, exit_code_of
from alfresco_backup.offsite import engine as engine_module
from alfresco_backup.offsite.engine import Engine, FarSideAway, FarSideDamaged
from alfresco_backup.settings.env_file import load_settings
from tests.support.offsite_places import (
    PASSWORD,
    READER_KEY,
    READER_SECRET,
    Place,
    folder_place,
    relayed,
    s3_place,
    sftp_place,
    silent_port,
    weed_shell,
)

pytestmark = pytest.mark.slow
Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The engine of a host with these settings."""

    def engine(settings: Mapping[str, str]) -> Engine:
        file = tmp_path / "alf1.env"
        own = {
            "ALF_HOST_NAME": "alf1",
            "ALF_BASE_DIR": "/opt/alfresco",
            "BACKUP_DIR": "/backup",
            "PGHOST": "/run",
            "PGUSER": "backup",
        }
        lines = [f"{name}='{value}'\n" for name, value in {**own, **settings}.items()]
        file.write_text("".join(lines))
        file.chmod(0o600)
        monkeypatch.setenv("ALFRESCO_BACKUP_ENV", str(file))
        return Engine.of(load_settings(file), tmp_path / "cache")

    return engine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is sent: 24 MiB that no packing makes smaller, and small files."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(3):
        (folder / f"large-{number}").write_bytes(os.urandom(8 << 20))
    for number in range(20):
        (folder / f"small-{number}").write_text(f"document {number}\n")
    return folder


@pytest.fixture(scope="module")
def s3() -> Iterator[Place]:
    with s3_place() as place:
        yield place


@pytest.fixture(scope="module")
def sftp() -> Iterator[Place]:
    with sftp_place() as place:
        yield place


@pytest.fixture
def folder() -> Iterator[Place]:
    with folder_place() as place:
        yield place


def send(engine: Engine, source: Path) -> str:
    summary = engine.send(source.name, directory=source.parent, timeout_seconds=600)
    return str(summary["snapshot_id"])


def completes(engine: Engine, source: Path, place: Path) -> None:
    """Once the cause is gone the next copy arrives, and comes back as it was sent."""
    snapshot = send(engine, source)
    engine.run("restore", snapshot, "--target", str(place), "--no-lock")
    assert contents(place / source.name) == contents(source)
    engine.run("check", "--read-data", "--no-lock")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def says(error: BackupError, *words: str, code: int = 1) -> None:
    for word in words:
        assert word in str(error), str(error)
    assert "HINT: " in str(error)
    assert PASSWORD not in str(error)
    assert exit_code_of(error) == code


@pytest.mark.parametrize("kind", ["s3", "sftp", "folder"])
def test_a_wrong_password_and_no_repository_are_told_apart(
    kind: str, make: Make, request: pytest.FixtureRequest
) -> None:
    place: Place = request.getfixturevalue(kind)
    right = make(place.settings("passwords"))
    with pytest.raises(HostNotReady) as missing:
        right.ask("snapshots")
    says(missing.value, "there is no off-site repository at", "offsite init")
    right.run("init")
    with pytest.raises(SettingsError) as wrong:
        make(place.settings("passwords", OFFSITE_PASSWORD="another")).ask("snapshots")
    says(wrong.value, "OFFSITE_PASSWORD does not open", "OFFSITE_PASSWORD=...", code=2)
    assert right.ask("snapshots") == []


def test_a_password_file_that_is_not_there_is_named(make: Make, folder: Place) -> None:
    settings = {"OFFSITE_REPOSITORY": folder.repository("x"), "OFFSITE_PASSWORD_FILE": "/nowhere/password"}
    with pytest.raises(SettingsError) as wrong:
        make(settings).ask("snapshots")
    says(wrong.value, "/nowhere/password", "OFFSITE_PASSWORD_FILE=...", code=2)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("s3:http://127.0.0.1:1/bucket/alf1", "connection refused"),
        ("s3:http://nowhere.invalid/bucket/alf1", "nowhere.invalid"),
        ("s3:http://127.0.0.1:1/b/alf1", "Bucket name"),
        ("sftp://backup@127.0.0.1:1//alf1", "Connection refused"),
        ("sftp:backup@nowhere.invalid:/alf1", "nowhere.invalid"),
        ("rest:http://user:letmein@127.0.0.1:1/alf1", "connection refused"),
        ("rest:http://user:letme@in@127.0.0.1:1/alf1", "refused"),
    ],
)
def test_an_address_that_nobody_answers_at_is_named_and_no_password_in_it(
    repository: str, words: str, make: Make
) -> None:
    with pytest.raises(FarSideAway) as away:
        make({"OFFSITE_REPOSITORY": repository, "OFFSITE_PASSWORD": PASSWORD}).ask("snapshots")
    says(away.value, "cannot be reached", words, "OFFSITE_REPOSITORY=...")
    for secret in ("letme", "in@127"):
        assert secret not in str(away.value)


@pytest.mark.parametrize("kind", ["s3:http://127.0.0.1:{}/bucket/alf1", "sftp://backup@127.0.0.1:{}//alf1"])
def test_a_place_that_takes_the_connection_and_never_answers_is_named_within_the_limit(
    kind: str, make: Make
) -> None:
    with silent_port() as port, pytest.raises(FarSideAway) as away:
        make({"OFFSITE_REPOSITORY": kind.format(port), "OFFSITE_PASSWORD": PASSWORD}).run(
            "snapshots", timeout_seconds=4
        )
    says(away.value, "did not answer within 4 s")


@pytest.mark.parametrize(
    ("keys", "setting"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET}, "AWS_ACCESS_KEY_ID"),
    ],
    ids=["secret", "key", "reader"],
)
def test_a_key_that_s3_refuses_is_named_and_the_right_one_completes(
    keys: dict[str, str], setting: str, make: Make, s3: Place, source: Path, tmp_path: Path
) -> None:
    settings = s3.settings(f"refused-{setting}-{len(keys)}")
    make(settings).run("init")
    with pytest.raises(FarSideAway) as refused:
        send(make({**settings, **keys}), source)
    says(refused.value, "refuses this host", f"{setting}=...")
    completes(make(settings), source, tmp_path / "back")


def test_a_key_that_may_not_delete_its_own_lock_is_named_and_what_was_sent_is_there(
    make: Make, s3: Place, source: Path, tmp_path: Path
) -> None:
    with relayed(s3) as relay:
        engine = make(relay.behind(s3).settings("undeletable"))
        engine.run("init")
        relay.refused = frozenset({"DELETE"})
        with pytest.raises(FarSideAway) as refused:
            send(engine, source)
        says(refused.value, "delete the lock", "AWS_ACCESS_KEY_ID=...")
        assert len(engine.ask("snapshots")) == 1
        relay.refused = frozenset()
        completes(engine, source, tmp_path / "back")


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[None]:
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("folder", ("is full", "HINT: df -h /")), ("sftp", ("full, or read-only", "sftp -b - nas"))],
)
def test_a_place_that_fills_up_is_named_and_with_more_room_the_copy_completes(
    kind: str,
    words: tuple[str, str],
    make: Make,
    source: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "FULL_SECONDS", 4.0)  # restic 0.14 stands there in one of five runs
    place: Place = request.getfixturevalue(kind)
    with tmpfs(place.disk / "small", "14m"):
        engine = make(place.settings("small"))
        engine.run("init")
        before = contents(source)
        with pytest.raises(FarSideAway) as full:
            send(engine, source)
        says(full.value, *words)
        assert contents(source) == before
        remount(place.disk / "small", "size=100m")
        assert engine.ask("snapshots") == []
        completes(engine, source, source.parent / "back")


@pytest.mark.parametrize(("kind", "fix"), [("folder", "HINT: ls -ld /"), ("sftp", "sftp -b - nas")])
def test_a_place_that_became_read_only_is_named(
    kind: str, fix: str, make: Make, source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place: Place = request.getfixturevalue(kind)
    with tmpfs(place.disk / "fixed", "100m"):
        engine = make(place.settings("fixed"))
        engine.run("init")
        remount(place.disk / "fixed", "ro")
        with pytest.raises(FarSideAway) as refused:
            send(engine, source)
        says(refused.value, "read-only", fix)
        remount(place.disk / "fixed", "rw")
        completes(engine, source, tmp_path / "back")


def test_a_place_that_answers_slowly_only_takes_longer_and_one_that_stops_answering_ends_the_copy(
    make: Make, s3: Place, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relayed(s3) as relay:
        engine = make(relay.behind(s3).settings("slow"))
        engine.run("init")
        relay.delay = 0.3
        send(engine, source / "small-1")
        relay.delay, relay.standing_from = 0.0, "PUT"
        monkeypatch.setattr(engine_module, "STILL_SECONDS", 8.0)
        with pytest.raises(FarSideAway) as away:
            send(engine, source)
        says(away.value, "nothing arrived", "for 8 s")
        relay.standing_from = ""
        monkeypatch.undo()
        assert len(engine.ask("snapshots")) == 1
        completes(engine, source, tmp_path / "back")


def files_of(place: Place, name: str, kind: str) -> list[Path]:
    """The files of a repository in a folder, the largest first."""
    found = [path for path in (place.disk / name / kind).rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_size)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.chmod(0o600)
    file.write_bytes(data)


def remove(file: Path, _at: int) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [(flip, ["check", "--read-data"]), (remove, ["check"])],
    ids=["flipped", "deleted"],
)
def test_a_pack_that_is_damaged_or_gone_is_named_by_check(
    damage: Callable[[Path, int], Any], words: list[str], make: Make, folder: Place, source: Path
) -> None:
    engine = make(folder.settings("packs"))
    engine.run("init")
    send(engine, source)
    damage(files_of(folder, "packs", "data")[0], 300_000)
    with pytest.raises(FarSideDamaged) as damaged:
        engine.run(*words, "--no-lock")
    says(damaged.value, "is damaged", "offsite check")


def test_a_flipped_byte_does_not_come_back_as_content(
    make: Make, folder: Place, source: Path, tmp_path: Path
) -> None:
    engine = make(folder.settings("packs"))
    engine.run("init")
    snapshot = send(engine, source)
    flip(files_of(folder, "packs", "data")[0], 300_000)
    with pytest.raises(FarSideDamaged) as damaged:
        engine.run("restore", snapshot, "--target", str(tmp_path / "back"), "--no-lock")
    says(damaged.value, "is damaged")


def test_a_deleted_index_is_named_by_the_next_copy_and_made_again_from_the_packs(
    make: Make, folder: Place, source: Path, tmp_path: Path
) -> None:
    engine = make(folder.settings("index"))
    engine.run("init")
    send(engine, source)
    for file in files_of(folder, "index", "index"):
        file.unlink()
    with pytest.raises(FarSideDamaged) as damaged:
        send(engine, source)
    says(damaged.value, "is damaged", "offsite check")
    assert len(engine.ask("snapshots")) == 1
    engine.run("rebuild-index")
    completes(engine, source, tmp_path / "back")


def test_a_deleted_and_a_damaged_key_are_named(make: Make, folder: Place) -> None:
    engine = make(folder.settings("keys"))
    engine.run("init")
    key = files_of(folder, "keys", "keys")[0]
    kept = key.read_bytes()
    flip(key, 200)
    with pytest.raises(BackupError) as damaged:
        engine.ask("snapshots")
    says(damaged.value, folder.repository("keys"))
    key.unlink()
    with pytest.raises(SettingsError) as gone:
        engine.ask("snapshots")
    says(gone.value, "its keys are gone", code=2)
    key.write_bytes(kept)
    assert engine.ask("snapshots") == []


def test_a_bucket_with_versions_and_object_lock_takes_copies_and_keeps_what_an_attacker_deletes(
    make: Make, s3: Place, source: Path, tmp_path: Path
) -> None:
    weed_shell(s3, "s3.bucket.create -name locked -withLock")
    place = replace(s3, root=s3.root.replace("/copies", "/locked"))
    engine = make(place.settings("alf1"))
    engine.run("init")
    send(engine, source)
    completes(engine, source, tmp_path / "back")
    sent = files_in(s3, "locked/alf1/snapshots")
    assert len(sent) == 2
    for item in engine.ask("snapshots"):
        engine.run("forget", item["id"])
    engine.run("prune")
    assert engine.ask("snapshots") == []
    assert files_in(s3, "locked/alf1/snapshots") == sent


def files_in(s3: Place, folder: str) -> set[str]:
    """The names of what the S3 server keeps in a folder of a bucket, former versions included."""
    listed = weed_shell(s3, f"fs.ls /buckets/{folder}").split()
    return {
        word.removesuffix(".versions") for word in listed if re.fullmatch(r"[0-9a-f]{64}(\.versions)?", word)
    }
