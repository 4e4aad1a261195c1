"""What is asked for: which documents, as of when. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from alfresco_backup.errors import SettingsError
from alfresco_backup.restore.planning.request import LATEST, Latest
from alfresco_backup.settings.commands import program_command

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LIMIT = 1000
SITES = "/Company Home/Sites"
"""In the English of a repository that was first started so; other languages name both otherwise."""


@dataclass(frozen=True)
class Criteria:
    """Which documents and folders; all that is given must hold.

    `nodes`: alf_node.uuid. `name`: as people see it, `*` and `?` stand for any letters, capitals do not
    matter. `path`: of a document, or of a folder with all below it. `site`: its short name. `deleted_since`
    is about what is in the trashcan. At most `limit` are listed.
    """

    nodes: tuple[str, ...] = ()
    name: str = ""
    path: str = ""
    site: str = ""
    creator: str = ""
    modifier: str = ""
    changed_since: datetime | None = None
    deleted_since: datetime | None = None
    missing: bool = False
    limit: int = LIMIT

    @property
    def words(self) -> str:
        """What was asked for, for people."""
        given = {
            "node": ", ".join(self.nodes),
            "name": self.name,
            "path": self.path,
            "site": self.site,
            "creator": self.creator,
            "modifier": self.modifier,
            "changed since": self.changed_since.isoformat() if self.changed_since else "",
            "deleted since": self.deleted_since.isoformat() if self.deleted_since else "",
        }
        words = ", ".join(f"{name} {value}" for name, value in given.items() if value)
        return f"{words or 'all'}{', missing now' if self.missing else ''}"


def require_sensible(criteria: Criteria, as_of: datetime | Latest | str) -> None:
    """Raise SettingsError naming all that is wrong with what was asked for."""
    wrong = [f"node={uuid!r}: expected: a node id such as 12345678-..." for uuid in _no_uuids(criteria)]
    if criteria.path and not criteria.path.startswith("/"):
        wrong.append(f"path={criteria.path!r}: expected: a path from the root, such as {SITES}/hr")
    if criteria.path and criteria.site:
        wrong.append("site and path: expected: one of them")
    if "/" in criteria.site:
        wrong.append(f"site={criteria.site!r}: expected: the short name of a site")
    if criteria.limit < 1:
        wrong.append(f"limit={criteria.limit}: expected: 1 or more")
    if criteria.missing and as_of == LATEST:
        wrong.append("missing: expected with it: as of a target time or a backup ID, to compare now with")
    if criteria.deleted_since and as_of != LATEST:
        wrong.append("deleted since: expected: as of `latest`, since the trashcan of now is asked")
    if criteria == Criteria(limit=criteria.limit):
        wrong.append("no condition: expected: a name, path, site, node id, person, time, or `missing`")
    if wrong:
        raise SettingsError(wrong, program_command("documents", "find", "--help"), "argument")


def _no_uuids(criteria: "Criteria | RestoreOrder") -> list[str]:
    return [uuid for uuid in criteria.nodes if not UUID.fullmatch(uuid)]


@dataclass(frozen=True)
class RestoreOrder:
    """Which documents to restore: node ids, a folder's with all below it, at most `limit` in all.

    `versions`: their earlier versions, too.
    """

    nodes: tuple[str, ...]
    versions: bool = False
    limit: int = LIMIT


def require_sensible_order(order: RestoreOrder) -> None:
    """Raise SettingsError naming all that is wrong with what was asked for."""
    wrong = [f"node={uuid!r}: expected: a node id such as 12345678-..." for uuid in _no_uuids(order)]
    if not order.nodes:
        wrong.append("no node id: expected: one or more; `documents find` lists them")
    if order.limit < 1:
        wrong.append(f"limit={order.limit}: expected: 1 or more")
    if wrong:
        raise SettingsError(wrong, program_command("documents", "restore", "--help"), "argument")


def name_test(pattern: str) -> tuple[str, str]:
    """The operator of PostgreSQL, and its pattern, for a name pattern.

    ILIKE knows the capitals of other letters than a to z only where the database's locale does, which is
    often C. Those are given with both cases, and composed as well as decomposed (NFC, NFD).
    """
    composed = unicodedata.normalize("NFC", pattern)
    if composed.isascii():
        return "ILIKE", like_pattern(composed)
    stand_for = {"*": ".*", "?": "."}
    return "~*", f"^{''.join(stand_for.get(letter) or _any_case(letter) for letter in composed)}$"


def _any_case(letter: str) -> str:
    if letter.isascii():
        return re.escape(letter)
    cases = [case for case in (letter, letter.lower(), letter.upper()) if len(case) == 1]
    forms = [unicodedata.normalize(form, case) for form in ("NFC", "NFD") for case in cases]
    return f"(?:{'|'.join(dict.fromkeys(forms))})"


def like_pattern(pattern: str) -> str:
    """A name pattern as ILIKE takes it: `*` any letters, `?` one; everything else is meant as it stands."""
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return escaped.replace("*", "%").replace("?", "_")
