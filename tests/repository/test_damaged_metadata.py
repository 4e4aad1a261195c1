"""One bad value in a metadata file costs that part, never status, retention or the other sets."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.backup.proof import Proof, write_proof
from alfresco_backup.errors import BackupError
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.pins import pin_set
from alfresco_backup.retention.apply import make_retention_plan
from alfresco_backup.status.as_json import status_json
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from tests.support.catalogues import NOW
from tests.support.repository_on_disk import DiskRepository

ODD: tuple[object, ...] = (
    None, True, [], {}, "", "x", "\0", "../../etc", 0, -1, 2**63, 10**400, 1e308, float("nan"), float("inf"),
    "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "2026-11-22T02:30:00", "0/0",
    "FFFFFFFF/FFFFFFFF",
)  # fmt: skip


def a_repository(root: Path) -> tuple[DiskRepository, list[str]]:
    disk = DiskRepository(root)
    stamps = [disk.run("20d"), disk.run("3d"), disk.run("1d")]
    disk.wal("3d", "2d", "1d", "1h")
    pin_set(disk.repository, stamps[0], "before the upgrade", NOW)
    base = disk.repository.postgres / f"base-{stamps[0]}"
    write_proof(base, Proof(stamps[0], NOW - timedelta(days=19), None, 60.0, 10, 0))
    return disk, stamps


def metadata_of_the_oldest(disk: DiskRepository, stamp: str) -> list[Path]:
    return sorted(path for path in disk.repository.root.rglob("*.json") if stamp in str(path))


def fields_of(document: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, lists by their first item."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        children = list(document.items())
    elif isinstance(document, list) and document:
        children = [(0, document[0])]
    for name, child in children:
        yield (*at, name)
        yield from fields_of(child, (*at, name))


def put(document: Any, place: tuple[str | int, ...], value: object) -> Any:
    changed = json.loads(json.dumps(document))
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return changed


def looked_at(disk: DiskRepository, sound: list[str]) -> None:
    """What must work whatever one file says: every other set is listed, and stays."""
    settings = disk.settings(retention_days=7)
    report = read_status(settings, NOW)
    text, document = status_text(report), json.loads(status_json(report))
    assert document["host"] == settings.alf_host_name
    listed = {item.stamp for item in read_catalogue(disk.repository, now=NOW).complete_sets}
    assert set(sound) <= listed and all(stamp in text for stamp in sound)
    try:
        plan = make_retention_plan(settings, now=NOW)
    except BackupError:  # it may refuse: nothing is removed then
        return
    gone = {item.path.name for item in plan.removals}
    assert not [name for name in gone if any(stamp in name for stamp in sound)]


@pytest.mark.slow
def test_every_field_of_every_metadata_file_may_hold_anything(tmp_path: Path) -> None:
    disk, (oldest, *sound) = a_repository(tmp_path)
    files = metadata_of_the_oldest(disk, oldest)
    assert len(files) >= 4, "base backup, snapshot, configuration, drill"
    looked_at(disk, sound)
    tried = 0
    for file in files:
        original = file.read_text()
        document = json.loads(original)
        for place in fields_of(document):
            for value in ODD:
                file.write_text(json.dumps(put(document, place, value)))
                try:
                    looked_at(disk, sound)
                except AssertionError:
                    raise
                except Exception as error:
                    raise AssertionError(f"{file.name} {place} = {value!r}: {error!r}") from error
                tried += 1
        file.write_text(original)
    assert tried > 500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0" * 100, '{"a": ' * 5000, '{"schema": 99}'])
def test_a_metadata_file_that_is_no_document_costs_its_part_alone(tmp_path: Path, text: str) -> None:
    disk, (oldest, *sound) = a_repository(tmp_path)
    for file in metadata_of_the_oldest(disk, oldest):
        original = file.read_bytes()
        file.write_text(text)
        looked_at(disk, sound)
        file.write_bytes(original)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_repository_that_is_mounted_read_only_is_an_error_of_the_status(tmp_path: Path) -> None:
    disk, stamps = a_repository(tmp_path)
    root = str(disk.repository.root)
    if subprocess.run(["mount", "--bind", root, root], check=False, capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        before = read_status(disk.settings(), NOW)
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        report = read_status(disk.settings(), NOW)
        assert {part.item.stamp for part in report.sets} == set(stamps)
        (added,) = set(report.problems) - set(before.problems)
        assert added.level == "error"
        assert f"{root} is on a file system that is mounted read-only" in added.sentence
    finally:
        subprocess.run(["umount", root], check=True)
