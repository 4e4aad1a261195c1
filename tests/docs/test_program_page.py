"""docs/reference/program.md shows what `--help` says, on every terminal."""

import subprocess
import sys

import pytest

from alfresco_backup.cli.commands import VERBS
from alfresco_backup.errors import EXIT_CODES
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.program_page import PAGE, WIDTH, help_sections, page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("columns", ["40", "200", None])
def test_the_page_is_what_make_reference_writes(columns: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert PAGE.read_text() == page(), "make reference"


@pytest.mark.parametrize("verb", ["", "restore"])
def test_a_terminal_shows_what_the_page_has(verb: str) -> None:
    argv = [sys.executable, "-m", "alfresco_backup", *verb.split(), "--help"]
    done = subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, env={"COLUMNS": WIDTH}, capture_output=True, text=True, check=True
    )
    assert f"```text\n{done.stdout}```\n" in help_sections()


def test_the_contents_list_every_verb_and_every_exit_code() -> None:
    contents = help_sections().partition("```\n")[0]
    for verb in VERBS:
        assert f"  {verb.name:<18}{verb.summary}\n" in contents
        assert {int(code) for code in verb.codes.split()} <= EXIT_CODES.keys()
    for code, words in EXIT_CODES.items():
        assert f"  {code:<4}{words}\n" in contents
