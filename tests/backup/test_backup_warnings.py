"""What the report of a published backup warns of."""

from dataclasses import replace
from datetime import timedelta

from alfresco_backup.backup.concerns import warnings_about
from tests.support.catalogues import NOW, a_base, a_configuration, a_snapshot

BASE = a_base(NOW - timedelta(days=30))
PROTECTED_UNTIL = BASE.stopped_at + timedelta(days=14)


def test_a_snapshot_that_finished_after_the_protection_time_may_lack_documents() -> None:
    snapshot = replace(a_snapshot(BASE.stopped_at, BASE.stamp), finished_at=PROTECTED_UNTIL)
    configuration = a_configuration(BASE.stopped_at, BASE.stamp)
    assert warnings_about([BASE, snapshot, configuration], 14) == []
    late = replace(snapshot, store="second", finished_at=PROTECTED_UNTIL + timedelta(hours=1))
    (warning,) = warnings_about([BASE, snapshot, late, configuration], 14)
    assert warning.startswith(f"the snapshot {BASE.stamp} of second finished at ")
    assert "Alfresco keeps orphaned content for 14 days only (system.content.orphanProtectDays)" in warning
    assert len(warnings_about([BASE, snapshot, late], 13.9)) == 2


def test_without_a_database_in_the_set_no_snapshot_is_late() -> None:
    late = replace(a_snapshot(BASE.stopped_at), finished_at=PROTECTED_UNTIL + timedelta(days=9))
    assert warnings_about([late], 14) == []


def test_the_first_twenty_damaged_files_are_named() -> None:
    (warning,) = warnings_about(
        [replace(BASE, damaged_files=tuple(f"base/5/{n}" for n in range(100, 121)))], 14
    )
    assert "in 21 files of the database" in warning
    assert "base/5/119 and 1 more, see backup.json" in warning and "base/5/120" not in warning
