"""Recovery settings by version, as tables: what is written, where, and what is cleared away."""

import shlex
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from alfresco_backup.errors import HostNotReady
from alfresco_backup.postgres.conf_file import quoted, read_setting
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.recovery.recovery_settings import (
    BEGIN,
    END,
    RECOVERY_FILES,
    RESTRICTED_FILES,
    RESTRICTED_HBA,
    RESTRICTED_IDENT,
    Recovery,
    RestoreLogin,
    after_promotion,
    recovery_files,
    recovery_lines,
    restore_wal_command,
    restricted_access_files,
    socket_of,
)

DATA = Path("/alf/data")
MOMENT = datetime(2026, 11, 22, 3, 0, 0, 250000, tzinfo=timezone(timedelta(hours=1)))
TIME = Target("time", MOMENT)
COMMAND = '/wal/restore-wal "%f" "%p" /backup/pg_wal'
QUOTED_COMMAND = 'restore_command = \'/wal/restore-wal "%f" "%p" /backup/pg_wal\''

EMPTIED_FIRST = [
    "recovery_target = ''",
    "recovery_target_name = ''",
    "recovery_target_xid = ''",
    "recovery_target_lsn = ''",
    "archive_cleanup_command = ''",
    "recovery_end_command = ''",
    "recovery_min_apply_delay = '0'",
]
TO_A_TIME = [
    QUOTED_COMMAND,
    "recovery_target_timeline = '2'",
    "recovery_target_time = '2026-11-22 02:00:00.250000+00:00'",
    "recovery_target_inclusive = 'true'",
]
PROMOTE = "recovery_target_action = 'promote'"
# version: (file with the settings, signal file, lines)
VERSIONS = {
    90426: ("recovery.conf", None, [*TO_A_TIME, "pause_at_recovery_target = false"]),
    90525: ("recovery.conf", None, [*TO_A_TIME, PROMOTE]),
    90624: ("recovery.conf", None, [*TO_A_TIME, PROMOTE]),
    100023: ("recovery.conf", None, [*TO_A_TIME, PROMOTE]),
    110022: ("recovery.conf", None, [*TO_A_TIME, PROMOTE]),
    120022: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    130020: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    140015: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    150018: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    160004: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    170000: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
    180001: ("postgresql.auto.conf", "recovery.signal", [*EMPTIED_FIRST, *TO_A_TIME, PROMOTE]),
}
TARGETS = {
    "immediate": (Target("immediate"), ["recovery_target = 'immediate'"]),
    "end of WAL": (Target("end-of-wal"), []),
    "end of WAL for a moment": (Target("end-of-wal", MOMENT), []),
    "time": (TIME, TO_A_TIME[2:]),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_gets_its_settings_where_it_looks_for_them(version):
    file, signal, lines = VERSIONS[version]
    files = recovery_files(facts_of(version), Recovery(TIME, 2, COMMAND), "", "work_mem = '4MB'\n", DATA)
    assert files.remove == (
        "recovery.conf",
        "recovery.done",
        "recovery.signal",
        "standby.signal",
        *RESTRICTED_FILES,
    )
    text = "".join(f"{line}\n" for line in lines)
    if signal:
        assert dict(files.write) == {
            file: f"work_mem = '4MB'\n{BEGIN}\nhot_standby = 'off'\n{text}{END}\n",
            signal: "",
        }
        assert list(files.write)[-1] == signal
    else:
        assert dict(files.write) == {
            "postgresql.auto.conf": f"work_mem = '4MB'\n{BEGIN}\nhot_standby = 'off'\n{END}\n",
            file: text,
        }


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("version", [90426, 100023, 150018])
def test_each_target_is_the_only_one(name, version):
    target, expected = TARGETS[name]
    lines = recovery_lines(facts_of(version), Recovery(target, 7, COMMAND))
    set_ = [line for line in lines if line.startswith("recovery_target") and not line.endswith("= ''")]
    assert [line for line in set_ if line not in (PROMOTE, "recovery_target_timeline = '7'")] == expected
    assert "recovery_target_timeline = '7'" in lines
    wanted = [number for number, line in enumerate(lines) if line in expected]
    emptied = [number for number, line in enumerate(lines) if line.endswith("= ''")]
    assert not wanted or max(emptied, default=-1) < min(wanted)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recovery_that_pauses_says_so_in_the_words_of_its_version(version):
    lines = recovery_lines(facts_of(version), Recovery(TIME, 2, COMMAND, pause=True))
    old = version < 90500
    assert lines[-1] == ("pause_at_recovery_target = true" if old else "recovery_target_action = 'pause'")
    promoted = recovery_lines(facts_of(version), Recovery(TIME, 2, COMMAND))
    assert lines[:-1] == promoted[:-1]
    new_names = version >= 100000
    assert facts_of(version).replay_paused == ("pg_is_wal" if new_names else "pg_is_xlog") + "_replay_paused"


def test_an_unknown_version_is_an_error():
    with pytest.raises(HostNotReady, match="PostgreSQL version 190000 is not supported"):
        facts_of(190000)


def test_a_naive_time_never_reaches_a_file():
    naive = Target("time", datetime(2026, 11, 22, 3))  # noqa: DTZ001 - that is the case
    with pytest.raises(ValueError, match="a recovery target needs an aware time"):
        recovery_lines(facts_of(150018), Recovery(naive, 1, COMMAND))


def test_the_same_moment_is_written_the_same_from_any_zone():
    zones = [timezone(timedelta(hours=hours)) for hours in (-11, 0, 5.5, 13)]
    written = {
        tuple(recovery_lines(facts_of(150018), Recovery(Target("time", MOMENT.astimezone(zone)), 1, COMMAND)))
        for zone in [*zones, UTC]
    }
    assert len(written) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "'plain'"),
        ("it's", "'it''s'"),
        ("back\\slash", "'back\\\\slash'"),
        ("two\nlines\tand a tab", "'two\\nlines\\tand a tab'"),
        ("", "''"),
        ('ümlaut % "quote"', "'ümlaut % \"quote\"'"),
    ],
)
def test_values_are_escaped_as_postgresql_reads_them(value, written):
    assert quoted(value) == written
    assert read_setting(f"name = {written} # comment", "name") == value


def test_a_zero_byte_is_refused():
    with pytest.raises(ValueError, match="zero byte"):
        quoted("a\0b")


@pytest.mark.parametrize(
    "folder",
    ["/backup/pg_wal", "/my backup", "/it's", '/say "hi"', "/100%", "/%f", "/$HOME/`id`", "/new\nline"],
)
def test_restore_command_passes_every_path_to_the_program_unchanged(folder):
    program = Path(folder) / "restore-wal"
    command = restore_wal_command(program, [Path(folder), Path("/saved")])
    replaced = command.replace("%%", "\0").replace("%f", "SEGMENT").replace("%p", "pg_wal/RECOVERYXLOG")
    words = shlex.split(replaced.replace("\0", "%"))
    assert words == [str(program), "SEGMENT", "pg_wal/RECOVERYXLOG", folder, "/saved"]


def test_restore_command_needs_a_place_to_look():
    with pytest.raises(ValueError, match="at least one folder"):
        restore_wal_command(Path("/restore-wal"), [])


STALE_AUTO = """\
# Do not edit this file manually!
# It will be overwritten by the ALTER SYSTEM command.
archive_timeout = '60'
recovery_target_xid = '77'
RECOVERY_TARGET_NAME = 'old'
restore_command = 'cp /old/%f %p'
primary_conninfo = 'host=primary password=''x'''
primary_slot_name = 'standby_1'
promote_trigger_file = '/tmp/go'
max_connections = '200'
"""


def test_stale_settings_are_cleared_and_named():
    files = recovery_files(facts_of(150018), Recovery(TIME, 2, COMMAND), "", STALE_AUTO, DATA)
    text = files.write["postgresql.auto.conf"]
    assert text.startswith(
        "# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\n"
        f"archive_timeout = '60'\nmax_connections = '200'\n{BEGIN}\n"
    )
    assert "recovery_target_xid = '77'" not in text
    assert len(files.warnings) == 6
    assert "postgresql.auto.conf sets recovery_target_name = 'old': removed" in files.warnings
    assert (
        "postgresql.auto.conf sets primary_conninfo = 'host=primary password=''x''': removed"
        in files.warnings
    )


def test_settings_left_in_postgresql_conf_are_overridden_and_named():
    conf = "#recovery_target_name = 'no'\nrecovery_target_lsn = '0/1'  # once\nrecovery_target_action = ''\n"
    files = recovery_files(facts_of(150018), Recovery(TIME, 2, COMMAND), conf, "", DATA)
    assert files.warnings == (
        "postgresql.conf sets recovery_target_lsn = '0/1': overridden for this recovery; remove it there",
    )
    assert "postgresql.conf" not in files.write


def test_places_outside_the_data_directory_are_named_and_those_inside_are_not():
    conf = """\
data_directory = '/alf/data'
hba_file = '/etc/postgresql/15/main/pg_hba.conf'
ident_file = 'pg_ident.conf'
include_dir 'conf.d'
include_if_exists = '../shared.conf'
"""
    files = recovery_files(facts_of(150018), Recovery(TIME, 2, COMMAND), conf, "", DATA)
    assert files.warnings == (
        "postgresql.conf sets hba_file = '/etc/postgresql/15/main/pg_hba.conf': that place is not part of "
        "the backup; check that it exists",
        "postgresql.conf sets include_if_exists = '../shared.conf': that place is not part of the backup; "
        "check that it exists",
    )


def test_overrides_hold_until_recovery_has_ended():
    recovery = Recovery(TIME, 2, COMMAND, overrides={"archive_mode": "off", "listen_addresses": ""})
    own = "archive_mode = 'off'\nport = '5433'\n"
    text = recovery_files(facts_of(150018), recovery, "", own, DATA).write["postgresql.auto.conf"]
    assert read_setting(text, "listen_addresses") == ""
    done = after_promotion(text)
    assert done.write == {"postgresql.auto.conf": own}
    assert done.remove == (
        "recovery.conf",
        "recovery.done",
        "recovery.signal",
        "standby.signal",
        *RESTRICTED_FILES,
    )


@pytest.mark.parametrize("version", [90426, 150018])
def test_a_closed_recovery_lets_in_nobody_but_the_restore_until_it_has_ended(version: int):
    own = "hba_file = '/etc/postgresql/pg_hba.conf'\n"
    recovery = Recovery(TIME, 2, COMMAND, login=RestoreLogin("postgres", "alfresco", "Alfresco"))
    files = recovery_files(facts_of(version), recovery, "", own, DATA)
    assert rules_of(files.write[RESTRICTED_HBA]) == [
        'local "Alfresco" "alfresco" peer map=restoring',
        "local all all reject",
        "host all all all reject",
    ]
    assert rules_of(files.write[RESTRICTED_IDENT]) == ['restoring "postgres" "alfresco"']
    text = files.write["postgresql.auto.conf"]
    assert read_setting(text, "hba_file") == f"{DATA}/{RESTRICTED_HBA}"
    assert read_setting(text, "ident_file") == f"{DATA}/{RESTRICTED_IDENT}"
    done = after_promotion(text)
    assert done.write == {"postgresql.auto.conf": own}
    assert {RESTRICTED_HBA, RESTRICTED_IDENT} <= set(done.remove)
    without_marks = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    kept = after_promotion(without_marks).write["postgresql.auto.conf"]
    assert read_setting(kept, "hba_file") == "/etc/postgresql/pg_hba.conf"
    assert read_setting(kept, "ident_file") is None


@pytest.mark.parametrize(
    "login", [RestoreLogin("", "alfresco", "alfresco"), RestoreLogin("postgres", 'a" all', "b")]
)
def test_who_has_no_name_or_one_with_quotes_is_not_let_in_at_all(login: RestoreLogin):
    files = restricted_access_files(login)
    assert rules_of(files[RESTRICTED_HBA]) == ["local all all reject", "host all all all reject"]
    assert rules_of(files[RESTRICTED_IDENT]) == []


def test_what_is_cleared_away_is_every_file_of_a_recovery():
    of_the_server = {"recovery.conf", "recovery.done", "recovery.signal", "standby.signal"}
    assert {*of_the_server, RESTRICTED_HBA, RESTRICTED_IDENT} == set(RECOVERY_FILES)


def rules_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("folder", "found"),
    [("/tmp", (Path("/tmp"), "5433")), (".", (DATA, "5433")), ("", None)],
)
def test_the_socket_of_a_server_stands_in_its_pid_file(folder: str, found: tuple[Path, str] | None):
    assert socket_of(f"42\n{DATA}\n1700000000\n5433\n{folder}\n*\n  1 2\nready\n", DATA) == found
    assert socket_of("42\n", DATA) is None


def test_cleaning_up_and_preparing_can_be_repeated():
    facts, recovery = facts_of(150018), Recovery(TIME, 2, COMMAND)
    once = recovery_files(facts, recovery, "", STALE_AUTO, DATA)
    again = recovery_files(facts, recovery, "", once.write["postgresql.auto.conf"], DATA)
    assert again.write == once.write
    assert again.warnings == ()
    clean = after_promotion(once.write["postgresql.auto.conf"]).write["postgresql.auto.conf"]
    assert after_promotion(clean).write["postgresql.auto.conf"] == clean
    assert clean.splitlines()[2:] == ["archive_timeout = '60'", "max_connections = '200'"]


def test_after_alter_system_dropped_the_marks_the_recovery_settings_still_go():
    text = f"hot_standby = 'off'\n{QUOTED_COMMAND}\nrecovery_target_time = 'x'\nwork_mem = '4MB'\n"
    assert after_promotion(text).write["postgresql.auto.conf"] == "hot_standby = 'off'\nwork_mem = '4MB'\n"


def test_a_file_without_a_newline_at_its_end_is_continued_on_a_new_line():
    files = recovery_files(facts_of(150018), Recovery(TIME, 2, COMMAND), "", "work_mem = '4MB'", DATA)
    assert files.write["postgresql.auto.conf"].startswith(f"work_mem = '4MB'\n{BEGIN}\n")


def test_the_last_value_of_a_setting_counts():
    assert read_setting("port = 1\nPort 2\n", "port") == "2"
    assert read_setting("", "port") is None
