"""Interruptions reach whoever they are meant for, at whatever moment they come."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.system.signals import was_interrupted

PROJECT = Path(__file__).resolve().parents[2]
BEGIN = """
import logging, os, signal, subprocess, sys, tempfile, time
from pathlib import Path
from alfresco_backup.system.processes import Child
from alfresco_backup.system.signals import held_back, keep_ignored, raise_ignored
from alfresco_backup.system.processes import Command, run, run_pipeline, run_starter, stream_lines

signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def interrupted_start(number=signal.SIGINT):
    start = subprocess._fork_exec

    def start_and_interrupt(*arguments):
        started = start(*arguments)
        signal.raise_signal(number)
        return started

    subprocess._fork_exec = start_and_interrupt
"""


def told_by(script: str) -> str:
    """Standard output of a Python of its own, whose signals are nobody else's."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_interruption_that_meets_the_start_of_a_program_ends_the_run() -> None:
    assert (
        told_by("""
interrupted_start()
for work in (
    lambda: run(Command(("true",), 60)),
    lambda: run_pipeline(Command(("true",), 60), Command(("true",), 60)),
    lambda: list(stream_lines(Command(("true",), 60))),
    lambda: run_starter(Command(("true",), 60), Path(tempfile.mkstemp()[1])),
):
    try:
        work()
        print("lost")
    except KeyboardInterrupt:
        print("interrupted")
""").splitlines()
        == ["interrupted"] * 4
    )


def test_a_termination_that_meets_the_start_of_a_program_reaches_its_handler() -> None:
    assert told_by("""
class Terminated(BaseException):
    pass

def terminate(number, frame):
    raise Terminated(number)

signal.signal(signal.SIGTERM, terminate)
interrupted_start(signal.SIGTERM)
try:
    run(Command(("true",), 60))
    print("lost")
except Terminated as error:
    print("terminated", error.args[0] == signal.SIGTERM)
print(signal.getsignal(signal.SIGTERM) is terminate)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""").splitlines() == ["terminated True", "True", "True"]


def test_no_program_outlives_an_interruption_of_its_start(tmp_path: Path) -> None:
    assert told_by(f"""
interrupted_start()
started = []
start = Child.__init__

def remember(child, *arguments, **options):
    start(child, *arguments, **options)
    started.append(child)

Child.__init__ = remember
try:
    run(Command(("sleep", "600"), 600), log=__import__("pathlib").Path({str(tmp_path / "log")!r}))
except KeyboardInterrupt:
    print([child.process.returncode for child in started])
""").splitlines() == [f"[-{int(signal.SIGTERM)}]"]


def test_an_interruption_that_python_ignored_is_raised_by_the_next_program_and_once() -> None:
    assert told_by("""
keep_ignored()
keep_ignored()
Interrupted()
print("went on")
try:
    run(Command(("sleep", "60"), 60))
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
run(Command(("true",), 60))
print("no more")
""").splitlines() == ["went on", "interrupted", "no more"]


def test_what_python_ignores_while_an_error_is_cleaned_up_after_does_not_stop_the_cleaning() -> None:
    assert told_by("""
keep_ignored()
try:
    try:
        raise ValueError("first")
    finally:
        Interrupted()
        run(Command(("true",), 60))
        print("cleaned up")
except ValueError as error:
    print(error)
try:
    raise_ignored()
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
""").splitlines() == ["cleaned up", "first", "interrupted"]


def test_ignored_errors_that_interrupt_nothing_are_only_printed() -> None:
    assert told_by("""
import asyncio

class Faulty:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error

keep_ignored()
for error in (ValueError("printed"), GeneratorExit(), asyncio.CancelledError()):
    Faulty(error)
    raise_ignored()
print("went on")
""").splitlines() == ["went on"]


HANGS = """
from alfresco_backup.system.signals import all_is_said, end_in_time
import threading
lock = threading.Lock()
lock.acquire()

def hang(*_):
    while True:
        try:
            lock.acquire()
        except BaseException:
            continue

"""


def ended(script: str) -> tuple[int, str]:
    """Exit code and output of a program that cannot end by itself."""
    argv = [sys.executable, "-c", BEGIN + HANGS + script]
    done = subprocess.run(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_who_waits_for_ever_ends_after_a_signal_with_its_last_words(number: str) -> None:
    assert ended(f"""
signal.signal(signal.{number}, hang)
end_in_time(1, lambda: os.write(1, b"HINT: undo"), 5)
os.kill(os.getpid(), signal.{number})
hang()
""") == (5, "HINT: undo")


@pytest.mark.slow
def test_a_lock_that_an_interruption_left_taken_stops_no_end() -> None:
    """As one of Prefect's queues does: interrupted within Condition.__enter__, it stays locked."""
    assert ended("""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
end_in_time(1, lambda: os.write(1, b"HINT: undo"), 5)
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    lock.acquire()
""") == (5, "HINT: undo")


@pytest.mark.slow
def test_words_that_nobody_reads_keep_nobody_alive() -> None:
    assert ended("""
from alfresco_backup.system import signals
signals.WORDS_SECONDS = 1.0
signal.signal(signal.SIGINT, hang)
end_in_time(1, hang, 5)
os.kill(os.getpid(), signal.SIGINT)
hang()
""") == (5, "")


@pytest.mark.slow
def test_last_words_are_not_said_twice_and_without_a_signal_nobody_is_ended() -> None:
    assert ended("""
end_in_time(1, lambda: os.write(1, b"HINT: undo"), 5)
time.sleep(3)
os.write(1, b"alive, HINT: undo")
all_is_said()
signal.signal(signal.SIGTERM, hang)
os.kill(os.getpid(), signal.SIGTERM)
hang()
""") == (5, "alive, HINT: undo")


def test_only_the_first_of_many_signals_raises_and_the_handlers_come_back() -> None:
    assert told_by("""
from alfresco_backup.system.signals import raised_once
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
try:
    with raised_once():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM) * 3:
                signal.raise_signal(number)
            print("told")
except KeyboardInterrupt:
    print("interrupted")
print(before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
signal.signal(signal.SIGINT, signal.SIG_IGN)
with raised_once():
    signal.raise_signal(signal.SIGINT)
print("went on")
""").splitlines() == ["told", "interrupted", "True", "went on"]


def test_an_error_that_came_of_an_interruption_is_told_from_others() -> None:
    assert was_interrupted(KeyboardInterrupt())
    assert was_interrupted(error_of(KeyboardInterrupt))
    assert not was_interrupted(error_of(KeyError))
    assert not was_interrupted(error_of(GeneratorExit))
    assert not was_interrupted(error_of(SystemExit))
    assert not was_interrupted(ValueError())


def error_of(cause: type[BaseException]) -> ValueError:
    """An error that was raised while another was handled, as Prefect does where a task begins."""
    try:
        try:
            raise cause
        finally:
            int("no number")
    except ValueError as error:
        return error
    raise AssertionError("there is no such number")
