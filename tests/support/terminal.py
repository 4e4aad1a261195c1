"""A program on a pseudo-terminal: what a person would see, and what they type."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.common import wait_until

ROWS, COLUMNS = 50, 130
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
END_OF_INPUT = b"\x04"


class Terminal:
    """Runs a program until the `with` block ends; the program is killed when it has not ended by then."""

    def __init__(self, argv: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._raw = b""
        self._seen = 0
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd="/",
            env={"TERM": "xterm", **environment},
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """Everything shown so far, without colours and cursor movements."""
        return _CONTROL.sub("", self._raw.decode("utf-8", "replace"))

    def wait_for(self, words: str, seconds: float = 300.0) -> None:
        """Wait until something is shown."""
        self._read_until(lambda: words in self.text, f"the words {words!r}", seconds)

    def answer(self, prompt: str, line: str | bytes, seconds: float = 300.0) -> None:
        """Wait until `prompt` is shown, after what was answered before, and type a line (or raw bytes)."""
        self._read_until(lambda: prompt in self.text[self._seen :], f"prompt {prompt!r}", seconds)
        self._seen = len(self.text)
        os.write(self._master, line if isinstance(line, bytes) else line.encode() + b"\n")

    def exit_code(self, seconds: float = 300.0) -> int:
        """Wait for the end of the program."""
        self._read_until(lambda: self.process.poll() is not None, "the program's end", seconds)
        self._read(0.2)
        return self.process.wait()

    def _read_until(self, reached: Callable[[], object], what: str, seconds: float) -> None:
        def come() -> object:
            if reached():
                return True
            assert self.process.poll() is None or "end" in what, f"ended before {what}:\n{self.text[-3000:]}"
            self._read(0.2)
            return False

        wait_until(come, lambda: f"{what}:\n{self.text[-3000:]}", seconds, every=0)

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            try:
                block = os.read(self._master, 65536)
            except OSError:  # Linux says EIO when the last writer has closed its end
                return
            if not block:
                return
            self._raw += block
            seconds = 0.0
