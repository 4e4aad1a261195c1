"""The pure parts of carrying out a restore: the log of a recovery, settings of another host, comparisons."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.restore.planning.facts import Speeds
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.planning.steps import recorded_speeds
from alfresco_backup.restore.recovery.configuration import compare_configuration
from alfresco_backup.restore.recovery.host_settings import host_settings
from alfresco_backup.restore.recovery.recovery_log import RecoveryLog, why_not_reached
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
    log = RecoveryLog(LAST)
    for line in lines:
        log.read(line)
    return log


def reached(target: Target, *lines: str) -> str:
    return why_not_reached(log_of(*lines), target, 16 * MIB)


def test_what_the_log_says_is_read():
    log = log_of(RESTORED, STOPPED, *ENDED)
    assert (log.restored, log.fetched_last, log.timeline, log.ready) == (1, True, 2, True)
    assert log.stopped_before == datetime(2026, 11, 22, 3, 0, 1, 500000, tzinfo=UTC)
    assert log.last_commit == datetime(2026, 11, 22, 2, 59, 58, 250000, tzinfo=UTC)
    assert log.redo_done == Lsn.parse("0/5000148")


def test_a_moment_is_reached_when_a_later_commit_was_left_out():
    assert reached(Target("time", T), RESTORED, STOPPED, *ENDED) == ""


def test_wal_that_ends_before_the_moment_is_a_failure_whether_the_server_says_so_or_opens_silently():
    silent = reached(Target("time", T), RESTORED, *ENDED)
    assert silent == f"the WAL ended before {T}; the last commit found is of 2026-11-22 02:59:58.250000+00:00"
    assert "the WAL ended before" in reached(Target("time", T), RESTORED, UNREACHED)


def test_the_end_of_the_wal_is_the_moment_only_when_its_last_segment_was_read():
    target = Target("time", T, end_of_wal_suffices=True)
    assert reached(target, RESTORED, *ENDED) == ""
    assert reached(target, *ENDED) == ""  # replayed from the server's own folder
    short = [line.replace("0/5000148", "0/4000148") for line in ENDED]
    assert f"ended before segment {LAST} was read" in reached(target, *short)


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
