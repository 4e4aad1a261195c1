"""The one way this project runs programs.

List arguments, a time limit, an own process group, death with the parent, output streamed to a log
file and to a callback, the tail kept for the error, and tolerated exit codes given with their reason.

Children die with this process (PR_SET_PDEATHSIG), so that a freed concurrency slot means that nothing
runs any more. The kernel ties that signal to the *thread* that started the child: call from the main
thread, or from one that outlives the child. A change of user clears the signal, so it is set again
after it (`setpriv --pdeathsig`). Grandchildren are reached by the process group when a limit or an
exception ends the run, and by their closed pipes when this process is killed.
"""

import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from alfresco_backup.child import GRACE_SECONDS, TAIL_LINES, Account, Child, Command, Finished
from alfresco_backup.errors import ToolTimedOut
from alfresco_backup.interruption import held_back

__all__ = [
    "Account",
    "Command",
    "Finished",
    "Watch",
    "run",
    "run_pipeline",
    "run_side_by_side",
    "run_starter",
    "stream_lines",
]

PIPE_BYTES = 1 << 20  # Linux lets most users have it; the usual 64 KiB make both ends wait for each other


@dataclass(frozen=True)
class Watch:
    """A look at the world while a program runs: `look` is called every so often; raising stops the run."""

    every_seconds: float
    look: Callable[[], None]


def run(
    command: Command,
    *,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    keep_output: bool = False,
    input_text: str | None = None,
    watch: Watch | None = None,
) -> Finished:
    """Run one program to its end. Raises ToolFailed or ToolTimedOut.

    `log` gets all its output appended; `on_line` sees each line of it (carriage returns end a line
    too, so that progress displays are seen). `Finished.output` is standard output, only with `keep_output`.
    """
    return run_side_by_side(
        [command], log=log, on_line=on_line, keep_output=keep_output, input_text=input_text, watch=watch
    )[0]


def run_side_by_side(
    commands: Sequence[Command],
    *,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    keep_output: bool = False,
    input_text: str | None = None,
    watch: Watch | None = None,
) -> list[Finished]:
    """Run programs at the same time; when one fails, the others are stopped and its error is raised."""
    with ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log else None
        children = []
        for command in commands:
            with held_back():  # no child without somebody to stop it
                child = Child(command, keep_output=keep_output, wants_input=input_text is not None)
                stack.callback(child.stop)
            children.append(child)
        for child in children:
            child.feed(input_text)
        failed = _pump(children, sink, on_line, watch)
        if failed is not None:
            failed.judge()
        return [child.judge() for child in children]


def run_pipeline(
    producer: Command,
    consumer: Command,
    target: Path | None = None,
    *,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    watch: Watch | None = None,
) -> tuple[Finished, Finished]:
    """Run `producer | consumer > target`, both watched, the data never passing through this process.

    `target` is made anew (mode 0600) and fsynced; without one the consumer's output is treated like `run`'s.
    When both fail, the error is the producer's with the last words of both, because either may be the
    other's consequence.
    """
    with ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log else None
        descriptor = subprocess.PIPE
        if target is not None:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            stack.callback(os.close, descriptor)
        read_end, write_end = os.pipe()
        with suppress(PermissionError):  # less is slower only
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with held_back():
                first = Child(producer, stdout=write_end)
                stack.callback(first.stop)
                second = Child(consumer, stdin=read_end, stdout=descriptor)
                stack.callback(second.stop)
        finally:
            os.close(read_end)
            os.close(write_end)
        if _pump([first, second], sink, on_line, watch) is not None:
            _judge_both(first, second)
        finished = first.judge(), second.judge()
        if target is not None:
            os.fsync(descriptor)
        return finished


def run_starter(command: Command, output: Path) -> Finished:
    """Run a program that leaves a server behind, and return when it ends; the server lives on.

    Its output is appended to the file `output` rather than read from pipes, which the server would hold open.
    Raises ToolFailed or ToolTimedOut with the end of that output; a limit ends its process group.
    """
    with output.open("ab") as sink:
        written = sink.tell()
        with ExitStack() as stack:
            with held_back():
                child = Child(command, stdout=sink.fileno(), stderr=sink.fileno())
                stack.callback(child.stop)
            try:
                child.wait()
            except ToolTimedOut as error:
                tail = "\n".join(_lines_from(output, written))
                raise ToolTimedOut(error.program, error.limit_seconds, tail, error.hint) from None
    child.tail.extend(_lines_from(output, written))
    return child.judge()


def _lines_from(file: Path, offset: int) -> list[str]:
    with file.open("rb") as stream:
        stream.seek(offset)
        text = stream.read().decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]


def stream_lines(command: Command) -> Iterator[str]:
    """Run a program and yield its standard output line by line, holding no more than a block of it.

    The exit code is judged after the last line; leaving the loop early stops the program.
    The time limit is checked as lines arrive and while waiting for them.
    """
    with ExitStack() as stack:
        with held_back():
            child = Child(command)
            stack.callback(child.stop)
        yield from child.lines()
        child.judge()


def _judge_both(producer: Child, consumer: Child) -> None:
    """Raise for a broken pipeline. The other end gets a moment to end by itself, so that it can be named."""
    for child in (producer, consumer):
        try:
            child.process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.stop()
    if consumer.failed and producer.process.returncode in (0, -signal.SIGPIPE, -signal.SIGTERM):
        consumer.judge()
    if consumer.failed:
        producer.tail.append(
            f"{consumer.command.program} ended with exit code {consumer.process.returncode}:"
        )
        producer.tail.extend(consumer.tail)
    producer.judge()


def _pump(
    children: Sequence[Child],
    sink: IO[bytes] | None,
    on_line: Callable[[str], None] | None,
    watch: Watch | None,
) -> Child | None:
    """Move output until every child has ended; returns the first child that failed, as soon as it did."""
    looked = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for child in children:
            for pipe in child.pipes():
                selector.register(pipe, selectors.EVENT_READ, child)
        while selector.get_map():
            for key, _ in selector.select(timeout=0.5):
                owner: Child = key.data
                pipe = owner.pipe(key.fd)
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(pipe)
                lines = owner.take(pipe, data) if data else owner.close(pipe)
                if sink and data:
                    sink.write(data)
                    sink.flush()
                if on_line is not None:
                    for line in lines:
                        on_line(line)
            if watch and time.monotonic() - looked >= watch.every_seconds:
                watch.look()
                looked = time.monotonic()
            for child in children:
                child.check()
                if len(children) > 1 and child.failed:
                    _drain(child, sink)
                    return child
    for child in children:
        child.wait()
    return next((child for child in children if child.failed), None)


def _drain(child: Child, sink: IO[bytes] | None) -> None:
    """Read what a failed child still left in its pipes, so that its error is complete."""
    for pipe in child.pipes():
        if pipe.closed:
            continue
        os.set_blocking(pipe.fileno(), False)
        data = pipe.read() or b""
        child.take(pipe, data + b"\n")
        if sink:
            sink.write(data)
