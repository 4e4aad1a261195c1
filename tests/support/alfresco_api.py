"""A stand-in for Alfresco's REST API v1: a real HTTP server, a repository in memory, faults on demand.

What it does with names, versions and the trashcan is what NodesImpl.java does. It says no more than the tests
of the upload need, and is no proof that Alfresco takes the calls: that is test_api_definition.py.
"""

import base64
import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from alfresco_backup.documents.api import AlfrescoApi
from alfresco_backup.documents.upload_plan import unique_names
from alfresco_backup.settings.commands import ALFRESCO_API

USER, PASSWORD = "restorer", "it's the #1 pässword"
TIME = "2026-11-22T09:15:00.000+0000"
HIDDEN = frozenset({"cm:autoVersion", "cm:autoVersionOnUpdateProps", "cm:initialVersion"})
"""Of Alfresco's own excluded properties those that decide about versions: its API shows them to nobody."""
BAD_NAME = re.compile(r'.*["*\\><?/:|].*|.*[. ]')


class Answer(Exception):
    """Ends a call with this status."""

    def __init__(self, status: int, words: str = "") -> None:
        super().__init__(words)
        self.status, self.words = status, words


@dataclass
class Stored:
    """A node. `deleted`: empty, `itself`, or `with` a folder. `unreadable`: its content has no file."""

    name: str
    type: str = "cm:content"
    parent: str = ""
    content: bytes | None = None
    creator: str = "somebody"
    aspects: set[str] = field(default_factory=lambda: {"cm:auditable"})
    properties: dict[str, object] = field(default_factory=dict)
    permissions: dict[str, object] = field(default_factory=dict)
    versions: list[bytes] = field(default_factory=list)
    deleted: str = ""
    unreadable: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_folder(self) -> bool:
        return self.content is None


@dataclass
class Fault:
    """What goes wrong at calls that match: a status, or `cut` (in the body), `cut answer`, `slow`.

    `given up`: the call is carried out, but a proxy that did not wait answers; `odd`: with an empty entry.
    """

    calls: str
    kind: int | str
    times: int = 1000
    after: int = 0


class FakeAlfresco:
    """The repository and the rules of one server.

    `calls`: method and path of each; `fields`: those of all forms.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.root = Stored("Company Home", "cm:folder")
        self.nodes = {self.root.id: self.root}
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.fields: set[str] = set()
        self.denied: set[str] = set()
        self.known_prefixes = {"cm", "app", "exif"}
        self.models: dict[str, str] = {}
        """Prefixes of models that are not Alfresco's own, by their URIs."""
        self.authorities = {"GROUP_EVERYONE", "GROUP_finance", "alice"}
        self.most_bytes = 1 << 30
        self.quota = 1 << 30
        self.discards = self.spoils = False
        self.address = ""
        self.released = threading.Event()
        """Until it is set, slow calls get no answer."""

    def api(self, password: str = PASSWORD, idle_seconds: float = 20) -> AlfrescoApi:
        return AlfrescoApi(self.address, USER, SecretStr(password), idle_seconds)

    # What tests do to the repository.

    def add(self, path: str, content: bytes | None = None, **fields: Any) -> Stored:
        """A node at a path below Company Home, with the folders on the way."""
        *above, name = path.split("/")
        parent = self.root
        for part in above:
            parent = self.child(parent, part) or self._keep(Stored(part, "cm:folder", parent.id))
        kind = "cm:folder" if content is None else "cm:content"
        return self._keep(Stored(name, **{"type": kind, **fields}, parent=parent.id, content=content))

    def delete(self, node: Stored) -> None:
        """Move a node and all below it into the trashcan."""
        for item in self._below(node):
            item.deleted = "with"
        node.deleted = "itself"

    def purge(self, node: Stored) -> None:
        for item in [node, *self._below(node)]:
            del self.nodes[item.id]

    def at(self, path: str) -> Stored | None:
        """The live node at a path below Company Home."""
        node: Stored | None = self.root
        for part in path.split("/") if path else ():
            node = self.child(node, part) if node else None
        return node

    def folder_path(self, node: Stored) -> str:
        parent = self.nodes.get(node.parent)
        return f"{self.folder_path(parent)}/{parent.name}" if parent else ""

    def child(self, parent: Stored, name: str) -> Stored | None:
        """Alfresco compares names without case."""
        found = (item for item in self.nodes.values() if item.parent == parent.id and not item.deleted)
        return next((item for item in found if item.name.lower() == name.lower()), None)

    def _below(self, node: Stored) -> list[Stored]:
        children = [item for item in self.nodes.values() if item.parent == node.id and not item.deleted]
        return [*children, *(item for child in children for item in self._below(child))]

    def _keep(self, node: Stored) -> Stored:
        self.nodes[node.id] = node
        return node

    # The calls.

    def live(self, key: str) -> Stored:
        node = self.root if key == "-root-" else self.nodes.get(key)
        if node is None or node.deleted:
            raise Answer(404, f"0229 The entity with id: {key} was not found")
        return node

    def get(self, key: str, path: str) -> dict[str, Any]:
        node = self.live(key)
        for part in path.split("/") if path else ():
            found = self.child(node, part)
            if found is None:
                raise Answer(404, f"02290001 The entity with relativePath: {path} was not found")
            node = found
        return self.entry(node)

    def get_deleted(self, key: str) -> dict[str, Any]:
        node = self.nodes.get(key)
        if node is None or not node.deleted:
            raise Answer(404, f"02290002 The entity with id: {key} was not found")
        shown = self.entry(node)
        if node.deleted == "itself":
            shown |= {"archivedAt": TIME, "archivedByUser": shown["createdByUser"]}
        return shown

    def restore(self, key: str) -> dict[str, Any]:
        node = self.nodes.get(key)
        if node is None or node.deleted != "itself":
            raise Answer(404, f"The entity with id: {key} was not found")
        parent = self.live(node.parent)
        if self.child(parent, node.name):
            raise Answer(409, f"{node.name} already exists in the target folder")
        self._revive(node)
        return self.entry(node)

    def _revive(self, node: Stored) -> None:
        node.deleted = ""
        for item in self.nodes.values():
            if item.parent == node.id and item.deleted == "with":
                self._revive(item)

    def create(self, key: str, fields: dict[str, str], content: bytes | None, user: str) -> dict[str, Any]:
        parent = self._writable(self.live(key))
        if not {"name", "nodeType"} <= fields.keys():
            raise Answer(400, "name and nodeType are expected")
        name = fields["name"]
        if BAD_NAME.fullmatch(name):
            raise Answer(422, f"The name {name} is not valid")
        if content is not None:
            self._require_room(content)
        if self.child(parent, name):
            if fields.get("autoRename") != "true":
                raise Answer(409, f"{name} already exists.")
            name = next(other for other in unique_names(name) if not self.child(parent, other))
        if content and self.spoils:
            content = content[:-1]
        made = Stored(name, fields["nodeType"], parent.id, content, user)
        if content is not None:  # uploads are versioned from the beginning; empty nodes made by JSON are not
            made.aspects.add("cm:versionable")
            made.versions.append(content)
        return self.entry(self._keep(made))

    def list_versions(self, key: str) -> dict[str, Any]:
        node = self.live(key)
        shown = self.entry(node)
        entries = [
            {
                "entry": {
                    **shown,
                    "id": f"1.{number}",
                    "content": {**shown["content"], "sizeInBytes": len(content)},
                }
            }
            for number, content in reversed([*enumerate(node.versions)])
        ]
        count = {"count": len(entries), "totalItems": len(entries), "skipCount": 0, "maxItems": 100}
        return {"pagination": {**count, "hasMoreItems": False}, "entries": entries}

    def version_content(self, key: str, number: int) -> bytes:
        node, found = self.live(key), self.live(key).versions[number]
        if node.unreadable and found == node.content:  # it is the same file
            raise Answer(404, f"Unable to locate content for version 1.{number} of {key}")
        return found

    def put_content(self, key: str, content: bytes, *, versioned: bool) -> dict[str, Any]:
        node = self._writable(self.live(key))
        self._require_room(content)
        node.content, node.unreadable = content, False
        if node.versions or versioned:
            node.aspects.add("cm:versionable")
            node.versions.append(content)
        return self.entry(node)

    def update(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        node = self._writable(self.live(key))
        body = self._shown(body)
        names = [*body.get("properties", {}), *body.get("aspectNames", [])]
        unknown = next((name for name in names if name.partition(":")[0] not in self.known_prefixes), "")
        if unknown:
            raise Answer(400, f"Unknown property: {unknown}")
        for local in body.get("permissions", {}).get("locallySet", []):
            if local["authorityId"] not in self.authorities:
                raise Answer(400, f"Cannot set permissions on this node - unknown authority: {local}")
        node.properties |= body.get("properties", {})
        if "aspectNames" in body:
            added = set(body["aspectNames"]) - node.aspects
            node.aspects = {"cm:auditable", *body["aspectNames"]}
            if "cm:versionable" in added and node.content is not None:
                node.versions.append(node.content)
        node.permissions = body.get("permissions", node.permissions)
        return self.entry(node)

    def _shown(self, body: dict[str, Any]) -> dict[str, Any]:
        """With names as `{uri}local` by their prefixes, as Alfresco shows them from then on."""

        def name(given: str) -> str:
            uri, _, local = given[1:].partition("}") if given.startswith("{") else ("", "", "")
            return f"{self.models[uri]}:{local}" if uri in self.models else given

        properties = {name(one): value for one, value in body.get("properties", {}).items()}
        body = {**body, **({"properties": properties} if "properties" in body else {})}
        return {
            **body,
            **({"aspectNames": [*map(name, body["aspectNames"])]} if "aspectNames" in body else {}),
        }

    def _writable(self, node: Stored) -> Stored:
        if node.id in self.denied:
            raise Answer(403, "You do not have the appropriate permissions to perform this operation")
        return node

    def _require_room(self, content: bytes) -> None:
        if len(content) > self.most_bytes:
            raise Answer(413, "Content size exceeds the limit")
        if sum(len(item.content or b"") for item in self.nodes.values()) + len(content) > self.quota:
            raise Answer(507, "User quota exceeded")

    def entry(self, node: Stored) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": node.id,
            "name": node.name,
            "nodeType": node.type,
            "isFolder": node.is_folder,
            "isFile": not node.is_folder,
            "createdAt": TIME,
            "createdByUser": {"id": node.creator, "displayName": node.creator},
            "modifiedAt": TIME,
            "modifiedByUser": {"id": node.creator, "displayName": node.creator},
            "parentId": node.parent,
            "aspectNames": sorted(node.aspects),
            "properties": {name: one for name, one in node.properties.items() if name not in HIDDEN},
            "permissions": {"isInheritanceEnabled": True} | node.permissions,
            "path": {"name": self.folder_path(node), "isComplete": True},
        }
        if node.content is not None:
            size = len(node.content)
            kind = {"mimeType": "application/octet-stream", "mimeTypeName": "Binary", "sizeInBytes": size}
            shown["content"] = kind
        return shown


class _Handler(BaseHTTPRequestHandler):
    """Takes calls apart, and does what the faults say."""

    protocol_version = "HTTP/1.1"
    site: FakeAlfresco

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *words: object) -> None:
        """Nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        call = f"{self.command} {unquote(parts.path.partition(ALFRESCO_API)[2])}"
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.site.lock:
            self.site.calls.append(call)
            fault = self._fault(f"{call}?{unquote(parts.query)}")
        try:
            if not self._known():
                raise Answer(401, "Login failed")
            if fault and isinstance(fault.kind, int):
                raise Answer(fault.kind, f"{fault.kind} on demand")
            if fault and fault.kind == "cut":
                self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
                self._cut()
                return
            if fault and fault.kind == "slow":
                self.site.released.wait(30)
            body = self._body()
            with self.site.lock:
                answer = self._do(call, query, body)
            content = self.command == "GET" and call.endswith("/content")
            kind = f"application/{'octet-stream' if content else 'json'}"
            if fault and fault.kind == "cut answer":
                self._cut()
                return
            if fault and fault.kind == "given up":
                self._send(504, b"<html>Gateway Time-out</html>", "text/html")
                return
            if fault and fault.kind == "odd":
                answer = b'{"entry": {}}'
            self._send(201 if call.endswith("/children") else 200, answer, kind)
        except Answer as refused:
            summary = {"errorKey": "x", "statusCode": refused.status, "briefSummary": refused.words}
            self.close_connection = True
            self._send(refused.status, json.dumps({"error": summary}).encode())

    def _fault(self, call: str) -> Fault | None:
        for fault in self.site.faults:
            if fault.times and re.search(fault.calls, call):
                if fault.after:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _known(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _body(self) -> bytes:
        left = int(self.headers.get("Content-Length") or 0)
        if not self.site.discards:
            return self.rfile.read(left)
        while left:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        return b""

    def _do(self, call: str, query: dict[str, str], body: bytes) -> bytes:
        site, method = self.site, self.command
        version = re.fullmatch(r"GET /nodes/([^/]+)/versions/1\.(\d+)/content", call)
        if version:
            return site.version_content(version[1], int(version[2]))
        match = re.fullmatch(r"\w+ /(nodes|deleted-nodes)/([^/]+)(/\w+)?", call)
        if match is None:
            raise Answer(404, "no such call")
        key, what = match[2], (method, match[1] == "nodes", match[3] or "")
        if what == ("GET", True, "/content"):
            if site.live(key).unreadable:
                raise Answer(404, f"Unable to locate content for node ref {key}")
            return site.live(key).content or b""
        if what == ("GET", True, "/versions"):
            return json.dumps({"list": site.list_versions(key)}).encode()
        if what == ("GET", True, ""):
            found = site.get(key, query.get("relativePath", ""))
        elif what == ("GET", False, ""):
            found = site.get_deleted(key)
        elif what == ("POST", False, "/restore"):
            found = site.restore(key)
        elif what == ("POST", True, "/children"):
            found = site.create(key, *self._form(body), USER)
        elif what == ("PUT", True, "/content"):
            found = site.put_content(key, body, versioned="comment" in query or "majorVersion" in query)
        elif what == ("PUT", True, ""):
            found = site.update(key, json.loads(body))
        else:
            raise Answer(405, "no such call")
        return json.dumps({"entry": found}).encode()

    def _form(self, body: bytes) -> tuple[dict[str, str], bytes | None]:
        kind = self.headers["Content-Type"]
        if kind == "application/json":
            return json.loads(body), None
        message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        fields: dict[str, str] = {}
        content: bytes | None = None
        for part in message.get_payload():
            assert not isinstance(part, str)
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            name = str(part.get_param("name", header="content-disposition"))
            self.site.fields.add(name)
            if name == "filedata":
                content = data
            else:
                fields[name] = data.decode()
        return fields, content

    def _send(self, status: int, answer: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        if 300 <= status < 400:
            self.send_header("Location", "/share/page")
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def fake_alfresco() -> Iterator[FakeAlfresco]:
    """A server that runs in this process."""
    site = FakeAlfresco()
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_address[1]}/alfresco"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
