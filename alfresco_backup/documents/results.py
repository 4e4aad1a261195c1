"""What a search found, for people and for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from alfresco_backup.documents.content import Place
from alfresco_backup.documents.nodes import Node
from alfresco_backup.errors import BackupError, DocumentsMissing
from alfresco_backup.pages import markdown_table, page
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people, size_for_people

Now = Literal["as then", "changed", "moved", "in the trashcan", "gone", "not known"]
SHOWN = 200


class Told(Protocol):
    """What a flow about documents returns: for people, for programs, and what it ended with all the same."""

    def text(self) -> str: ...

    def document(self) -> dict[str, Any]: ...

    def failure(self) -> BackupError | None: ...


@dataclass(frozen=True)
class Hit:
    """A document that fits; `now`: what became of it in the live database since."""

    node: Node
    place: Place
    now: Now


@dataclass(frozen=True)
class Findings:
    """The result of a search. `as_of` and `asked` in words; `more`: there are more than the limit."""

    asked: str
    as_of: str
    hits: tuple[Hit, ...]
    more: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """How many were found, of what, as of when."""
        gone = [hit.place for hit in self.hits if hit.place.kind == "lost"]
        unread = sum(place.unread for place in gone)
        elsewhere = sum(hit.place.kind == "elsewhere" for hit in self.hits)
        count = f"{'more than ' if self.more else ''}{len(self.hits)}"
        words = f"{count} found of {self.asked}, as of {self.as_of}"
        if len(gone) > unread:
            words += f"; the content of {len(gone) - unread} is lost"
        if elsewhere:
            words += f"; that of {elsewhere} is in a store that this host does not have"
        return f"{words}; that of {unread} is where it cannot be read, or lost" if unread else words

    def text(self) -> str:
        """A page of markdown, with a table of the first SHOWN."""
        parts: list[str | tuple[str, list[str]]] = [
            f"**{self.sentence}**",
            markdown_table([row_of(hit) for hit in self.hits[:SHOWN]]),
        ]
        if len(self.hits) > SHOWN:
            parts.append(f"{len(self.hits) - SHOWN:,} more; `--json` has all of them")
        if self.warnings:
            parts.append(("Warnings", list(self.warnings)))
        return page("Documents", *parts)

    def document(self) -> dict[str, Any]:
        """All that was found, for programs."""
        return {
            "as_of": self.as_of,
            "more": self.more,
            "warnings": list(self.warnings),
            "documents": [_document(hit) for hit in self.hits],
        }

    def failure(self) -> BackupError | None:
        """DocumentsMissing where nothing was found."""
        if self.hits:
            return None
        return DocumentsMissing(self.sentence, program_command("documents", "find", "--help"))


def judge_now(then: Node, now: Node | None) -> Now:
    """What became of a node since. One that has another path and content is changed; renamed is moved."""
    if now is None:
        return "gone"
    if now.in_trashcan and not then.in_trashcan:
        return "in the trashcan"
    if now.content != then.content:
        return "changed"
    if now.path != then.path:
        return "moved"
    return "as then" if now.modified == then.modified else "changed"


def row_of(hit: Hit) -> dict[str, str]:
    """A line of the table."""
    node = hit.node
    return {
        "node id": node.uuid,
        "size": size_for_people(node.content.size) if node.content else "",
        "version": node.version_label,
        "type": node.content.mimetype if node.content else "folder" if node.is_folder else node.type,
        "modified": for_people(node.modified) if node.modified else "",
        "by": node.modifier,
        "now": "in the trashcan" if node.in_trashcan else hit.now,
        "content": hit.place.words,
        "path": _printable(node.path),
    }


def _document(hit: Hit) -> dict[str, Any]:
    node, content = hit.node, hit.node.content
    return {
        "node": node.uuid,
        "name": node.name,
        "path": node.path,
        "type": node.type,
        "folder": node.is_folder,
        "version": node.version_label,
        "size": content.size if content else None,
        "mimetype": content.mimetype if content else "",
        "content_url": content.url if content else "",
        "creator": node.creator,
        "created": node.created.isoformat() if node.created else None,
        "modifier": node.modifier,
        "modified": node.modified.isoformat() if node.modified else None,
        "in_trashcan": node.in_trashcan,
        "now": hit.now,
        "content": hit.place.kind,
        "snapshot": hit.place.snapshot,
        "looked_at": list(hit.place.looked),
        "unread": hit.place.unread,
    }


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def make_hits(nodes: Sequence[Node], places: Sequence[Place], now: Sequence[Now]) -> tuple[Hit, ...]:
    return tuple(Hit(*row) for row in zip(nodes, places, now, strict=True))
