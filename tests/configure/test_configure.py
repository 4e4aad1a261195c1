"""`configure` on real servers: killed and undone, foreign commands, missing roles, secrets, refusals."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from alfresco_backup.configure.journal import JOURNAL
from alfresco_backup.errors import ToolFailed
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import default_bindir, stated_version
from demo.home import ROLE_PASSWORD
from tests.support.common import wait_until
from tests.support.terminal import Terminal
from tests.support.unconfigured_hosts import READY_FROM, PlainHost, configure, plain_host

KILL = """
import os, signal
from alfresco_backup.configure.journal import Journal
written, count = Journal.write, iter(range(10**6))
def write(journal):
    number = next(count)
    if number == {number} and {before}:
        os.kill(os.getpid(), signal.{signal})
    written(journal)
    if number == {number}:
        os.kill(os.getpid(), signal.{signal})
Journal.write = write
"""
STOP_AND_DIE = """
import os, signal
from alfresco_backup.configure import restart as configure_restart
def die(command, log):  # PostgreSQL is stopped and proven down; this would start it
    os.kill(os.getpid(), signal.SIGNAL)
configure_restart.run_starter = die
"""
FOREIGN = "cp %p /somewhere/else/%f"
NOTES = 27 if stated_version(default_bindir()) >= READY_FROM else 23
"""How often the journal is written: before the first change, before and after each."""


@pytest.fixture(scope="module")
def shared(slow: None) -> Iterator[PlainHost]:
    with plain_host(default_bindir(), outside=True) as host:
        host.backup_dir.mkdir()
        (host.backup_dir / "pg_wal").mkdir(mode=0o750)
        os.chown(host.backup_dir / "pg_wal", host.account.uid, host.account.gid)
        yield host


@pytest.fixture
def host(shared: PlainHost) -> Iterator[PlainHost]:
    """The host of all tests here; each leaves it as it found it."""
    before = shared.state()
    yield shared
    assert shared.state() == before


def undo(host: PlainHost, *arguments: str) -> str:
    done = host.configure("--undo", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("number", [*range(1, NOTES, 4)])
@pytest.mark.parametrize("before", [True, False], ids=["before it is on disk", "after"])
def test_killed_at_any_note_of_the_journal_all_is_undone(host: PlainHost, number: int, before: bool) -> None:
    was = host.state()
    killed = host.configure("--apply", before=KILL.format(number=number, before=before, signal="SIGKILL"))
    assert killed.returncode == -9, killed.stdout + killed.stderr
    said = undo(host)
    assert "not undone" not in said
    assert host.state() == was
    assert "is undone already; nothing to do" in undo(host)


def test_killed_between_stop_and_start_undo_starts_postgresql_again(host: PlainHost) -> None:
    was = host.state()
    killed = host.configure("--apply", "--restart", before=STOP_AND_DIE.replace("SIGNAL", "SIGKILL"))
    assert killed.returncode == -9
    assert not (host.data / "postmaster.pid").exists()
    said = undo(host)
    assert "starting PostgreSQL, which configure had stopped" in said
    assert host.state() == was and host.setting("archive_mode") == "off"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_it_says_what_was_changed_so_far_and_what_undoes_it(host: PlainHost, name: str) -> None:
    was = host.state()
    planned = [item["subject"] for item in json.loads(host.configure("--json").stdout)["changes"]]
    script = KILL.format(number=4, before=False, signal=name)  # 0: begun, then two for each change
    ended = host.configure("--apply", before=script)
    assert ended.returncode == 1
    (journal,) = sorted((host.backup_dir / "configure").iterdir())[-1:]
    first, second = ended.stderr.splitlines()[-2:]
    assert first == (
        f"BackupError: configure was interrupted; changed so far: {', '.join(planned[:2])}; "
        f"{len(planned) - 2} more were not begun"
    )
    assert second.startswith("HINT: cd /")
    assert f" -m alfresco_backup configure --undo {journal.name} --env " in second
    again = host.configure("--undo", journal.name, before=script.replace("== 4", "== 0"))
    assert again.returncode == 1, again.stdout
    assert (
        "BackupError: configure --undo was interrupted; it continues when it is repeated\nHINT: "
        in again.stderr
    )
    undo(host)
    assert host.state() == was


def test_interrupted_within_a_change_the_change_is_named_and_json_stays_one_document(host: PlainHost) -> None:
    was = host.state()
    script = KILL.format(number=3, before=False, signal="SIGTERM")
    ended = host.configure("--apply", "--json", before=script)
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["exit_code"]) == (1, 1)
    assert "; half done: " in told["error"]["message"] and "--undo" in told["error"]["fix"]
    undo(host)
    assert host.state() == was


def test_interrupted_in_the_restart_it_says_that_postgresql_may_be_down(host: PlainHost) -> None:
    was = host.state()
    ended = host.configure("--apply", "--restart", before=STOP_AND_DIE.replace("SIGNAL", "SIGINT"))
    assert ended.returncode == 1
    assert "the restart of PostgreSQL has begun, it may be down; undoing starts it\nHINT: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "starting PostgreSQL, which configure had stopped" in undo(host)
    assert host.state() == was


def test_an_undo_interrupted_in_its_restart_starts_postgresql_when_it_is_repeated(host: PlainHost) -> None:
    was = host.state()
    assert host.configure("--apply", "--restart").returncode == 0
    ended = host.configure("--undo", "--restart", before=STOP_AND_DIE.replace("SIGNAL", "SIGTERM"))
    assert ended.returncode == 1 and not (host.data / "postmaster.pid").exists()
    assert ended.stderr.splitlines()[-1].endswith(f" --restart --env {host.env_file}")
    assert "starting what an undo had stopped" in undo(host, "--restart")
    assert host.state() == was and host.setting("archive_mode") == "off"


def test_interrupted_at_its_question_it_has_changed_nothing(host: PlainHost) -> None:
    was = host.state()
    argv = [sys.executable, "-m", "alfresco_backup", "configure", "--wal-commands", host.commands]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(PROJECT_DIRECTORY)}
    with Terminal([*argv, "--env", host.env_file], environment) as terminal:
        terminal.wait_for("Do this now? [y/N] ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.exit_code() == 1
        assert "configure was interrupted; nothing was changed" in terminal.text
    assert host.state() == was


def test_without_restart_the_rest_is_done_and_the_restart_named(host: PlainHost) -> None:
    done = host.configure("--apply")
    assert done.returncode == 5, done.stderr
    assert (
        f"to do: restart PostgreSQL, {', '.join(host.waits_for)} wait for it: "
        f"cd {PROJECT_DIRECTORY} && .venv/bin/python -m alfresco_backup configure" in done.stdout
    )
    assert re.findall(r"(?m)^verified: (.+)$", done.stdout) == host.verified
    assert host.setting("archive_mode") == "off"
    again = host.configure("--apply")
    assert again.returncode == 5 and again.stdout.startswith("configure of plain: no changes\n")
    undo(host)


def test_a_foreign_archive_command_stays_until_it_is_asked_for(host: PlainHost) -> None:
    host.sql(f"ALTER SYSTEM SET archive_command = '{FOREIGN}'; SELECT pg_reload_conf()")
    try:
        left = host.configure("--apply", "--restart")
        assert left.returncode == 5
        assert f"archive_command: is {FOREIGN}, which may serve another backup system" in left.stdout
        assert "archive_mode: is off, and turning it on would run" in left.stdout
        assert host.setting("archive_mode") == "off"
        asked = host.configure("--apply", "--replace-archive-command")
        assert (
            f"archive_command: {FOREIGN} (postgresql.auto.conf) -> {host.commands}/archive-wal"
            in asked.stdout
        )
        undo(host)
        assert f"archive_command = '{FOREIGN}'" in (host.data / "postgresql.auto.conf").read_text()
        undo(host, sorted(path.name for path in (host.backup_dir / "configure").iterdir())[-2])
    finally:
        host.sql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf()")


def test_a_missing_role_is_made_and_its_password_shows_nowhere(host: PlainHost) -> None:
    host.sql("ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()")
    wait_until(lambda: host.setting("log_statement") == "all", "statements are logged")
    host.write_env(PGUSER="keeper")
    try:
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "role keeper: does not exist -> LOGIN REPLICATION, with the PGPASSWORD" in done.stdout
        assert "verified: keeper replicates" in done.stdout
        journals = [path.read_text() for path in (host.backup_dir / "configure").rglob("*") if path.is_file()]
        for text in (done.stdout, done.stderr, host.log.read_text(errors="replace"), *journals):
            assert ROLE_PASSWORD not in text
        assert "CREATE ROLE keeper" in host.log.read_text(errors="replace")
        undo(host, "--restart")
        assert host.sql("SELECT 1 FROM pg_roles WHERE rolname = 'keeper'") == []
    finally:
        host.write_env()
        host.sql("ALTER SYSTEM RESET log_statement; SELECT pg_reload_conf()")


def test_what_others_have_changed_since_is_left_and_named(host: PlainHost) -> None:
    text = host.hba.read_text()
    assert host.configure("--apply").returncode == 5
    try:
        method = host.password_method
        host.write(
            host.hba,
            "# somebody's remark\n" + host.hba.read_text().replace(f"    {method}\n", "    trust\n", 1),
        )
        host.sql("ALTER SYSTEM SET archive_timeout = '77s'")
        left = host.configure("--undo")
        assert left.returncode == 5
        assert "archive_timeout: it was changed since, to 77s; before it was not set" in left.stdout
        assert f"{host.hba} was changed since; by hand: remove line 2: # alfresco-backup" in left.stdout
    finally:
        host.write(host.hba, text)
        host.sql("ALTER SYSTEM RESET archive_timeout; SELECT pg_reload_conf()")
    undo(host)


def test_lines_are_undone_wherever_they_are_now_and_others_lines_stay(host: PlainHost) -> None:
    text = host.hba.read_text()
    assert host.configure("--apply").returncode == 5
    try:
        host.write(host.hba, f"# before\n{host.hba.read_text()}# behind\n")
        assert "not undone" not in undo(host)
        assert host.hba.read_text() == f"# before\n{text}# behind\n"
    finally:
        host.write(host.hba, text)


def test_as_json_there_is_one_document_whatever_happens(host: PlainHost) -> None:
    shown = host.configure("--json")
    plan = json.loads(shown.stdout)
    assert (shown.returncode, plan["exit_code"], plan["applied"]) == (5, 5, None)
    (level,) = (item for item in plan["changes"] if item["subject"] == "archive_mode")
    assert (level["old"], level["new"], level["restart"]) == ("off (default)", "on", True)
    applied = json.loads(host.configure("--json", "--apply").stdout)
    assert (applied["restart_for"], applied["verified"]) == (host.waits_for, host.verified)
    undone = json.loads(host.configure("--json", "--undo", applied["applied"]).stdout)
    assert (undone["left"], undone["undone_changes"]) == ([], len(plan["changes"]))
    refused = host.configure("--json", "--undo", "20200101T000000Z")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["kind"]) == (3, "Refused")


def test_at_a_terminal_it_asks_and_no_changes_nothing(host: PlainHost) -> None:
    argv = [sys.executable, "-m", "alfresco_backup", "configure", "--wal-commands", host.commands]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(PROJECT_DIRECTORY)}
    was = host.state()
    with Terminal([*argv, "--env", host.env_file], environment) as terminal:
        terminal.answer("Do this now? [y/N] ", "")
        assert terminal.exit_code() == 5
    assert host.state() == was
    with Terminal([*argv, "--env", host.env_file], environment) as terminal:
        terminal.answer("Do this now? [y/N] ", "y")
        assert terminal.exit_code() == 5
        assert re.findall(r"verified: ([^\r\n]+)", terminal.text) == host.verified
    undo(host)


def lets_in(host: PlainHost) -> bool:
    try:
        return host.sql("SELECT 1") == [("1",)]
    except ToolFailed:
        return False


def test_without_any_superuser_it_says_what_was_tried_and_what_to_set(host: PlainHost) -> None:
    text = host.hba.read_text()
    host.write(host.hba, text.replace("peer", "reject", 1))
    host.program("pg_ctl", "reload", "-D", str(host.data))
    try:
        wait_until(lambda: not lets_in(host), "the superuser is refused")
        refused = host.configure("--apply")
        assert refused.returncode == 1
        assert "no superuser of the server can connect:" in refused.stderr
        assert f"{host.account.name} by {host.directory}/run:" in refused.stderr
        edit = f"HINT: edit {host.env_file}: "
        assert f"{edit}PGSUPERPASSWORD=...\n{edit}PGSUPERUSER=...  #" in refused.stderr
    finally:
        host.write(host.hba, text)
        host.program("pg_ctl", "reload", "-D", str(host.data))
        wait_until(lambda: lets_in(host), "the superuser is let in again")


def test_a_server_that_is_down_has_to_be_started_first(host: PlainHost) -> None:
    host.stop("fast")
    try:
        refused = host.configure("--apply")
        assert refused.returncode == 1
        assert (
            "PostgreSQL is down; it must run for this" in refused.stderr
            and "HINT: start PostgreSQL" in refused.stderr
        )
    finally:
        host.start()


def test_an_archive_command_of_ours_in_a_place_that_is_gone_is_set_anew(host: PlainHost) -> None:
    archive = host.backup_dir / "pg_wal"
    gone = f"/nonexistent/archive-wal --zstd %p %f {archive}"
    host.sql(f"ALTER SYSTEM SET archive_command = '{gone}'; SELECT pg_reload_conf()")
    try:
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the server's account cannot run /nonexistent/archive-wal" in done.stdout
        moved = configure(host.env_file, "--wal-commands", host.directory / "elsewhere")
        assert f"it is to be run from {host.directory}/elsewhere" in moved.stdout
        stays = configure(host.env_file)
        assert stays.returncode == 0, stays.stdout + stays.stderr
        assert stays.stdout.startswith("configure of plain: nothing to change\nverified: WAL segment ")
        undo(host, "--restart")
        assert host.setting("archive_command") == "(disabled)"
    finally:
        host.sql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf()")


def test_a_missing_folder_above_backup_dir_stops_everything(host: PlainHost) -> None:
    host.write_env(BACKUP_DIR=host.directory / "not-mounted/backup")
    try:
        shown = host.configure("--apply", "--restart")
        assert shown.returncode == 5
        assert shown.stdout.startswith("configure of plain: no changes\nleft alone, to be decided by you:\n")
        assert f"HINT: mount {host.directory}/not-mounted\n" in shown.stdout
    finally:
        host.write_env()


def test_a_damaged_journal_is_named_and_nothing_is_touched(host: PlainHost) -> None:
    folder = host.backup_dir / "configure/20990101T000000Z"
    folder.mkdir(parents=True)
    (folder / JOURNAL).write_text("{")
    try:
        refused = host.configure("--undo")
        assert refused.returncode == 1 and f"{folder}/{JOURNAL} is damaged: no JSON" in refused.stderr
    finally:
        shutil.rmtree(folder)


def test_nothing_to_undo_is_refused(host: PlainHost) -> None:
    shutil.rmtree(host.backup_dir / "configure", ignore_errors=True)
    refused = host.configure("--undo")
    assert refused.returncode == 3 and "configure has changed nothing on this host" in refused.stderr


def test_paths_of_wal_commands_are_absolute(host: PlainHost) -> None:
    refused = configure(host.env_file, "--wal-commands", "relative")
    assert refused.returncode == 2
    assert "--wal-commands relative: an absolute path is expected" in refused.stderr
