"""What no recovery made in DRILL_DIR stays there; hosts that share it keep apart what they asked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.documents.scratch import (
    PREFIX,
    ScratchDatabase,
    is_current,
    kept_databases,
    note_used,
    remove_abandoned,
)
from alfresco_backup.drill.plan import Scratch
from alfresco_backup.drill.server import remove_left_over
from alfresco_backup.host.host import Host, load_host

STAMP = "20261122T023000Z"
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.fixture
def drills(tmp_path: Path) -> Path:
    folder = tmp_path / "drills"
    folder.mkdir()
    return folder


def host_named(name: str, drills: Path) -> Host:
    env = drills.with_name(f"{name}.env")
    env.touch(0o600)
    places = f"BACKUP_DIR={drills.parent}/backup\nALF_BASE_DIR={drills.parent}\nDRILL_DIR={drills}\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nALF_HOST_NAME={name}\n{places}")
    return load_host(env)


def test_only_what_a_recovery_made_is_removed(drills: Path) -> None:
    """By its name: the prefix and a whole backup ID, no link."""
    host, log = host_named("alf1", drills), drills.with_name("log")
    own = {
        *(f"documents-{rest}" for rest in ("2019", "old", "", f"{STAMP}.copy", f"x{STAMP}")),
        *(f"drill-{rest}" for rest in ("notes", "2019", f"{STAMP}.copy")),
    }
    for name in {*own, f"documents-{STAMP}", f"drill-{STAMP}"}:
        (drills / name / "data").mkdir(parents=True)
    (drills / "documents-20261122T023001Z").symlink_to(drills / "documents-2019")
    (drills / "drill-20261122T023001Z").symlink_to(drills / "documents-2019")
    links = {"documents-20261122T023001Z", "drill-20261122T023001Z"}
    assert remove_abandoned(host, NOW, log) == [f"documents-{STAMP}"]
    assert remove_left_over(host, drills, log) == [f"drill-{STAMP}"]
    assert {path.name for path in drills.iterdir() if path.is_dir()} == own | links
    assert all((drills / name / "data").is_dir() for name in own)


def test_a_kept_database_answers_for_no_other_host(drills: Path) -> None:
    """Two hosts of one machine with one DRILL_DIR; also where one is a clone of the other."""
    alf1, alf2 = host_named("alf1", drills), host_named("alf2", drills)
    scratch = Scratch(drills, STAMP, PREFIX)
    scratch.root.mkdir()
    asked = NOW - timedelta(hours=1)
    made = ScratchDatabase(
        scratch=scratch,
        host="alf1",
        asked=asked.isoformat(),
        base=STAMP,
        reached="as asked",
        used_at=NOW,
        kind="time",
        time=asked,
        timeline=1,
        system_identifier="7",
        paused=True,
    )
    note_used(made, NOW)
    for host in (alf1, alf2):
        assert kept_databases(host) == [made]
        assert remove_abandoned(host, NOW, drills.with_name("log")) == []
    assert is_current(alf1, made)
    assert not is_current(alf2, made)
