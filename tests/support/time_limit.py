"""No test hangs the suite: one that takes far too long fails where it is, and says where all threads are."""

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

LIMIT_SECONDS = 2400.0
"""For a test, and for what is set up or torn down for it: twenty times what the longest takes."""
AGAIN_SECONDS = 60.0


@contextmanager
def limited(seconds: float = LIMIT_SECONDS) -> Iterator[None]:
    """Fail what the block does when its time is over, and again each minute until it lets itself be ended.

    For the main thread, in which pytest runs tests. Not used by anybody else in it: SIGALRM.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        pytest.fail(f"took longer than {seconds:g} s")

    earlier = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
