"""A running program: started so that it dies with this process, read line by line, judged by its exit code.

Used by alfresco_backup/runner.py only, which is the one way this project runs programs.
"""

import ctypes
import os
import pwd
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.interruption import held_back, raise_ignored

PR_SET_PDEATHSIG = 1
TAIL_LINES = 25
GRACE_SECONDS = 5.0
NOT_STARTED = 127  # what a shell says of a program it cannot find
_libc = ctypes.CDLL(None)
_INHERITED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH"})


@dataclass(frozen=True)
class Account:
    """An operating system account to run a program as. Numbers, since stat gives numbers."""

    uid: int
    gid: int
    name: str = ""


@dataclass(frozen=True)
class Command:
    """A program to run: what, how long, as whom, and which exit codes besides 0 are no failure (and why).

    `chatter` says which of its lines are progress, that would crowd the reason out of an error's tail.
    """

    argv: tuple[str, ...]
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    account: Account | None = None
    tolerated: Mapping[int, str] = field(default_factory=dict)
    directory: Path | None = None
    hint: str = ""
    chatter: Callable[[str], object] | None = None

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
            with held_back():  # preexec_fn makes Python run fork hooks of modules, which lose interruptions
                self.process = subprocess.Popen(
                    _argv(command),
                    stdin=subprocess.PIPE if wants_input else stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=_environment(command),
                    cwd=command.directory or "/",
                    start_new_session=True,
                    # Between fork and exec it only makes two system calls; setpriv alone could not see that
                    # the parent had died before.
                    preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509
                )
        except OSError as error:
            raise ToolFailed(command.program, NOT_STARTED, str(error), command.hint) from error

    def feed(self, text: str | None) -> None:
        """Give the program its whole input. For short input only (less than a pipe holds: 64 KiB)."""
        if text is not None and self.process.stdin is not None:
            self.process.stdin.write(text.encode())
            self.process.stdin.close()

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


def _argv(command: Command) -> list[str]:
    """The argument list, with a change of user before it where one is wanted and possible."""
    if command.account is None or not _changes_user(command):
        return list(command.argv)
    user = ["--reuid", str(command.account.uid), "--regid", str(command.account.gid)]
    groups = ["--init-groups"] if command.account.name else ["--clear-groups"]
    return ["setpriv", *user, *groups, "--pdeathsig", "KILL", "--", *command.argv]


def _environment(command: Command) -> dict[str, str]:
    """A small, known environment: messages in English, nothing of ours that is not meant for the child."""
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
    path = inherited.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if _changes_user(command) and command.account and command.account.name:
        inherited["HOME"] = pwd.getpwnam(command.account.name).pw_dir  # .pgpass is looked for there
    return {**inherited, "PATH": path, "LC_ALL": "C", **command.environment}


def _changes_user(command: Command) -> bool:
    return command.account is not None and os.geteuid() == 0 and command.account.uid != 0


def _die_with_parent(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(125)

    return before_exec
