"""What status, its JSON and the alarms say of the off-site copy, by what runs noted."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.backup.proof import PROOF, Proof
from alfresco_backup.offsite.state import LastRun, OffsiteState
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.status.as_json import status_document
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.status.offsite import judge_offsite, judge_proof, read_offsite
from alfresco_backup.system.files import write_json
from alfresco_backup.system.json_fields import document_of
from alfresco_backup.times import make_stamp
from tests.support.catalogues import NOW
from tests.support.repository_on_disk import DiskRepository

PLACE = "rest:https://me:a-secret@nas/alf1"
SHOWN = "rest:https://***@nas/alf1"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def settings(**others: object) -> Settings:
    given = {"offsite_repository": PLACE, "offsite_password": "x", **others}
    return Settings(pghost="x", pguser="x", backup_dir="/backup", alf_base_dir="/alf", **given)


def good(now: datetime) -> OffsiteState:
    """All well: a set of ten hours ago is there, WAL of four minutes ago, a check of three days ago."""
    stamp = make_stamp(now - 10 * HOUR)
    runs = {
        "copy": LastRun(now - HOUR, "sent", 5_000_000),
        "wal": LastRun(now - 4 * MINUTE, "sent", 1000),
        "check": LastRun(now - timedelta(days=3), "7 of 7 sets whole; share 2 of 12 of the packs read"),
    }
    return OffsiteState(
        SHOWN,
        now - timedelta(days=9),
        (stamp,),
        3,
        stamp,
        now - 9 * HOUR,
        "0" * 24,
        now - 6 * MINUTE,
        runs,
        stored_bytes=3 << 30,
        measured_at=now - timedelta(days=3),
    )


def judged(state: OffsiteState | None, **others: object) -> dict[str, tuple[str, str]]:
    report = judge_offsite(state, settings(**others), NOW)
    return {item.subject: (item.level, item.sentence) for item in report.findings}


def test_a_copy_that_is_as_it_should_be_is_told_with_its_denominators() -> None:
    found = judged(good(NOW))
    assert {level for level, _ in found.values()} == {"ok"}
    copied = found["off-site copy"][1]
    assert "1 of 3 sets are whole there; the last run sent " in copied and "10 h 00 min ago" in copied
    assert "commits up to " in found["off-site WAL"][1]
    assert found["off-site check"][1].endswith("7 of 7 sets whole; share 2 of 12 of the packs read")


@pytest.mark.parametrize(
    ("subject", "hours", "level"),
    [("off-site copy", 49, "ok"), ("off-site copy", 51, "error")],
)
def test_the_age_of_the_newest_set_there_raises_the_alarm(subject: str, hours: int, level: str) -> None:
    old = replace(good(NOW), newest_complete=make_stamp(NOW - hours * HOUR))
    assert judged(old)[subject][0] == level
    assert judged(old, offsite_max_age_hours=48)[subject][0] == "error"


def test_wal_raises_the_alarm_when_it_was_not_sent_for_too_long_whatever_the_server_writes() -> None:
    state = good(NOW)
    at_rest = replace(state, wal_until=NOW - 30 * HOUR)
    assert judged(at_rest)["off-site WAL"][0] == "ok"
    failing = LastRun(NOW - 59 * MINUTE, "sent", 0, NOW - 50 * MINUTE, NOW, "no route to host", "ping nas")
    runs = {**state.runs, "wal": failing}
    level, sentence = judged(replace(state, runs=runs))["off-site WAL"]
    assert level == "warning" and sentence.endswith(": no route to host")
    late = replace(failing, succeeded_at=NOW - 61 * MINUTE)
    [alarm] = judge_offsite(replace(state, runs={**runs, "wal": late}), settings(), NOW).alarms
    assert (alarm.subject, alarm.fix) == ("off-site WAL", "ping nas")


def test_a_check_that_failed_or_is_two_weeks_old_raises_the_alarm() -> None:
    state = good(NOW)
    old = LastRun(NOW - timedelta(days=16), "well")
    assert judged(replace(state, runs={**state.runs, "check": old}))["off-site check"][0] == "error"
    failed = replace(
        old, succeeded_at=NOW - HOUR, failing_since=NOW, failed_at=NOW, error="pack 1f is damaged"
    )
    level, sentence = judged(replace(state, runs={**state.runs, "check": failed}))["off-site check"]
    assert level == "error" and "pack 1f is damaged" in sentence
    never = {name: run for name, run in state.runs.items() if name != "check"}
    assert judged(replace(state, runs=never))["off-site check"][0] == "warning"
    assert (
        judged(replace(state, runs=never, begun_at=NOW - timedelta(days=16)))["off-site check"][0] == "error"
    )


def test_a_first_copy_of_days_is_no_alarm_until_its_limit_and_nothing_sent_is_one() -> None:
    begun = OffsiteState(SHOWN, NOW - 20 * HOUR, sets=3)
    assert judged(begun)["off-site copy"][0] == "warning"
    assert judged(replace(begun, begun_at=NOW - 51 * HOUR))["off-site copy"][0] == "error"
    for state in (None, replace(good(NOW), repository="s3:another")):
        assert judged(state) == {"off-site copy": ("error", f"nothing has been sent to {SHOWN} yet")}


def test_a_clock_that_was_ahead_does_not_silence_the_alarm() -> None:
    state = good(NOW)
    ahead = {**state.runs, "wal": LastRun(NOW + timedelta(days=3), "sent")}
    level, sentence = judged(replace(state, runs=ahead))["off-site WAL"]
    assert level == "error" and "in the future; check the clock" in sentence


def proof(stamp: str) -> Proof:
    return Proof(stamp, NOW - timedelta(days=1), NOW, 845, 70, 0, source="offsite")


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        ({}, "ok", "0 of 70 documents missing"),
        ({"missing": 2}, "error", "the restore drill from there failed: "),
        ({"unverified": ("the index",)}, "unknown", "could not verify all of it: "),
        ({"elsewhere": ("another set",)}, "warning", "verified it, but not all else: "),
        ({"later": ("a full disk",)}, "unknown", "the last restore drill from there had no result: "),
    ],
)
def test_the_last_drill_from_there_is_judged(changed: dict[str, Any], level: str, words: str) -> None:
    found = judge_proof(replace(proof("20261121T020000Z"), **changed))
    assert (found.level, words in found.sentence) == (level, True)
    assert found.level == "ok" or "drill --source offsite" in found.fix


def test_a_drill_from_a_place_before_this_one_or_a_damaged_note_verifies_nothing(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path / "backup", NOW)
    configured = disk.settings(offsite_repository=PLACE, offsite_password="x")
    disk.repository.offsite.mkdir()
    write_json(disk.repository.offsite / "state.json", document_of(replace(good(NOW), begun_at=NOW - HOUR)))
    write_json(disk.repository.offsite / PROOF, document_of(proof("20261121T020000Z")))
    report = read_offsite(disk.repository, configured, NOW)
    assert report and report.proof is None
    assert report.findings[-1].sentence == "the copy is not yet verified by a restore drill"
    (disk.repository.offsite / PROOF).write_text("{")
    report = read_offsite(disk.repository, configured, NOW)
    assert report and (report.findings[-1].level, report.proof) == ("warning", None)


def test_text_and_json_of_the_status_say_it_and_no_password(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path / "backup", NOW)
    stamps = [disk.run("2d"), disk.run("10h")]
    configured = disk.settings(offsite_repository=PLACE, offsite_password="another-secret")
    assert status_document(read_status(configured, NOW))["offsite"]["actions"] == {}
    state = replace(good(NOW), whole=(stamps[1],), newest_complete=stamps[1])
    disk.repository.offsite.mkdir()
    write_json(disk.repository.offsite / "state.json", document_of(state))
    write_json(disk.repository.offsite / PROOF, document_of(proof(stamps[1])))
    report = read_status(configured, NOW)
    text, document = status_text(report), status_document(report)
    assert (
        f"Off-site copy in {SHOWN}:\n  off-site copy: the newest complete set there is {stamps[1]}, " in text
    )
    assert "secret" not in text + str(document)
    assert "; 3.0 GiB were stored there " in text and document["offsite"]["stored_bytes"] == 3 << 30
    assert (
        f"  off-site drill: 2026-11-21, RTO 14 min 05 s, 0 of 70 documents missing; of set {stamps[1]}"
        in text
    )
    assert document["offsite"]["restore_drill"]["backup_id"] == stamps[1]
    assert any(item.subject == "off-site drill" for item in report.offsite.findings)  # type: ignore[union-attr]
    assert [item["offsite"] for item in document["sets"]] == [True, False]
    assert document["offsite"]["actions"]["copy"]["sent_bytes"] == 5_000_000
    page = (PROJECT_DIRECTORY / "docs/reference/status-json.md").read_text()
    part = page.partition("\n## offsite\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    assert set(document["offsite"]) == set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert {name in part for run in document["offsite"]["actions"].values() for name in run} == {True}
    (disk.repository.offsite / "state.json").write_text("{")
    [damaged] = [item for item in read_status(configured, NOW).problems if item.subject == "off-site copy"]
    assert "state.json is damaged, so what is off-site is not known" in damaged.sentence


def test_without_a_second_copy_nothing_is_wrong(tmp_path: Path) -> None:
    disk = DiskRepository(tmp_path / "backup", NOW)
    report = read_status(disk.settings(), NOW)
    assert report.offsite is None and "Off-site copy: none is set up" in status_text(report)
    assert not [item for item in report.problems if "off-site" in item.subject]
