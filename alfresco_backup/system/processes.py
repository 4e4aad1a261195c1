"""The one way this project runs programs.

List arguments, a time limit, an own process group, death with the parent, output streamed to a log
file and to a callback, the tail kept for the error, and tolerated exit codes given with their reason.

Children die with this process (`setpriv --pdeathsig`), so that a freed concurrency slot means that nothing
runs any more. The kernel ties that signal to the *thread* that started the child: call from the main
thread, or from one that outlives the child. Grandchildren are reached by the process group when a limit or
an exception ends the run, and by their closed pipes when this process is killed.

Nothing of Python runs between fork and exec: a flow's process has many threads, and a lock that one of them
held at the fork stays held in the child, which then never gets to its exec, nor this process out of Popen.
"""

import errno
import fcntl
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.folders import appending, open_file, reading
from alfresco_backup.system.signals import held_back, raise_ignored

# A running program: started so that it dies with this process, read line by line, judged by its exit code.
#
# Used by alfresco_backup/system/processes.py only, which is the one way this project runs programs.

OnProgress = Callable[[float, float], None]
"""Told how much is done and how much there is, in one unit."""
TAIL_LINES = 25
GRACE_SECONDS = 5.0
NOT_STARTED = 127  # what a shell says of a program it cannot find
_WITH_PARENT = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'
"""For a shell below setpriv, which is told nothing of a parent that died before it asked for the signal."""
_INHERITED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH"})


@dataclass(frozen=True)
class Command:
    """A program to run: what, how long, as whom, and which exit codes besides 0 are no failure (and why).

    `directory`: where it works; a descriptor where nobody may exchange the folder meanwhile, and the names in
    `argv` are relative. `chatter` says which of its lines are progress, that would crowd the reason out of an
    error's tail. `holds_input`: its standard input has nothing to read, and ends where nobody waits for it
    any more: what the program leaves to another one (a container's engine) can end with it.
    """

    argv: tuple[str, ...]
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    account: Account | None = None
    tolerated: Mapping[int, str] = field(default_factory=dict)
    directory: Path | int | None = None
    hint: str = ""
    chatter: Callable[[str], object] | None = None
    holds_input: bool = False

    @property
    def program(self) -> str:
        return Path(self.argv[0]).name


@dataclass(frozen=True)
class Finished:
    """A program that ended as it may. `tolerated` is the reason when the exit code was not 0."""

    returncode: int
    seconds: float
    output: str
    tail: str
    tolerated: str = ""


class Child:
    """A running program with its output pipes."""

    def __init__(
        self,
        command: Command,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        keep_output: bool = False,
        wants_input: bool = False,
    ) -> None:
        self.command = command
        self.keep_output = keep_output
        self.started = time.monotonic()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.output: list[bytes] = []
        self._rest: dict[int, bytes] = {}
        try:
            environment = _environment(command)
            _require_program(command, environment["PATH"])
            with held_back():  # an interruption within Popen would lose the program that it has started
                self.process = subprocess.Popen(
                    [*_tied_to_parent(command.account), *command.argv],
                    stdin=subprocess.PIPE if wants_input or command.holds_input else stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=environment,
                    cwd=_directory(command),
                    start_new_session=True,
                )
        except OSError as error:
            raise ToolFailed(command.program, NOT_STARTED, str(error), command.hint) from error

    def feed(self, text: str | None) -> None:
        """Give the program its whole input. For short input only (less than a pipe holds: 64 KiB)."""
        if text is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError), self.process.stdin as pipe:  # it ended: its exit code says why
                pipe.write(text.encode("utf-8", "surrogateescape"))

    def pipes(self) -> list[IO[bytes]]:
        return [pipe for pipe in (self.process.stdout, self.process.stderr) if pipe is not None]

    def pipe(self, descriptor: int) -> IO[bytes]:
        return next(pipe for pipe in self.pipes() if not pipe.closed and pipe.fileno() == descriptor)

    def take(self, pipe: IO[bytes], data: bytes) -> list[str]:
        """Split what was read into whole lines; what is left waits for the next block."""
        if self.keep_output and pipe is self.process.stdout:
            self.output.append(data)
        data = self._rest.pop(pipe.fileno(), b"") + data
        *whole, rest = data.replace(b"\r", b"\n").split(b"\n")
        self._rest[pipe.fileno()] = rest[-65536:]
        return self._remember(whole)

    def close(self, pipe: IO[bytes]) -> list[str]:
        rest = self._rest.pop(pipe.fileno(), b"")
        pipe.close()
        return self._remember([rest])

    def _remember(self, raw: Sequence[bytes]) -> list[str]:
        lines = [line.decode("utf-8", "replace") for line in raw if line.strip()]
        chatter = self.command.chatter
        self.tail.extend(line for line in lines if not (chatter and chatter(line)))
        return lines

    def lines(self) -> Iterator[str]:
        """Standard output by line, standard error into the tail; see stream_lines."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            for pipe in self.pipes():
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            rest = b""
            while selector.get_map():
                self.check()
                for key, _ in selector.select(timeout=1.0):
                    data = os.read(key.fd, 1 << 18)
                    if key.fileobj is self.process.stdout:
                        *whole, rest = (rest + data).split(b"\n")
                        for line in whole:
                            yield line.decode("utf-8", "surrogateescape")
                    elif data and self.process.stderr is not None:
                        self.take(self.process.stderr, data)
                    if not data:
                        selector.unregister(key.fileobj)
            if rest:
                yield rest.decode("utf-8", "surrogateescape")
        self.wait()

    def check(self) -> None:
        """Raise when its time is over, or when this process was interrupted where it could not be told."""
        raise_ignored()
        if time.monotonic() - self.started > self.command.timeout_seconds:
            self.stop()
            raise ToolTimedOut(
                self.command.program, self.command.timeout_seconds, "\n".join(self.tail), self.command.hint
            )

    @property
    def failed(self) -> bool:
        """Whether the program has ended with an exit code that is not tolerated."""
        return self.process.poll() not in (None, 0, *self.command.tolerated)

    def wait(self) -> None:
        while self.process.poll() is None:
            self.check()
            try:
                self.process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> None:
        """End the whole process group: TERM, a few seconds, KILL. Does nothing when it has ended."""
        if self.process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                self._signal_group(number)
                try:
                    self.process.wait(timeout=GRACE_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._signal_group(signal.SIGKILL)
        for pipe in (*self.pipes(), self.process.stdin):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def judge(self) -> Finished:
        code = self.process.wait()
        tail = "\n".join(self.tail)
        if code != 0 and code not in self.command.tolerated:
            raise ToolFailed(self.command.program, code, tail, self.command.hint)
        return Finished(
            code,
            time.monotonic() - self.started,
            b"".join(self.output).decode("utf-8", "surrogateescape"),
            tail,
            self.command.tolerated.get(code, ""),
        )


def account_argv(account: Account | None) -> tuple[str, ...]:
    """What goes before a program that is to run as an account; nothing where it does so anyway, or cannot."""
    if account is None or os.geteuid() != 0 or account.uid == 0:
        return ()
    user = ("--reuid", str(account.uid), "--regid", str(account.gid))
    groups = "--init-groups" if account.name else "--clear-groups"
    return ("setpriv", *user, groups, "--pdeathsig", "KILL", "--")


def _environment(command: Command) -> dict[str, str]:
    """A small, known environment: messages in English, nothing of ours that is not meant for the child."""
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
    path = inherited.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if account_argv(command.account) and command.account and command.account.name:
        inherited["HOME"] = pwd.getpwnam(command.account.name).pw_dir  # .pgpass is looked for there
    return {**inherited, "PATH": path, "LC_ALL": "C", **command.environment}


def _tied_to_parent(account: Account | None) -> tuple[str, ...]:
    """What goes before every program: it runs as the account, and is killed when this process ends."""
    change = account_argv(account) or ("setpriv", "--pdeathsig", "KILL", "--")
    return (*change, "sh", "-c", _WITH_PARENT, str(os.getpid()))


def _directory(command: Command) -> str:
    """Where the program begins. A descriptor is its directory, whatever has its name by now."""
    if isinstance(command.directory, int):
        return f"/proc/self/fd/{command.directory}"
    return str(command.directory or "/")


def _require_program(command: Command, path: str) -> None:
    """Raise FileNotFoundError where a program is missing and this process can see what its account would."""
    name = command.argv[0]
    if account_argv(command.account) or ("/" in name and not name.startswith("/")):
        return
    if shutil.which(name, os.F_OK, path) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


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
        sink = stack.enter_context(appending(log)) if log else None
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


def run_into(
    command: Command,
    target: int,
    *,
    on_line: Callable[[str], None] | None = None,
    watch: Watch | None = None,
) -> Finished:
    """As `run`, but standard output goes into an open file; lines are those of standard error."""
    with ExitStack() as stack:
        with held_back():
            child = Child(command, stdout=target)
            stack.callback(child.stop)
        _pump([child], None, on_line, watch)
        return child.judge()


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

    `target` is made new (mode 0600) and fsynced; without one the consumer's output is treated like `run`'s.
    When both fail, the error is the producer's with the last words of both, because either may be the
    other's consequence.
    """
    with ExitStack() as stack:
        sink = stack.enter_context(appending(log)) if log else None
        descriptor = subprocess.PIPE
        if target is not None:
            descriptor = open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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
    with appending(output) as sink:
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


def start_with_parent(command: Command, output: Path) -> Child:
    """Start a server that dies with this process, however that ends; its output is appended to `output`.

    It is stopped by its own means first, then by Child.stop, which also takes note of its end.
    """
    with appending(output) as sink, held_back():
        return Child(command, stdout=sink.fileno(), stderr=sink.fileno())


def _lines_from(file: Path, offset: int) -> list[str]:
    with reading(file) as stream:
        stream.seek(offset)
        text = stream.read().decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]


def stream_lines(command: Command, input_text: str | None = None) -> Iterator[str]:
    """Run a program and yield its standard output line by line, holding no more than a block of it.

    It must read all of `input_text` before it says much. The exit code is judged after the last line; leaving
    the loop early stops the program. The time limit is checked as lines arrive and while waiting for them.
    """
    with ExitStack() as stack:
        with held_back():
            child = Child(command, wants_input=input_text is not None)
            stack.callback(child.stop)
        child.feed(input_text)
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
