"""Commands in documents, executed as they stand there.

Every fenced block says what it is:

    ```sh              commands; each must end with exit code 0
    ```console         commands after `$ `, below each what it prints: these lines in order; … is any text
    ```cron            lines of /etc/cron.d; what they run must end with exit code 0
    ```sh server       words behind it say where a block belongs; a test names those it takes
    ```usage           the options of commands, as their --help names them
    ```sql, ```text    statements and what else is no command

A comment right above a block of commands says what else is true of it:

    <!-- exit code 4 -->          its last command ends so
    <!-- not executed: why -->    the tests leave it out; such commands are listed in test_documents.py

Names and paths in documents are those of an example host; a test says what stands for them (`Names`). All
blocks of a document run in one shell, one after the other, so that `cd` and variables stay as for a reader.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY

COMMANDS = ("sh", "console", "cron")
LIMIT_SECONDS = 900
_FENCE = re.compile(r"^```(\S*)\s*(.*)$")
_COMMENT = re.compile(r"^<!-- (.*) -->$")
_MARK = "==== line "


@dataclass(frozen=True)
class Step:
    """One command, the line it begins in, what it must print and how it must end."""

    line: int
    command: str
    expected: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True)
class Block:
    """A fenced block. `document`: its path in the project; `reason`: why the tests leave it out."""

    document: str
    line: int
    language: str
    words: frozenset[str]
    reason: str
    steps: tuple[Step, ...]
    text: str = ""


@dataclass(frozen=True)
class Names:
    """What stands for the names of the example host, whole words only, longer ones first."""

    table: Mapping[str, str]

    def put_into(self, text: str) -> str:
        if not self.table:
            return text
        longest_first = sorted(self.table, key=len, reverse=True)
        pattern = "|".join(re.escape(name) for name in longest_first)
        return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: self.table[found[0]], text)


def all_documents() -> list[Path]:
    return [PROJECT_DIRECTORY / "README.md", *sorted((PROJECT_DIRECTORY / "docs").rglob("*.md"))]


def guides() -> list[Path]:
    """Those that are followed from top to bottom."""
    folder = PROJECT_DIRECTORY / "docs"
    return [*sorted((folder / "how-to").glob("*.md")), folder / "reference/repository.md"]


def name_of(document: Path) -> str:
    """Its path in the project."""
    inside = document.is_relative_to(PROJECT_DIRECTORY)
    return str(document.relative_to(PROJECT_DIRECTORY)) if inside else document.name


def blocks_of(document: Path) -> list[Block]:
    """Every fenced block of a document. AssertionError for one that does not say what it is."""
    lines = document.read_text(encoding="utf-8").splitlines()
    found, begin, comment = [], 0, ""
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if begin and fence:
            found.append(_block(name_of(document), begin, lines[begin - 1 : number - 1], comment))
            begin, comment = 0, ""
        elif fence:
            assert fence[1], f"{name_of(document)}:{number}: a block without a language"
            begin = number
        elif not begin:
            noted = _COMMENT.match(line)
            comment = noted[1] if noted else ""
    assert not begin, f"{name_of(document)}:{begin}: a block without an end"
    return found


def _block(document: str, line: int, text: list[str], comment: str) -> Block:
    fence = _FENCE.match(text[0])
    assert fence
    language, words = fence[1], frozenset(fence[2].split())
    _, marked, reason = comment.partition("not executed: ")
    steps: list[Step] = []
    if language in COMMANDS:
        steps = list(READERS[language](line + 1, text[1:]))
        assert steps, f"{document}:{line}: no command"
        code = re.fullmatch(r"exit code (\d+)", comment)
        assert not comment or marked or code, f"{document}:{line}: {comment!r} is not understood"
        if code:
            steps[-1] = Step(steps[-1].line, steps[-1].command, steps[-1].expected, int(code[1]))
    return Block(document, line, language, words, reason if marked else "", tuple(steps), "\n".join(text[1:]))


def _commands(first: int, lines: list[str]) -> Iterator[Step]:
    """Commands that may go on over several lines: sh itself says where one is whole."""
    held: list[str] = []
    for number, line in enumerate(lines, first):
        if held or (line.strip() and not line.startswith("#")):
            held.append(line)
        if held and _is_whole("\n".join(held)):
            yield Step(number - len(held) + 1, "\n".join(held))
            held = []
    assert not held, f"line {first}: sh does not understand {held}"


def _dialogue(first: int, lines: list[str]) -> Iterator[Step]:
    begin, command, expected = 0, "", []
    for number, line in enumerate(lines, first):
        if command and not _is_whole(command):
            command += f"\n{line}"
        elif line.startswith("$ "):
            if command:
                yield Step(begin, command, tuple(expected))
            begin, command, expected = number, line[2:], []
        elif line.strip():
            expected.append(line.strip())
    if command:
        yield Step(begin, command, tuple(expected))


def _jobs(first: int, lines: list[str]) -> Iterator[Step]:
    """What cron runs: behind the five fields of the time and the account."""
    for number, line in enumerate(lines, first):
        yield Step(number, line.split(maxsplit=6)[6])


READERS = {"sh": _commands, "console": _dialogue, "cron": _jobs}


def _is_whole(command: str) -> bool:
    here = re.search(r"<<(\w+)$", command, re.MULTILINE)
    if command.endswith("\\") or (here and here[1] not in command.splitlines()):
        return False
    return subprocess.run(["sh", "-n", "-c", command], capture_output=True, check=False).returncode == 0


def execute(
    document: Path,
    names: Names,
    environment: Mapping[str, str],
    words: Collection[str] = (),
    *,
    only: bool = False,
) -> dict[str, str]:
    """Execute the blocks of a document that ask for no other words than these; what each command printed.

    `only`: of the blocks without a word just the first, where each document begins.

    Fails with the document's line, the command and its output where one ends otherwise than it should, or
    does not print what the document shows.
    """
    able = [item for item in blocks_of(document) if item.steps and not item.reason]
    chosen = [
        item for item in able if item.words <= set(words) and (item.words or not only or item is able[0])
    ]
    steps = [step for block in chosen for step in block.steps]
    assert steps, f"{name_of(document)}: nothing to execute with {words}"
    output = _run_in_one_shell([(step, names.put_into(step.command)) for step in steps], environment)
    printed = dict(_parts(output))
    for step in steps:
        place = f"{name_of(document)}:{step.line}: {names.put_into(step.command)}"
        assert step.line in printed, f"{place}\nwas not reached; the one before it:\n{output[-6000:]}"
        said, code = printed[step.line]
        assert code == step.exit_code, f"{place}\nended with {code}, not {step.exit_code}:\n{said[-6000:]}"
        missing = _first_missing([names.put_into(line) for line in step.expected], said)
        assert missing is None, f"{place}\ndid not print {missing!r} (or not in this order):\n{said[-6000:]}"
    return {step.command: printed[step.line][0] for step in steps}


def _run_in_one_shell(commands: list[tuple[Step, str]], environment: Mapping[str, str]) -> str:
    """All that they print. After one that ends otherwise than it should nothing is run."""
    lines = []
    for step, command in commands:
        lines += [f"echo '{_MARK}{step.line}'", command, "code=$?", f"echo; echo '{_MARK}'$code"]
        lines.append(f"[ $code -eq {step.exit_code} ] || exit 1")
    with tempfile.TemporaryFile(
        "w+", errors="replace"
    ) as output:  # no pipe: a server that was started would hold it
        process = subprocess.Popen(
            ["sh", "-c", "\n".join(lines)],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(LIMIT_SECONDS)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        return output.read()


def _parts(output: str) -> Iterator[tuple[int, tuple[str, int]]]:
    pattern = rf"^{_MARK}(\d+)\n(.*?)\n{_MARK}(\d+)$"
    for line, said, code in re.findall(pattern, output, re.MULTILINE | re.DOTALL):
        yield int(line), (said, int(code))


def _first_missing(expected: list[str], said: str) -> str | None:
    lines = iter(said.splitlines())
    for wanted in expected:
        pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
        if not any(re.fullmatch(pattern, line.strip()) for line in lines):
            return wanted
    return None


def plain_environment(home: Path, **others: str) -> dict[str, str]:
    """What a login shell has, and little else."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **others}
