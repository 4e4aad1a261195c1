"""Pages and tables of markdown that read well on a terminal too."""

import re
from collections.abc import Iterable, Mapping, Sequence

_NUMBERED = re.compile(r"\d+\. ")


def page(title: str, *parts: str | tuple[str, str | Iterable[str]]) -> str:
    """A page of markdown. A part is a paragraph or a section: a heading with a paragraph or a list.

    Empty parts are left out. Lines of a list that begin with a number are a numbered list.
    """
    blocks = [f"# {title}"]
    for part in parts:
        heading, content = ("", part) if isinstance(part, str) else part
        if not isinstance(content, str):
            content = "\n".join(line if _NUMBERED.match(line) else f"- {line}" for line in content)
        if content:
            blocks += [f"## {heading}", content] if heading else [content]
    return "\n\n".join(blocks) + "\n"


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows that all have the keys of the first one; empty where there are none.

    The last column is not padded: what is long in it would widen every line.
    """
    if not rows:
        return ""
    heads = list(rows[0])
    cells = [heads, *([row[head].replace("|", "\\|") for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    widths[-1] = len(heads[-1])
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    ]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])
