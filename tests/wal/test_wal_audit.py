"""The WAL audit on archives that real servers wrote and that were damaged on purpose."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import Segment, list_archive
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people
from alfresco_backup.wal.archiver import ServerView
from alfresco_backup.wal.audit import WalAudit, audit
from alfresco_backup.wal.contents import is_known, read_contents, read_index, write_index
from alfresco_backup.wal.window import segments_needed, window
from tests.support.wal_clusters import SEGMENT_SIZE, ArchivedLife, archived_life, copy_of
from tests.support.wal_commands import PROGRAMS
from tests.support.wal_files import WELL, archive_segment


@pytest.fixture(scope="module")
def life(slow: None) -> Iterator[ArchivedLife]:
    with archived_life() as lived:
        yield lived


@pytest.fixture
def archive(life: ArchivedLife, tmp_path: Path) -> Path:
    return copy_of(life.archive, tmp_path / "archive")


def audited(life: ArchivedLife, archive: Path, server: ServerView | None = None) -> WalAudit:
    return audit(read_contents(archive), life.bases, server, datetime.now(UTC))


def between(life: ArchivedLife, which: int, offset: int) -> Segment:
    """A segment some places after the stop of a base backup."""
    base = life.bases[which]
    return Segment(base.timeline, base.stop_lsn.segment(SEGMENT_SIZE) + offset)


def path_of(archive: Path, segment: Segment) -> Path:
    name = segment.name(SEGMENT_SIZE)
    (path,) = (path for path in (archive / name, archive / f"{name}.zst") if path.exists())
    return path


def subjects(result: WalAudit, level: str) -> list[str]:
    return [item.subject for item in result.findings if item.level == level]


def assert_one_gap(result: WalAudit, segment: Segment) -> None:
    (gap,) = result.gaps
    assert (gap.first, gap.last, gap.count) == (*[segment.name(SEGMENT_SIZE)] * 2, 1)


def test_a_whole_archive_is_restorable_from_the_first_base_to_the_newest_segment(life, archive):
    result = audited(life, archive)
    assert result.errors == ()
    assert result.gaps == ()
    newest = max(file.modified for file in list_archive(archive) if file.kind == "segment")
    start = life.bases[0].stopped_at
    assert result.summary == f"restorable from {for_people(start)} to {for_people(newest)} (no gaps)"
    assert result.newest == newest
    assert result.wal.owner == life.owner == (archive / "system-identifier").read_text().strip()
    assert [(item.stamp, [each.timeline for each in item.intervals]) for item in result.bases] == [
        ("20261122T010000Z", [1, 2]),
        ("20261122T020000Z", [1, 2]),
    ]


def test_the_window_holds_what_was_committed_on_each_timeline(life, archive):
    old, new = window(life.bases[1], audited(life, archive).wal)
    assert old.start == life.bases[1].stopped_at < life.target < old.end
    assert old.end < new.start <= life.promoted_after < new.end <= life.ended
    assert (old.timeline, new.timeline) == (1, 2)


def test_the_segments_a_recovery_needs_are_all_in_the_archive_across_the_timelines(life, archive):
    result = audited(life, archive)
    moment = life.promoted_after
    needed = segments_needed(life.bases[0], moment, 2, result.wal)
    assert [path_of(archive, segment).exists() for segment in needed] == [True] * len(needed)
    assert {segment.timeline for segment in needed} == {1, 2}
    numbers = [segment.number for segment in needed]
    assert numbers == list(range(life.bases[0].start_lsn.segment(SEGMENT_SIZE), numbers[-1] + 1))


def test_a_removed_segment_is_a_gap_that_a_later_base_limits(life, archive):
    missing = between(life, 0, 1)
    path_of(archive, missing).unlink()
    result = audited(life, archive)
    assert_one_gap(result, missing)
    (gap,) = result.gaps
    around = [path_of(archive, Segment(1, missing.number + step)).stat().st_mtime for step in (-1, 1)]
    assert gap.before == max(datetime.fromtimestamp(around[0], UTC), life.bases[0].stopped_at)
    assert gap.after == datetime.fromtimestamp(around[1], UTC)
    assert gap.lost_until == life.bases[1].stopped_at
    assert result.errors == ()
    assert "WAL gap" in subjects(result, "warning")
    lost = f"(gap: {for_people(gap.before)} to {for_people(gap.lost_until)})"
    assert result.summary.endswith(lost)


def test_a_removed_segment_behind_the_last_base_is_an_error_with_a_backup_as_its_fix(life, archive):
    missing = between(life, 1, 1)
    path_of(archive, missing).unlink()
    result = audited(life, archive)
    assert_one_gap(result, missing)
    (error,) = result.errors
    assert error.subject == "WAL gap"
    assert error.sentence.startswith(f"{missing.name(SEGMENT_SIZE)} missing: nothing from ")
    assert error.sentence.endswith("until a new base backup is made can be restored")
    assert error.fix == program_command("backup", "--only", "postgres")
    assert " to now)" in result.summary


def test_a_segment_the_server_still_has_closes_the_gap_by_the_command_named(life, archive, tmp_path):
    missing = between(life, 1, 1)
    name = missing.name(SEGMENT_SIZE)
    pg_wal = tmp_path / "pg_wal"
    pg_wal.mkdir()
    path_of(archive, missing).rename(pg_wal / name)
    server = replace(WELL, timeline=2, kept=frozenset({name}), wal_directory=str(pg_wal))
    (error,) = (item for item in audited(life, archive, server).errors if item.subject == "WAL gap")
    assert error.sentence.endswith("; the server still has what is missing")
    assert error.fix == f"sh -s -- --zstd {pg_wal}/{name} {name} {archive} < {PROGRAMS / 'archive-wal'}"
    subprocess.run(["sh", "-c", error.fix], check=True, env={}, cwd="/")
    assert audited(life, archive, server).gaps == ()


def test_a_gap_of_several_segments_that_the_server_still_has_is_closed_by_one_command(
    life, archive, tmp_path
):
    missing = [between(life, 1, offset) for offset in (1, 2)]
    pg_wal = tmp_path / "pg wal"
    pg_wal.mkdir()
    for segment in missing:
        path_of(archive, segment).rename(pg_wal / segment.name(SEGMENT_SIZE))
    names = frozenset(segment.name(SEGMENT_SIZE) for segment in missing)
    server = replace(WELL, timeline=2, kept=names, wal_directory=str(pg_wal))
    (error,) = (item for item in audited(life, archive, server).errors if item.subject == "WAL gap")
    subprocess.run(["sh", "-c", error.fix], check=True, env={}, cwd="/")
    assert audited(life, archive, server).gaps == ()


def test_a_gap_on_a_life_that_was_given_up_is_a_warning(life, archive):
    path_of(archive, Segment(1, between(life, 1, 3).number)).unlink()
    result = audited(life, archive)
    assert result.errors == ()
    assert [gap.current for gap in result.gaps] == [False]


def test_without_its_history_the_second_timeline_is_not_reached(life, archive):
    (archive / "00000002.history").unlink()
    result = audited(life, archive)
    (error,) = result.errors
    assert (
        error.sentence
        == "00000002.history is not in the archive: older base backups cannot be restored to the present"
    )
    assert error.fix == program_command("wal-audit")
    assert {item.timeline for base in result.bases for item in base.intervals} == {1}


def test_a_history_that_cannot_be_read_is_an_error(life, archive):
    (archive / "00000002.history").write_text("rubbish\n")
    (error,) = audited(life, archive).errors
    assert error.subject == "timeline history"
    assert "00000002.history cannot be used: line 1 of timeline 2's history" in error.sentence


def test_an_empty_history_is_an_error_and_its_segments_are_well(life, archive):
    (archive / "00000002.history").write_bytes(b"")
    result = audited(life, archive)
    (error,) = result.errors
    assert error.sentence == (
        "00000002.history cannot be used: timeline 2's history is empty: it names no timeline before it; "
        "the server's WAL folder may have a good copy"
    )
    assert subjects(result, "warning") == []


@pytest.mark.parametrize(("keep", "subject"), [(SEGMENT_SIZE // 2, "short segments"), (0, "empty segments")])
def test_a_plain_segment_that_is_cut_off_counts_as_missing(life, archive, keep, subject):
    damaged = between(life, 1, 1)
    os.truncate(path_of(archive, damaged), keep)
    result = audited(life, archive)
    assert_one_gap(result, damaged)
    assert subject in subjects(result, "warning")
    assert any(
        damaged.name(SEGMENT_SIZE) in item.sentence for item in result.findings if item.subject == subject
    )


@pytest.mark.parametrize("cut", [1, 4, 100, None])
def test_a_compressed_segment_that_is_cut_off_counts_as_missing(life, archive, cut):
    last = audited(life, archive).bases[1].intervals[-1].last_segment
    path = archive / f"{last}.zst"
    size = path.stat().st_size
    os.truncate(path, size - cut if cut else 0)
    result = audited(life, archive)
    assert result.bases[1].intervals[-1].last_segment != last
    assert ("damaged segments" if cut else "empty segments") in subjects(result, "warning")


def test_a_segment_of_another_cluster_counts_as_missing(life, archive):
    segment = between(life, 1, 1)
    path_of(archive, segment).unlink()
    archive_segment(archive, segment, SEGMENT_SIZE)
    result = audited(life, archive)
    assert_one_gap(result, segment)
    assert "segments of another cluster" in subjects(result, "warning")


def test_a_renamed_segment_is_missing_under_its_own_name_and_foreign_under_the_other(life, archive):
    segment = between(life, 1, 1)
    other = Segment(1, 0x777)
    path_of(archive, segment).rename(archive / other.name(SEGMENT_SIZE))
    result = audited(life, archive)
    assert_one_gap(result, segment)
    (finding,) = (item for item in result.findings if item.subject == "segments under a wrong name")
    assert finding.sentence.startswith(f"1: {other.name(SEGMENT_SIZE)}: not used; ")
    subprocess.run(["sh", "-c", finding.fix], check=True, env={}, cwd="/")
    assert not (archive / other.name(SEGMENT_SIZE)).exists()
    assert (archive.with_name("archive-moved") / other.name(SEGMENT_SIZE)).exists()


def test_two_swapped_segments_are_both_missing(life, archive):
    one, two = (path_of(archive, between(life, 1, step)) for step in (1, 2))
    aside = archive / "aside"
    one.rename(aside), two.rename(one), aside.rename(two)
    (gap,) = audited(life, archive).gaps
    assert (gap.first, gap.last, gap.count) == (one.name, two.name, 2)


def test_a_segment_of_the_first_timeline_under_the_seconds_name_is_foreign_except_at_the_fork(life, archive):
    result = audited(life, archive)
    fork = result.wal.path(2).fork.segment(SEGMENT_SIZE)
    beyond = Segment(2, fork + 1)
    path_of(archive, beyond).unlink()
    shutil.copy(path_of(archive, Segment(1, fork + 1)), archive / beyond.name(SEGMENT_SIZE))
    damaged = audited(life, archive)
    assert_one_gap(damaged, beyond)
    assert "segments under a wrong name" in subjects(damaged, "warning")
    assert result.wal.time_of(Segment(2, fork)) is not None


def test_a_segment_stored_twice_with_the_same_content_is_harmless(life, archive):
    path = path_of(archive, between(life, 1, 1))
    subprocess.run(["zstd", "-q", path], check=True)
    result = audited(life, archive)
    assert result.gaps == ()
    assert result.errors == ()
    (finding,) = (item for item in result.findings if item.subject == "segments stored twice")
    assert path.name in finding.sentence
    subprocess.run(["sh", "-c", finding.fix], check=True, env={}, cwd="/")
    assert not path.exists() and audited(life, archive).gaps == ()


def test_a_segment_stored_twice_with_different_content_is_an_error(life, archive):
    path = path_of(archive, between(life, 1, 1))
    subprocess.run(["zstd", "-q", path], check=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (error,) = audited(life, archive).errors
    assert error.subject == "contradicting segments"
    assert path.name in error.sentence


def test_a_whole_copy_serves_where_the_other_is_damaged(life, archive):
    path = path_of(archive, between(life, 1, 1))
    subprocess.run(["zstd", "-q", path], check=True)
    os.truncate(path, 1000)
    assert audited(life, archive).gaps == ()


def test_an_archive_without_any_base_backup_restores_nothing(life, archive):
    result = audit(read_contents(archive), [], None, datetime.now(UTC))
    assert result.summary == "nothing can be restored: there is no base backup"
    assert subjects(result, "error") == ["base backups"]


def test_an_empty_archive_restores_nothing(life, tmp_path):
    result = audit(read_contents(tmp_path), life.bases, None, datetime.now(UTC))
    assert result.summary == "nothing can be restored: no base backup has the WAL it needs"
    assert result.newest is None
    assert [item.sentence for item in result.errors] == [
        "cannot be restored: the archive lacks WAL between its start and its end"
    ]


def test_a_base_that_ended_after_the_listing_is_left_out(life, archive):
    contents = read_contents(archive)
    late = life.bases[1].stopped_at - timedelta(microseconds=1)
    early = type(contents)(
        archive, late, contents.files, contents.looks, {}, contents.histories, contents.owner
    )
    assert [item.stamp for item in audit(early, life.bases, None, late).bases] == ["20261122T010000Z"]


def test_left_overs_and_strangers_are_named_and_disturb_nothing(life, archive):
    left = archive / ".000000010000000000000009.4711.tmp"
    left.touch()
    os.utime(left, (0, 0))
    (archive / ".000000010000000000000009.4712.tmp").touch()
    (archive / "notes.txt").touch()
    result = audited(life, archive)
    assert result.errors == ()
    said = {item.subject: item.sentence for item in result.findings}
    assert said["temporary files"].startswith(f"1: {left.name}: left")
    assert "notes.txt" in said["unknown files"]


def test_the_second_audit_opens_only_what_is_new_or_changed(life, archive, tmp_path):
    index = tmp_path / "seen.json"
    first = read_contents(archive)
    write_index(index, first)
    known = read_index(index, archive)
    untouched, changed = path_of(archive, between(life, 0, 1)), path_of(archive, between(life, 1, 1))
    os.truncate(changed, 0)
    new = archive_segment(archive, Segment(1, 0x777), SEGMENT_SIZE)
    second = read_contents(archive, known)
    assert known is not None
    assert not is_known(second, known)
    assert second.looks[untouched.name] is known.looks[untouched.name]
    assert second.looks[changed.name].defect == "empty"
    assert second.looks[new.name].header is not None
    assert {name: look for name, look in first.looks.items() if name != changed.name} == {
        name: look for name, look in second.looks.items() if name not in (changed.name, new.name)
    }


def test_an_index_that_tells_all_already_is_not_written_again(archive, tmp_path):
    index = tmp_path / "seen.json"
    write_index(index, read_contents(archive))
    known = read_index(index, archive)
    assert is_known(read_contents(archive, known), known)
    gone = next(archive.glob("*.zst"))
    gone.rename(tmp_path / gone.name)
    assert not is_known(read_contents(archive, known), known)
    (tmp_path / gone.name).rename(gone)  # another change time: it has to be looked at again
    assert not is_known(read_contents(archive, known), known)
    assert not is_known(read_contents(archive), None)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"schema": 1, "archive": "elsewhere"}', '{"schema": 99}']
)
def test_an_index_that_makes_no_sense_counts_as_none(tmp_path, content):
    index = tmp_path / "seen.json"
    index.write_text(content)
    assert read_index(index, tmp_path) is None
    assert read_index(tmp_path / "missing", tmp_path) is None


def test_what_there_was_no_time_to_follow_to_its_end_is_followed_next_time(life, archive):
    hasty = read_contents(archive, deep_seconds=0)
    assert {look.deep for name, look in hasty.looks.items() if name.endswith(".zst")} == {False}
    later = read_contents(archive, hasty)
    assert {look.deep for look in later.looks.values()} == {True}
