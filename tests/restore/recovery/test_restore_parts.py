"""The pure parts of carrying out a restore: the log of a recovery, settings of another host, comparisons."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.postgres.wal_records import EndKind
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.restore.planning.facts import Speeds
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.planning.steps import recorded_speeds
from alfresco_backup.restore.recovery.configuration import compare_configuration
from alfresco_backup.restore.recovery.host_settings import host_settings
from alfresco_backup.restore.recovery.recovery_log import RecoveryLog, ReplayEnd, why_not_reached
from alfresco_backup.settings.model import Settings
from tests.support.restore_worlds import base

MIB = 1 << 20
SET = "20261122T020000Z"
LAST = "000000010000000000000005"
T = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
RESTORED = f'2026-11-22 03:01:00.1 UTC [7] LOG:  restored log file "{LAST}" from archive'
STOPPED = (
    "2026-11-22 03:01:00.2 UTC [7] LOG:  recovery stopping before commit of transaction 731, "
    "time 2026-11-22 03:00:01.5+00"
)
UNREACHED = (
    "2026-11-22 03:01:00.2 UTC [7] FATAL:  recovery ended before configured recovery target was reached"
)
ENDED = [
    "2026-11-22 03:01:00.2 UTC [7] LOG:  redo done at 0/5000148 system usage: CPU: user: 0.00 s",
    "2026-11-22 03:01:00.2 UTC [7] LOG:  last completed transaction was at log time "
    "2026-11-22 02:59:58.25+00",
    "2026-11-22 03:01:00.3 UTC [7] LOG:  selected new timeline ID: 2",
    "2026-11-22 03:01:00.4 UTC [1] LOG:  database system is ready to accept connections",
]


def log_of(*lines: str) -> RecoveryLog:
    log = RecoveryLog()
    for line in lines:
        log.read(line)
    return log


def not_asked() -> ReplayEnd:
    raise AssertionError("where the replay ended does not matter here")


def reached(target: Target, *lines: str, end: ReplayEnd | None = None) -> str:
    return why_not_reached(log_of(*lines), target, LAST, 16 * MIB, (lambda: end) if end else not_asked)


def test_what_the_log_says_is_read():
    log = log_of(RESTORED, STOPPED, *ENDED)
    assert (log.restored, list(log.fetched), log.timeline, log.ready) == (1, [LAST], 2, True)
    assert log.stopped_before == datetime(2026, 11, 22, 3, 0, 1, 500000, tzinfo=UTC)
    assert log.last_commit == datetime(2026, 11, 22, 2, 59, 58, 250000, tzinfo=UTC)
    assert log.redo_done == Lsn.parse("0/5000148")


@pytest.mark.parametrize(
    "words",
    [
        "invalid magic number 0000 in log segment 000000010000000000000005, offset 327680",
        "incorrect resource manager data checksum in record at 0/5022970",
        "record with incorrect prev-link 0/1 at 0/5022970",
        "invalid record length at 0/5022970: wanted 24, got 0",
        "record with zero length at 0/5022970",
        "unexpected pageaddr 0/3050000 in WAL segment 000000010000000000000005, LSN 0/5050000, offset 327680",
        "invalid contrecord length 4000 (expected 12) at 0/5022970",
        "there is no contrecord flag at 0/5050000",
        "record length 4278190141 at 0/5022970 too long",
    ],
)
def test_what_postgresql_says_of_bytes_that_are_no_record_is_kept(words):
    log = log_of(RESTORED, f"2026-11-22 03:01:00.2 UTC [7] LOG:  {words}", *ENDED, RESTORED)
    assert log.complaint == words
    assert log_of(f"2026-11-22 03:01:00.2 UTC [7] LOG:  {words}", RESTORED, *ENDED).complaint == ""


def test_a_target_time_is_reached_when_a_later_commit_was_left_out():
    assert reached(Target("time", T), RESTORED, STOPPED, *ENDED) == ""


def test_wal_that_ends_before_the_target_time_is_a_failure_whether_the_server_says_so_or_opens_silently():
    silent = reached(Target("time", T), RESTORED, *ENDED)
    assert silent == f"the WAL ended before {T}; the last commit found is 2026-11-22 02:59:58.250000+00:00"
    assert "the WAL ended before" in reached(Target("time", T), RESTORED, UNREACHED)


IDLE = Target("time", T, end_of_wal_suffices=True)
LATEST = Target("end-of-wal")
COMPLAINT = "2026-11-22 03:01:00.2 UTC [7] LOG:  invalid magic number 0000 in log segment 5, offset 327680"


def ended(kind: EndKind, at: str, *, goes_on: bool = False) -> ReplayEnd:
    return ReplayEnd(kind, Lsn.parse(at), LAST, "why", goes_on)


@pytest.mark.parametrize("target", [IDLE, LATEST], ids=["time", "latest"])
@pytest.mark.parametrize(
    "end",
    [
        ended("complete", "0/6000000"),  # a switch, or a record that fills the segment
        ended("crossing", "0/5FFFFD0"),
        ended("unfinished", "0/5000200"),  # of a server's own folder
        ended("cut off", "0/5000200"),  # the same after a crash
        ended("complete", "0/6000000", goes_on=True),  # PostgreSQL did not complain: it has arrived since
        ended("crossing", "0/6FFFFD0"),
    ],
)
def test_the_state_is_that_of_the_target_where_the_wal_ends_with_or_after_the_last_planned_segment(
    target, end
):
    assert reached(target, RESTORED, *ENDED, end=end) == ""


@pytest.mark.parametrize("target", [IDLE, LATEST], ids=["time", "latest"])
def test_a_replay_that_ended_within_the_last_planned_segment_did_not_reach_the_target(target):
    said = reached(target, RESTORED, COMPLAINT, *ENDED, end=ended("damaged", "0/5050000"))
    assert (
        f"segment {LAST} is damaged at 0/5050000, where the replay ended (invalid magic number 0000" in said
    )
    assert "the last commit found is 2026-11-22 02:59:58.250000+00:00" in said
    crossing = ended("crossing", "0/5FFFFD0", goes_on=True)  # the next one is there and damaged
    assert "is damaged at 0/5FFFFD0" in reached(target, RESTORED, COMPLAINT, *ENDED, end=crossing)
    unfinished = ended("unfinished", "0/5000200", goes_on=True)
    assert "is damaged at 0/5000200" in reached(target, RESTORED, *ENDED, end=unfinished)


@pytest.mark.parametrize("target", [IDLE, LATEST], ids=["time", "latest"])
@pytest.mark.parametrize("end", [ended("complete", "0/5000000"), ended("crossing", "0/4FFFFD0")])
def test_wal_that_ends_before_the_last_planned_segment_does_not_reach_the_target(target, end):
    said = reached(target, RESTORED, *ENDED, end=end)
    assert f"the WAL ended at {end.at}, before segment {LAST} was read" in said


def test_damage_behind_the_last_planned_segment_matters_only_to_the_end_of_the_wal():
    beyond = ended("damaged", "0/6000100")
    assert reached(IDLE, RESTORED, COMPLAINT, *ENDED, end=beyond) == ""
    assert "is damaged at 0/6000100" in reached(LATEST, RESTORED, COMPLAINT, *ENDED, end=beyond)


def test_where_nobody_can_tell_how_the_replay_ended_the_target_is_not_reached():
    end = ReplayEnd.untold("PostgreSQL replayed no WAL")
    said = reached(LATEST, RESTORED, *ENDED, end=end)
    assert said.startswith("where the replay ended cannot be verified: PostgreSQL replayed no WAL")


def test_the_end_of_a_base_backup_is_reached_when_the_server_says_that_it_is_consistent():
    consistent = "LOG:  recovery stopping after reaching consistency"
    assert reached(Target("immediate"), consistent, *ENDED) == ""
    assert "did not stop at the end" in reached(Target("immediate"), *ENDED)


def settings(**changed: object) -> Settings:
    given = {"pghost": "127.0.0.1", "pguser": "alfresco", "backup_dir": "/backup", "alf_base_dir": "/alf"}
    return Settings(**{**given, "alf_host_name": "demo", **changed})  # type: ignore[arg-type]


CONF = """\
port = 5433
listen_addresses = '10.0.0.1'
unix_socket_directories = '/opt/first/run'
hba_file = '/opt/first/data/pg_hba.conf'
data_directory = '/opt/first/data'
"""
FIRST = Path("/opt/first/data")


def backed_up_by(host: str) -> BaseBackup:
    return replace(base(0), data_directory=str(FIRST), host=host)


def test_where_a_server_was_backed_up_nothing_of_it_is_changed():
    own = backed_up_by("demo")
    found = host_settings(settings(), own, FIRST, CONF)
    assert (found.lines, found.dropped, found.warnings) == ({}, (), ())


def test_in_another_place_what_would_lead_back_to_the_first_is_replaced():
    own = backed_up_by("demo")
    found = host_settings(settings(), own, Path("/srv/second"), CONF)
    assert found.lines == {
        "port": "5432",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "hba_file": "/srv/second/pg_hba.conf",
    }
    assert found.dropped == ("data_directory",)
    assert "port = '5432'\n" in found.text() and found.text().startswith("# set by a restore")


def test_another_host_does_not_archive_into_the_first_ones_archive():
    own = backed_up_by("first")
    found = host_settings(settings(), own, Path("/srv/second"), "listen_addresses = '*'\nport = 5432\n")
    assert found.lines == {"archive_mode": "off"}
    assert "archiving is off: the backup is of host first, this is demo" in found.warnings[0]
    in_the_same_place = host_settings(settings(), own, FIRST, CONF)
    assert (in_the_same_place.lines, in_the_same_place.dropped) == ({"archive_mode": "off"}, ())
    assert in_the_same_place.warnings == found.warnings[:1]


@pytest.mark.parametrize(
    ("conf", "host", "lines"),
    [
        ("", "/run/postgresql", {}),  # it lies elsewhere: nobody knows what it says
        ("port = 5432", "/run/postgresql", {"unix_socket_directories": "/run/postgresql"}),
        ("unix_socket_directories = '/tmp, /run/postgresql'", "/run/postgresql", {}),
        ("unix_socket_directories = '/var/run/postgresql'", "localhost", {}),
        ("listen_addresses = 'localhost'", "127.0.0.1", {}),
    ],
)
def test_sockets_and_addresses_that_suit_are_left(conf, host, lines):
    own = backed_up_by("demo")
    assert host_settings(settings(pghost=host), own, Path("/srv/second"), conf).lines == lines


def test_the_estimate_uses_what_earlier_restores_did_if_they_did_enough():
    steps = {"extract-database": 10.0, "recover-database": 4.0, "restore-content": 5.0, "check-content": 2.0}
    large = {
        "database_bytes": 10 << 30,
        "wal_bytes": 1 << 30,
        "content_bytes": 0,
        "content_compared": 500_000,
    }
    small = {"database_bytes": 10 << 20, "documents_checked": 100_000}
    speeds = recorded_speeds([{"steps": steps, **large}, {"steps": steps, **small}, {}])
    assert speeds == Speeds(
        extract=(10 << 30) / 10, replay=(1 << 30) / 4, compare_files=100_000, check_rows=50_000
    )
    assert recorded_speeds([]) == Speeds()


def test_a_keystore_that_differs_is_named_first_and_other_files_after_it():
    recorded = {
        "keystore/keystore": "a",
        "keystore/gone": "b",
        "shared-classes/x.properties": "c",
        "same": "d",
    }
    found = {"keystore/keystore": "z", "shared-classes/x.properties": "y", "same": "d", "new": "e"}
    difference = compare_configuration("20261122T020000Z", recorded, found, ("keystore",))
    assert difference.keystore == ("keystore/keystore", "keystore/gone")
    assert difference.added == ("new",)
    keystore, rest, restored = difference.sentences()
    assert (
        "the keystore differs from that of backup 20261122T020000Z (keystore/keystore, keystore/gone)"
        in keystore
    )
    assert (
        rest == "the configuration differs from that of backup 20261122T020000Z: shared-classes/x.properties"
    )
    assert restored == "keystore was missing and was copied from backup 20261122T020000Z"
    assert compare_configuration("s", recorded, recorded).sentences() == []
