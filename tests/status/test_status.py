"""The status: what can be restored, why sets are kept and until when, what is wrong and what to type."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import PROOF, Proof, write_proof
from alfresco_backup.errors import HostNotReady
from alfresco_backup.findings import Finding
from alfresco_backup.repository.layout import partial_of
from alfresco_backup.repository.pins import pin_file, pin_set
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.settings.commands import program_command
from alfresco_backup.status.as_json import status_document, status_json
from alfresco_backup.status.as_text import status_markdown, status_rows, status_text
from alfresco_backup.status.assess import make_status, read_status
from alfresco_backup.status.facts import StatusFacts
from alfresco_backup.status.freshness import Freshness
from alfresco_backup.status.report import SetStatus, StatusReport
from alfresco_backup.system.json_fields import time_text
from alfresco_backup.times import for_people, make_stamp, utc_now
from tests.support.catalogues import NOW, REPOSITORY, Parts, age
from tests.support.repository_on_disk import DiskRepository, listing
from tests.support.restorable_repositories import copy_of, mark_verified, restorable_repository, segment_at
from tests.support.retention_tables import a_policy

pytestmark = pytest.mark.slow

SECONDS = timedelta(seconds=2)
DAYS = {"retention_days": 2, "minimum_redundancy": 1}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> DiskRepository:
    return restorable_repository(tmp_path_factory.mktemp("template") / "backup", utc_now())


@pytest.fixture
def disk(template: DiskRepository, tmp_path: Path) -> DiskRepository:
    return copy_of(template, tmp_path / "backup")


def status(disk: DiskRepository, **settings: object) -> StatusReport:
    return read_status(disk.settings(alf_host_name="demo", **settings), disk.now)


def by_stamp(report: StatusReport) -> dict[str, SetStatus]:
    return {item.item.stamp: item for item in report.sets}


def problem(report: StatusReport, subject: str) -> Finding:
    (found,) = (item for item in report.problems if item.subject == subject)
    return found


def stamp_of(disk: DiskRepository, when: str) -> str:
    return make_stamp(disk.now - age(when))


def test_a_good_repository_has_a_window_without_gaps_and_no_problems(disk):
    mark_verified(disk)
    before = listing(disk.repository.root)
    report = status(disk)
    start = disk.now - age("4d") + timedelta(minutes=30)
    end = segment_at(disk.repository, disk.now).stat().st_mtime
    assert (report.state, report.exit_code, report.problems, report.gaps) == ("good", 0, (), ())
    assert report.window[0] == start and report.window[1].timestamp() == pytest.approx(end)
    to = for_people(report.window[1])
    assert report.headline == f"restorable from {for_people(start)} to {to} (no gaps)"
    assert [item.item.stamp for item in report.sets] == [
        stamp_of(disk, when) for when in ("3h", "1d", "2d", "3d", "4d")
    ]
    assert listing(disk.repository.root) == before


def test_how_much_of_the_wal_is_verified_and_since_when_is_told(disk):
    count = len(list(disk.repository.wal.glob("0*")))
    report = status(disk)
    assert problem(report, "verified WAL").sentence == f"0 of {count} segments verified; {count} not yet"
    assert (report.state, status_document(report)["wal"]["verified"]) == ("good", 0)
    mark_verified(disk)
    report = status(disk)
    words = f"WAL: {count} of {count} segments verified, the one longest ago {for_people(disk.now)}"
    assert words in status_text(report).splitlines()
    seconds = disk.now.replace(microsecond=0)
    assert status_document(report)["wal"] == {
        "segments": count,
        "verified": count,
        "damaged": 0,
        "not_yet": 0,
        "not_verifiable": {},
        "oldest_verified_at": time_text(seconds),
        "newest_verified_at": time_text(seconds),
    }


def test_why_a_part_is_kept_is_what_the_retention_plan_says(disk):
    pin_set(disk.repository, stamp_of(disk, "4d"), "why not", disk.now)
    disk.snapshot(disk.now - age("2d3h"))
    disk.snapshot(disk.now - age("2d2h"))
    report = status(disk, **DAYS)
    plan = make_retention_plan(disk.settings(**DAYS), now=disk.now)
    planned = {item.path: (item.keep, item.reason) for item in plan.items}
    parts = [part for item in report.sets for part in item.parts]
    assert len(parts) == 17
    for part in parts:
        assert (part.verdict.keep, part.verdict.reason) == planned[part.path]


def test_until_is_the_moment_at_which_retention_lets_a_set_go(disk):
    report = status(disk, retention_days=2, minimum_redundancy=1)
    untils = [item.leading.until for item in report.sets]
    assert untils[0] is None and all(untils[1:3]) and untils[3:] == [untils[3], None]
    for item in report.sets[1:4]:
        until = item.leading.until
        for moment, kept in ((until - SECONDS, True), (until, False)):
            plan = make_retention_plan(disk.settings(**DAYS), now=moment)
            verdict = next(each for each in plan.items if each.path == item.leading.path)
            assert verdict.keep is kept, f"{item.item.stamp} at {moment}"
    assert not report.sets[4].leading.verdict.keep
    assert "removed by the next retention run: ended before the recovery window" in status_text(report)
    assert "until newer backups take its place" in status_text(report)


def test_a_missing_segment_behind_the_newest_base_is_an_error_that_splits_the_window(disk):
    lost = segment_at(disk.repository, disk.now - age("1h"))
    lost.unlink()
    report = status(disk)
    assert (report.state, report.exit_code) == ("attention", 5)
    found = problem(report, "WAL gap")
    assert found.level == "error" and lost.name.removesuffix(".zst") in found.sentence
    assert found.fix == program_command("backup", "--only", "postgres")
    assert "(gap: " in report.headline and [gap.first for gap in report.gaps] == [lost.name[:24]]


def test_a_damaged_entry_is_named_and_the_rest_is_listed(disk):
    broken = disk.repository.base(stamp_of(disk, "2d"))
    (broken / "backup.json").write_text('{"schema": 1, "stamp": ')
    odd = disk.repository.contentstore.root / "contentstore-yesterday"
    odd.mkdir()
    report = status(disk)
    assert (report.state, len(report.sets)) == ("attention", 5)
    found = problem(report, f"postgres/{broken.name}")
    assert found.level == "error" and found.sentence.startswith("its metadata backup.json is damaged: ")
    assert found.fix.startswith(f"ls -la {broken}\n")
    assert problem(report, "contentstore/contentstore-yesterday").sentence == "not the name of a backup"
    assert f"ERROR: postgres/{broken.name}: its metadata" in status_text(report)


def test_without_wal_nothing_is_restorable(disk):
    for path in disk.repository.wal.glob("*.zst"):
        path.unlink()
    report = status(disk)
    assert (report.state, report.exit_code, report.window) == ("nothing-restorable", 6, None)
    assert report.headline == "nothing can be restored: no base backup has the WAL it needs"


def test_an_empty_repository_says_what_to_type(tmp_path):
    report = status(DiskRepository(tmp_path / "backup", utc_now()))
    assert report.exit_code == 6
    assert problem(report, "newest backup").fix == program_command("backup")
    assert "Sets in" in status_text(report) and "No runs yet." in status_text(report)


def test_an_archive_that_cannot_be_listed_makes_the_window_unknown_and_nothing_else(disk):
    disk.repository.wal.rename(disk.repository.root / "elsewhere")
    disk.repository.wal.write_text("not a folder")
    report = status(disk)
    assert report.headline == "unknown: the WAL archive cannot be listed" and report.exit_code == 6
    found = problem(report, "WAL archive")
    assert found.sentence == f"cannot be read: Not a directory: {disk.repository.wal}"
    assert len(report.sets) == 5 and report.sets[0].leading.verdict is None
    assert "kept    unknown: the WAL archive cannot be listed" in status_text(report)


def test_a_repository_that_is_not_there_is_an_error(tmp_path):
    disk = DiskRepository(tmp_path / "backup", utc_now())
    settings = disk.settings().model_copy(update={"backup_dir": tmp_path / "not-mounted"})
    with pytest.raises(HostNotReady) as refusal:
        read_status(settings, disk.now)
    told = f"BACKUP_DIR={tmp_path}/not-mounted does not exist; its disk may not be mounted"
    assert refusal.value.message == told
    assert refusal.value.hint == f"namei -l {tmp_path}/not-mounted"


def test_an_old_newest_set_is_an_error(disk):
    report = status(disk, backup_max_age_hours=1)
    assert report.state == "attention"
    assert "the limit is 1 h" in problem(report, "newest backup").sentence


def test_a_pin_is_shown_with_its_reason_and_since_when(disk):
    stamp = stamp_of(disk, "3d")
    pin_set(disk.repository, stamp, "before the upgrade", disk.now)
    report = status(disk, **DAYS)
    words = f"before the upgrade (since {for_people(disk.now)})"
    assert by_stamp(report)[stamp].pin.reason == "before the upgrade"
    assert f"pinned  {words}" in status_text(report)
    row = next(row for row in status_rows(report) if row["set"] == stamp)
    assert row["pinned"] == words
    assert row["kept"].endswith("pinned: before the upgrade") and row["until"] == "it is unpinned"


def test_sets_kept_by_a_pin_or_for_a_month_are_restorable_as_of_their_end_and_nothing_is_a_gap(disk):
    """One is of another month than the others, so its pin is a second reason."""
    stamp = stamp_of(disk, "4d")
    pin_set(disk.repository, stamp, "the court asked", disk.now)
    policy = {"retention_days": 1, "minimum_redundancy": 1, "keep_weekly": 1000, "keep_yearly": 1}
    carry_out(make_retention_plan(disk.settings(**policy), now=disk.now))
    mark_verified(disk)
    report = status(disk, **policy)
    plan = make_retention_plan(disk.settings(**policy), now=disk.now)
    planned = {item.path: item.reason for item in plan.items}
    pinned = by_stamp(report)[stamp]
    assert (report.state, report.problems, report.gaps) == ("good", (), ())
    assert pinned.end_only and pinned.leading.verdict.own_wal_only
    older = sum(item.end_only for item in report.sets)
    assert older < len(report.sets)
    assert report.headline.endswith(f" (no gaps), and the end{'s' * (older > 1)} of {older} older base backup"
                                    f"{'s' * (older > 1)}")  # fmt: skip
    assert report.window[0] > pinned.intervals[0].end
    document = status_document(report)
    assert document["window"]["from"] == time_text(report.window[0]) and document["gaps"] == []
    for item, told in zip(report.sets, document["sets"], strict=True):
        assert told["end_only"] is item.end_only
        assert told["why"] == planned[item.leading.path]
    assert "KEEP_WEEKLY" in document["sets"][0]["why"] and "KEEP_YEARLY" in document["sets"][0]["why"]
    text = status_text(report)
    assert f"restore as of its end, {for_people(pinned.intervals[0].start)}; later WAL is not kept" in text
    assert "(KEEP_WEEKLY); until newer backups take its place" in text or "(KEEP_YEARLY); until newer" in text
    assert "(KEEP_YEARLY)" in status_markdown(report)


def test_pins_of_nothing_and_damaged_pins_are_named(disk):
    stamp = stamp_of(disk, "1d")
    pin_set(disk.repository, stamp, "why not", disk.now)
    pin_file(disk.repository, stamp).rename(pin_file(disk.repository, "20200101T000000Z"))
    report = status(disk)
    assert problem(report, "pin of 20200101T000000Z").fix == "rm " + str(
        pin_file(disk.repository, "20200101T000000Z")
    )
    pin_set(disk.repository, stamp, "why not", disk.now)
    pin_file(disk.repository, stamp).write_text("[]")
    found = problem(status(disk), f"pin of {stamp}")
    assert found.level == "warning" and "the set is kept all the same" in found.sentence
    assert found.fix.startswith(f"{program_command('unpin', stamp)} && cd ")


def test_a_set_is_verified_by_the_drill_that_wrote_so(disk):
    good, bad, damaged, never = (stamp_of(disk, when) for when in ("1d", "2d", "3d", "4d"))
    proof = Proof(good, disk.now, disk.now - age("1h"), 840.0, 1_203_411, 0)
    write_proof(disk.repository.base(good), proof)
    failed = Proof(bad, disk.now, None, 60.0, 12, 2, ("page 7 of pg_class is damaged",))
    write_proof(disk.repository.base(bad), failed)
    (disk.repository.base(damaged) / PROOF).write_text("{")
    report = status(disk)
    rows = {row["set"]: row["restore drill"] for row in status_rows(report)}
    day = f"{disk.now.astimezone():%Y-%m-%d}"
    assert by_stamp(report)[good].proof == proof
    assert rows[good] == f"{day}, RTO 14 min 00 s, 0 of 1,203,411 documents missing"
    told = f"{day}, RTO 1 min 00 s, 2 of 12 documents missing; page 7 of pg_class is damaged"
    assert rows[bad] == f"FAILED: {told}"
    assert rows[damaged] == rows[never] == "not yet verified"
    assert problem(report, f"set {bad}").sentence == f"the restore drill failed: {told}"
    assert problem(report, f"restore drill of {damaged}").level == "warning"
    assert report.state == "attention"


def test_what_a_drill_found_elsewhere_or_a_later_one_could_not_do_leaves_the_set_verified(disk):
    elsewhere, later = stamp_of(disk, "1d"), stamp_of(disk, "2d")
    proof = Proof(elsewhere, disk.now, None, 60.0, 12, 0, elsewhere=("WAL segment 7 is damaged",))
    write_proof(disk.repository.base(elsewhere), proof)
    no_result = replace(proof, stamp=later, elsewhere=(), later=("DRILL_DIR is full",))
    write_proof(disk.repository.base(later), no_result)
    report = status(disk)
    rows = {row["set"]: row["restore drill"] for row in status_rows(report)}
    assert rows[elsewhere].endswith("missing; found elsewhere: WAL segment 7 is damaged")
    assert rows[later].endswith("missing; a later drill ended without a result: DRILL_DIR is full")
    assert not any(rows[stamp].startswith(("FAILED", "NOT")) for stamp in (elsewhere, later))
    levels = [problem(report, f"set {stamp}").level for stamp in (elsewhere, later)]
    assert levels == ["warning", "unknown"]


def test_last_runs_are_told_from_logs_parts_and_journals(disk):
    stamps = {name: make_stamp(disk.now - age(when)) for name, when in RUNS.items()}
    for stamp in stamps.values():
        (disk.repository.logs / f"backup-{stamp}.log").touch()
    partial_of(disk.repository.base(stamps["killed"])).mkdir()
    folder = disk.repository.restores("demo") / stamps["killed"]
    folder.mkdir(parents=True)
    journal = Journal.begin(folder, stamps["killed"], "demo", {"kind": "pitr"})
    report = status(disk)
    runs = {(run.flow, run.stamp): (run.state, run.words) for run in report.runs}
    assert runs["backup", stamp_of(disk, "3h")] == (
        "published",
        "published database, contentstore, configuration",
    )
    assert runs["backup", stamps["killed"]] == (
        "unfinished",
        "running or interrupted; only .partial files are there",
    )
    assert runs["backup", stamps["refused"]][0] == "failed"
    assert runs["backup", stamps["removed"]] == (
        "gone",
        "nothing of it is there; it failed, or retention has removed it",
    )
    assert runs["restore-pitr", stamps["killed"]] == ("unfinished", "is unfinished")
    log = disk.repository.logs / f"backup-{stamps['refused']}.log"
    assert problem(report, "last run").fix == f"less {log}\n{program_command('backup')}"
    found = problem(report, "restore-pitr")
    assert found.level == "error"
    assert f" undo --backup {stamps['killed']}" in found.fix
    journal.state(RestoreState.COMPLETED)
    assert "restore-pitr" not in {item.subject for item in status(disk).problems}
    for state in RestoreState:
        journal.state(state)
        (run,) = (run for run in status(disk).runs if run.flow == "restore-pitr")
        assert run.words == f"is {state.value}"


RUNS = {"removed": "3d5h", "killed": "2h", "refused": "1h"}


def test_copies_of_content_alone_share_a_line(disk):
    for when in ("20h", "19h", "18h"):
        disk.snapshot(disk.now - age(when))
    text = status_text(status(disk))
    line = f"  3 without database, {stamp_of(disk, '20h')} to {stamp_of(disk, '18h')}, 117.2 KiB new"
    assert line in text.splitlines()
    assert stamp_of(disk, "19h") not in text.partition("Last runs")[0]


def test_the_markdown_holds_headline_and_text(disk):
    report = status(disk)
    markdown = status_markdown(report)
    assert f"**{report.headline}**" in markdown and status_text(report) in markdown


def test_rows_always_have_the_same_columns(disk):
    (disk.repository.base(stamp_of(disk, "2d")) / "backup.json").unlink()
    rows = status_rows(status(disk))
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    assert any(row["state"] == "its metadata backup.json is missing" for row in rows)


def test_what_the_predecessor_never_measured_is_unknown():
    parts = Parts()
    parts.add_set(NOW - age("3h"), legacy=True)
    catalogue = parts.catalogue()
    facts = StatusFacts(
        "demo", REPOSITORY, NOW, a_policy(), Freshness(None, True, "none"), catalogue, parts.full_inventory()
    )
    report = make_status(facts)
    (row, *_) = status_rows(report)
    assert (row["size"], row["new data"]) == ("unknown", "unknown")
    document = json.loads(status_json(report))
    assert document["sets"][0]["bytes"] is None and document["sets"][0]["predecessor"] is True
    assert [part["bytes"] for part in document["sets"][0]["parts"]] == [5_000_000, None]
    assert document["space"] is None and document["window"] is None
