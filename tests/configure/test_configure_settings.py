"""Which settings configure changes, by version: what suits stays, foreign commands stay."""

from pathlib import Path

import pytest

from alfresco_backup.configure.changes import SettingChange, change_document, change_of
from alfresco_backup.configure.settings import NAMES, Archiving, Setting, archiving_program, plan_settings
from alfresco_backup.findings import Finding
from alfresco_backup.postgres.versions import facts_of

ARCHIVING = Archiving(Path("/usr/local/lib/alfresco-backup/archive-wal"), Path("/backup/pg_wal"))
OURS = '/usr/local/lib/alfresco-backup/archive-wal --zstd "%p" "%f" /backup/pg_wal'
DEFAULTS = {
    "wal_level": Setting("minimal", boot="minimal"),
    "archive_mode": Setting("off", boot="off"),
    "max_wal_senders": Setting("0", boot="0"),
    "archive_timeout": Setting("0", boot="0"),
    "archive_command": Setting("(disabled)"),
}
READY = {
    "wal_level": Setting("logical", "configuration file", "postgresql.conf", "logical"),
    "archive_mode": Setting("always", "configuration file", "postgresql.conf", "always"),
    "max_wal_senders": Setting("1", "configuration file", "postgresql.conf", "1"),
    "archive_timeout": Setting("3600", "configuration file", "postgresql.conf", "1h"),
    "archive_command": Setting(OURS, "configuration file", "postgresql.conf", OURS),
    "archive_library": Setting(""),
}


def planned(
    version: int, settings: dict[str, Setting], archiving: Archiving = ARCHIVING, *, alterable: bool = True
) -> tuple[dict[str, str], dict[str, Finding], list[str]]:
    changes, left, waiting = plan_settings(facts_of(version), settings, archiving, alterable=alterable)
    values = {item.name: item.value for item in changes if isinstance(item, SettingChange)}
    return values, {item.subject: item for item in left}, waiting


@pytest.mark.parametrize(
    ("version", "level"),
    [(90426, "hot_standby"), (90525, "hot_standby"), (90624, "replica"), (180000, "replica")],
)
def test_a_server_as_initdb_leaves_it_gets_all_settings_in_the_words_of_its_version(version, level):
    values, left, waiting = planned(version, DEFAULTS)
    assert values == {
        "wal_level": level,
        "archive_mode": "on",
        "max_wal_senders": "3",
        "archive_timeout": "300s",
        "archive_command": OURS,
    }
    assert (left, waiting) == ({}, [])


@pytest.mark.parametrize("version", [90426, 90525, 100000, 150000, 180000])
def test_what_suits_already_stays_and_nothing_is_lowered(version):
    assert planned(version, READY) == ({}, {}, [])


@pytest.mark.parametrize("level", ["archive", "hot_standby"])
def test_old_words_for_replica_suit_where_the_files_of_a_newer_server_still_say_them(level):
    written = READY | {"wal_level": Setting("replica", "configuration file", "postgresql.conf", level)}
    assert planned(90624, written) == ({}, {}, [])
    assert planned(90426, READY | {"wal_level": Setting(level)}) == ({}, {}, [])


@pytest.mark.parametrize("version", [90426, 90525, 150000])
def test_what_the_files_say_already_needs_a_restart_only(version):
    """No `pending_restart` is asked, which 9.4 does not have: files and server are compared."""
    pending = READY | {"archive_mode": Setting("off", "default", "default", "on", "on", "off")}
    assert planned(version, pending) == ({}, {}, ["archive_mode"])


def test_what_the_files_no_longer_say_is_written_again_before_a_restart_loses_it():
    lost = READY | {"archive_mode": Setting("on", "configuration file", "default", None, None, "off")}
    assert planned(150000, lost)[0] == {"archive_mode": "on"}


def test_a_setting_of_the_command_line_is_left_alone_and_named():
    settings = READY | {"wal_level": Setting("minimal", "command line", "command line", "replica")}
    values, left, _ = planned(150000, settings)
    assert values == {}
    assert left["wal_level"].sentence.startswith("is minimal on the command line of the server")
    assert left["wal_level"].fix.startswith("start PostgreSQL without -c wal_level=..., then: cd ")


def test_where_alter_system_is_forbidden_the_lines_to_write_are_named():
    values, left, _ = planned(170000, DEFAULTS | {"archive_library": Setting("")}, alterable=False)
    assert values == {}
    assert left["archive_mode"].fix == "edit postgresql.conf: archive_mode = 'on'; then restart PostgreSQL"
    assert (
        left["archive_timeout"].fix
        == "edit postgresql.conf: archive_timeout = '300s'; then reload PostgreSQL"
    )
    assert set(left) == {*DEFAULTS}


@pytest.mark.parametrize(
    "command",
    [
        "cp %p /backup/pg_wal/%f",
        "pgbackrest --stanza=main archive-push %p",
        'archive-wal "%p" "%f" /elsewhere',
        "test 'unfinished",
    ],
)
def test_a_foreign_archive_command_is_shown_and_replaced_only_when_asked(command):
    settings = READY | {"archive_command": Setting(command)}
    values, left, _ = planned(150000, settings)
    assert values == {} and set(left) == {"archive_command"}
    assert left["archive_command"].sentence.startswith(f"is {command}, which may serve another backup system")
    assert "--replace-archive-command" in left["archive_command"].fix
    asked = Archiving(ARCHIVING.program, ARCHIVING.archive, replace=True)
    assert planned(150000, settings, asked) == ({"archive_command": OURS}, {}, [])


def test_a_foreign_command_that_archive_mode_keeps_from_running_is_not_set_running():
    settings = DEFAULTS | {"archive_command": Setting("(disabled)", written="cp %p /old/%f")}
    values, left, _ = planned(150000, settings)
    assert "archive_mode" not in values and "archive_command" not in values
    assert (
        left["archive_mode"].sentence == "is off, and turning it on would run the command that is left alone"
    )


def test_an_archive_library_is_foreign_too_and_makes_room_when_asked():
    settings = READY | {"archive_command": Setting(""), "archive_library": Setting("basic_archive")}
    assert set(planned(150000, settings)[1]) == {"archive_library"}
    asked = Archiving(ARCHIVING.program, ARCHIVING.archive, replace=True)
    assert planned(150000, settings, asked)[0] == {"archive_library": "", "archive_command": OURS}


def test_an_archive_command_of_ours_that_cannot_be_run_is_replaced_without_asking():
    broken = Archiving(ARCHIVING.program, ARCHIVING.archive, renew="it cannot be run")
    settings = READY | {"archive_command": Setting("/home/admin/project/archive-wal %p %f /backup/pg_wal")}
    assert planned(150000, settings, broken)[0] == {"archive_command": OURS}
    assert planned(150000, settings)[0] == {}


def test_ours_is_recognised_with_quotes_folders_and_in_company():
    archives = {"/back up/pg_wal"}
    for command in (
        '/a/archive-wal --zstd "%p" "%f" "/back up/pg_wal"',
        "test -e /run/ok && /a/archive-wal %p %f '/back up/pg_wal/' && touch /run/archived",
    ):
        assert archiving_program(command, archives) == Path("/a/archive-wal")
    odd = Archiving(Path("/it's 100%/archive-wal"), Path("/b%k/pg_wal"))
    assert archiving_program(odd.command, {"/b%k/pg_wal"}) == odd.program
    assert "%%" in odd.command


def test_a_change_survives_the_journal():
    changes, _, _ = plan_settings(facts_of(150000), DEFAULTS, ARCHIVING, alterable=True)
    for change in changes:
        assert change_of(change_document(change)) == change
    with pytest.raises(ValueError, match="'magic' found using 'kind' does not match"):
        change_of({"kind": "magic"})


def test_every_setting_looked_at_is_one_of_the_plan():
    assert set(NAMES) == {*DEFAULTS, "archive_library", "max_replication_slots"}


def test_streaming_needs_a_replication_slot_and_leaves_archiving_that_was_turned_off_alone():
    none = {**READY, "max_replication_slots": Setting("0", boot="0")}
    streaming = {"alterable": True, "streaming": True}
    changes, _, _ = plan_settings(facts_of(90624), none, ARCHIVING, **streaming)
    assert [(item.name, item.value, item.restart) for item in changes] == [
        ("max_replication_slots", "4", True)
    ]
    off = {**none, "max_replication_slots": Setting("10"), "archive_mode": Setting("off", boot="off")}
    off["archive_command"] = Setting("(disabled)", "configuration file", "postgresql.conf", OURS)
    assert plan_settings(facts_of(150000), off, ARCHIVING, **streaming, streamed=True) == ([], [], [])
    (begun,), _, _ = plan_settings(facts_of(150000), off, ARCHIVING, **streaming)
    assert begun.name == "archive_mode", "it is not streamed yet"
    (before_13,), _, _ = plan_settings(facts_of(120000), off, ARCHIVING, **streaming, streamed=True)
    assert before_13.name == "archive_mode", "the .backup file of a base backup is needed"
