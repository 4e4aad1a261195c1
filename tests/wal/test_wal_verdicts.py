"""What a WAL audit says of archives made by hand: pinned bases, other clusters, files that vanish."""

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import MARKER, Lsn, Segment
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.times import for_people
from alfresco_backup.wal import contents as wal_contents
from alfresco_backup.wal.audit import WalAudit, audit
from alfresco_backup.wal.audit_table import window_rows
from alfresco_backup.wal.contents import read_contents
from tests.support.wal_files import NOW, OWNER, WELL, archive_segment, base_backup

SIZE = 1 << 20
OWN_WAL = (BaseFile("pg_wal.tar.zst", 1, "", "wal"),)
SERVER = replace(
    WELL,
    segment_size=SIZE,
    last_archived=Segment(1, 12).name(SIZE),
    current_segment=Segment(1, 13).name(SIZE),
)


def hours_ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def archive_of(directory: Path, *numbers: int) -> Path:
    """One segment every half hour, the twelfth four hours ago."""
    for number in numbers:
        archive_segment(directory, Segment(1, number), SIZE, modified=hours_ago(10 - number / 2))
    (directory / MARKER).write_text(OWNER)
    return directory


def base(segment: int, *, ended: float, owner: str = OWNER) -> BaseBackup:
    """One within a segment, that keeps its own WAL; it ended so many hours ago."""
    start = segment * SIZE
    moment = hours_ago(ended)
    return base_backup(
        *(Lsn(start + 40), Lsn(start + 500)),
        stopped_at=moment,
        segment_size=SIZE,
        files=OWN_WAL,
        owner=owner,
        stamp=f"{moment:%Y%m%dT%H%M%SZ}",
    )


def audited(directory: Path, *bases: BaseBackup, window: float | None = None) -> WalAudit:
    """`window`: how many hours ago the recovery window begins."""
    contents = replace(read_contents(directory), listed_at=NOW)
    return audit(contents, bases, SERVER, NOW, window_start=hours_ago(window) if window else None)


def test_a_gap_before_the_window_with_no_newer_base_backup_after_it_is_an_error(tmp_path: Path) -> None:
    """Archiving was off during an upgrade: nothing later can be restored, and somebody must be told."""
    result = audited(archive_of(tmp_path, 3, 4, 8, 9, 10, 11, 12), base(4, ended=8), window=2)
    assert [finding.subject for finding in result.errors] == ["WAL gap"]


@pytest.mark.parametrize("window", [5.6, None])
def test_what_is_missing_after_a_base_backup_within_the_recovery_window_is_a_gap(
    tmp_path: Path, window: float | None
) -> None:
    old, new = base(4, ended=8), base(9, ended=5.5)
    result = audited(archive_of(tmp_path, 4, 9, 10, 11, 12), old, new, window=window)
    assert result.errors == ()
    [gap] = [finding for finding in result.findings if finding.subject == "WAL gap"]
    assert gap.level == "warning" and "(gap: " in result.summary
    assert not any(item.end_only for item in result.bases)


def test_base_backups_before_the_recovery_window_are_kept_without_later_wal_and_that_is_no_gap(
    tmp_path: Path,
) -> None:
    """Of those that are kept for another reason than the window only their own WAL is there."""
    oldest, old, new = base(2, ended=9), base(4, ended=8), base(9, ended=5.5)
    result = audited(archive_of(tmp_path, 2, 4, 9, 10, 11, 12), oldest, old, new, window=5.5)
    assert result.gaps == () and [item.end_only for item in result.bases] == [True, True, False]
    assert [item.gaps for item in result.bases] == [(), (), ()]
    end = for_people(hours_ago(8))
    assert result.bases[1].sentence == f"restorable as of its end, {end}; it is kept without later WAL"
    assert result.summary.startswith(f"restorable from {for_people(hours_ago(5.5))} to ")
    assert result.summary.endswith(" (no gaps), and the ends of 2 older base backups")
    assert not [finding for finding in result.findings if finding.subject == "WAL gap"]
    rows = {row["base backup"]: row["gaps"] for row in window_rows(result)}
    assert rows[old.stamp] == "kept without later WAL: restorable as of its end" and rows[new.stamp] == "none"


def test_a_loss_before_the_recovery_window_that_retention_did_not_make_is_told(tmp_path: Path) -> None:
    old, new = base(4, ended=8), base(9, ended=5.5)
    result = audited(archive_of(tmp_path, 4, 5, 9, 10, 11, 12), old, new, window=5.5)
    [gap] = [finding for finding in result.findings if finding.subject == "WAL gap"]
    assert gap.level == "ok" and gap.sentence.startswith("before the recovery window; ")
    assert not any(item.end_only for item in result.bases)


def test_of_another_clusters_bases_only_their_ends_count(tmp_path: Path) -> None:
    """After pg_upgrade: what lies between the old ones is gone with their archive."""
    archive = archive_of(tmp_path, *range(3, 13))
    old = [base(7, ended=days * 24, owner="42") for days in (5, 4)]
    new = base(4, ended=8)
    own = "restorable from 2026-11-22 02:00:00 +00:00 to 2026-11-22 06:00:00 +00:00 (no gaps)"
    assert audited(archive, *old, new).summary == f"{own}, and the ends of 2 base backups of another cluster"
    assert audited(archive, new).summary == own
    assert audited(archive, old[0]).summary == "restorable: only the end of 1 base backup of another cluster"
    ends = [window.intervals[0].end for window in audited(archive, *old).bases]
    assert ends == [hours_ago(120), hours_ago(96)]


@pytest.mark.parametrize(
    ("left", "first", "until"), [((), "05", 2), ((3, 4, 5), "06", 2.5)], ids=["emptied", "newest gone"]
)
def test_an_archive_that_ends_before_a_base_that_keeps_its_own_wal_has_a_gap(
    tmp_path: Path, left: tuple[int, ...], first: str, until: float
) -> None:
    """Somebody made room: nothing leads from the older base to the newer one."""
    result = audited(archive_of(tmp_path, *left), base(4, ended=8), base(9, ended=5.5))
    [gap] = result.gaps
    assert (gap.first[-2:], gap.last[-2:], gap.lost_until) == (first, "09", hours_ago(5.5))
    assert gap.before == hours_ago(10 - until)
    lost = f"{for_people(gap.before)} to {for_people(hours_ago(5.5))}"
    assert result.summary.endswith(f"to {for_people(hours_ago(5.5))} (gap: {lost})")


def test_a_base_that_has_just_ended_is_no_proof_of_missing_wal(tmp_path: Path) -> None:
    """Published between the look at the archive and that at the catalogue: its WAL may have arrived since."""
    result = audited(archive_of(tmp_path, 3, 4, 5), base(4, ended=8), base(9, ended=0.1))
    assert result.gaps == ()


def test_a_gap_that_ends_within_the_wal_a_base_keeps_itself_ends_with_that_base(tmp_path: Path) -> None:
    old, new = base(4, ended=8), base(9, ended=5.5)
    result = audited(archive_of(tmp_path, 3, 4, 5, 10, 11, 12), old, new)
    [gap] = result.gaps
    assert (gap.first[-2:], gap.last[-2:], gap.lost_until) == ("06", "09", hours_ago(5.5))
    assert result.errors == ()


def test_a_base_within_a_gap_that_keeps_its_own_wal_divides_what_is_lost(tmp_path: Path) -> None:
    old, new = base(4, ended=8), base(7, ended=6.4)
    result = audited(archive_of(tmp_path, 3, 4, 5, 10, 11, 12), old, new)
    assert [(gap.first[-2:], gap.last[-2:], gap.lost_until) for gap in result.gaps] == [
        ("06", "09", hours_ago(6.4)),
        ("08", "09", None),
    ]
    assert [finding.sentence.split()[0][-2:] for finding in result.errors] == ["08"]


@pytest.mark.parametrize(
    ("promoted", "level"), [(5.5, "error"), (3.5, "warning")], ids=["undone", "lived on"]
)
def test_without_a_server_the_timeline_in_use_is_the_one_that_was_written_to_last(
    tmp_path: Path, promoted: float, level: str
) -> None:
    """A restore that was undone leaves its timeline behind, and the host lives on the one before it."""
    archive_of(tmp_path, 3, 4, 5, 6, 7, 8, 9, 11, 12)
    history = tmp_path / "00000002.history"
    history.write_text(f"1\t{Lsn(6 * SIZE + 500)}\tbefore 2026-11-22 03:10:00+00\n")
    written = hours_ago(promoted)
    os.utime(history, (written.timestamp(), written.timestamp()))
    archive_segment(tmp_path, Segment(2, 6), SIZE, modified=written, page_timeline=1)
    contents = replace(read_contents(tmp_path), listed_at=NOW)
    result = audit(contents, [base(4, ended=8)], None, NOW)
    [gap] = [finding for finding in result.findings if finding.subject == "WAL gap"]
    assert gap.sentence.startswith(Segment(1, 10).name(SIZE))
    assert gap.level == level


@pytest.mark.parametrize("content", [b"", bytes(20), b"\xff\xfe\x00", b"71234x\n"])
def test_a_damaged_marker_of_the_archives_cluster_hides_nothing_and_is_told(
    tmp_path: Path, content: bytes
) -> None:
    archive = archive_of(tmp_path, *range(3, 13))
    whole = audited(archive, base(4, ended=8))
    assert whole.errors == ()
    (archive / MARKER).write_bytes(content)
    result = audited(archive, base(4, ended=8))
    assert result.summary == whole.summary
    [error] = result.errors
    assert error.sentence == (
        "system-identifier in the archive is damaged: archive-wal refuses every segment until it is removed"
    )
    assert error.fix == f"rm {archive}/system-identifier"


def test_a_gap_is_told_by_a_base_that_can_be_restored(tmp_path: Path) -> None:
    """One of the predecessor's keeps no WAL apart: without the archive's it has nothing to lose any more."""
    old, new = base(4, ended=8), replace(base(9, ended=5.5), files=())
    result = audited(archive_of(tmp_path, 3, 4, 5, 6, 7, 8, 10, 11, 12), old, new)
    [gap] = result.gaps
    assert (gap.first[-2:], gap.before, gap.lost_until) == ("09", hours_ago(6), None)
    assert result.summary.endswith(f"to {for_people(hours_ago(6))} (gap: {for_people(hours_ago(6))} to now)")


def test_a_segment_that_is_compressed_during_the_look_does_not_hide_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, 3, 4, 5)
    archive_segment(tmp_path, Segment(1, 4), SIZE, compressed=True, modified=hours_ago(8))
    compare = wal_contents.same_content

    def compressed_meanwhile(plain: Path, compressed: Path) -> bool:
        plain.unlink()
        return compare(plain, compressed)

    monkeypatch.setattr(wal_contents, "same_content", compressed_meanwhile)
    assert read_contents(tmp_path).duplicates == {}
