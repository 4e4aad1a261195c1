"""Commands that messages tell people to type are built in settings/commands.py, and work in a new root shell.

Every call of a builder in the product is found and made with its words, or with such as could be there. A
shell without environment takes the line apart, and the real parser reads it.
"""

import ast
import importlib
import inspect
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from alfresco_backup.cli.commands import env_file_of, parse
from alfresco_backup.settings import commands
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.system.accounts import Account

PRODUCT = ("alfresco_backup", "tasks", "flows", "demo", "deployments")
BUILDERS = {
    name: builder
    for name, builder in vars(commands).items()
    if inspect.isfunction(builder) and builder.__module__ == commands.__name__ and not name.startswith("_")
}
STAMP, HOST = "20261122T023000Z", "alf-1.example"
AFTER = {
    "--backup": STAMP,
    "--confirm": HOST,
    "--mode": "full",
    "--only": "contentstore",
    "--target-time": "2026-11-22T03:00:00+01:00",
    "--undo": STAMP,
    "--wal-commands": "/opt/wal commands",
    "pin": STAMP,
    "unpin": STAMP,
    "delete": "0f8fad5b-d9cb-469f-a165-70867728950e",  # a run, or a pool of such a name
    "resume": "backup/alf1",
    "backup/alf1": "0f8fad5b-d9cb-469f-a165-70867728950e",  # a schedule of that deployment
}
"""What may stand behind a word where the source has an expression."""
BY_TYPE: dict[object, object] = {
    str: STAMP,
    int: 1200,
    Path: Path("/backup/it's here"),
    Account | None: None,
    Sequence[str]: ("000000010000000000000042", "odd name"),
}


def modules() -> Iterator[Path]:
    for folder in PRODUCT:
        yield from sorted((PROJECT_DIRECTORY / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT_DIRECTORY))


def builder_calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Where a builder is called, outside its own module: place, builder, call."""
    for path in modules():
        if path == Path(commands.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILDERS:
                yield f"{name_of(path)}:{node.lineno}", node.func.id, node


def words_of(nodes: Iterable[ast.expr], constants: Mapping[str, object]) -> list[str]:
    """What arguments can be: what is written there, else what may follow the word before."""
    words: list[str] = []
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)):
                words.append(text)
            case ast.Name(id=name) if isinstance(text := constants.get(name), str):
                words.append(text)
            case ast.Starred(value=ast.IfExp(body=ast.Tuple(elts=items) | ast.List(elts=items))):
                words += words_of(items, constants)
            case ast.Starred():
                pass  # options that are given or not
            case _:
                words.append(AFTER.get(words[-1] if words else "", STAMP))
    return words


def constants_of(place: str) -> dict[str, object]:
    """The names of the module that a place is in."""
    return vars(importlib.import_module(place.partition(".py")[0].replace("/", ".")))


def made(place: str, builder: str, call: ast.Call) -> str:
    """The command that a call makes."""
    parameters = inspect.signature(BUILDERS[builder]).parameters.values()
    if builder in ("program_command", "prefect_command", "configure_command", "make_command"):
        words = words_of(call.args, constants_of(place))
        if builder == "make_command":
            return commands.make_command(words[0] if words[0] != STAMP else "demo")
        return BUILDERS[builder](*words, **{item.arg: "x" for item in call.keywords if item.arg})
    given = [
        HOST if item.name == "host" else BY_TYPE[item.annotation]
        for item in parameters
        if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD
    ]
    return BUILDERS[builder](*given)


def typed_words(line: str) -> list[str]:
    """What a shell without environment, started in `/`, makes of a line's words after the Python."""
    shown = line.replace(f"{commands.PYTHON} ", "printf '%s\\0' ", 1)
    argv = ["env", "-i", "sh", "-c", f"unset PWD; cd / && {shown}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout.split("\0")[:-1]


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with a name that a shell would take apart."""
    file = tmp_path / "it's $HOME" / "alf 1.env"
    file.parent.mkdir()
    file.write_text(
        f"PGHOST=localhost\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME={HOST}\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(file))
    return file


CALLS = {place: (builder, call) for place, builder, call in builder_calls()}


@pytest.mark.parametrize("place", CALLS)
def test_the_command_of_a_message_is_understood_by_its_program(place: str, env_file: Path) -> None:
    for line in made(place, *CALLS[place]).splitlines():
        if line.startswith("make "):
            subprocess.run(["env", "-i", "sh", "-c", f"cd / && {line} -n"], capture_output=True, check=True)
        elif f" {commands.PYTHON} -m alfresco_backup " in line:
            understood_by_the_program(typed_words(line)[2:], env_file)
        elif f" {commands.PYTHON} -m deployments.prepared " in line:
            program, *words = typed_words(line)[2:]
            assert program == ".venv/bin/prefect" and f"{ENV_FILE_VARIABLE}=" in line
            from prefect.cli._app import _app as prefect  # noqa: PLC0415 - it takes seconds

            prefect.parse_args(words, exit_on_error=False, print_error=False)


def understood_by_the_program(words: list[str], env_file: Path) -> None:
    if "--help" in words:
        return
    verb, typed = parse(words)
    assert env_file_of(typed) == env_file
    assert verb.order is None or verb.order(typed) or words[0] == "restore"
    assert verb.call is None or verb.call(typed) or verb.work  # some actions of a verb are no flow


def test_the_projects_own_settings_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_FILE_VARIABLE, raising=False)
    assert commands.program_command("status") == (
        f"cd {PROJECT_DIRECTORY} && .venv/bin/python -m alfresco_backup status"
    )
    assert os.access(PROJECT_DIRECTORY / commands.PYTHON, os.X_OK)


WRITTEN_OUT = re.compile(
    r"\bpython3? (?:-m|\w+\.py)|\b(?:backup|restore|drill)\.py\b"
    r"|\bmake (?:deploy|serve|demo|setup|test)\b"
    r"|\bprefect (?:deployment|flow-run|work-pool|work-queue|gcl|variable|automation|config|server|worker)\b"
)
NO_MESSAGES = {
    "alfresco_backup/cli/commands.py": "the program's name in its own usage",
    "alfresco_backup/host/schedules.py": "what cron lines are looked through for",
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """What a module shows to people. Of docstrings Prefect shows those of flows."""
    tree = ast.parse(path.read_text())
    told = [item.value for item in ast.walk(tree) if isinstance(item, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told:
            yield node.lineno, node.value
        if isinstance(node, ast.FunctionDef) and path.parent.name == "flows":
            yield node.lineno, ast.get_docstring(node) or ""


def test_no_message_has_a_command_that_was_not_made_by_a_builder() -> None:
    found = [
        f"{name_of(path)}:{line}: {text!r}"
        for path in modules()
        if path != Path(commands.__file__) and name_of(path) not in NO_MESSAGES
        for line, text in texts(path)
        if WRITTEN_OUT.search(text)
    ]
    assert found == []
