"""A document or folder as Alfresco's database describes it. Records only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

LIVE_STORE = "workspace://SpacesStore"
TRASHCAN = "archive://SpacesStore"
VERSION_STORE = "workspace://version2Store"


@dataclass(frozen=True)
class ContentFile:
    """The content of a node. `size` in bytes as Alfresco recorded it; `encrypted`: the file itself is."""

    url: str
    size: int
    mimetype: str = ""
    encoding: str = ""
    encrypted: bool = False

    def fits(self, size: int) -> bool:
        """Whether a file of that size can be it. Encrypted ones are larger; 0 is a size not recorded."""
        if self.encrypted:
            return size >= self.size
        return size == self.size or self.size <= 0


@dataclass(frozen=True)
class Node:
    """A document or folder at one time.

    `number` is alf_node.id, `uuid` alf_node.uuid, which Alfresco calls the node id. `path` is made of the
    names that people see, from the root of the store down to and with its own: /Company Home/Sites/... .
    `type` is a prefixed QName. Times are aware; None where the database has none.
    """

    number: int
    uuid: str
    name: str
    path: str
    type: str
    is_folder: bool = False
    store: str = LIVE_STORE
    content: ContentFile | None = None
    version_label: str = ""
    creator: str = ""
    created: datetime | None = None
    modifier: str = ""
    modified: datetime | None = None

    @property
    def in_trashcan(self) -> bool:
        return self.store == TRASHCAN

    @property
    def folder(self) -> str:
        """The path of the folder it is in."""
        return str(PurePosixPath(self.path).parent)


Value = str | int | float | bool | None | dict[str, str] | list["Value"]
"""A property's value as JSON has it; a multilingual text is a dict by locale, a list is a list."""


@dataclass(frozen=True)
class Property:
    """A property by its prefixed QName. `type` is Alfresco's name of its type: text, long, datetime"""

    name: str
    type: str
    value: Value


@dataclass(frozen=True)
class Permission:
    """What an authority may do. `inherited`: from a folder above; `allowed` is False where it is denied."""

    authority: str
    role: str
    allowed: bool
    inherited: bool


@dataclass(frozen=True)
class Version:
    """An earlier state of a document. Its content may be shared with the document's own."""

    label: str
    number: int
    comment: str
    modifier: str
    modified: datetime | None
    content: ContentFile | None


@dataclass(frozen=True)
class NodeDetails:
    """All that is exported of a node besides its content. `warnings`: what the tables could not tell."""

    node: Node
    properties: tuple[Property, ...] = ()
    aspects: tuple[str, ...] = ()
    permissions: tuple[Permission, ...] = ()
    inherits_permissions: bool = True
    versions: tuple[Version, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiveNode:
    """A node as Alfresco's REST API shows it. `folder`: the path of the folder it is in, as Node has it.

    Properties and aspects that Alfresco keeps to itself are not among those shown. `size` in bytes, None
    without content. `deleted_by_itself`: of a node in the trashcan; False for what was in a deleted folder.
    `inherits` and `local` are its permissions, those set on itself; `inherits` is None where they are not
    shown.
    """

    uuid: str
    name: str
    type: str
    is_folder: bool = False
    folder: str = ""
    size: int | None = None
    creator: str = ""
    aspects: frozenset[str] = frozenset()
    properties: Mapping[str, object] = field(default_factory=dict)
    deleted_by_itself: bool = False
    inherits: bool | None = None
    local: frozenset[tuple[str, str, bool]] = frozenset()
