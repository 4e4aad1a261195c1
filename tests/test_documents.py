"""The mechanism of tests/documents.py, and what the executed documents must have."""

import re
from pathlib import Path

import pytest

from tests.documents import COMMANDS, Names, blocks_of, execute, executed_documents, plain_environment

LANGUAGES = {*COMMANDS, "text", "sql"}
WORDS = {
    "server",  # needs a Prefect server and worker: tests/test_prefect_docs.py
    "old-host",  # tests/test_how_to_hosts.py
    "new-host",
    "latest",  # tests/test_by_hand.py
    "moment",
    "set",
    "tablespace",
    "old-wal",
    "elsewhere",
    "from-12",
    "before-12",
}
NOT_EXECUTED = {
    ("install.md", "installs packages of the machine; make test itself begins with it"),
    ("move-to-a-new-host.md", "services of a machine"),
    (
        "undo.md",
        "needs a restore that broke off; test_restore_killed.py and test_restore_aftermath.py make them",
    ),
}

documents = pytest.mark.parametrize("document", executed_documents(), ids=lambda path: path.stem)


@documents
def test_every_block_says_what_it_is(document: Path) -> None:
    blocks = blocks_of(document)
    assert {block.language for block in blocks} <= LANGUAGES
    assert {word for block in blocks for word in block.words} <= WORDS
    assert any(block.steps and not block.reason for block in blocks)


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    left_out = {
        (block.document, block.reason)
        for path in executed_documents()
        for block in blocks_of(path)
        if block.reason
    }
    assert left_out == NOT_EXECUTED


def test_every_word_is_used() -> None:
    assert {
        word for path in executed_documents() for block in blocks_of(path) for word in block.words
    } == WORDS


@documents
def test_each_ends_in_how_you_know_it_worked(document: Path) -> None:
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    assert titles[-1] == "How you know it worked"


def written(folder: Path, text: str) -> Path:
    path = folder / "document.md"
    path.write_text(text)
    return path


def run(folder: Path, text: str, *words: str, **names: str) -> dict[str, str]:
    return execute(written(folder, text), Names(names), plain_environment(folder), words)


def test_blocks_share_a_shell_and_words_are_chosen(tmp_path: Path) -> None:
    text = "```sh\nX=1\n```\n```sh b\nX=2\n```\n```sh c\nX=3\n```\n```console\n$ echo $X and\n2 …\n```\n"
    assert run(tmp_path, text, "b") == {"X=1": "", "X=2": "", "echo $X and": "2 and\n"}


def test_names_of_the_example_are_replaced_as_whole_words(tmp_path: Path) -> None:
    text = "```console\n$ echo /a /a/b /abc x/a\n/1 /1/b /abc x/a\n```\n"
    assert list(run(tmp_path, text, **{"/a": "/1"})) == ["echo /a /a/b /abc x/a"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\ntrue\nfalse\n```\n", r"document.md:3: false\nended with 1, not 0"),
        ("<!-- exit code 1 -->\n```sh\ntrue\n```\n", "true\nended with 0, not 1"),
        ("```console\n$ echo one\ntwo\n```\n", "did not print 'two'"),
        ("```console\n$ printf 'b\\na\\n'\na\nb\n```\n", "did not print 'b'"),
        ("```sh\nexit 0\ntrue\n```\n", "exit 0\nwas not reached|was not reached"),
        ("```\ntrue\n```\n", "a block without a language"),
        ("```sh\ntrue\n", "a block without an end"),
        ("<!-- not run -->\n```sh\ntrue\n```\n", "'not run' is not understood"),
        ("```sh\nif true\n```\n", "sh does not understand"),
        ("<!-- not executed: no -->\n```sh\ntrue\n```\n", "nothing to execute"),
    ],
)
def test_what_is_not_as_written_fails(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(tmp_path, text)


def test_an_exit_code_may_be_expected_and_commands_go_over_several_lines(tmp_path: Path) -> None:
    text = "<!-- exit code 3 -->\n```sh\necho a \\\n  b\ncat <<END\nc\nEND\n# no command\n(exit 3)\n```\n"
    assert list(run(tmp_path, text).values()) == ["a b\n", "c\n", ""]
