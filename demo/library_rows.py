"""The rows that Alfresco writes for a library's nodes: as its DAOs do, in statements of one transaction."""

import base64
import random
import struct
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from alfresco_backup.documents.nodes import (
    LIVE_STORE,
    TRASHCAN,
    VERSION_STORE,
    ContentFile,
    Node,
    NodeDetails,
    Permission,
    Property,
    Value,
    Version,
)
from alfresco_backup.documents.qnames import PREFIXES
from alfresco_backup.documents.search import GONE_FOLDER
from demo.cluster import Cluster
from demo.documents import Document, url_key
from demo.rows import LIBRARY_FIRST
from demo.session import CommitTime, Session

Given = tuple[str, Value]
"""A property's type by Alfresco's name, and its value."""

URIS = {prefix: uri for uri, prefix in PREFIXES.items()}
TYPES = {
    "boolean": (1, 1, "boolean_value"),
    "int": (2, 3, "long_value"),
    "long": (3, 3, "long_value"),
    "float": (4, 4, "float_value"),
    "double": (5, 5, "double_value"),
    "text": (6, 6, "string_value"),
    "mltext": (6, 6, "string_value"),
    "date": (7, 6, "string_value"),
    "datetime": (7, 6, "string_value"),
    "any": (9, 9, "serializable_value"),
    "noderef": (12, 6, "string_value"),
    "category": (12, 6, "string_value"),
    "childassocref": (13, 6, "string_value"),
    "qname": (15, 6, "string_value"),
    "locale": (17, 6, "string_value"),
    "period": (20, 6, "string_value"),
    "content": (21, 3, "long_value"),
    "encrypted": (22, 9, "serializable_value"),
}
"""actual_type_n, persisted_type_n and the column of a type (NodePropertyValue)."""

SHOWN_AS = {"date": "datetime", "category": "noderef"}
LONGEST_TEXT = 1024
DEFINING, SHARED = 1, 2
EMPTY_LIST = (
    b"\xac\xed\x00\x05sr\x00\x1fjava.util.Collections$EmptyListz\xb8\x17\xb4<\xa7\x9e\xde\x02\x00\x00xp"
)


@dataclass
class Item:
    """A node of a library. `before`: its parent and whether it inherited, before it was deleted."""

    number: int
    uuid: str
    parent: "Item | None"
    name: str
    type: str
    store: str
    folder: bool
    children: list["Item"] = field(default_factory=list)
    properties: dict[str, Given] = field(default_factory=dict)
    aspects: set[str] = field(default_factory=set)
    own: list[tuple[str, str, bool]] = field(default_factory=list)
    inherits: bool = True
    versions: list[Version] = field(default_factory=list)
    document: Document | None = None
    mimetype: str = ""
    encoding: str = ""
    creator: str = ""
    created: datetime | None = None
    modifier: str = ""
    modified: datetime | None = None
    association_name: str = ""
    before: "tuple[Item | None, bool] | None" = None
    acl: int | None = None
    shared_acl: int | None = None
    url_number: int = 0
    gone: bool = False

    def below(self) -> list["Item"]:
        """All that is in it, folders before what is in them."""
        return [each for child in self.children for each in (child, *child.below())]

    def move_to(self, parent: "Item") -> None:
        self.detach()
        self.parent = parent
        parent.children.append(self)

    def detach(self) -> None:
        if self.parent:
            self.parent.children.remove(self)

    @property
    def path(self) -> str:
        """By names from the root; of what was deleted the path that it had."""
        if self.gone:
            return GONE_FOLDER
        folder = self.before[0] if self.before else self.parent
        if folder is None:
            return ""
        return f"{folder.path}/{self.name or self.association_name.partition(':')[2]}"

    def granted(self) -> list[tuple[str, str, bool, int]]:
        """What is granted on it, with how far up it comes from."""
        own = [(*each, 0) for each in self.own]
        if not (self.inherits and self.parent):
            return own
        return own + [(who, what, allowed, up + 1) for who, what, allowed, up in self.parent.granted()]

    def content_file(self) -> ContentFile | None:
        one = self.document
        return ContentFile(one.url, one.size, self.mimetype, self.encoding, one.encrypted) if one else None

    def details(self) -> NodeDetails:
        permissions = {
            Permission(who, what, allowed, inherited=up > 0) for who, what, allowed, up in self.granted()
        }
        shown = [Property(name, *_shown(*given)) for name, given in self.properties.items()]
        return NodeDetails(
            node=self.node(),
            properties=tuple(sorted(shown, key=lambda one: one.name)),
            aspects=tuple(sorted(self.aspects)),
            permissions=tuple(
                sorted(permissions, key=lambda p: (p.inherited, p.authority, p.role, p.allowed))
            ),
            inherits_permissions=self.inherits,
            versions=tuple(self.versions),
        )

    def node(self) -> Node:
        label = self.properties.get("cm:versionLabel", ("text", ""))[1]
        return Node(
            number=self.number,
            uuid=self.uuid,
            name=self.name or self.association_name.partition(":")[2],
            path=self.path,
            type=self.type,
            is_folder=self.folder,
            store=self.store,
            content=self.content_file(),
            version_label=str(label),
            creator=self.creator,
            created=self.created,
            modifier=self.modifier,
            modified=self.modified,
        )


class LibraryRows:
    """Makes the statements of a transaction and runs them. Names are looked up once, made where absent."""

    def __init__(self, cluster: Cluster, database: str, source: random.Random) -> None:
        self.cluster, self.database, self.source = cluster, database, source
        self.roots: dict[str, Item] = {}
        self.transaction = 0
        self._session: Session | None = None
        self._statements: list[str] = []
        self._known: dict[tuple[object, ...], int] = {}
        self._history: dict[str, int] = {}
        self._traces: dict[tuple[int, str], int] = {}
        self._content: dict[int, int] = {}
        self._last = LIBRARY_FIRST
        ((there,),) = cluster.sql("SELECT to_regclass('alf_content_url_encryption') IS NOT NULL", database)
        self.can_encrypt = there == "t"  # from 5.1
        for table in ("alf_node", "alf_transaction", "alf_qname"):
            ((highest,),) = cluster.sql(f"SELECT coalesce(max(id), 0) FROM {table}", database)
            self._last = max(self._last, int(highest))

    def number(self) -> int:
        self._last += 1
        return self._last

    def begin(self) -> None:
        self._statements = []
        self.transaction = self.number()
        now = int(datetime.now(UTC).timestamp() * 1000)
        name = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
        self._insert(
            "alf_transaction", id=self.transaction, version=1, change_txn_id=name, commit_time_ms=now
        )

    def commit(self) -> CommitTime:
        self._session = self._session or Session(self.cluster, self.database)
        return self._session.commit(self._statements)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def qname(self, name: str) -> int:
        """The number of `cm:name` or `{uri}name`, made where there is none."""
        uri, local = full_name(name)
        namespace = self._get("alf_namespace", uri=uri)
        return self._get("alf_qname", ns_id=namespace, local_name=local)

    def write_node(self, item: Item) -> None:
        protocol, _, identifier = item.store.partition("://")
        store = self._get("alf_store", protocol=protocol, identifier=identifier)
        trace = self._traces.pop((store, item.uuid), None)
        if trace is not None:
            self._remove_node(trace)
        self._insert_node(item.number, item.uuid, store, item.type, item)
        if item.parent is None:
            self._say(f"UPDATE alf_store SET root_node_id = {item.number} WHERE id = {store};")

    def update_node(self, item: Item) -> None:
        self._say(
            f"UPDATE alf_node SET version = version + 1, transaction_id = {self.transaction}, "
            f"audit_modifier = {_sql(item.modifier)}, audit_modified = {_sql(_time(item.modified))} "
            f"WHERE id = {item.number};"
        )

    def attach(self, item: Item, *, keep_association: bool = False) -> None:
        """The primary association. Its child name makes names unique: lower case, at most 50 characters."""
        assert item.parent
        if not keep_association and item.name and not item.association_name.startswith("app:"):
            item.association_name = f"cm:{item.name[:100]}"
        trash = item.parent is self.roots.get(TRASHCAN)
        contained = item.name and item.parent.parent is not None and not trash
        kind, child = ("cm:contains", item.name.lower()) if contained else ("sys:children", "")
        self._say(f"DELETE FROM alf_child_assoc WHERE child_node_id = {item.number} AND is_primary;")
        name = "sys:archivedItem" if trash else item.association_name
        self._associate(item.parent.number, item.number, kind, name, child)

    def association(self, item: Item) -> str:
        """The primary association as a text: parent, child, name, primary, position."""
        assert item.parent
        uri, local = full_name(item.association_name)
        places = f"{item.store}/{item.parent.uuid}|{item.store}/{item.uuid}"
        return f"{places}|{{{URIS['cm']}}}contains|{{{uri}}}{local}|true|-1"

    def write_properties(self, item: Item, properties: Mapping[str, Given]) -> None:
        self.remove_properties(item, properties)
        item.properties |= properties
        for name, (kind, value) in properties.items():
            self._write_property(item.number, name, kind, value)

    def remove_properties(self, item: Item, names: Iterable[str]) -> None:
        numbers = ", ".join(str(self.qname(name)) for name in names)
        if numbers:
            self._say(
                f"DELETE FROM alf_node_properties WHERE node_id = {item.number} AND qname_id IN ({numbers});"
            )
        for name in [*names]:
            item.properties.pop(name, None)

    def write_aspects(self, item: Item) -> None:
        self._say(f"DELETE FROM alf_node_aspects WHERE node_id = {item.number};")
        for name in sorted(item.aspects):
            self._insert("alf_node_aspects", node_id=item.number, qname_id=self.qname(name))

    def write_content(self, item: Item, document: Document) -> None:
        """New content: its URL, content data, property; the former URL is an orphan if none else has it."""
        former, former_data = item.url_number, self._content.get(item.number)
        item.document, item.url_number = document, self._url(document)
        data = self._content_data(item)
        content: Given = ("content", _content_text(item))
        self.remove_properties(item, ["cm:content"])
        item.properties["cm:content"] = content
        self._property_row(item.number, "cm:content", "content", data)
        self._content[item.number] = data
        if former_data:
            self._say(f"DELETE FROM alf_content_data WHERE id = {former_data};")
            self._orphan(former)

    def write_version(self, item: Item, label: str, comment: str) -> int:
        """A node in the version store as the document is now, with ver2's properties; its number."""
        history = self._version_history(item)
        number = self.number()
        store = self._get("alf_store", protocol="workspace", identifier="version2Store")
        name = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
        self._insert_node(number, name, store, item.type, item)
        self._associate(history, number, "ver2:version", "ver2:version-0", "")
        for each, (kind, value) in item.properties.items():
            if each != "cm:content":
                self._write_property(number, each, kind, value)
        frozen: dict[str, Given] = {
            "ver2:versionLabel": ("text", label),
            "ver2:versionDescription": ("text", comment or None),
            "ver2:frozenNodeRef": ("noderef", f"{LIVE_STORE}/{item.uuid}"),
            "ver2:frozenNodeDbId": ("long", item.number),
        }
        if self.source.random() < 0.3:  # as older releases do
            frozen["ver2:frozenModifier"] = ("text", item.modifier)
            frozen["ver2:frozenModified"] = ("datetime", _time(item.modified))
        for each, (kind, value) in frozen.items():
            self._write_property(number, each, kind, value)
        self._property_row(number, "cm:content", "content", self._content_data(item))
        for aspect in sorted(item.aspects | {"ver2:version"}):
            self._insert("alf_node_aspects", node_id=number, qname_id=self.qname(aspect))
        return number

    def remove_versions(self, item: Item) -> None:
        history = self._history.pop(item.uuid, None)
        if history is None:
            return
        for number in [version.number for version in item.versions] + [history]:
            self._remove_node(number)

    def remove(self, item: Item) -> None:
        """The node's rows go, and one of type sys:deleted with its node id comes, for what tracks changes."""
        self._remove_node(item.number)
        protocol, _, identifier = item.store.partition("://")
        store = self._get("alf_store", protocol=protocol, identifier=identifier)
        number = self.number()
        self._insert_node(number, item.uuid, store, "sys:deleted", None)
        self._traces[store, item.uuid] = number
        self._write_property(number, "sys:originalId", "long", item.number)
        if item.url_number:
            self._content.pop(item.number, None)
            self._orphan(item.url_number)

    def write_again(self, item: Item) -> None:
        """All rows of a node that has a new number: it has come to another store."""
        self.write_node(item)
        self.attach(item, keep_association=True)
        content = item.properties.pop("cm:content", None)
        self.write_properties(item, dict(item.properties))
        if content and item.document:
            data = self._content_data(item)
            item.properties["cm:content"] = content
            self._property_row(item.number, "cm:content", "content", data)
            self._content[item.number] = data
            self._say(f"UPDATE alf_content_url SET orphan_time = NULL WHERE id = {item.url_number};")
        self.write_aspects(item)
        self._write_acl(item)

    def write_permissions(self, item: Item) -> None:
        """The access control lists of a node and of all below that inherit from it."""
        item.shared_acl = None
        self._write_acl(item)
        for child in item.children:
            self.write_permissions(child)

    def _write_acl(self, item: Item) -> None:
        if item.own or not item.inherits:
            item.acl = self._acl(DEFINING, item.granted(), inherits=item.inherits, source=None)
        else:
            item.acl = self._shared_acl(item.parent) if item.parent else None
        self._say(f"UPDATE alf_node SET acl_id = {_sql(item.acl)} WHERE id = {item.number};")

    def _shared_acl(self, parent: Item) -> int | None:
        """The list that what is in a folder has by inheritance alone, one for all of it."""
        if parent.acl is None:
            return None
        if parent.shared_acl is None:
            members = [(who, what, allowed, up + 1) for who, what, allowed, up in parent.granted()]
            parent.shared_acl = self._acl(SHARED, members, inherits=True, source=parent.acl)
        return parent.shared_acl

    def _acl(
        self, kind: int, members: Sequence[tuple[str, str, bool, int]], *, inherits: bool, source: int | None
    ) -> int:
        number, change_set = self.number(), self.number()
        self._insert("alf_acl_change_set", id=change_set, commit_time_ms=0)
        self._insert(
            "alf_access_control_list",
            id=number,
            version=1,
            acl_id=str(uuid.UUID(int=self.source.getrandbits(128), version=4)),
            latest=True,
            acl_version=1,
            inherits=inherits,
            inherits_from=source,
            type=kind,
            inherited_acl=number if kind == SHARED else None,
            is_versioned=False,
            requires_version=False,
            acl_change_set=change_set,
        )
        for who, what, allowed, up in members:
            self._insert(
                "alf_acl_member",
                id=self.number(),
                version=1,
                acl_id=number,
                ace_id=self._ace(who, what, allowed),
                pos=up,
            )
        return number

    def _ace(self, authority: str, role: str, allowed: bool) -> int:
        who = self._get("alf_authority", authority=authority, crc=zlib.crc32(authority.encode()))
        what = self._get("alf_permission", type_qname_id=self.qname("cm:cmobject"), name=role)
        return self._get(
            "alf_access_control_entry", permission_id=what, authority_id=who, allowed=allowed, applies=0
        )

    def _write_property(self, node: int, name: str, kind: str, value: Value) -> None:
        if value == [] and isinstance(value, list):
            self._property_row(node, name, "any", EMPTY_LIST.hex())
        elif isinstance(value, list):
            for position, one in enumerate(value):
                self._write_value(node, name, kind, one, position)
        else:
            self._write_value(node, name, kind, value, -1)

    def _write_value(self, node: int, name: str, kind: str, value: Value, position: int) -> None:
        if isinstance(value, dict):
            for locale, text in value.items():
                stored = locale if locale == ".default" else f"{locale}_"
                self._property_row(node, name, kind, text, position, stored)
        elif kind == "qname":
            uri, local = full_name(str(value))
            self._property_row(node, name, kind, f"{{{uri}}}{local}", position)
        elif kind in ("any", "encrypted") and value is not None:
            self._property_row(node, name, kind, base64.b64decode(str(value)).hex(), position)
        else:
            self._property_row(node, name, kind, value, position)

    def _property_row(
        self, node: int, name: str, kind: str, value: object, position: int = -1, locale: str = ".default"
    ) -> None:
        actual, persisted, column = TYPES[kind]
        if value is None:
            actual = persisted = 0
        elif column == "string_value" and len(str(value).encode("utf-16-le")) // 2 > LONGEST_TEXT:
            persisted, column, value = 9, "serializable_value", java_text(str(value)).hex()
        elif kind in ("float", "double") and isinstance(value, str):
            persisted, column = 6, "string_value"
        values = {} if value is None else {column: f"\\x{value}" if column == "serializable_value" else value}
        self._insert(
            "alf_node_properties",
            node_id=node,
            qname_id=self.qname(name),
            list_index=position,
            locale_id=self._get("alf_locale", locale_str=locale),
            actual_type_n=actual,
            persisted_type_n=persisted,
            **values,
        )

    def _url(self, document: Document) -> int:
        number = self.number()
        short, checksum = url_key(document.url)
        self._insert(
            "alf_content_url",
            id=number,
            content_url=document.url,
            content_url_short=short,
            content_url_crc=checksum,
            content_size=document.size,
        )
        if document.encrypted:
            self._insert(
                "alf_content_url_encryption",
                id=number,
                content_url_id=number,
                algorithm="AES",
                key_size=128,
                encrypted_key="\\x00",
                master_keystore_id="master",
                master_key_alias="mkey1",
                unencrypted_file_size=document.size,
            )
        return number

    def _content_data(self, item: Item) -> int:
        number = self.number()
        self._insert(
            "alf_content_data",
            id=number,
            version=0,
            content_url_id=item.url_number,
            content_mimetype_id=self._get("alf_mimetype", mimetype_str=item.mimetype),
            content_encoding_id=self._get("alf_encoding", encoding_str=item.encoding),
            content_locale_id=self._get("alf_locale", locale_str="en_US_"),
        )
        return number

    def _orphan(self, url: int) -> None:
        now = int(datetime.now(UTC).timestamp() * 1000)
        self._say(
            f"UPDATE alf_content_url SET orphan_time = {now} WHERE id = {url} "
            f"AND NOT EXISTS (SELECT 1 FROM alf_content_data WHERE content_url_id = {url});"
        )

    def _version_history(self, item: Item) -> int:
        if item.uuid not in self._history:
            number = self.number()
            store = self._get("alf_store", protocol="workspace", identifier="version2Store")
            name = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
            self._insert_node(number, name, store, "ver2:versionHistory", item)
            root = self.roots[VERSION_STORE].number
            self._associate(root, number, "ver2:versionHistory", f"ver2:{item.uuid}", item.uuid)
            self._write_property(number, "cm:name", "text", item.uuid)
            self._write_property(number, "ver2:versionedNodeId", "text", item.uuid)
            self._history[item.uuid] = number
        return self._history[item.uuid]

    def _insert_node(self, number: int, name: str, store: int, kind: str, audited: Item | None) -> None:
        audit = {}
        if audited and audited.created:
            audit = {
                "audit_creator": audited.creator,
                "audit_created": _time(audited.created),
                "audit_modifier": audited.modifier,
                "audit_modified": _time(audited.modified),
            }
        self._insert(
            "alf_node",
            id=number,
            version=1,
            store_id=store,
            uuid=name,
            transaction_id=self.transaction,
            type_qname_id=self.qname(kind),
            locale_id=self._get("alf_locale", locale_str=".default"),
            **audit,
        )

    def _associate(self, parent: int, child: int, kind: str, name: str, child_name: str) -> None:
        """`child_name` empty: names may be there twice, a GUID with a negative checksum says that."""
        uri, local = full_name(name)
        guid = str(uuid.UUID(int=self.source.getrandbits(128), version=4))
        checksum = zlib.crc32(child_name.encode()) if child_name else -zlib.crc32(guid.encode())
        self._insert(
            "alf_child_assoc",
            id=self.number(),
            version=1,
            parent_node_id=parent,
            type_qname_id=self.qname(kind),
            child_node_name_crc=checksum,
            child_node_name=_short(child_name) if child_name else guid,
            child_node_id=child,
            qname_ns_id=self._get("alf_namespace", uri=uri),
            qname_localname=local,
            qname_crc=zlib.crc32((uri + local).encode()),
            is_primary=True,
            assoc_index=-1,
        )

    def _remove_node(self, number: int) -> None:
        data = (
            "SELECT p.long_value FROM alf_node_properties p "
            f"WHERE p.node_id = {number} AND p.actual_type_n = 21"
        )
        self._say(f"DELETE FROM alf_content_data WHERE id IN ({data});")
        for table in ("alf_node_properties", "alf_node_aspects"):
            self._say(f"DELETE FROM {table} WHERE node_id = {number};")
        self._say(f"DELETE FROM alf_child_assoc WHERE child_node_id = {number};")
        self._say(f"DELETE FROM alf_node WHERE id = {number};")

    def _get(self, table: str, **values: object) -> int:
        """The number of a row that exists once for its values, made where there is none."""
        key = (table, *values.values())
        if key not in self._known:
            where = " AND ".join(f"{column} = {_sql(value)}" for column, value in values.items())
            found = self.cluster.sql(f"SELECT id FROM {table} WHERE {where}", self.database)
            self._known[key] = int(found[0][0]) if found else self.number()
            if not found:
                self._insert(table, id=self._known[key], version=0, **values)
        return self._known[key]

    def _insert(self, table: str, **values: object) -> None:
        columns, literals = ", ".join(values), ", ".join(map(_sql, values.values()))
        self._say(f"INSERT INTO {table} ({columns}) VALUES ({literals});")

    def _say(self, statement: str) -> None:
        self._statements.append(statement)


def full_name(name: str) -> tuple[str, str]:
    """URI and local name of `cm:name` or `{uri}name`."""
    if name.startswith("{"):
        uri, _, local = name[1:].partition("}")
        return uri, local
    prefix, _, local = name.partition(":")
    return URIS[prefix], local


def java_text(text: str) -> bytes:
    """A string as Java serializes it: modified UTF-8, surrogates one by one."""
    units = text.encode("utf-16-be", "surrogatepass")
    written = "".join(chr(unit) for (unit,) in struct.iter_unpack(">H", units))
    data = written.encode("utf-8", "surrogatepass").replace(b"\x00", b"\xc0\x80")
    short = len(data) < 1 << 16
    head = b"t" + struct.pack(">H", len(data)) if short else b"|" + struct.pack(">Q", len(data))
    return b"\xac\xed\x00\x05" + head + data


def _shown(kind: str, value: Value) -> Given:
    """As it is read: by what the tables tell of the type."""
    if value is None:
        return "any", None
    return SHOWN_AS.get(kind, kind), value


def _content_text(item: Item) -> Value:
    assert item.document
    return {
        "url": item.document.url,
        "size": str(item.document.size),
        "mimetype": item.mimetype,
        "encoding": item.encoding,
        "locale": "en_US",
    }


def _short(name: str) -> str:
    """At most 50 characters, counted as Java does: 47, then `~~~`."""
    units = name.encode("utf-16-le")
    return name if len(units) <= 100 else units[:94].decode("utf-16-le", "ignore") + "~~~"


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def _sql(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return repr(value).lower()
    return "'" + str(value).replace("'", "''") + "'"
