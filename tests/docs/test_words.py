"""Messages, documents and settings help use the words of the field: no phrase of tests/words.txt occurs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY

PROGRAMS = ("alfresco_backup", "tasks", "flows", "deployments", "demo")
TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", ".env.example", "prefect.yaml", "docs/**/*.md")
SCRIPTS = ("deployments/cron.example", "deployments/freshness", "deployments/setup", "deployments/wal/*")
NAMES = re.compile(r"```.*?```|`[^`\n]*`|\{[\w.]+\}", re.DOTALL)
"""Code in documents: names of files, JSON keys and options stay what they are."""


def phrases() -> list[str]:
    lines = (PROJECT_DIRECTORY / "tests/words.txt").read_text().splitlines()
    return [line.split(" -> ")[0] for line in lines if line and not line.startswith("#")]


def pattern_of(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(rf"(?<![\w-]){words}(?![\w-])", re.IGNORECASE)


PHRASES = {phrase: pattern_of(phrase) for phrase in phrases()}


def messages_of(source: str, *, docstrings: bool = True) -> Iterator[tuple[int, str]]:
    """Line and text of every string that people can read: sentences, with a space in it, not single names.

    Docstrings are for developers, but for those of flows, which the web interface shows.
    """
    tree = ast.parse(source)
    unseen = set() if docstrings else set(docstring_nodes(tree))
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(item.value) if isinstance(item, ast.Constant) else "X" for item in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


def docstring_nodes(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        statements = getattr(node, "body", None)
        for statement in statements if isinstance(statements, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield id(statement.value)


def found_in(text: str) -> list[str]:
    return [phrase for phrase, pattern in PHRASES.items() if pattern.search(text)]


def programs() -> list[Path]:
    below = [path for folder in PROGRAMS for path in (PROJECT_DIRECTORY / folder).rglob("*.py")]
    return sorted([*below, *PROJECT_DIRECTORY.glob("*.py")])


def texts() -> list[Path]:
    patterns = (*TEXTS, *SCRIPTS)
    return sorted(path for pattern in patterns for path in PROJECT_DIRECTORY.glob(pattern) if path.is_file())


def relative(path: Path) -> str:
    return str(path.relative_to(PROJECT_DIRECTORY))


@pytest.mark.parametrize("path", programs(), ids=relative)
def test_no_message_contains_a_phrase_of_the_list(path: Path) -> None:
    found = [
        f"{line}: {phrase!r} in {text[:90]!r}"
        for line, text in messages_of(path.read_text(), docstrings=path.parent.name == "flows")
        for phrase in found_in(NAMES.sub("X", text))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", texts(), ids=relative)
def test_no_document_contains_a_phrase_of_the_list(path: Path) -> None:
    assert found_in(NAMES.sub("X", path.read_text())) == []


def test_a_phrase_is_found_in_a_message_over_a_line_break_and_in_an_f_string() -> None:
    source = 'def f(x):\n    return f"{x}: the WAL is nowhere\\nto be had"\n'
    assert next(found_in(text) for _, text in messages_of(source)) == ["nowhere to be had"]
    assert found_in("recovers To a\n  Moment again") == ["to a moment"]
    assert found_in("timestamp, suite, commend") == []
