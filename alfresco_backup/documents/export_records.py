"""What an export is made of: safe names, the JSON beside each file, and what is told at its end. Pure.

A document keeps its name and folders. `NAME.json` beside it describes it, `NAME.versions/` has its earlier
versions. What no file system or shell can be trusted with gets another name, which is listed.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails, Version
from alfresco_backup.errors import BackupError, DocumentsMissing
from alfresco_backup.pages import page
from alfresco_backup.settings.commands import check_export_command, program_command

MANIFEST, LISTED, SUMS = "export.json", "documents.jsonl", "SHA1SUMS"
DESCRIPTION, VERSIONS = ".json", ".versions"
LONGEST = 255
SHOWN = 50
_NUMBERED = LONGEST - len(VERSIONS)
"""So that what is beside a numbered file has its number, too."""
_ENDING = 16
"""A longer ending is no ending."""
# Controls, separators of lines, halves of characters; and marks that turn the direction of a name around.
_UNSAFE_KINDS = frozenset({"Cc", "Zl", "Zp", "Cs"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe_name(name: str) -> str:
    """A name that is one component of a path and can be shown: other letters become `_`, too long is cut.

    A dot or space at the end becomes `_`: `.` and `..` too, and what Windows could not read from a share.
    """
    text = "".join("_" if _is_unsafe(letter) else letter for letter in name)
    return _without_end(_shortened(text, LONGEST))


def beside(name: str, ending: str) -> str:
    """The name of what belongs to a file: its name and that ending, cut in front of it where too long."""
    room = LONGEST - len(ending.encode())
    return (name if _length(name) <= room else _cut(name, room)) + ending


def _is_unsafe(letter: str) -> bool:
    return letter == "/" or letter in _TURNING or unicodedata.category(letter) in _UNSAFE_KINDS


def _without_end(text: str) -> str:
    kept = text.rstrip(". ")
    return kept + "_" * (len(text) - len(kept)) or "_"


def _shortened(name: str, room: int, mark: str = "") -> str:
    """A name with `mark` before its ending, at most so many bytes long."""
    stem, dot, ending = name.rpartition(".")
    if not stem or _length(ending) > _ENDING:
        stem, dot, ending = name, "", ""
    tail = f"{mark}{dot}{ending}"
    return name if not mark and _length(name) <= room else _cut(stem, room - _length(tail)) + tail


def _cut(text: str, room: int) -> str:
    return text.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Placed:
    """Where a node is written: its folder and name in the export."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        return _join(self.folder, self.name)

    @property
    def description(self) -> str:
        return _join(self.folder, beside(self.name, DESCRIPTION))

    @property
    def versions(self) -> str:
        return _join(self.folder, beside(self.name, VERSIONS))


class Names:
    """The names of an export: no two in a folder differ by capitals or the form of letters only.

    `changed`: the path in Alfresco and that in the export, of each that could not keep its name.
    """

    def __init__(self) -> None:
        self.changed: list[tuple[str, str]] = []
        self._taken: dict[str, set[str]] = {"": {_folded(each) for each in (MANIFEST, LISTED, SUMS)}}
        self._next: dict[tuple[str, str], int] = {}
        self._folders: dict[tuple[str, str], str] = {}
        self._described: set[str] = set()

    def place(self, node: Node) -> Placed:
        """Where a node comes: what has no content at the name of its folder, once."""
        parent, name = _split(node)
        folder = self._folder(parent)
        if node.content is None:
            known = Placed(folder, self._folder_name(folder, name, node.path))
            if known.path not in self._described:
                self._described.add(known.path)
                return known
        return Placed(folder, self._take(folder, name, node.path))

    def place_version(self, placed: Placed, version: Version) -> str:
        """The name of the file of an earlier version, in the folder `placed.versions`."""
        name = f"{version.label or version.number} {placed.name}"
        return self._take(placed.versions, name, "", endings=())

    def _folder(self, path: str) -> str:
        folder, walked = "", ""
        for name in path.split("/")[1:]:
            walked = f"{walked}/{name}"
            folder = _join(folder, self._folder_name(folder, name, walked))
        return folder

    def _folder_name(self, folder: str, name: str, path: str) -> str:
        if (folder, name) not in self._folders:
            self._folders[folder, name] = self._take(folder, name, path)
        return self._folders[folder, name]

    def _take(
        self, folder: str, wanted: str, path: str, endings: Sequence[str] = (DESCRIPTION, VERSIONS)
    ) -> str:
        safe = safe_name(wanted)
        taken = self._taken.setdefault(folder, set())
        key = (folder, _folded(safe))
        number = self._next.get(key, 1)
        while True:
            name = safe if number == 1 else _without_end(_shortened(safe, _NUMBERED, f" ({number})"))
            names = {_folded(name), *(_folded(beside(name, ending)) for ending in endings)}
            number += 1
            if not names & taken:
                break
        self._next[key] = number
        taken |= names
        if path and name != wanted:
            self.changed.append((path, _join(folder, name)))
        return name


def _split(node: Node) -> tuple[str, str]:
    """Folder and name of a node by its path; the name itself may have a slash."""
    if node.path.endswith(f"/{node.name}"):
        return node.path[: -len(node.name) - 1], node.name
    folder, _, name = node.path.rpartition("/")
    return folder, name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


ContentState = Literal["exported", "lost", "elsewhere", "none"]


@dataclass(frozen=True)
class Written:
    """What became of a content: `file` in the export, its checksum, where it came from.

    `compared`: with a checksum recorded when it was copied into a snapshot. `notes`: places that were
    refused or looked at in vain. `unread`: one of them could not be read, so that `lost` is not proven.
    """

    state: ContentState
    file: str = ""
    size: int = 0
    sha1: str = ""
    origin: str = ""
    compared: bool = False
    notes: tuple[str, ...] = ()
    unread: bool = False

    def document(self, content: ContentFile | None) -> dict[str, Any] | None:
        if content is None:
            return None
        return {
            "url": content.url,
            "size": content.size,
            "mimetype": content.mimetype,
            "encoding": content.encoding,
            "encrypted": content.encrypted,
            "state": self.state,
            "file": self.file.rpartition("/")[2] or None,
            "written_bytes": self.size if self.file else None,
            "sha1": self.sha1 or None,
            "from": self.origin or None,
            "compared_with_recorded_checksum": self.compared,
            "notes": list(self.notes),
            "unread": self.unread,
        }


def describe(
    details: NodeDetails, written: Written, versions: Sequence[tuple[Version, Written | None]]
) -> dict[str, Any]:
    """The JSON beside a file: all that is known of its node. A version without Written was not exported."""
    node = details.node
    return {
        "node": node.uuid,
        "store": node.store,
        "name": node.name,
        "path": node.path,
        "type": node.type,
        "folder": node.is_folder,
        "version": node.version_label,
        "creator": node.creator,
        "created": node.created.isoformat() if node.created else None,
        "modifier": node.modifier,
        "modified": node.modified.isoformat() if node.modified else None,
        "content": written.document(node.content),
        "aspects": list(details.aspects),
        "properties": {one.name: {"type": one.type, "value": one.value} for one in details.properties},
        "permissions": {
            "inherits": details.inherits_permissions,
            "entries": [
                {
                    "authority": one.authority,
                    "role": one.role,
                    "allowed": one.allowed,
                    "inherited": one.inherited,
                }
                for one in details.permissions
            ],
        },
        "versions": [_version(*one) for one in versions],
        "warnings": list(details.warnings),
    }


def json_text(document: dict[str, Any]) -> str:
    """A description as text: a line a field, and a line a property.

    `json` itself, asked to indent, is ten times slower: it would take longer than copying the file.
    """
    lines = []
    for name, value in document.items():
        text = _encode(value)
        if name == "properties" and value:
            inner = ",\n".join(f"  {_encode(key)}: {_property_text(one)}" for key, one in value.items())
            text = f"{{\n{inner}\n }}"
        lines.append(f" {_encode(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _property_text(one: dict[str, Any]) -> str:
    """Most values are texts: each alone is encoded at once, a dict takes ten times as long."""
    return f'{{"type": {_encode(one["type"])}, "value": {_encode(one["value"])}}}'


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _version(version: Version, written: Written | None) -> dict[str, Any]:
    return {
        "version": version.label,
        "comment": version.comment,
        "modifier": version.modifier,
        "modified": version.modified.isoformat() if version.modified else None,
        "content": (written or Written("none")).document(version.content),
        "exported": written is not None and written.state == "exported",
    }


@dataclass
class Tally:
    """What was written so far."""

    documents: int = 0
    exported: int = 0
    compared: int = 0
    without_content: int = 0
    folders: int = 0
    encrypted: int = 0
    bytes: int = 0
    versions: int = 0
    versions_exported: int = 0
    lost: list[str] = field(default_factory=list)
    unread: int = 0
    """How many of them may be where it cannot be read."""
    refused: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    """Contents of other properties than cm:content, which are not exported."""
    warnings: dict[str, None] = field(default_factory=dict)

    def add(self, details: NodeDetails, written: Written) -> None:
        node = details.node
        self.warnings |= dict.fromkeys(details.warnings)
        if node.is_folder:
            self.folders += 1
            return
        self.documents += 1
        others = [
            one.name for one in details.properties if one.type == "content" and one.name != "cm:content"
        ]
        self.further += [f"{node.path}: {name}" for name in others]
        self.without_content += written.state == "none" and not others
        self.exported += written.state == "exported"
        self._note(node.path, node.content, written)

    def add_version(self, node: Node, version: Version, written: Written) -> None:
        self.versions += written.state != "none"
        self.versions_exported += written.state == "exported"
        self._note(f"{node.path}, version {version.label}", version.content, written)

    def _note(self, path: str, content: ContentFile | None, written: Written) -> None:
        self.compared += written.compared
        self.bytes += written.size
        if written.state == "exported":
            self.encrypted += bool(content and content.encrypted)
            self.refused += [f"{path}: {note}" for note in written.notes]
        elif written.state in ("lost", "elsewhere"):
            self.lost.append(f"{path}: {'; '.join(written.notes)}")
            self.unread += written.unread


@dataclass(frozen=True)
class Exported:
    """The result of an export. `not_found`: node ids that there were none of as of that time.

    `identity`: device and inode of the folder, by which it is known again.
    """

    host: str
    as_of: str
    asked: tuple[str, ...]
    asked_by: dict[str, str]
    folder: Path
    tally: Tally
    renamed: tuple[tuple[str, str], ...] = ()
    not_found: tuple[str, ...] = ()
    identity: tuple[int, int] | None = None

    @property
    def sentence(self) -> str:
        """How many of how many, how many of them compared, what is missing; as of when."""
        tally = self.tally
        words = [f"{tally.exported} of {tally.documents} documents exported"]
        if tally.versions:
            words.append(f"{tally.versions_exported} of {tally.versions} earlier versions")
        words.append(f"{tally.compared} compared with recorded checksums")
        words += [f"{tally.without_content} without content in Alfresco"] if tally.without_content else []
        words += [f"{tally.folders} folder{'s' * (tally.folders > 1)}"] if tally.folders else []
        words += [f"{tally.encrypted} encrypted as in the store"] if tally.encrypted else []
        if tally.further:
            words.append(f"{len(tally.further)} contents of other properties not: {_some(tally.further)}")
        if tally.lost:
            unread = f", {tally.unread} of them where it cannot be read, or lost" if tally.unread else ""
            words.append(
                f"{len(tally.lost)} {'not found' if unread else 'lost'}{unread}: {_some(tally.lost)}"
            )
        words += [f"{len(self.not_found)} not found: {_some(self.not_found)}"] if self.not_found else []
        return f"{', '.join(words)}; as of {self.as_of}"

    def text(self) -> str:
        """A page of markdown."""
        tally = self.tally
        renamed = [f"`{_printable(path)}` is `{written}`" for path, written in self.renamed]
        return page(
            "Export",
            f"**{_printable(self.sentence)}**",
            f"Folder: `{self.folder}`",
            f"Check it at any time: `{check_export_command(self.folder)}`" if tally.exported else "",
            ("Lost", _listed([_printable(line) for line in tally.lost])),
            (
                "Contents of other properties, not exported",
                _listed([_printable(one) for one in tally.further]),
            ),
            ("Copies that were not taken", _listed([_printable(line) for line in tally.refused])),
            ("Names made safe", _listed(renamed)),
            ("Warnings", list(tally.warnings)),
        )

    def document(self) -> dict[str, Any]:
        """The same for programs, and in the manifest."""
        tally = self.tally
        return {
            "as_of": self.as_of,
            "asked": list(self.asked),
            "asked_by": self.asked_by,
            "folder": str(self.folder),
            "documents": tally.documents,
            "exported": tally.exported,
            "compared": tally.compared,
            "without_content": tally.without_content,
            "folders": tally.folders,
            "encrypted": tally.encrypted,
            "bytes": tally.bytes,
            "versions": tally.versions,
            "versions_exported": tally.versions_exported,
            "lost": tally.lost,
            "of_these_unread": tally.unread,
            "further_contents": tally.further,
            "not_found": list(self.not_found),
            "not_taken": tally.refused,
            "renamed": [{"path": path, "written": written} for path, written in self.renamed],
            "warnings": list(tally.warnings),
        }

    def failure(self) -> BackupError | None:
        """DocumentsMissing where something asked for is lost, or there was none such."""
        if not self.tally.lost and not self.not_found:
            return None
        return DocumentsMissing(self.sentence, program_command("documents", "find", "--help"))


def _some(lines: Sequence[str]) -> str:
    return ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def _listed(lines: Sequence[str]) -> list[str]:
    more = [f"{len(lines) - SHOWN:,} more; {MANIFEST} has all"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
