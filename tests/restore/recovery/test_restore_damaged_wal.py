"""A target time inside a damaged WAL segment is never reported as reached, by a restore or by a drill."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, NotVerified, RecoveryNotReached, Refused
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.cluster import available_bindirs, stated_version
from demo.host import DemoHost
from demo.places import give_to
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_postgres import restore_postgres
from flows.wal_audit import wal_audit
from tests.support.common import temporary_demo_host
from tests.support.damaged_wal import (
    PAGE,
    Written,
    changed,
    covered_offset,
    finish_segment,
    flipped,
    flipped_inside,
    forget_server_copies,
    read_segment,
    stored_as,
    write_commits,
    zeros_from,
)
from tests.support.restoring import undo_latest

EXECUTE = {"mode": "execute", "confirm": "demo", "start_alfresco": False}
MICROSECOND = timedelta(microseconds=1)


def servers() -> list[Path]:
    """15, the newest before 13 and the newest of all, as far as they are here."""
    found = {stated_version(path) // 10000: path for path in available_bindirs()}
    wanted = [15, max([major for major in found if major < 13], default=15), max(found)]
    return [found[major] for major in dict.fromkeys(wanted) if major in found]


class Life:
    """A host with a set and two segments full of commits, both archived, nothing committed after them."""

    def __init__(self, host: DemoHost) -> None:
        self.host = host
        host.cluster.sql("ALTER SYSTEM SET autovacuum = off")  # its commits may come after the target time
        host.cluster.reload()
        backup()
        self.first: list[Written] = write_commits(host, 60)
        self.first_path = finish_segment(host)
        self.last: list[Written] = write_commits(host, 60)
        self.last_path = finish_segment(host)
        host.writer.close()
        forget_server_copies(host)

    def proof(self) -> dict[str, object]:
        (path,) = (self.host.backup_dir / "postgres").glob("base-*/proven.json")
        found: dict[str, object] = json.loads(path.read_text())
        return found


@pytest.fixture(scope="module", params=servers(), ids=lambda path: str(stated_version(path) // 10000))
def life(prefect_server: None, request: pytest.FixtureRequest) -> Iterator[Life]:
    with temporary_demo_host(request.param, documents=40) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Life(host)


def with_flipped_bit(segment: bytes, written: list[Written]) -> bytes:
    """The segment with one bit changed in a record of the fifth commit."""
    return flipped(segment, covered_offset(segment, written[3].offset(), written[4].offset()))


def drill(life: Life, target: datetime | str) -> None:
    """One that finds nothing; where programs of that version crash, as a wheel's do, it verifies not all."""
    with suppress(NotVerified):
        assert "all are there" in restore_drill(target_time=target)  # type: ignore[arg-type, operator]
    assert (life.proof()["findings"], life.proof()["missing"]) == ([], 0)


def test_a_drill_to_a_commit_behind_zeros_fails_and_verifies_nothing(life: Life) -> None:
    path = life.last_path
    content = read_segment(path)
    assert life.last[-1].offset() > 41 * PAGE
    with changed(path, stored_as(path, zeros_from(content, 40 * PAGE))):
        for target in (life.last[-1].commit.committed_at, "latest"):
            with pytest.raises(RecoveryNotReached, match=f"segment {path.stem} is damaged at "):
                restore_drill(target_time=target)  # type: ignore[arg-type]
            assert "is damaged at" in str(life.proof()["unverified"])
            assert life.proof()["findings"] == [], "the set itself restores to its own end"
    drill(life, "latest")


def test_a_target_time_at_which_nothing_was_committed_any_more_is_reached(life: Life) -> None:
    """The archive ends with a segment that a switch has finished, without a later commit."""
    target = life.last[-1].commit.committed_at + MICROSECOND
    drill(life, target)
    assert datetime.fromisoformat(str(life.proof()["reached"])) == target


def test_a_commit_behind_a_flipped_bit_is_not_reached(life: Life) -> None:
    """The last of these tests: before 13 the restored server begins a timeline, and archives it."""
    path, lived = life.last_path, life.host.read_state()
    damaged = with_flipped_bit(read_segment(path), life.last)
    with changed(path, stored_as(path, damaged)):
        with pytest.raises(RecoveryNotReached) as refused:
            restore_postgres(target_time=life.last[-1].commit.committed_at, **EXECUTE)
        undo_latest(life.host)
    said = refused.value.message
    assert f"segment {path.stem} is damaged at " in said
    assert "incorrect resource manager data checksum in record at" in said
    assert f"the last commit found is {life.last[3].commit.committed_at}" in said
    assert life.host.read_state().difference(lived) == []


def test_where_the_server_has_a_sound_copy_a_segment_that_an_audit_found_damaged_is_no_obstacle(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        host.cluster.sql(f"ALTER SYSTEM SET {host.cluster.facts.wal_keep_setting} = 1000")  # not to lose it
        host.cluster.reload()
        backup()
        written = write_commits(host, 20)
        path = finish_segment(host)
        host.writer.add()
        host.writer.close()
        kept = host.cluster.directory / host.cluster.facts.wal_directory / path.stem
        content = read_segment(path)
        damaged = with_flipped_bit(content, written)
        with changed(path, stored_as(path, damaged)):
            kept.unlink(missing_ok=True)
            target = written[-1].commit.committed_at
            with pytest.raises(BackupError, match=f"{path.stem} damaged: nothing from "):
                wal_audit()
            with pytest.raises(Refused, match=f"{path.stem} damaged: nothing from "):
                restore_postgres(target_time=target, **EXECUTE)
            kept.write_bytes(content)
            give_to(kept, host.cluster.account)
            restore_postgres(target_time=target, **EXECUTE)
        assert host.read_state().difference(host.writer.state_at(target)) == []


@pytest.fixture(scope="module")
def compressed(prefect_server: None) -> Iterator[Life]:
    with temporary_demo_host(documents=40) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Life(host)


def cut_off(life: Life) -> bytes:
    return life.last_path.read_bytes()[:-1000]


def flipped_in_the_file(life: Life) -> bytes:
    return flipped_inside(life.last_path.read_bytes())


def another_segment(life: Life) -> bytes:
    return life.first_path.read_bytes()


def pages_of_another(life: Life) -> bytes:
    """As a file system that mixes up two files: the first pages are right."""
    content, other = read_segment(life.last_path), read_segment(life.first_path)
    return stored_as(life.last_path, content[: 30 * PAGE] + other[30 * PAGE :])


def wrong_length(life: Life) -> bytes:
    """A record that seems to go on for ever, as one does that goes on in the next segment."""
    content = read_segment(life.last_path)
    offset = life.last[5].offset()
    return stored_as(life.last_path, content[: offset + 3] + b"\x7f" + content[offset + 4 :])


@pytest.mark.parametrize(
    "damage", [cut_off, flipped_in_the_file, another_segment, pages_of_another, wrong_length]
)
def test_no_damage_to_the_last_segment_ends_in_success(compressed: Life, damage) -> None:  # type: ignore[no-untyped-def]
    with changed(compressed.last_path, damage(compressed)), pytest.raises(BackupError) as told:
        restore_drill(target_time=compressed.last[-1].commit.committed_at)
    if isinstance(told.value, Refused):  # its header or its end was seen to be wrong by the plan
        assert "is after the newest restorable time" in told.value.message
    else:
        assert compressed.last_path.stem in told.value.message
        assert (compressed.proof()["findings"], compressed.proof()["unverified"] != []) == ([], True)
