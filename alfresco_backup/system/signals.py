"""Interruptions that are not lost: SIGINT, SIGTERM and whatever a handler of theirs raises.

Python raises it at whatever line the main thread has come to. Where nobody can receive it, in the hooks that
modules have around a fork and in a `__del__`, it is printed as "Exception ignored in" and the program goes on
as if nothing had happened. With Prefect loaded, a quarter of the interruptions of short programs went so, and
left the lock of `logging` taken. Hence:
- signals that come while a program is being started are handled when it is (`held_back`);
- what was ignored elsewhere is raised at the next program or step (`keep_ignored`, `raise_ignored`).
Where an interruption comes between the taking of a lock and the `try` behind it, the lock stays taken, and
whoever waits for it at the end of the program does so for ever. No caller can prevent that, hence:
- a thread that needs nobody's lock ends the program when its time is over (`end_in_time`).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HELD_BACK = (signal.SIGINT, signal.SIGTERM)
ENDS_OF_ROUTINES = ("GeneratorExit", "CancelledError")
"""What ends generators and tasks, those of asyncio and those of Prefect; nobody is interrupted by it."""
Handler = Callable[[int, FrameType | None], object]
WORDS_SECONDS = 10.0
_ignored: list[BaseException] = []
_last_words: list[Callable[[], object]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends this program as Ctrl-C does, with its last words."""


def interrupt_at_termination() -> None:
    """From now on raise Terminated at SIGTERM, in the main thread.

    Prefect handles the signal while a flow runs and then passes it on: by default that ends the process
    before anybody could tell what is to be done.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def end_in_time(seconds: float, last_words: Callable[[], object], exit_code: int) -> None:
    """From the first SIGINT or SIGTERM on this process may take so long to end; then it is ended.

    `last_words` is called before, in a thread of its own, for 10 s at most, and unless all_is_said() was.
    Nothing is cleaned up then, as after a kill. Counts signals that have a handler of Python's, whoever sets
    it: Python's own C handler tells of them, while its handlers wait for the main thread to come to its next
    line. Call once, from the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _last_words[:] = [last_words]
    name, arguments = "end-in-time", (reader, seconds, exit_code)
    threading.Thread(target=_end_in_time, args=arguments, name=name, daemon=True).start()


def all_is_said() -> None:
    """The last words were said; an end by end_in_time() adds none."""
    _last_words.clear()


def _end_in_time(reader: int, seconds: float, exit_code: int) -> None:
    while os.read(reader, 1)[0] not in HELD_BACK:
        continue
    time.sleep(seconds)
    try:
        for last_words in _last_words:
            speaker = threading.Thread(target=last_words, daemon=True)
            speaker.start()
            speaker.join(WORDS_SECONDS)  # the terminal or the disk may be what the main thread waits for
    finally:
        os._exit(exit_code)


def was_interrupted(error: BaseException) -> bool:
    """Whether an error is an interruption, or came of one.

    Prefect (3.9.1) raises "ValueError: Task run is not set" where it is interrupted while it begins a task.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _interrupts(cause) and not isinstance(cause, SystemExit):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def held_back() -> Iterator[None]:
    """Handle the signals that come while the block runs at its end, by the handlers that were in place.

    For blocks of milliseconds. Signals that have no handler of Python's do what they always do. Only the
    main thread handles signals, so for other threads there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers: dict[int, Handler] = {}
    try:
        for number in HELD_BACK:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda number, _frame: came.append(number))
        yield
    finally:
        _put_back(dict(handlers))
        for came_number in came:
            handlers[came_number](came_number, None)


@contextmanager
def raised_once() -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM raises KeyboardInterrupt; further ones do nothing.

    What the first one ends may so tell how far it came. Signals that were ignored before stay ignored.
    """
    handlers: dict[int, Handler] = {}

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in handlers:
            signal.signal(number, lambda _number, _frame: None)
        raise KeyboardInterrupt

    earlier = {number: signal.getsignal(number) for number in HELD_BACK}
    try:
        for number, handler in earlier.items():
            if handler != signal.SIG_IGN:
                handlers[number] = interrupt
                signal.signal(number, interrupt)
        yield
    finally:
        for taken in handlers:
            signal.signal(taken, earlier[signal.Signals(taken)])


def _put_back(handlers: dict[int, Handler]) -> None:
    """Set every handler, although a signal that comes in between already raises from the first one."""
    if handlers:
        number, handler = handlers.popitem()
        try:
            signal.signal(number, handler)
        finally:
            _put_back(handlers)


def keep_ignored() -> None:
    """From now on keep what interrupts the main thread where Python can only print and ignore it.

    What is no interruption is left to the hook that was in place, which is called for interruptions too.
    Calling this again changes nothing.
    """
    earlier = sys.unraisablehook
    if getattr(earlier, "keeps_interruptions", False):
        return

    def keep(what: "sys.UnraisableHookArgs") -> None:
        error = what.exc_value
        here = threading.current_thread() is threading.main_thread()
        if here and error is not None and _interrupts(error):
            _ignored.append(error)
        earlier(what)

    keep.keeps_interruptions = True  # type: ignore[attr-defined]
    sys.unraisablehook = keep


def _interrupts(error: BaseException) -> bool:
    return not isinstance(error, Exception) and type(error).__name__ not in ENDS_OF_ROUTINES


def raise_ignored() -> None:
    """Raise the interruption that was ignored, once; not while another error is on its way and ends the work.

    Does nothing in other threads than the main one, which alone is interrupted.
    """
    if not _ignored or sys.exc_info()[1] is not None:
        return
    if threading.current_thread() is threading.main_thread():
        error = _ignored[0]
        _ignored.clear()
        raise error
