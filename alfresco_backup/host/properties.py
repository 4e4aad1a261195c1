"""Reading alfresco-global.properties by Java's rules, which real files need: they are dirty."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values of a Java properties file; a later key wins, `${…}` stays as written.

    Two keys glued together by a missing newline are not repaired: no rule could tell them from a value.
    Callers must check that directories exist.
    """
    values = {}
    for line in _logical_lines(text):
        key, value = _split(line)
        if key:
            values[key] = value
    return values


def resolve(values: Mapping[str, str], key: str) -> str | None:
    """The value of a key with `${…}` references filled in; None when the key or a reference is missing."""
    value = values.get(key)
    for _ in range(20):  # references may nest; a loop of them must end
        if value is None or not _REFERENCE.search(value):
            return value
        names = _REFERENCE.findall(value)
        if any(name not in values for name in names):
            return None
        value = _REFERENCE.sub(lambda found: values[found[1]], value)
    return None


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for raw in re.split(r"\r\n|\r|\n", text):
        line = raw.lstrip(" \t\f")
        if not pending and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending += line[:-1]
            continue
        lines.append(pending + line)
        pending = ""
    return [*lines, pending] if pending else lines


def _split(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=: \t\f":
        position += 2 if line[position] == "\\" else 1
    key, rest = line[:position], line[position:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    return _unescape(key), _unescape(rest)


def _unescape(text: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", replaced, text)
