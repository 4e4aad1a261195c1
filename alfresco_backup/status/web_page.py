"""Pages of HTML in one file, read as well on a phone and in the dark: nothing is loaded, no script is needed.

Everything given is text and is escaped here; only `Markup`, which these functions return, is taken as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.settings.commands import move_command
from alfresco_backup.system.files import write_text

BEGINNING = "<!doctype html>"
STYLE = """
:root{color-scheme:light dark;--line:#8886;--bar:#2f6fb3;--bad:#b3261e;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--bar:#7fb2ea;--bad:#ff8a80;--warn:#ffc46b}}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:90rem;overflow-wrap:break-word}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}caption{text-align:left;padding:.3rem 0}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line)}
th{white-space:nowrap}td{min-width:5rem}
.error,.unknown{color:var(--bad);font-weight:600}.warning{color:var(--warn);font-weight:600}
code{font-size:.85em;white-space:pre-wrap}li{margin:.4rem 0}
.charts{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;flex:1 1 18rem}
svg{width:100%;height:auto;fill:var(--bar)}figcaption{font-size:.85rem}
"""


class Markup(str):
    """HTML that these functions have made."""

    __slots__ = ()


@dataclass(frozen=True)
class Point:
    """One bar: what it stands for, its height (None: not known), and that in words."""

    label: str
    value: float | None
    words: str


def text(value: str) -> Markup:
    """A value as HTML; what is Markup already stays."""
    return value if isinstance(value, Markup) else Markup(escape(value))


def element(name: str, content: str, css: str = "") -> Markup:
    attribute = f' class="{css}"' if css else ""
    return Markup(f"<{name}{attribute}>{text(content)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    return Markup("".join(text(part) for part in parts))


def listed(items: Iterable[str]) -> Markup:
    """A list; empty where it has no items."""
    lines = joined(element("li", item) for item in items)
    return element("ul", lines) if lines else lines


def table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table whose first column names its rows; it scrolls by itself on a narrow screen."""
    head = joined(Markup(f'<th scope="col">{text(item)}</th>') for item in headers)
    body = joined(
        element("tr", joined([Markup(f'<th scope="row">{text(row[0])}</th>'), *_cells(row[1:])]))
        for row in rows
    )
    parts = [element("caption", caption), element("thead", element("tr", head)), element("tbody", body)]
    return element("div", element("table", joined(parts)), "scroll")


def _cells(cells: Sequence[str]) -> Iterable[Markup]:
    return (element("td", cell) for cell in cells)


def bar_chart(name: str, points: Sequence[Point]) -> Markup:
    """Bars from the oldest to the newest, each with its title; the picture says in words what it shows."""
    known = [point for point in points if point.value is not None]
    if not known:
        return element("figure", element("figcaption", f"{name}: not known yet"))
    highest = max(point.value or 0 for point in known) or 1
    width = 300 / len(points)
    bars = joined(_bar(point, index * width, width, highest) for index, point in enumerate(points))
    said = f"{name}: {known[-1].words} ({known[-1].label})"
    top = max(known, key=lambda point: point.value or 0)
    words = f"{said}; at most {top.words} ({top.label}); {len(known)} of {len(points)} are known"
    picture = Markup(
        f'<svg viewBox="0 0 300 80" role="img" aria-label="{text(words)}"><title>{text(words)}</title>'
        f'{bars}<path d="M0 79.5H300" stroke="currentColor" stroke-width=".5"/></svg>'
    )
    return element("figure", joined([picture, element("figcaption", said)]))


def _bar(point: Point, left: float, width: float, highest: float) -> Markup:
    if point.value is None:
        return Markup()
    height = max(0.8, 78 * point.value / highest)
    place = f'x="{left:.2f}" y="{79 - height:.2f}" width="{max(0.6, width * 0.8):.2f}" height="{height:.2f}"'
    return Markup(f"<rect {place}><title>{text(f'{point.label}: {point.words}')}</title></rect>")


def web_page(title: str, parts: Iterable[str]) -> str:
    """The whole page. Its policy forbids browsers to load or run anything, whatever is in it."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'{BEGINNING}\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{element('h1', title)}{joined(parts)}</main></body></html>\n"
    )


def write_page(file: Path, page: str) -> None:
    """Write a page whole or not at all. Raises Refused over a file that is no page, BackupError."""
    try:
        if file.exists() and not _is_page(file):
            what = f"{file} exists and is not a page written by this program; it was left as it is"
            raise Refused(what, move_command(file.absolute().parent, [file.name]))
        write_text(file, page)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror or error}") from error


def _is_page(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(BEGINNING)) == BEGINNING.encode()
