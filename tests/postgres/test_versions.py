"""Facts per PostgreSQL version, kept as a table."""

import pytest

from alfresco_backup.errors import HostNotReady
from alfresco_backup.postgres.versions import (
    facts_of,
    label_of,
    version_of_data_directory,
    version_of_program,
)

AUTO = "postgresql.auto.conf"
# WAL directory, switch function, wal_level, recovery file, signal; manifest, zstd, fatal when unreached
FACTS = {
    90426: ("pg_xlog", "pg_switch_xlog", "hot_standby", "recovery.conf", "", False, False, False),
    90525: ("pg_xlog", "pg_switch_xlog", "hot_standby", "recovery.conf", "", False, False, False),
    90624: ("pg_xlog", "pg_switch_xlog", "replica", "recovery.conf", "", False, False, False),
    100023: ("pg_wal", "pg_switch_wal", "replica", "recovery.conf", "", False, False, False),
    110022: ("pg_wal", "pg_switch_wal", "replica", "recovery.conf", "", False, False, False),
    120022: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        False,
        False,
        False,
    ),
    130023: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        False,
        True,
    ),
    140023: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        False,
        True,
    ),
    150018: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        True,
        True,
    ),
    160014: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        True,
        True,
    ),
    170010: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        True,
        True,
    ),
    180004: (
        "pg_wal",
        "pg_switch_wal",
        "replica",
        "postgresql.auto.conf",
        "recovery.signal",
        True,
        True,
        True,
    ),
}


@pytest.mark.parametrize("version", FACTS)
def test_each_version_has_its_facts(version: int) -> None:
    facts = facts_of(version)
    assert FACTS[version] == (
        facts.wal_directory,
        facts.switch_wal,
        facts.recommended_wal_level,
        facts.recovery_file,
        facts.signal_file,
        facts.has_manifest,
        facts.backup_compression,
        facts.unreached_target_is_fatal,
    )
    assert facts.recommended_wal_level in facts.wal_levels
    assert ("-X" in facts.without_wal) == (version >= 100000)


def test_9_4_pauses_and_later_versions_have_a_target_action() -> None:
    assert facts_of(90426).target_action_line == "pause_at_recovery_target = false"
    assert facts_of(90500).target_action_line == "recovery_target_action = 'promote'"
    assert facts_of(180004).target_action_line == "recovery_target_action = 'promote'"


@pytest.mark.parametrize("version", [0, 80423, 90313, 190000])
def test_an_unknown_version_is_an_error_never_a_guess(version: int) -> None:
    with pytest.raises(HostNotReady, match=f"version {version} is not supported; 9.4 to 18 are"):
        facts_of(version)


@pytest.mark.parametrize(
    ("server", "client", "suits"),
    [
        (90426, 90426, True),
        (90426, 90600, False),
        (90426, 150018, False),
        (100023, 150018, True),
        (130023, 100023, False),
        (150018, 150020, True),
        (160014, 150018, False),
        (180004, 180004, True),
        (150018, 190001, False),
    ],
)
def test_which_client_makes_tar_backups_of_which_server(server: int, client: int, suits: bool) -> None:
    assert facts_of(server).client_suits(client) is suits


def test_versions_are_read_from_programs_data_directories_and_shown_to_people() -> None:
    assert version_of_program("pg_basebackup (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n") == 150018
    assert version_of_program("postgres (PostgreSQL) 9.4.26") == 90426
    assert version_of_program("pg_basebackup (PostgreSQL) 16devel") == 160000
    assert version_of_data_directory("9.4\n") == 90400
    assert version_of_data_directory("18\n") == 180000
    assert (label_of(90426), label_of(150018)) == ("9.4.26", "15.18")
    with pytest.raises(HostNotReady, match="no PostgreSQL version in 'rsync version 3'"):
        version_of_program("rsync version 3")
    with pytest.raises(HostNotReady, match="PG_VERSION contains 'garbage'"):
        version_of_data_directory("garbage")
