"""Waiting for what happens by itself: the one loop with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

from alfresco_backup.errors import BackupError, NotInTime

POLL_SECONDS = 0.1
T = TypeVar("T")


def wait_until(
    look: Callable[[], T],
    seconds: float,
    late: str | Callable[[], str],
    *,
    hint: str = "",
    every: float = POLL_SECONDS,
    failing: type[BackupError] | tuple[()] = (),
) -> T:
    """Call `look` every so many seconds until what it returns is true, and return that.

    It is called at least once, and its last answer counts although the limit passed meanwhile. Then raises
    NotInTime with `late`, which is asked for only now where it is a function. `failing`: an error that means
    "not yet"; when the limit passes, the last one is raised itself. All other errors of `look` end the wait.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = look()
        except failing:
            if time.monotonic() > deadline:
                raise
        else:
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise NotInTime(late if isinstance(late, str) else late(), hint)
        time.sleep(every)
