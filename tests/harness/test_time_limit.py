"""A test that waits for ever fails, whatever it waits for."""

import signal
import subprocess
import threading
from collections.abc import Callable

import pytest

from tests.support.time_limit import limited


def an_event() -> None:
    threading.Event().wait()


def a_lock() -> None:
    taken = threading.Lock()
    taken.acquire()
    taken.acquire()


def a_program() -> None:
    subprocess.run(["sleep", "600"], check=False)


@pytest.mark.parametrize("wait", [an_event, a_lock, a_program])
def test_a_wait_without_end_ends_at_the_limit(
    wait: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    earlier = signal.getsignal(signal.SIGALRM)
    with pytest.raises(pytest.fail.Exception, match="took longer than "), limited(0.2):
        wait()
    assert "test_a_wait_without_end_ends_at_the_limit" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGALRM) is earlier


def test_what_ends_in_time_is_left_alone() -> None:
    with limited(0.2):
        pass
    signal.sigtimedwait([signal.SIGUSR2], 0.4)


def test_every_test_has_a_limit() -> None:
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert left > 0
