"""A library as Alfresco keeps it: sites, folders, documents, versions, permissions and a trashcan.

Written to the database transaction by transaction, with content files in the store; after each commit is
remembered what every document is, so that a test can say what any time must give back.
"""

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from alfresco_backup.documents.nodes import LIVE_STORE, TRASHCAN, VERSION_STORE, NodeDetails, Version
from demo.cluster import Cluster
from demo.documents import Document, is_stored, new_url, random_size, write_document
from demo.library_rows import Given, Item, LibraryRows
from demo.state import DATABASE

USERS = ("admin", "anna", "björn", "O'Neill")
ROLES = ("Consumer", "Contributor", "Collaborator", "Coordinator")
MIMETYPES = ("text/plain", "application/pdf", "image/png", "application/vnd.oasis.opendocument.text")
ENCODINGS = ("UTF-8", "ISO-8859-1")
ODD_NAMES = (
    'Bob\'s "plan".txt',
    "back\\slash.txt",
    "Ratio 1:2.txt",
    "$(touch x); `id` & | ~ %41 $HOME.txt",
    ".hidden",
    " leading space.txt",
    "-rf",
    "tab\there.txt",
    "_x0041_ encoded.txt",
    "U\u0308bersicht NFD.txt",
    "\u00dcbersicht NFC.txt",
    "\U0001f4c4 emoji \U0001f600.txt",
    "line\u2028separator\x85.txt",
    "\u0645\u0644\u0641.txt",
    "con.txt",
    "100%_done?.txt",
    "n" * 251 + ".txt",
    "\u00e9" * 200,
)
"""Alfresco's own check refuses some of them (`"*\\><?/:|`, a dot or space at the end); imports bring them."""


@dataclass(frozen=True)
class LibraryCommit:
    """One transaction. `changed`: documents and folders by node id as they are now; None: gone for good."""

    number: int
    committed_at: datetime
    earliest: datetime
    what: str
    changed: Mapping[str, NodeDetails | None]


@dataclass
class Library:
    """Writes to one database and one store. What exists is named by its node id (alf_node.uuid)."""

    cluster: Cluster
    store: Path
    seed: int = 1
    database: str = DATABASE
    commits: list[LibraryCommit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)
        self.items: dict[str, Item] = {}
        self._touched: dict[str, Item | None] = {}
        self._rows = LibraryRows(self.cluster, self.database, self.source)
        self._found()

    @property
    def company_home(self) -> str:
        return self._named("Company Home")

    @property
    def sites(self) -> str:
        return self._named("Sites")

    def make_site(self, short: str, title: str = "", *, private: bool = False) -> str:
        """A site with its document library; the node id of the library."""
        with self._transaction(f"site {short}"):
            properties = {
                "cm:title": ("mltext", {"en": title or short}),
                "st:siteVisibility": _visibility(private),
            }
            site = self._make(self._item(self.sites), short, "st:site", properties, ("cm:tagscope",))
            site.own = [(f"GROUP_site_{short}_SiteManager", "SiteManager", True)]
            site.own += [(f"GROUP_site_{short}_SiteConsumer", "SiteConsumer", True)]
            site.inherits = not private
            self._rows.write_permissions(site)
            library = self._make(site, "documentLibrary", "cm:folder", aspects=("st:siteContainer",))
            return library.uuid

    def make_folder(self, parent: str, name: str, properties: Mapping[str, Given] | None = None) -> str:
        with self._transaction(f"folder {name}"):
            return self._make(self._item(parent), name, "cm:folder", properties).uuid

    def add(  # noqa: PLR0913 - what a document may have
        self,
        parent: str,
        name: str,
        *,
        size: int | None = None,
        properties: Mapping[str, Given] | None = None,
        aspects: Sequence[str] = (),
        versioned: bool = True,
        encrypted: bool = False,
        url: str = "",
        empty: bool = False,
    ) -> str:
        """A document. `url` instead of a file of its own; `empty`: without a content property."""
        with self._transaction(f"add {name}"):
            item = self._make(self._item(parent), name, "cm:content", properties, aspects)
            if not empty:
                bytes_wanted = random_size(self.source) if size is None else size
                coded = encrypted and self._rows.can_encrypt
                self._write_content(item, Document(url or self._new_url(), bytes_wanted, encrypted=coded))
            if versioned and not empty:
                item.aspects.add("cm:versionable")
                self._rows.write_aspects(item)
                self._new_version(item, "Initial version")
            return item.uuid

    def add_odd(self, parent: str) -> list[str]:
        """A document of every odd kind: names, types of properties, content."""
        made = [self.add(parent, name) for name in ODD_NAMES]
        made += [
            self.add(parent, "typed.txt", properties=every_type(), aspects=("cm:titled", "cm:geographic"))
        ]
        made += [self.add(parent, "null.txt", properties=dict.fromkeys(every_type(), ("any", None)))]
        made += [self.add(parent, "encrypted.pdf", encrypted=True)]
        made += [self.add(parent, "spoofed.txt", url=f"spoof://{{seed={self.seed},locale=en}}")]
        made += [self.add(parent, "no content", empty=True), self.add(parent, "zero.txt", size=0)]
        made += [self.add(parent, "unversioned.txt", versioned=False)]
        return made

    def update(self, node: str, comment: str = "") -> None:
        """New content, as a new version where the document has versions."""
        item = self._item(node)
        with self._transaction(f"update {item.name}"):
            self._write_content(item, Document(self._new_url(), random_size(self.source)))
            self._modify(item)
            if item.versions:
                self._new_version(item, comment)

    def overwrite(self, node: str) -> None:
        """New content without a new version: what was there before has no row any more."""
        item = self._item(node)
        with self._transaction(f"overwrite {item.name}"):
            self._write_content(item, Document(self._new_url(), random_size(self.source)))
            self._modify(item)

    def set_properties(self, node: str, properties: Mapping[str, Given]) -> None:
        item = self._item(node)
        with self._transaction(f"properties of {item.name}"):
            self._rows.write_properties(item, properties)
            self._modify(item)

    def rename(self, node: str, name: str) -> None:
        """A new cm:name. The name of the association follows or not, as in Alfresco, by what renames."""
        item = self._item(node)
        with self._transaction(f"rename {item.name} to {name}"):
            item.name = name
            self._rows.write_properties(item, {"cm:name": ("text", name)})
            self._rows.attach(item, keep_association=self.source.random() < 0.5)
            self._modify(item)
            self._touch(*item.below())

    def move(self, node: str, parent: str) -> None:
        item, target = self._item(node), self._item(parent)
        with self._transaction(f"move {item.name}"):
            item.move_to(target)
            self._rows.attach(item)
            self._rows.write_permissions(item)
            self._modify(item)
            self._touch(*item.below())

    def delete(self, node: str) -> None:
        """To the trashcan, with all below: new rows in archive://SpacesStore under the same node ids."""
        item = self._item(node)
        with self._transaction(f"delete {item.name}"):
            origin = self._rows.association(item)
            owner = item.properties.get("cm:owner", ("text", ""))
            item.before = (item.parent, item.inherits)
            self._transfer(item, TRASHCAN)
            archived: dict[str, Given] = {
                "sys:archivedBy": ("text", self.source.choice(USERS)),
                "sys:archivedDate": ("datetime", _text(datetime.now(UTC))),
                "sys:archivedOriginalParentAssoc": ("childassocref", origin),
                "sys:archivedOriginalOwner": owner,
                "cm:owner": ("text", self.source.choice(USERS)),
            }
            self._rows.write_properties(item, archived)
            item.aspects |= {"sys:archived", "cm:ownable"}
            self._rows.write_aspects(item)
            item.inherits = False
            self._rows.write_permissions(item)

    def undelete(self, node: str, parent: str = "") -> None:
        """Out of the trashcan, to its old folder or to another."""
        item = self._item(node)
        with self._transaction(f"undelete {item.name}"):
            former, inherits = item.before or (None, True)
            self._transfer(item, LIVE_STORE, self._item(parent) if parent else former)
            self._rows.remove_properties(
                item, [name for name in item.properties if name.startswith("sys:arch")]
            )
            item.aspects -= {"sys:archived"}
            self._rows.write_aspects(item)
            item.inherits, item.before = inherits, None
            self._rows.write_permissions(item)

    def purge(self, node: str) -> None:
        """Out of the trashcan for good, with all below and their versions. Files stay: orphans."""
        item = self._item(node)
        with self._transaction(f"purge {item.name}"):
            for each in (*reversed(item.below()), item):
                self._rows.remove_versions(each)
                self._rows.remove(each)
                del self.items[each.uuid]
                each.gone = True
                self._touched[each.uuid] = None
            item.detach()

    def set_permission(
        self, node: str, authority: str, role: str, *, allowed: bool = True, inherits: bool | None = None
    ) -> None:
        """Grant or deny a role; `inherits` turns the inheritance of the node on or off."""
        item = self._item(node)
        with self._transaction(f"permission on {item.name}"):
            if (authority, role, allowed) not in item.own:
                item.own.append((authority, role, allowed))
            item.inherits = item.inherits if inherits is None else inherits
            self._rows.write_permissions(item)
            self._touch(item, *item.below())

    def work(self, transactions: int) -> None:
        """Transactions as on a working host, one after the other."""
        for _ in range(transactions):
            self.one()

    def one(self) -> None:
        """One transaction of the mix: uploads, versions, overwrites, renames, moves, deletions and more."""
        documents = [one for one in self.items.values() if not one.folder and one.store == LIVE_STORE]
        folders = [one for one in self.items.values() if one.type == "cm:folder" and one.store == LIVE_STORE]
        trash = [one for one in self.items.values() if one.before and one.store == TRASHCAN]
        kinds = (
            "add",
            "update",
            "overwrite",
            "rename",
            "move",
            "delete",
            "permit",
            "undelete",
            "purge",
            "folder",
        )
        (kind,) = self.source.choices(kinds, (30, 12, 8, 8, 8, 14, 5, 3, 3, 4))
        folder = self.source.choice(folders).uuid if folders else self.company_home
        if len(documents) < 5 or kind == "add":
            self.add(folder, f"{self.source.choice(('report', 'Plan', 'ünit'))} {len(self.commits)}.txt")
        elif kind == "folder":
            self.make_folder(folder, f"folder {len(self.commits)}")
        elif kind in ("undelete", "purge"):
            self._one_of_the_trash(kind, trash, folder)
        else:
            self._one_of(kind, self.source.choice(documents), folder)

    def state_at(self, moment: datetime) -> dict[str, NodeDetails]:
        """Every document and folder by node id as committed by `moment`, that included; trashcan too."""
        state: dict[str, NodeDetails] = {}
        for commit in self.commits:
            if commit.committed_at > moment:
                break
            for node, details in commit.changed.items():
                if details is None:
                    state.pop(node, None)
                else:
                    state[node] = details
        return state

    def state(self) -> dict[str, NodeDetails]:
        """As it is now."""
        return self.state_at(self.commits[-1].committed_at)

    def close(self) -> None:
        """Leave the database; the next transaction connects again."""
        self._rows.close()

    def _found(self) -> None:
        """The stores' roots, Company Home and what is in it from the beginning."""
        with self._transaction("a new repository"):
            roots = {store: self._root(store) for store in (LIVE_STORE, TRASHCAN, VERSION_STORE)}
            self._rows.roots = roots
            root = roots[LIVE_STORE]
            root.own = [("GROUP_EVERYONE", "Read", True)]
            self._rows.write_permissions(root)
            home = self._make(
                root, "Company Home", "cm:folder", aspects=("app:uifacets",), local="app:company_home"
            )
            home.own = [("GROUP_EVERYONE", "Consumer", True)]
            self._rows.write_permissions(home)
            self._make(home, "Data Dictionary", "cm:folder", local="app:dictionary")
            self._make(home, "User Homes", "cm:folder", local="app:user_homes")
            self._make(home, "Sites", "st:sites", local="st:sites")
            system = self._make(root, "", "sys:container", local="sys:system")
            self._make(system, "", "sys:container", local="sys:people")

    def _root(self, store: str) -> Item:
        item = Item(self._rows.number(), self._new_uuid(), None, "", "sys:store_root", store, folder=True)
        self._rows.write_node(item)
        return item

    def _make(
        self,
        parent: Item,
        name: str,
        kind: str,
        properties: Mapping[str, Given] | None = None,
        aspects: Sequence[str] = (),
        local: str = "",
    ) -> Item:
        item = Item(
            self._rows.number(), self._new_uuid(), parent, name, kind, parent.store, kind != "cm:content"
        )
        parent.children.append(item)
        item.creator = item.modifier = self.source.choice(USERS)
        item.created = item.modified = self._now()
        item.association_name = local
        item.aspects = {"cm:auditable", "sys:referenceable", "sys:localized", *aspects}
        self._rows.write_node(item)
        self._rows.attach(item)
        given = dict(properties or {})
        self._rows.write_properties(item, {"cm:name": ("text", name), **given} if name else given)
        self._rows.write_aspects(item)
        self._rows.write_permissions(item)
        self.items[item.uuid] = item
        self._touch(item)
        return item

    def _write_content(self, item: Item, document: Document) -> None:
        """The file, then the rows."""
        if is_stored(document.url):
            write_document(self.store, document)
        item.mimetype, item.encoding = self.source.choice(MIMETYPES), self.source.choice(ENCODINGS)
        self._rows.write_content(item, document)
        self._touch(item)

    def _new_version(self, item: Item, comment: str) -> None:
        label = f"1.{len(item.versions)}"
        kind = "MINOR" if item.versions else "MAJOR"
        self._rows.write_properties(
            item, {"cm:versionLabel": ("text", label), "cm:versionType": ("text", kind)}
        )
        number = self._rows.write_version(item, label, comment)
        assert item.document
        version = Version(label, number, comment, item.modifier, item.modified, item.content_file())
        item.versions.append(version)
        self._touch(item)

    def _modify(self, item: Item) -> None:
        item.modifier, item.modified = self.source.choice(USERS), self._now()
        self._rows.update_node(item)
        self._touch(item)

    def _transfer(self, item: Item, store: str, parent: Item | None = None) -> None:
        """To another store: new rows, the old ones gone, and for each a node that says so (sys:deleted)."""
        nodes = [item, *item.below()]
        for each in reversed(nodes):
            self._rows.remove(each)
        item.move_to(parent or self._rows.roots[store])
        for each in nodes:
            each.store, each.number = store, self._rows.number()
            self._rows.write_again(each)
        self._touch(*nodes)

    def _one_of(self, kind: str, item: Item, folder: str) -> None:
        if kind == "rename":
            self.rename(item.uuid, f"renamed {len(self.commits)}.txt")
        elif kind == "move":
            self.move(item.uuid, folder)
        elif kind == "permit":
            self.set_permission(item.uuid, self.source.choice(USERS), self.source.choice(ROLES))
        elif kind == "update":
            self.update(item.uuid, f"change {len(self.commits)}")
        elif kind == "overwrite":
            self.overwrite(item.uuid)
        else:
            self.delete(item.uuid)

    def _one_of_the_trash(self, kind: str, trash: Sequence[Item], folder: str) -> None:
        if not trash:
            self.add(folder, f"instead {len(self.commits)}.txt")
        elif kind == "purge":
            self.purge(self.source.choice(trash).uuid)
        else:
            self.undelete(self.source.choice(trash).uuid, folder)

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        self._touched = {}
        self._rows.begin()
        yield
        committed = self._rows.commit()
        self._touch_deleted()
        changed = {node: item.details() if item else None for node, item in self._touched.items()}
        self.commits.append(
            LibraryCommit(len(self.commits) + 1, committed.committed_at, committed.earliest, what, changed)
        )

    def _touch(self, *items: Item) -> None:
        self._touched |= {item.uuid: item for item in items if item.name}

    def _touch_deleted(self) -> None:
        """What was deleted out of a folder has its path by it, and so on."""
        known = -1
        while known != len(self._touched):
            known = len(self._touched)
            for item in self.items.values():
                former = item.before[0] if item.before else None
                if former and former.uuid in self._touched:
                    self._touch(item, *item.below())

    def _item(self, node: str) -> Item:
        return self.items[node]

    def _named(self, name: str) -> str:
        return next(item.uuid for item in self.items.values() if item.name == name)

    def _new_uuid(self) -> str:
        return str(uuid.UUID(int=self.source.getrandbits(128), version=4))

    def _new_url(self) -> str:
        return new_url(datetime.now(UTC), self.source)

    def _now(self) -> datetime:
        """With milliseconds, as Alfresco writes it; older releases in the server's time zone."""
        zone = self.source.choice((UTC, timezone(timedelta(hours=1))))
        now = datetime.now(zone)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


def every_type() -> dict[str, Given]:
    """A property of each type that Alfresco knows, in its model or not."""
    node = f"{LIVE_STORE}/0e9b2f0c-1111-4222-8333-123456789abc"
    own = "{http://example.com/model/own/1.0}"
    return {
        "cm:title": ("mltext", {"en": "A title", "de": "Ein Titel", "fr_CA": 'L\'été à "Québec"\t\\N\n'}),
        "cm:description": ("mltext", {".default": "in no language", "pt_BR": "em português"}),
        "cm:author": ("text", ""),
        "cm:summary": ("text", "é\U0001f600\0" + "x" * 3000),
        "cm:latitude": ("double", -0.1),
        "cm:longitude": ("double", 1.7976931348623157e308),
        "cm:altitude": ("float", 1.1),
        "cm:hits": ("int", -2147483648),
        "cm:counter": ("long", 9223372036854775807),
        "cm:endless": ("double", "Infinity"),
        "cm:none": ("float", "NaN"),
        "cm:from": ("date", "2026-11-22T00:00:00.000Z"),
        "cm:to": ("datetime", "2026-11-22T10:11:12.345+01:00"),
        "cm:isActive": ("boolean", True),
        "cm:isHidden": ("boolean", False),
        "cm:kind": ("qname", "cm:content"),
        "cm:ownKind": ("qname", f"{own}kind"),
        "cm:related": ("noderef", node),
        "cm:categories": ("category", [node, node.replace("0e9b", "1e9b")]),
        "cm:taggable": ("category", [node]),
        "cm:language": ("locale", "en_US_"),
        "cm:every": ("period", "day|1"),
        "cm:parentAssoc": ("childassocref", f"{node}|{node}|{{a}}b|{{a}}c|true|-1"),
        "cm:numbers": ("long", [3, 1, 2]),
        "cm:words": ("text", ["one", "", "tab\there", None, "back\\slash"]),
        "cm:titles": ("mltext", [{"en": "one"}, {"en": "two", "de": "zwei"}]),
        "cm:nothing": ("any", []),
        "cm:object": ("any", "rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA=="),
        "cm:secret": ("encrypted", "rO0ABXNyABlqYXZheC5jcnlwdG8uU2VhbGVkT2JqZWN0"),
        f"{own}colour": ("text", "none of Alfresco's models"),
        f"{own}weight": ("float", 12345.679),
    }


def _visibility(private: bool) -> Given:
    return "text", "PRIVATE" if private else "PUBLIC"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def content_of(details: NodeDetails) -> bytes:
    """The bytes of the document's file, as they are on disk."""
    content = details.node.content
    assert content
    return Document(content.url, content.size, encrypted=content.encrypted).content()
