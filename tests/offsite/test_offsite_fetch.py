"""A repository comes back from the off-site copy alone: to an empty folder, part by part, after kills."""

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.backup.proof import read_far_proof, read_proof, write_proof
from alfresco_backup.drill.place import drill_folder
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host.host import load_host
from alfresco_backup.offsite.known import METADATA
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from flows.backup import backup
from flows.offsite import offsite_copy, offsite_wal
from flows.restore_contentstore import restore_contentstore
from flows.restore_drill import restore_drill
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from tasks.drill.offsite import choose_source
from tests.support.common import temporary_demo_host, wait_until
from tests.support.offsite_places import Place, place_of
from tests.support.places import reachable_directory
from tests.support.restore_command import PROJECT

pytestmark = pytest.mark.slow
PASSWORD = "correct horse battery"


class Copied:
    """A host with two sets and a later snapshot, all of it off-site; the last two were sent together."""

    def __init__(self, host: DemoHost, far: Path) -> None:
        self.host, self.far = host, far
        with host.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={far}\nOFFSITE_PASSWORD='{PASSWORD}'\n")
        assert offsite("init", env_file=host.env_file)["made"] is True
        backup()
        offsite_copy()
        self._work(20)
        backup()
        self._work(10)
        self.target = host.writer.commits[-1].committed_at
        self._work(10)
        backup(components=["contentstore"])
        host.cluster.sql("SELECT pg_switch_wal()")
        wait_until(self._archived, "the last segment is not archived")
        host.writer.close()
        offsite_copy()
        offsite_wal()
        catalogue = read_catalogue(load_host(host.env_file).repository)
        self.stamps = [item.stamp for item in catalogue.complete_sets]

    def _work(self, transactions: int) -> None:
        """Uploads, new versions and deletions, but no purges: what came and went between two snapshots would
        be nowhere then, and Alfresco keeps it for 14 days."""
        for number in range(transactions):
            writer = self.host.writer
            (writer.update if number % 5 == 3 else writer.delete if number % 5 == 4 else writer.add)()

    def _archived(self) -> bool:
        waiting = self.host.layout.data_directory / "pg_wal/archive_status"
        return not list(waiting.glob("*.ready"))


@pytest.fixture(scope="module")
def copied(prefect_server: None) -> Iterator[Copied]:
    with (
        temporary_demo_host(documents=60) as host,
        reachable_directory() as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Copied(host, place / "far")


def offsite(action: str, *words: str, env_file: Path) -> dict[str, Any]:
    return program("offsite", action, *words, env_file=env_file)


def program(*words: str, env_file: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "alfresco_backup", *words, "--env", env_file, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def five_settings(copied: Copied, folder: Path, **more: object) -> Path:
    """The `.env` of an empty machine, as the recovery sheet says."""
    root = folder / "backup"
    root.mkdir()
    settings = {
        "ALF_HOST_NAME": copied.host.name,
        "ALF_BASE_DIR": folder / "alfresco",
        "BACKUP_DIR": root,
        "OFFSITE_REPOSITORY": copied.far,
        "PG_BINDIR": copied.host.cluster.bindir,
        "OFFSITE_PASSWORD": PASSWORD,
        **more,
    }
    file = folder / ".env"
    file.touch(0o600)
    file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    return file


def described(root: Path, top: Iterable[str]) -> dict[str, tuple[object, ...]]:
    """Every entry below some paths: type, owner, mode, time, link text or content, names of one file."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    paths = sorted({path for name in top for path in [root / name, *(root / name).rglob("*")]})
    for path in paths:
        status, name = path.lstat(), str(path.relative_to(root))
        kind = stat.S_IFMT(status.st_mode)
        detail: object = None
        if stat.S_ISLNK(status.st_mode):
            detail = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            same = first.setdefault(status.st_ino, name)
            detail = (status.st_size, hashlib.sha256(path.read_bytes()).hexdigest(), same)
        owner = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        found[name] = (kind, *owner, status.st_mtime_ns, detail)
    return found


def fetched_parts(root: Path) -> list[str]:
    """The parts that a fetch gives their names."""
    found = list(root.glob("postgres/*"))
    found += [
        *root.glob("configuration/*"),
        *root.glob("contentstore/contentstore-*"),
        *root.glob("pg_wal/*"),
    ]
    found += root.glob("contentstore/days/*/*/*/*")
    return sorted(str(path.relative_to(root)) for path in found)


def assert_equal(fetched: Path, source: Path, parts: list[str]) -> None:
    there, here = described(source, parts), described(fetched, parts)
    assert here.keys() == there.keys()
    assert {name: (here[name], there[name]) for name in here if here[name] != there[name]} == {}


def test_an_empty_machine_gets_its_repository_back_with_a_password_and_five_settings(
    copied: Copied, tmp_path: Path
) -> None:
    env_file = five_settings(copied, tmp_path)
    root = tmp_path / "backup"
    listed = offsite("fetch", "--catalogue", env_file=env_file)
    assert [item["backup_id"] for item in listed["sets"] if item["complete"]] == copied.stamps
    assert all(item["whole"] for item in listed["sets"]) and listed["wal_until"]
    assert not list(root.glob("postgres/*"))
    done = offsite("fetch", env_file=env_file)
    assert done["backup_id"] == copied.stamps[-1] and done["findings"] == [], done
    parts = fetched_parts(root)
    assert any("days" in part for part in parts) and f"postgres/base-{copied.stamps[-1]}" in parts
    assert f"postgres/base-{copied.stamps[0]}" not in parts, "only what is needed"
    latest = "contentstore/latest"
    assert (root / latest).readlink() == (copied.host.backup_dir / latest).readlink()
    assert_equal(root, copied.host.backup_dir, parts)
    assert (root / "repository.json").read_bytes() == (
        copied.host.backup_dir / "repository.json"
    ).read_bytes()
    note = json.loads((tmp_path / ".env.repository").read_text())
    assert note["backup_dir"] == str(root)
    assert not (root / "offsite/fetch.partial").exists()
    again = offsite("fetch", env_file=env_file)
    assert again["bytes"] == 0, "what is there is not fetched again"


KILLED = """
import os, signal, sys, threading
import alfresco_backup.offsite.fetch as fetch
kind, left = sys.argv[1], float(sys.argv[2])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
renamed, restored = fetch.rename, fetch.restore

def rename(source, target):
    global left
    renamed(source, target)
    left -= kind == "renames"
    if kind == "renames" and left <= 0:
        die()

def restore(*words):
    if kind == "seconds":
        threading.Timer(left, die).start()
    restored(*words)

fetch.rename, fetch.restore = rename, restore
from alfresco_backup.__main__ import main
sys.exit(main(["offsite", "fetch", "--env", sys.argv[3]]))
"""


def test_a_fetch_that_is_killed_again_and_again_ends_with_what_the_source_has(
    copied: Copied, tmp_path: Path
) -> None:
    env_file = five_settings(copied, tmp_path)
    root = tmp_path / "backup"
    chance = random.Random()
    kills = [("renames", 1), ("renames", chance.randint(2, 12)), ("renames", chance.randint(2, 12))]
    kills += [("seconds", round(chance.uniform(0.05, 1.0), 2)), ("seconds", 0.01)]
    had: set[str] = set()
    for kind, number in kills:
        words = [sys.executable, "-c", KILLED, kind, str(number), str(env_file)]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, check=False, timeout=600)
        print(f"killed after {number} {kind}: {done.returncode}")  # noqa: T201 - which points were tried
        assert done.returncode == -signal.SIGKILL
        parts = fetched_parts(root)
        assert had <= set(parts), "what has its name stays"
        had = set(parts)
        assert_equal(root, copied.host.backup_dir, parts)
        assert read_catalogue(Repository(root)).problems == ()
    assert offsite("fetch", env_file=env_file)["findings"] == []
    assert_equal(root, copied.host.backup_dir, fetched_parts(root))
    assert f"postgres/base-{copied.stamps[-1]}" in fetched_parts(root)
    assert offsite("fetch", env_file=env_file)["bytes"] == 0


def test_an_id_that_is_not_there_or_not_whole_is_refused_with_those_that_are(
    copied: Copied, tmp_path: Path
) -> None:
    env_file = five_settings(copied, tmp_path)
    unknown = offsite("fetch", "--backup", "20200101T000000Z", env_file=env_file)
    assert unknown["exit_code"] == 3
    assert "has no backup 20200101T000000Z" in unknown["error"]["message"]
    assert all(stamp in unknown["error"]["message"] for stamp in copied.stamps)
    later = offsite("fetch", "--target-time", "2090-01-01T00:00:00Z", env_file=env_file)
    assert later["exit_code"] == 3 and "does not reach" in later["error"]["message"]
    early = offsite("fetch", "--target-time", "2001-01-01T00:00:00Z", env_file=env_file)
    assert early["exit_code"] == 3 and "ended before" in early["error"]["message"]
    assert fetched_parts(tmp_path / "backup") == []


def test_an_id_whose_days_were_removed_there_is_refused_by_the_name_of_what_is_missing(
    copied: Copied, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    shutil.copytree(copied.far, far)
    (snapshot,) = snapshots_of(far, f"id={copied.stamps[0]}")
    restic(far, "forget", snapshot["id"])
    env_file = five_settings(copied, tmp_path, OFFSITE_REPOSITORY=far)
    refused = offsite("fetch", "--backup", copied.stamps[1], env_file=env_file)
    assert refused["exit_code"] == 3
    assert f"it refers to {copied.stamps[0]}, which was not sent" in refused["error"]["message"]
    assert fetched_parts(tmp_path / "backup") == []


def test_a_folder_that_is_another_repository_is_not_fetched_into(copied: Copied, tmp_path: Path) -> None:
    env_file = five_settings(copied, tmp_path)
    (tmp_path / "backup/repository.json").write_text('{"schema": 1, "id": "another"}')
    refused = offsite("fetch", env_file=env_file)
    assert refused["exit_code"] == 3 and "is repository another" in refused["error"]["message"]
    other = tmp_path / "other"
    other.mkdir()
    done = offsite("fetch", "--backup", copied.stamps[0], "--to", str(other), env_file=env_file)
    assert done["backup_id"] == copied.stamps[0], done
    assert_equal(other, copied.host.backup_dir, fetched_parts(other))
    assert not (tmp_path / ".env.repository").exists(), "it is not the host's BACKUP_DIR"


def test_a_folder_of_which_a_part_is_mounted_is_not_fetched_into(
    copied: Copied, tmp_path: Path, bind: Callable[[Path, Path], None]
) -> None:
    env_file = five_settings(copied, tmp_path)
    archive = tmp_path / "backup/pg_wal"
    bind(tmp_path / "disk", archive)
    refused = offsite("fetch", env_file=env_file)
    assert refused["exit_code"] == 3
    assert f"{archive}: a file system of its own" in refused["error"]["message"]
    assert fetched_parts(tmp_path / "backup") == []


def test_a_drill_of_the_off_site_copy_restores_from_an_empty_folder_and_its_proof_is_not_of_the_copy_here(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL_READ_CYCLE", "2")
    host = load_host(copied.host.env_file)
    catalogue = read_catalogue(host.repository)
    said = restore_drill(source="offsite", target_time=copied.target)
    assert f"# Restore drill of base backup {copied.stamps[1]}, from the off-site copy" in said
    proof = read_far_proof(host.repository.offsite)
    assert proof is not None and proof.source == "offsite" and proof.sound
    assert proof.documents > 0 and proof.missing == 0 and proof.steps["fetch"] > 0
    assert proof.reread is not None and proof.reread.files > 0
    assert 0 < proof.reread.entries < proof.reread.entries_stored, "a share of the content is really fetched"
    assert [read_proof(base.path, base.stamp) for base in catalogue.bases] == [None, None]
    assert list(drill_folder(host).iterdir()) == []
    assert choose_source(host, catalogue, "alternate") == "local"
    newest = replace(catalogue.bases[-1], path=tmp_path)
    catalogue = replace(catalogue, bases=(newest,))
    write_proof(newest.path, replace(proof, stamp=newest.stamp, source="local", proven_at=utc_now()))
    assert choose_source(host, catalogue, "alternate") == "offsite"
    write_proof(newest.path, replace(proof, stamp=newest.stamp))
    assert read_proof(newest.path, newest.stamp) is None, "one of the off-site copy is none of this one"
    without = replace(host, settings=host.settings.model_copy(update={"offsite_repository": ""}))
    assert choose_source(without, catalogue, "alternate") == "local"


def test_a_drill_finds_a_document_that_was_sent_with_another_content(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rot of the copy here before it was sent, of the same size and time: only reading shows it."""
    far = tmp_path / "far"
    shutil.copytree(copied.far, far)
    (snapshot,) = snapshots_of(far, f"id={copied.stamps[0]}")
    sent = tmp_path / "sent"
    restic(far, "restore", snapshot["id"], "--target", str(sent))
    (newest,) = snapshots_of(far, f"id={copied.stamps[1]}")
    listed = [word for pattern in METADATA for word in ("--include", pattern)]
    restic(far, "restore", newest["id"], "--target", str(sent), *listed)
    file = next(path for path in sorted(sent.glob("contentstore/days/*Z/**/*.bin")))
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    words = ["--host", copied.host.name, "--tag", ",".join(snapshot["tags"])]
    restic(far, "backup", *words, *(path.name for path in sent.iterdir()), directory=sent)
    monkeypatch.setenv("OFFSITE_REPOSITORY", str(far))
    monkeypatch.setenv("DRILL_READ_CYCLE", "1")
    with pytest.raises(BackupUnsound, match=f"{file.name} differs from its checksum"):
        restore_drill(source="offsite", target_time=copied.target)
    proof = read_far_proof(load_host(copied.host.env_file).repository.offsite)
    assert proof is not None and proof.damaged


def restic(far: Path | str, *words: str, directory: Path | None = None) -> str:
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    argv = ["restic", "--repo", str(far), *words]
    done = subprocess.run(
        argv, env=environment, cwd=directory, capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout


def snapshots_of(far: Path, tag: str) -> list[dict[str, Any]]:
    return [item for item in json.loads(restic(far, "snapshots", "--json")) if tag in item["tags"]]


@pytest.fixture(scope="module")
def lost(copied: Copied) -> Iterator[Path]:
    """The first host and its backup disk are gone, for the tests below; the folder that the disk was."""
    lost = copied.host.backup_dir.with_name("lost")
    copied.host.wipe()
    copied.host.backup_dir.rename(lost)
    yield lost
    lost.rename(copied.host.backup_dir)


@pytest.fixture
def second(copied: Copied, lost: Path) -> Iterator[DemoHost]:
    """Another machine's folders with Alfresco's programs, BACKUP_DIR empty."""
    with reachable_directory() as directory, pytest.MonkeyPatch.context() as patch:
        new = DemoHost.install(directory / "new", like=copied.host, durable=False)
        new.backup_dir.unlink()
        new.backup_dir.mkdir()
        with new.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={copied.far}\nOFFSITE_PASSWORD='{PASSWORD}'\n")
        patch.setenv(ENV_FILE_VARIABLE, str(new.env_file))
        yield new
        with suppress(FileNotFoundError):
            new.destroy()


def assert_restored(copied: Copied, new: DemoHost) -> None:
    expected = copied.host.writer.state_at(copied.target)
    assert new.read_state().difference(expected) == []
    assert new.missing_documents(expected) == []


def test_a_second_empty_host_is_restored_to_a_target_time_from_the_copy_alone(
    copied: Copied, lost: Path, second: DemoHost
) -> None:
    moment = copied.target.isoformat()
    done = offsite("fetch", "--target-time", moment, env_file=second.env_file)
    assert done["findings"] == [], done
    assert_equal(second.backup_dir, lost, fetched_parts(second.backup_dir))
    said = restore_pitr(target_time=copied.target, mode="execute", confirm=second.name)
    assert "all are there" in said
    assert_restored(copied, second)


def test_a_restore_with_source_offsite_plans_from_metadata_then_fetches_and_restores(
    copied: Copied, lost: Path, second: DemoHost
) -> None:
    words = ("--mode", "pitr", "--target-time", copied.target.isoformat(), "--source", "offsite")
    planned = program("restore", *words, env_file=second.env_file)
    assert planned["state"] == "planned", planned
    assert planned["details"]["database"]["backup_id"] == copied.stamps[1]
    assert planned["details"]["fetched_bytes"] > sum(
        file.bytes for file in read_catalogue(Repository(lost)).bases[1].files
    )
    assert "etched from the off-site copy first" in planned["text"]
    assert planned["details"]["obstacles"] == []
    assert fetched_parts(second.backup_dir) == [], "a plan fetches metadata only"
    early = program("restore", *words[:3], "2001-01-01T00:00:00Z", *words[4:], env_file=second.env_file)
    assert early["exit_code"] == 3
    said = restore_pitr(target_time=copied.target, source="offsite", mode="execute", confirm=second.name)
    assert "all are there" in said
    assert_restored(copied, second)
    assert_equal(second.backup_dir, lost, fetched_parts(second.backup_dir))


def test_of_a_host_that_lost_its_documents_only_the_content_is_fetched(
    copied: Copied, lost: Path, second: DemoHost
) -> None:
    said = restore_full(source="offsite", mode="execute", confirm=second.name)
    assert "all are there" in said
    for year in second.layout.contentstore.iterdir():
        shutil.rmtree(year)
    shutil.rmtree(second.backup_dir / "contentstore")
    before = fetched_parts(second.backup_dir)
    said = restore_contentstore(
        backup=copied.stamps[1], source="offsite", mode="execute", confirm=second.name
    )
    assert "all are there" in said
    added = set(fetched_parts(second.backup_dir)) - set(before)
    assert added and all(name.startswith("contentstore/") for name in added)


@pytest.fixture(params=["s3", "sftp"])
def elsewhere(
    copied: Copied, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The same snapshots in another kind of place, which the settings name from now on."""
    with place_of(request.param) as place:
        for name, value in place.settings("alf1").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RESTIC_FROM_PASSWORD", PASSWORD)
        there = place.repository("alf1")
        restic(there, "init", "--from-repo", str(copied.far), "--copy-chunker-params")
        restic(there, "copy", "--from-repo", str(copied.far))
        yield place


def test_an_empty_host_is_restored_from_s3_and_from_sftp_and_the_copy_there_is_drilled(
    copied: Copied, lost: Path, second: DemoHost, elsewhere: Place
) -> None:
    said = restore_pitr(target_time=copied.target, source="offsite", mode="execute", confirm=second.name)
    assert "all are there" in said
    assert_restored(copied, second)
    assert_equal(second.backup_dir, lost, fetched_parts(second.backup_dir))
    said = restore_drill(source="offsite", target_time=copied.target)
    assert f"# Restore drill of base backup {copied.stamps[1]}, from the off-site copy" in said
    proof = read_far_proof(load_host(second.env_file).repository.offsite)
    assert proof is not None and proof.sound and proof.documents > 0 and proof.missing == 0
