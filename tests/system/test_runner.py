"""The runner: limits, process groups, death with the parent, errors that say why."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.processes import (
    Command,
    Watch,
    _tied_to_parent,
    run,
    run_pipeline,
    run_side_by_side,
    stream_lines,
)
from tests.support.common import wait_until

PROJECT = Path(__file__).parents[2]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_goes_to_the_caller_the_log_and_the_callback(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    command = Command(("sh", "-c", "echo one; printf '10%%\\r20%%\\r'; echo two >&2"), 60)
    finished = run(command, keep_output=True, log=log, on_line=lines.append)
    assert finished.output == "one\n10%\r20%\r"
    assert sorted(lines) == ["10%", "20%", "one", "two"]
    assert b"two" in log.read_bytes() and b"one" in log.read_bytes()


def test_a_failure_names_program_code_and_last_words() -> None:
    with pytest.raises(ToolFailed) as caught:
        run(Command(("sh", "-c", "echo disk full >&2; exit 3"), 60, hint="df -h"))
    assert caught.value.returncode == 3
    assert "sh ended with exit code 3; it said:\ndisk full" in str(caught.value)
    assert "HINT: df -h" in str(caught.value)


def test_only_the_last_lines_are_kept_for_the_error() -> None:
    with pytest.raises(ToolFailed) as caught:
        run(Command(("sh", "-c", "seq 1 1000; exit 1"), 60))
    assert caught.value.tail.splitlines()[-1] == "1000" and len(caught.value.tail.splitlines()) == 25


def test_a_tolerated_exit_code_gives_its_reason() -> None:
    finished = run(Command(("sh", "-c", "exit 24"), 60, tolerated={24: "files vanished"}))
    assert (finished.returncode, finished.tolerated) == (24, "files vanished")


def test_a_missing_program_is_an_error_of_ours() -> None:
    with pytest.raises(ToolFailed, match="No such file or directory: '/no-such-program'"):
        run(Command(("/no-such-program",), 60))


@pytest.mark.slow
def test_the_time_limit_kills_the_whole_group_even_when_it_ignores_term(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; (trap '' TERM; sleep 60) & echo $! > {pid_file}; echo started; wait"
    with pytest.raises(ToolTimedOut, match="did not end within its limit of 1 s and was killed"):
        run(Command(("sh", "-c", script), 1))
    grandchild = int(pid_file.read_text())
    wait_until(lambda: not alive(grandchild), "the grandchild outlived the limit")


def test_an_exception_in_the_callback_stops_the_program(tmp_path: Path) -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="now"):
        run(Command(("sh", "-c", f"echo $$ > {tmp_path}/pid; echo now; sleep 60"), 60), on_line=refuse)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_watch_that_raises_stops_a_silent_program(tmp_path: Path) -> None:
    def look() -> None:
        raise RuntimeError("archiving fails")

    with pytest.raises(RuntimeError, match="archiving fails"):
        run(Command(("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"), 60), watch=Watch(0.1, look))
    assert not alive(int((tmp_path / "pid").read_text()))


def test_side_by_side_the_first_failure_stops_the_others(tmp_path: Path) -> None:
    long = Command(("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"), 60)
    wait = f"while ! [ -s {tmp_path}/pid ]; do :; done; echo broken >&2; exit 23"
    with pytest.raises(ToolFailed, match="exit code 23; it said:\nbroken"):
        run_side_by_side([long, Command(("sh", "-c", wait), 60)])
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_pipeline_writes_its_target_and_reports_both_ends(tmp_path: Path) -> None:
    target = tmp_path / "zeros.zst"
    run_pipeline(Command(("head", "-c", "5000000", "/dev/zero"), 60), Command(("zstd", "-q"), 60), target)
    size = run(Command(("sh", "-c", f"zstd -dc {target} | wc -c"), 60), keep_output=True).output
    assert size.strip() == "5000000"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_pipeline_makes_do_with_the_pipe_that_the_system_lets_it_have() -> None:
    code = (
        "import os; from pathlib import Path; from alfresco_backup.system import processes as runner\n"
        "Command = runner.Command\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "runner.PIPE_BYTES = 2 * int(Path('/proc/sys/fs/pipe-max-size').read_text())\n"
        "_, last = runner.run_pipeline(Command(('echo', 'hello'), 60), Command(('cat',), 60))\n"
        "print(last.tail)"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout == "hello\n", done.stderr


def test_a_failing_producer_is_the_error_although_the_consumer_ends_well(tmp_path: Path) -> None:
    producer = Command(("sh", "-c", "head -c 1000 /dev/zero; echo server closed >&2; exit 1"), 60)
    with pytest.raises(ToolFailed, match="server closed"):
        run_pipeline(producer, Command(("zstd", "-q"), 60), tmp_path / "x")


def test_a_failing_consumer_is_named_although_the_producer_fails_too(tmp_path: Path) -> None:
    consumer = Command(("sh", "-c", "echo no space left >&2; exit 1"), 60)
    with pytest.raises(ToolFailed, match="no space left"):
        run_pipeline(Command(("cat", "/dev/zero"), 60), consumer, tmp_path / "x")


def test_progress_does_not_crowd_the_reason_out_of_an_error(tmp_path: Path) -> None:
    chatty = "echo could not read file; for n in $(seq 100); do echo $n/100 done; done; exit 1"
    log, seen = tmp_path / "log", list[str]()
    command = Command(("sh", "-c", chatty), 60, chatter=lambda line: line.endswith("done"))
    with pytest.raises(ToolFailed, match=r"exit code 1; it said:\ncould not read file$"):
        run(command, log=log, on_line=seen.append)
    assert len(seen) == 101 and "100/100 done" in log.read_text()


def test_a_stream_is_judged_after_its_last_line() -> None:
    assert list(stream_lines(Command(("seq", "3"), 60))) == ["1", "2", "3"]
    with pytest.raises(ToolFailed, match="exit code 7"):
        list(stream_lines(Command(("sh", "-c", "echo 1; exit 7"), 60)))


def test_a_stream_left_early_ends_its_program(tmp_path: Path) -> None:
    lines = stream_lines(Command(("sh", "-c", f"echo $$ > {tmp_path}/pid; yes"), 60))
    assert next(lines) == "y"
    lines.close()  # type: ignore[attr-defined]
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("as_other_user", [False, True])
def test_children_die_with_a_killed_parent(as_other_user: bool) -> None:
    if as_other_user and os.geteuid() != 0:
        pytest.skip("only root can change the user")
    account = "Account(65534, 65534)" if as_other_user else "None"
    command = f"Command(('sh', '-c', 'echo $$; exec sleep 60'), 60, account={account})"
    code = (
        "from alfresco_backup.system.processes import *; "
        f"run({command}, on_line=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not alive(child), "the child outlived its parent")


@pytest.mark.parametrize("hook", ["before", "after_in_child", "after_in_parent"])
def test_a_start_runs_no_hook_that_a_module_has_at_forks(hook: str, tmp_path: Path) -> None:
    """In the child of a process with threads it may wait for ever for a lock, and so would the start."""
    ran = tmp_path / "ran"
    code = (
        "import os, pathlib; from alfresco_backup.system.processes import *; "
        f"os.register_at_fork({hook}=lambda: pathlib.Path({str(ran)!r}).touch()); "
        "run(Command(('true',), 60)); run(Command(('true',), 60, directory=os.open('/', os.O_PATH)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=600)
    assert not ran.exists()


def test_a_program_whose_parent_died_before_it_could_be_tied_to_it_does_not_begin(tmp_path: Path) -> None:
    began = tmp_path / "began"
    *tied, _parent = _tied_to_parent(None)
    done = subprocess.run([*tied, "1", "touch", began], check=False)
    assert (done.returncode, began.exists()) == (125, False)


def test_a_descriptor_is_the_directory_of_a_program_whatever_has_its_name_by_now(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place/mine").touch()
    descriptor = os.open(tmp_path / "place", os.O_PATH | os.O_DIRECTORY)
    (tmp_path / "place").rename(tmp_path / "moved")
    (tmp_path / "place").mkdir()
    command = Command(("ls",), 60, directory=descriptor)
    assert run(command, keep_output=True).output == "mine\n"
    os.close(descriptor)


def test_as_root_a_program_runs_as_the_account_and_without_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "geheim-7781")
    account = Account(65534, 65534)
    output = run(Command(("sh", "-c", "id -u; env"), 60, {"PGHOST": "x"}, account), keep_output=True).output
    expected = "65534" if os.geteuid() == 0 else str(os.geteuid())
    assert output.splitlines()[0] == expected
    assert "PGHOST=x" in output and "geheim-7781" not in output


def test_a_command_shows_no_environment_in_its_representation() -> None:
    assert "geheim" not in repr(Command(("psql",), 60, {"PGPASSWORD": "geheim"}))
