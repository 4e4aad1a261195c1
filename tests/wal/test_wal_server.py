"""The server's side of archiving: judged from made-up answers, and asked of a real host."""

import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.errors import ArchivingBroken, HostNotReady
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.settings.commands import configure_command, program_command
from alfresco_backup.wal.archiver import WaitingFile, judge_server
from alfresco_backup.wal.audit_table import audit_markdown, window_rows
from alfresco_backup.wal.contents import ArchiveContents, read_contents
from alfresco_backup.wal.observe import audit_host, view_server, waiting_files
from demo.host import DemoHost
from tasks.backup.wal_audit import refuse_endangered
from tests.support.common import wait_until
from tests.support.wal_files import OWNER, WELL

WAIT = timedelta(minutes=10)
NAME = WELL.last_archived
NOW = WELL.moment


def waiting(*minutes: float) -> tuple[WaitingFile, ...]:
    return tuple(WaitingFile(NAME, NOW - timedelta(minutes=age)) for age in minutes)


@pytest.fixture
def contents(tmp_path: Path) -> ArchiveContents:
    (tmp_path / NAME).touch()
    return read_contents(tmp_path)


CASES = [
    ("all well", {}, "", ""),
    ("waiting briefly", {"waiting": waiting(0, 9)}, "", ""),
    ("archiving off", {"archive_mode": "off"}, "archive_mode", "is off: no WAL reaches the archive"),
    ("no command", {"archive_command": ""}, "archive_command", "is empty"),
    (
        "failing",
        {"failed_count": 3, "last_failed": NAME, "last_failed_at": NOW - timedelta(minutes=1)},
        "archiving",
        f"fails: {NAME} at ",
    ),
    (
        "failed from the start",
        {
            "failed_count": 3,
            "last_failed": NAME,
            "last_failed_at": NOW,
            "last_archived": "",
            "last_archived_at": None,
        },
        "archiving",
        "it never succeeded",
    ),
    (
        "failed before the last success",
        {"failed_count": 3, "last_failed": NAME, "last_failed_at": NOW - timedelta(minutes=3)},
        "",
        "",
    ),
    (
        "waiting too long",
        {"waiting": waiting(1, 11)},
        "waiting segments",
        f"2, the oldest ({NAME}) for 11 min 00 s",
    ),
    (
        "archived elsewhere",
        {"last_archived": "000000010000000000000009"},
        "archiving",
        "has archived 000000010000000000000009, but it is not in",
    ),
    ("a backup file was last", {"last_archived": f"{NAME}.00000028.backup"}, "", ""),
    (
        "another cluster",
        {"system_identifier": "7000000000000000001"},
        "system identifier",
        f"mismatch: server 7000000000000000001, WAL archive {OWNER}; no WAL of this server arrives",
    ),
    ("old version cannot tell", {"system_identifier": ""}, "", ""),
    ("history missing", {"timeline": 2}, "timeline history", "00000002.history is not in the archive"),
    ("history on its way", {"timeline": 2, "waiting": (WaitingFile("00000002.history", NOW),)}, "", ""),
]


@pytest.mark.parametrize(
    ("answer", "subject", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_the_server_says_endangers_restores_or_not(contents, answer, subject, words):
    findings = judge_server(replace(WELL, **answer), contents, OWNER, WAIT)
    errors = [item for item in findings if item.level == "error"]
    assert [item.subject for item in errors] == ([subject] if subject else [])
    assert all(words in item.sentence and item.fix for item in errors)


def test_an_archive_timeout_of_0_is_a_warning_that_says_what_it_means(contents):
    findings = judge_server(replace(WELL, archive_timeout=0), contents, OWNER, WAIT)
    (finding,) = (item for item in findings if item.level == "warning")
    assert finding.subject == "archive_timeout"
    assert "only full segments are archived" in finding.sentence
    assert finding.fix == configure_command("--apply")


def test_what_does_not_reach_the_archive_is_archived_by_hand_as_the_server_does_it(tmp_path):
    """A segment that waits for too long: the fix is archive_command with its %p and %f."""
    wal_directory, archive = tmp_path / "my data/pg_wal", tmp_path / "archive"
    wal_directory.mkdir(parents=True)
    archive.mkdir()
    (wal_directory / NAME).write_text("content")
    view = replace(
        WELL,
        archive_command=f"test 5%% = '5%' && cp %p {archive}/%f",
        waiting=waiting(11),
        wal_directory=str(wal_directory),
    )
    findings = judge_server(view, ArchiveContents(archive, NOW), OWNER, WAIT)
    (error,) = (item for item in findings if item.subject == "waiting segments")
    subprocess.run(["sh", "-c", error.fix], check=True, env={}, cwd="/")
    assert (archive / NAME).read_text() == "content"


@pytest.mark.parametrize(
    "answer",
    [
        {"waiting": waiting(11)},
        {"failed_count": 1, "last_failed": NAME, "last_failed_at": NOW},
    ],
)
def test_where_wal_is_streamed_too_what_is_not_archived_is_not_called_lost(contents, answer):
    lone = judge_server(replace(WELL, **answer), contents, OWNER, WAIT)
    beside = judge_server(replace(WELL, streamed=True, **answer), contents, OWNER, WAIT)
    words = "is on the database's disk only" if "waiting" in answer else "are on the database's disk only"
    ((alone,), (both,)) = ([item for item in found if item.level == "error"] for found in (lone, beside))
    assert words in alone.sentence and "streamed" not in alone.sentence
    assert f"{words}, as far as it was not streamed" in both.sentence


def test_an_archive_library_has_no_command_to_try(contents):
    view = replace(WELL, archive_command="basic_archive", waiting=waiting(11))
    findings = judge_server(view, contents, OWNER, WAIT)
    (error,) = (item for item in findings if item.subject == "waiting segments")
    assert error.fix == "read in the server's log why basic_archive fails"


def test_waiting_files_that_cannot_be_counted_are_a_warning(contents):
    findings = judge_server(replace(WELL, waiting=None), contents, OWNER, WAIT)
    assert [(item.level, item.subject) for item in findings if item.level != "ok"] == [
        ("warning", "waiting segments")
    ]


def test_waiting_files_are_those_marked_ready(tmp_path):
    status = tmp_path / "archive_status"
    assert waiting_files(tmp_path) is None
    status.mkdir()
    for name in (f"{NAME}.done", "00000002.history.ready", "000000010000000000000008.ready"):
        (status / name).touch()
    found = waiting_files(tmp_path)
    assert found is not None
    assert [item.name for item in found] == ["000000010000000000000008", "00000002.history"]


@pytest.fixture
def host(shared_demo_host: DemoHost) -> Host:
    return load_host(shared_demo_host.env_file)


def switched(demo: DemoHost) -> str:
    """The name of a segment that has just been finished."""
    demo.cluster.sql("CREATE TABLE IF NOT EXISTS filler (x int)")
    demo.cluster.sql("INSERT INTO filler VALUES (1)")
    return demo.cluster.switch_segment()


def archived(demo: DemoHost) -> str:
    """Finish a segment and wait until the server counts it as archived."""
    name = switched(demo)
    question = "SELECT last_archived_wal FROM pg_stat_archiver"
    wait_until(lambda: demo.cluster.sql(question) == [(name,)], f"{name} is archived")
    return name


def test_a_real_server_is_asked_all_at_once(shared_demo_host, host):
    name = archived(shared_demo_host)
    view = view_server(host)
    assert (view.last_archived, view.archive_mode, view.archive_timeout) == (name, "on", 60)
    assert (view.timeline, view.segment_size, view.failing, view.waiting) == (1, 16 << 20, False, ())
    assert "archive-wal" in view.archive_command
    assert abs(datetime.now(UTC) - view.moment) < timedelta(minutes=1)
    known = (shared_demo_host.wal_archive / "system-identifier").read_text().strip()
    assert view.system_identifier == (known if host.server.has_control_functions else "")


def test_a_host_without_base_backup_is_told_to_make_one(shared_demo_host, host):
    archived(shared_demo_host)
    result = audit_host(host)
    assert [item.subject for item in result.errors] == ["base backups"]
    with pytest.raises(ArchivingBroken, match="there is none: WAL alone restores nothing") as broken:
        refuse_endangered(result)
    assert broken.value.hint == program_command("backup", "--only", "postgres")
    assert window_rows(result) == []
    assert f"# WAL archive of {host.name}" in audit_markdown(result, host.name)


def test_an_archive_command_that_only_says_yes_is_found_out(shared_demo_host, host):
    demo = shared_demo_host
    before = demo.cluster.sql("SHOW archive_command")[0][0]
    demo.cluster.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
    demo.cluster.reload()
    try:
        wait_until(
            lambda: demo.cluster.sql("SHOW archive_command") == [("/bin/true",)], "the setting is in force"
        )
        name = archived(demo)
        errors = [item.sentence for item in audit_host(host).errors if item.subject == "archiving"]
        place = demo.wal_archive
        what = (
            f"the server has archived {name}, but it is not in {place}: archive_command (/bin/true) writes "
        )
        assert errors == [f"{what}elsewhere, or nothing"]
    finally:
        demo.cluster.sql("ALTER SYSTEM RESET archive_command")
        demo.cluster.reload()
        wait_until(lambda: demo.cluster.sql("SHOW archive_command") == [(before,)], "the setting is back")
        archived(demo)


def test_a_server_that_does_not_answer_leaves_the_archive_audited(shared_demo_host, host):
    archived(shared_demo_host)
    shared_demo_host.stop("postgresql")
    try:
        result = audit_host(load_host(shared_demo_host.env_file))
    finally:
        shared_demo_host.start("postgresql")
    (finding,) = (item for item in result.findings if item.subject == "server")
    assert finding.level == "warning"
    assert "cannot be asked, so only the archive was audited" in finding.sentence
    assert result.newest is not None


def test_an_archive_that_is_not_there_is_an_error_not_an_empty_one(shared_demo_host, host):
    aside = shared_demo_host.wal_archive.rename(shared_demo_host.backup_dir / "aside")
    try:
        with pytest.raises(HostNotReady, match="pg_wal cannot be listed: No such file") as refusal:
            audit_host(host, ask_server=False)
    finally:
        aside.rename(shared_demo_host.wal_archive)
    assert refusal.value.hint.endswith(f"findmnt --target {shared_demo_host.wal_archive}")


def test_an_audit_keeps_its_index_with_the_logs_and_the_archive_untouched(shared_demo_host, host):
    archived(shared_demo_host)
    with suppress(FileExistsError):
        host.repository.logs.mkdir()
    before = sorted(path.name for path in host.repository.wal.iterdir())
    audit_host(host, ask_server=False)
    index = host.repository.logs / "wal-seen.json"
    assert all(name.removesuffix(".zst") in index.read_text() for name in before if name.endswith(".zst"))
    assert sorted(path.name for path in host.repository.wal.iterdir()) == before
