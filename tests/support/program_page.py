"""docs/reference/program.md below its mark is what `--help` says: written by `make reference`."""

import os

from alfresco_backup.cli.commands import PROGRAM, make_parsers
from alfresco_backup.settings.model import PROJECT_DIRECTORY

PAGE = PROJECT_DIRECTORY / "docs/reference/program.md"
MARK = "<!-- from here on written by make reference -->\n"
WIDTH = "100"


def help_sections() -> str:
    """The help of the program and of every verb, as wide on every terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        parts = [
            f"\n## {name or PROGRAM}\n\n```text\n{parser.format_help()}```\n"
            for name, parser in make_parsers().items()
        ]
    finally:
        os.environ.pop("COLUMNS")
        os.environ |= {"COLUMNS": before} if before is not None else {}
    return "".join(parts)


def page() -> str:
    """The whole page: what people wrote above the mark, help below it."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{PAGE} has no line {MARK!r}"
    return written + mark + help_sections()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
