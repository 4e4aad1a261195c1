"""`python restore.py` as people and scripts use it: a terminal, flags, every exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.restore.planning.plan import Step
from demo.host import DemoHost
from tests.support.common import temporary_demo_host, wait_until
from tests.support.prefect_database import give_database
from tests.support.restore_command import (
    LIMIT_SECONDS,
    PROJECT,
    a_document,
    environment,
    forget,
    newest_set,
    outline,
    restore,
    run,
    typing,
)
from tests.support.terminal import END_OF_INPUT

CHOICE = "Choice (1): "
NAME = "Type the host's name (demo) to carry this out: "


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all runs."""
    home = tmp_path_factory.mktemp("home")
    give_database(home / ".prefect")
    return home


@pytest.fixture(scope="module")
def server(prefect_server: None) -> dict[str, str]:
    """The environment that names a running Prefect server, which saves each run the start of its own."""
    address = PREFECT_API_URL.value()
    assert address
    return {"PREFECT_API_URL": address}


@pytest.fixture(scope="module")
def host(home: Path, slow: None) -> Iterator[DemoHost]:
    """A running host with one backup set, and transactions since. Each test leaves it running and whole."""
    with temporary_demo_host() as demo:
        done = run("backup.py", demo.env_file, home=home)
        assert done.returncode == 0, done.stderr
        demo.writer.work(10)
        yield demo


def test_a_conversation_restores_to_a_moment_and_flags_undo_it(host: DemoHost, home: Path) -> None:
    moment = host.writer.commits[-1].committed_at
    host.writer.work(10)
    before = host.read_state()
    host.writer.close()
    naive = moment.replace(tzinfo=None).isoformat()
    east = moment.astimezone(timezone(timedelta(hours=5.5))).isoformat()
    with typing(host, home) as terminal:
        terminal.answer(CHOICE, "7")
        terminal.answer(CHOICE, "pitr")
        terminal.answer("such as ", naive)
        terminal.answer("such as ", east)
        terminal.answer(CHOICE, "2")
        terminal.answer("Start Alfresco afterwards? (yes): ", "perhaps")
        terminal.answer("Start Alfresco afterwards? (yes): ", "")
        terminal.answer(NAME, "demo")
        assert terminal.exit_code() == 0, terminal.text
    shown = terminal.text
    assert "'7': a number from 1 to 5 or a name from the list is expected" in shown
    assert "has no time zone; add a UTC offset" in shown
    assert f"type {moment.replace(tzinfo=None).astimezone().isoformat()} (this host's time zone)" in shown
    assert f"{naive}Z (UTC)" in shown
    assert "'perhaps': yes or no is expected" in shown
    assert "Nothing has been changed yet." in shown
    assert f"--mode pitr --target-time {moment.isoformat()} --contentstore replace" in shown
    assert_display(shown, [step for step in Step if step is not Step.SET_ASIDE_CONTENT])
    assert host.read_state().difference(host.writer.state_at(moment)) == []
    assert host.missing_documents(host.read_state()) == []
    code, document = restore(host, "--mode", "undo", "--execute", "--confirm", "demo", home=home)
    assert (code, document["state"]) == (0, "done"), document
    assert host.read_state().difference(before) == []


def assert_display(shown: str, steps: list[Step]) -> None:
    """Every step was seen done, and nothing of Prefect's console logging got in between."""
    for step in steps:
        assert any(step.value in line and "done" in line for line in shown.splitlines()), (step, shown)
    assert " | INFO " not in shown and "Traceback" not in shown
    assert "To undo it: cd " in shown and " -m alfresco_backup undo --backup " in shown


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "production",
            "Refused: not confirmed: 'production' is not the host's name demo; nothing was changed",
        ),
        ("", "Refused: not confirmed: the host's name demo is missing; nothing was changed"),
        (END_OF_INPUT, "Refused: the dialogue was ended before it was confirmed; nothing was changed"),
    ],
    ids=["another name", "nothing", "end of input"],
)
def test_without_the_hosts_name_nothing_is_touched(
    host: DemoHost, home: Path, typed: str | bytes, said: str
) -> None:
    before = outline(host)
    with typing(host, home) as terminal:
        terminal.answer(CHOICE, "")
        terminal.answer("Backup (1 = newest): ", "")
        terminal.answer(CHOICE, "")
        terminal.answer("Start Alfresco afterwards? (yes): ", "no")
        terminal.answer(NAME, typed)
        assert terminal.exit_code() == 3
    assert said in terminal.text
    assert outline(host) == before


def test_the_list_of_backups_tells_sizes_and_takes_a_stamp(host: DemoHost, home: Path) -> None:
    stamp = newest_set(host).stamp
    with typing(host, home) as terminal:
        terminal.answer(CHOICE, "contentstore")
        terminal.answer("Backup (1 = newest): ", "20010101T000000Z")
        terminal.answer("Backup (1 = newest): ", stamp)
        terminal.answer(CHOICE, "fill")
        terminal.answer("Start Alfresco afterwards? (yes): ", "n")
        terminal.answer(NAME, "no")
        assert terminal.exit_code() == 3
    assert f"│ 1 │ {stamp} │" in terminal.text and "MiB" in terminal.text
    assert "'20010101T000000Z': a number from 1 to 1 or a name from the list is expected" in terminal.text
    assert f" -m alfresco_backup restore --mode contentstore --backup {stamp} " in terminal.text
    assert f" --env {host.env_file}" in terminal.text


def test_a_plan_is_one_json_document_and_touches_nothing(host: DemoHost, home: Path) -> None:
    before = outline(host)
    code, document = restore(host, "--mode", "full", home=home)
    assert (code, document["state"], document["host"]) == (0, "planned", "demo")
    plan = document["details"]
    assert plan["database"]["backup_id"] == newest_set(host).stamp
    assert plan["steps"][0]["step"] == "stop-alfresco"
    assert document["text"].startswith(f"# Plan {plan['restore_id']}: restore-full of demo")
    assert outline(host) == before


def test_refusals_are_exit_code_3_and_touch_nothing(host: DemoHost, home: Path) -> None:
    before = outline(host)
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for arguments, expected in (
        (("--mode", "full", "--backup", "20010101T000000Z"), "there is no backup 20010101T000000Z"),
        (
            ("--mode", "full", "--execute"),
            "confirm is missing; to execute a restore it must be the host's name",
        ),
        (("--mode", "undo", "--execute", "--confirm", "x"), "confirm is 'x'"),
        (("--mode", "pitr", "--target-time", "2026-11-22T03:00"), "has no time zone"),
        (("--mode", "pitr", "--target-time", future), "is in the future"),
        (("--mode", "undo", "--backup", "20010101T000000Z"), "20010101T000000Z"),
    ):
        code, document = restore(host, *arguments, home=home)
        assert (code, document["error"]["kind"]) == (3, "Refused"), (arguments, document)
        error = document["error"]
        assert expected in f"{error['message']} {error['fix']}", (arguments, error)
    assert outline(host) == before


def test_wrong_settings_are_exit_code_2(host: DemoHost, home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "env"
    wrong.write_text(host.env_file.read_text() + "ZSTD_LEVEL=fast\nBACKUP_DIRS=/x\n")
    done = run("restore.py", "--env", wrong, "--mode", "full", "--json", home=home)
    document = json.loads(done.stdout)
    assert (done.returncode, document["error"]["kind"]) == (2, "SettingsError")
    assert "ZSTD_LEVEL='fast'" in document["error"]["message"]
    assert "did you mean BACKUP_DIR?" in document["error"]["message"]


def test_questions_need_a_terminal(host: DemoHost, home: Path) -> None:
    done = run("restore.py", "--env", host.env_file, home=home)
    assert done.returncode == 2
    assert "there is no terminal to ask on, so --mode is needed" in done.stderr


def test_a_damaged_backup_fails_with_code_1_and_the_undo_puts_the_host_back(
    host: DemoHost, home: Path, server: Mapping[str, str]
) -> None:
    host.writer.close()
    before = host.read_state()
    base = newest_set(host).base
    assert base is not None
    tar = base.path / "base.tar.zst"
    whole = tar.read_bytes()
    middle = len(whole) // 2
    tar.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    try:
        execute = ("--execute", "--confirm", "demo")
        code, document = restore(host, "--mode", "postgres", *execute, home=home, server=server)
    finally:
        tar.write_bytes(whole)
    assert (code, document["state"]) == (1, "error"), document
    undo = typed_from(document["error"]["fix"])
    code, document = restore(host, "--mode", "full", home=home)
    assert (code, document["error"]["kind"]) == (3, "Refused")
    assert typed_from(document["error"]["fix"]) == undo
    typed = subprocess.run(
        ["sh", "-c", undo], cwd="/", env={**environment(home), **server}, capture_output=True, check=False
    )
    assert typed.returncode == 0, typed.stderr.decode()
    assert host.read_state().difference(before) == []


def typed_from(fix: str) -> str:
    """The command in the first line that names the undo, without the comment behind it."""
    line = next(line for line in fix.splitlines() if " undo --backup " in line)
    return line[line.index("cd ") :].partition("  #")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_restore_names_its_undo_which_can_be_chosen_from_a_list(
    host: DemoHost, home: Path, server: Mapping[str, str], number: signal.Signals
) -> None:
    host.writer.close()
    before = host.read_state()
    with typing(host, home, "--mode", "full", "--execute", "--confirm", "demo", server=server) as terminal:
        terminal.wait_for("alfresco stopped")
        terminal.process.send_signal(number)
        assert terminal.exit_code() == 1
    stamp = re.search(r"restore (\d{8}T\d{6}Z) was interrupted; it is unfinished", terminal.text)
    assert stamp, terminal.text
    last = terminal.text.strip().splitlines()[-1]
    assert last.startswith("HINT: cd ") and f" undo --backup {stamp[1]} --execute --confirm demo" in last
    with typing(host, home, server=server) as terminal:
        terminal.answer(CHOICE, "undo")
        terminal.answer("Restore (1 = newest): ", stamp[1])
        terminal.answer(CHOICE, "undo")
        terminal.answer(NAME, "demo")
        assert terminal.exit_code() == 0
    assert f"The restore {stamp[1]} is unfinished: undo it before anything else." in terminal.text
    assert f"the host demo is as it was before the restore {stamp[1]}" in terminal.text
    assert host.read_state().difference(before) == []


def test_the_last_line_of_a_terminated_restore_and_of_its_terminated_undo_is_what_to_type(
    host: DemoHost, home: Path, server: Mapping[str, str]
) -> None:
    host.writer.close()
    before = host.read_state()
    restoring = [sys.executable, PROJECT / "restore.py", "--env", host.env_file]
    restoring += ["--mode", "full", "--execute", "--confirm", "demo"]
    restored = terminated(restoring, "set aside as", {**environment(home), **server})
    assert restored.startswith("HINT: cd "), restored
    undoing = ["sh", "-c", restored.removeprefix("HINT: ").replace("&& ", "&& exec ")]
    assert " undo --backup " in undoing[2] and f"--env {host.env_file}" in undoing[2]
    again = terminated(undoing, "stop alfresco", {**environment(home), **server})
    assert again == restored
    subprocess.run(undoing, cwd="/", env={**environment(home), **server}, check=True, capture_output=True)
    assert host.read_state().difference(before) == []
    host.answer()


STUCK = """
import sys, threading
from alfresco_backup import __main__ as program
from alfresco_backup.cli import entry

entry.ENDING_SECONDS = 20.0
carry_out = program.carry_out

def wait_for_ever(*_):
    lock = threading.Lock()
    lock.acquire()
    while True:
        try:
            lock.acquire()
        except BaseException:
            continue

def with_a_lock_that_nobody_releases(verb, typed):
    from tasks.runs import host_lock
    host_lock._withdraw_note = wait_for_ever
    return carry_out(verb, typed)

program.carry_out = with_a_lock_that_nobody_releases
sys.exit(program.main(sys.argv[1:]))
"""


def test_a_terminated_restore_that_waits_for_a_lock_for_ever_is_ended_and_can_be_undone(
    host: DemoHost, home: Path, server: Mapping[str, str]
) -> None:
    host.writer.close()
    before = host.read_state()
    order = ["restore", "--env", host.env_file, "--mode", "full", "--execute", "--confirm", "demo"]
    said = terminated([sys.executable, "-c", STUCK, *order], "set aside as", {**environment(home), **server})
    assert said.startswith("HINT: cd ") and " undo --backup " in said
    undoing = ["sh", "-c", said.removeprefix("HINT: ")]  # waits until the lease of the lock has run out
    done = subprocess.run(
        undoing,
        cwd="/",
        env={**environment(home), **server},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert host.read_state().difference(before) == []
    host.answer()


def terminated(argv: Sequence[object], words: str, environment: Mapping[str, str]) -> str:
    """The last line of a program that is terminated, by SIGTERM, once it has said these words.

    One that does not end then says where all its threads are.
    """
    environment = {**environment, "PYTHONFAULTHANDLER": "1"}
    with TemporaryFile("w+") as said:
        process = subprocess.Popen(
            list(map(str, argv)), cwd=PROJECT, env=environment, stdout=said, stderr=said
        )

        def so_far() -> str:
            return os.pread(said.fileno(), 1 << 20, 0).decode()

        try:
            wait_until(lambda: words in so_far() or process.poll() is not None, words, LIMIT_SECONDS)
            process.terminate()
            try:
                assert process.wait(LIMIT_SECONDS) == 1, so_far()
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                process.wait(60)
                pytest.fail(so_far())
        finally:
            process.kill()
            process.wait(60)
        return so_far().splitlines()[-1].strip()


def test_a_document_that_is_nowhere_is_exit_code_4(
    host: DemoHost, home: Path, server: Mapping[str, str]
) -> None:
    host.writer.close()
    snapshot = newest_set(host).snapshots["contentstore"]
    path = a_document(host, snapshot)
    kept = forget(host, snapshot, path)
    order = ("--mode", "contentstore", "--execute", "--confirm", "demo")
    code, outcome = restore(host, *order, home=home, server=server)
    assert (code, outcome["error"]["kind"]) == (4, "DocumentsMissing")
    assert outcome["details"]["documents_missing"] == 1
    assert outcome["error"]["message"].startswith("1 document missing (")
    assert outcome["text"].startswith("# Restore ")
    assert path in Path(outcome["error"]["fix"].removeprefix("less ")).read_text()
    assert host.answer(), "Alfresco was started all the same"
    for file, content in kept.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
