"""METRICS_FILE: parsed by a client library, as status has it, safe in another account's folder."""

import os
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from alfresco_backup.backup.proof import Proof, write_proof
from alfresco_backup.offsite.state import OffsiteState
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.status.as_json import status_document
from alfresco_backup.status.as_metrics import HELP, PREFIX, metrics_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.status.metrics_file import write_metrics
from alfresco_backup.status.offsite import OffsiteReport
from alfresco_backup.streaming.report import StreamingReport
from alfresco_backup.streaming.slot import Slot
from alfresco_backup.times import utc_now
from alfresco_backup.wal.window import Interval
from tests.support.planting import RootsOwn, as_root, given, other_account, planted
from tests.support.repository_on_disk import DiskRepository, sets_until_an_hour_ago

RULES = PROJECT_DIRECTORY / "deployments/prometheus/alfresco-backup.rules.yml"
REFERENCE = PROJECT_DIRECTORY / "docs/reference/metrics.md"
Metrics = dict[tuple[str, ...], float]
"""By name without prefix, and the values of the labels but the host's."""


def parsed(text: str, host: str) -> Metrics:
    """What a client library reads; AssertionError for anything that is not as all metrics are."""
    found: Metrics = {}
    for family in text_string_to_metric_families(text):
        name = family.name.removeprefix(PREFIX)
        assert (family.type, family.documentation) == ("gauge", HELP[name])
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("host") == host
            found[name, *labels.values()] = sample.value
    return found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> DiskRepository:
    return sets_until_an_hour_ago(tmp_path_factory.mktemp("metrics"))


def written(disk: DiskRepository, path: Path) -> Metrics:
    write_metrics(disk.settings(metrics_file=path, alf_host_name="alf1"), utc_now())
    return parsed(path.read_text(), "alf1")


def test_they_are_what_the_status_says(disk: DiskRepository) -> None:
    settings = disk.settings(alf_host_name="alf1")
    newest = sorted(disk.repository.postgres.glob("base-*"))[-1]
    proof = Proof(newest.name.removeprefix("base-"), utc_now(), None, 845.5, 1_203_411, 2)
    write_proof(newest, proof)
    report = read_status(settings, utc_now())
    window = Interval(report.moment - timedelta(days=7), report.moment - timedelta(seconds=90), 1, "0" * 24)
    report = replace(report, sets=(replace(report.sets[0], intervals=(window,)), *report.sets[1:]))
    told, found = status_document(report), parsed(metrics_text(report), "alf1")
    complete = next(item for item in told["sets"] if item["complete"])
    space = told["space"]

    def seconds(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    expected = {
        ("repository_readable",): 1,
        ("restorable",): 1,
        ("checked_timestamp_seconds",): report.moment.timestamp(),
        ("complete_sets",): len([item for item in told["sets"] if item["complete"]]),
        ("newest_complete_timestamp_seconds",): seconds(complete["started_at"]),
        ("newest_complete_bytes",): complete["bytes"],
        ("newest_complete_new_bytes",): complete["new_bytes"],
        ("window_start_timestamp_seconds",): seconds(told["window"]["from"]),
        ("window_end_timestamp_seconds",): seconds(told["window"]["to"]),
        ("window_gaps",): len(told["gaps"]),
        ("restore_drill_timestamp_seconds", "local"): proof.proven_at.timestamp(),
        ("restore_drill_rto_seconds", "local"): 845.5,
        ("restore_drill_documents", "local"): 1_203_411,
        ("restore_drill_missing_documents", "local"): 2,
        ("restore_drill_sound", "local"): 0,
        ("disk_size_bytes",): space["disk"]["total"],
        ("disk_free_bytes",): space["disk"]["free"],
        ("stored_bytes", "wal"): space["stored"]["wal"],
        ("problems", "error"): len([item for item in told["problems"] if item["level"] == "error"]),
        ("retention_holds",): 0,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected, abs=1)
    run = next(item for item in told["runs"] if item["backup_id"] == complete["backup_id"])
    took = seconds(run["ended_at"]) - seconds(run["started_at"])
    assert found["newest_complete_duration_seconds",] == pytest.approx(took, abs=1)
    assert found["wal_lag_seconds",] == pytest.approx(90, abs=1)
    assert not [name for name in found if name[0].startswith(("offsite", "streaming"))]


def test_off_site_copy_and_streaming_are_there_where_they_are_set_up(disk: DiskRepository) -> None:
    now = utc_now()
    slot = Slot(now, Lsn(0x5000), active=False, restart=Lsn(0x1000), flushed=Lsn(0x4000), lag=12.5)
    state = OffsiteState(
        "s3:x", now, (), 3, "20261122T023000Z", wal_until=now, stored_bytes=7, measured_at=now
    )
    far = Proof("20261122T023000Z", now - timedelta(days=2), None, 60.0, 10, 0, source="offsite")
    report = replace(
        read_status(disk.settings(), now),
        host="alf1",
        streaming=StreamingReport("slot", slot, "", None, ()),
        offsite=OffsiteReport("s3:x", state, (), far),
    )
    found = parsed(metrics_text(report), "alf1")
    assert (found["streaming_active",], found["streaming_lag_seconds",]) == (0, 12.5)
    assert found["streaming_behind_bytes",] == 0x1000
    newest = datetime.fromisoformat("2026-11-22T02:30:00+00:00").timestamp()
    assert found["offsite_newest_complete_timestamp_seconds",] == newest
    assert found["offsite_wal_timestamp_seconds",] == pytest.approx(now.timestamp())
    assert found["offsite_stored_bytes",] == 7
    assert found["restore_drill_missing_documents", "offsite"] == 0
    assert found["restore_drill_sound", "offsite"] == 1


def test_a_folder_that_is_missing_is_told_and_a_repository_that_is_not_there_too(
    disk: DiskRepository, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        written(disk, tmp_path / "missing/alf1.prom")
    disk = DiskRepository(tmp_path / "unmounted")
    shutil.rmtree(disk.repository.root)
    found = written(disk, tmp_path / "alf1.prom")
    assert found.keys() == {("repository_readable",), ("checked_timestamp_seconds",)}
    assert found["repository_readable",] == 0


def test_everybody_may_read_it_whatever_the_umask(disk: DiskRepository, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        written(disk, tmp_path / "alf1.prom")
    finally:
        os.umask(before)
    assert (tmp_path / "alf1.prom").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["alf1.prom"]


@pytest.mark.slow
def test_it_is_whole_at_any_moment_though_several_runs_end_at_once(
    disk: DiskRepository, tmp_path: Path
) -> None:
    path = tmp_path / "alf1.prom"
    whole = written(disk, path).keys()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(5):
                written(disk, path)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert parsed(path.read_text(), "alf1").keys() == whole
    assert failures == [] and [item.name for item in tmp_path.iterdir()] == ["alf1.prom"]


@as_root
def test_links_of_the_folders_owner_are_replaced_never_followed(disk: DiskRepository, tmp_path: Path) -> None:
    own, account = RootsOwn(tmp_path / "roots"), other_account()
    folder = tmp_path / "collector"
    folder.mkdir()
    given(folder, account)
    for name in ("alf1.prom", "alf1.prom.partial"):
        planted(folder / name, own.file, account)
    assert written(disk, folder / "alf1.prom")["repository_readable",] == 1
    own.require_unchanged()
    assert [path.name for path in folder.iterdir()] == ["alf1.prom"]
    assert (folder / "alf1.prom").lstat().st_uid == 0
    planted(tmp_path / "link", own.folder, account)
    with pytest.raises(OSError, match="root does not follow it"):
        written(disk, tmp_path / "link/alf1.prom")
    own.require_unchanged()


def test_the_reference_names_every_metric_and_none_besides() -> None:
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \|", REFERENCE.read_text(), re.MULTILINE)
    assert rows == list(HELP)
    units = ("_seconds", "_bytes")
    counted = {
        *("repository_readable", "restorable", "problems", "complete_sets", "window_gaps", "retention_holds"),
        *("streaming_active", "restore_drill_documents", "restore_drill_missing_documents"),
        "restore_drill_sound",
    }
    assert {name for name in HELP if not name.endswith(units)} == counted


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(rf"{PREFIX}(\w+)", rule["expr"])}
    assert len(rules) > 10 and asked <= HELP.keys()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool; apt-get install prometheus")
def test_promtool_accepts_the_rules_and_the_metrics(disk: DiskRepository, tmp_path: Path) -> None:
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written(disk, tmp_path / "alf1.prom")
    with (tmp_path / "alf1.prom").open() as text:
        done = subprocess.run(
            ["promtool", "check", "metrics"], stdin=text, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
