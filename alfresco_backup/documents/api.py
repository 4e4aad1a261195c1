"""Alfresco's REST API v1 (Alfresco 5.2 and later), as far as bringing documents back needs it. Acts.

Contents are sent and read in blocks, so memory does not grow with them. Each step at the server has a time
limit: connecting, and moving no byte. Nothing is tried a second time: whether a call that got no answer was
carried out is looked up by its caller. Source of what the calls do: Alfresco's published API definition, and
NodesImpl.java of its repository.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx
from pydantic import SecretStr

from alfresco_backup.documents.nodes import LiveNode, Permission
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.settings.commands import ALFRESCO_API, api_command, edit_alfresco, edit_setting
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.folders import reading

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 180.0
"""Within which a byte moves; the answer to an upload comes when Alfresco has stored it all."""
BLOCK = 1 << 18
ROOT = "-root-"
"""The API's name of Company Home."""
MOST_WORDS = 300
GIVEN_UP = frozenset({502, 503, 504})
"""What a proxy answers that waits no longer for Alfresco, which goes on with the call."""
_SHOWN = {"include": "path,properties,aspectNames,permissions"}
Json = dict[str, Any]


class ApiRefused(BackupError):
    """Alfresco answered a call with an error; it did nothing of it. `status`: HTTP's, as 409."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.status = status


class ApiLost(BackupError):
    """A call got no answer, or a proxy's: cut off, or too late. It may have been carried out."""


class AlfrescoApi:
    """The calls. Each raises ApiRefused or ApiLost. Used by one thread; `user` is who the calls act as."""

    def __init__(
        self, address: str, user: str, password: SecretStr, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.address, self.user = address, user
        patience = httpx.Timeout(idle_seconds, connect=min(CONNECT_SECONDS, idle_seconds))
        self._client = httpx.Client(
            base_url=f"{address}{ALFRESCO_API}",
            auth=(user, password.get_secret_value()),
            timeout=patience,
            limits=httpx.Limits(max_keepalive_connections=0),  # none that Alfresco has just given up
            trust_env=False,  # no proxy gets the password
            headers={"Accept": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def node(self, uuid: str, path: str = "") -> LiveNode | None:
        """A node by its id, or by its path below that node; None where there is none."""
        parameters = {**_SHOWN, **({"relativePath": path} if path else {})}
        return self._find(f"/nodes/{uuid}", parameters, path or f"node {uuid}")

    def deleted_node(self, uuid: str) -> LiveNode | None:
        """A node in the trashcan, by the id it had; None where there is none."""
        return self._find(f"/deleted-nodes/{uuid}", {"include": "path"}, f"node {uuid} in the trashcan")

    def _find(self, place: str, parameters: Mapping[str, str], what: str) -> LiveNode | None:
        try:
            return self._node("GET", place, f"read {what}", params=parameters)
        except ApiRefused as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def restore_deleted(self, uuid: str) -> LiveNode:
        """Take a node out of the trashcan, with all below it, into the folder it was deleted from."""
        what = f"restore node {uuid} from the trashcan"
        return self._node("POST", f"/deleted-nodes/{uuid}/restore", what)

    def create_folder(self, parent: str, name: str, kind: str = "cm:folder") -> LiveNode:
        """Make a folder in the folder with the id `parent`. A name that is taken is refused, 409."""
        body = {"name": name, "nodeType": kind}
        return self._node("POST", f"/nodes/{parent}/children", f"create the folder {name}", json=body)

    def create_file(self, parent: str, name: str, kind: str, content: Path) -> LiveNode:
        """Make a document with its content, all or nothing. Where the name is taken Alfresco finds another.

        Raises OSError where the file cannot be read.
        """
        fields = {"name": name, "nodeType": kind, "autoRename": "true"}
        with ExitStack() as stack:
            stream: BinaryIO = stack.enter_context(reading(content))
            files = {"filedata": ("content", stream, "application/octet-stream")}
            place, what = f"/nodes/{parent}/children", f"create {name}"
            return self._node("POST", place, what, data=fields, files=files)

    def new_version(self, uuid: str, content: Path, comment: str) -> LiveNode:
        """Make a file the content of a document, as a new minor version with this comment.

        Alfresco keeps the present content as a version only where the node has the aspect cm:versionable.
        """
        what = f"give node {uuid} a new version"
        headers = {"Content-Type": "application/octet-stream"}
        parameters = {"majorVersion": "false", "comment": comment, **_SHOWN}
        with reading(content) as stream:
            place = f"/nodes/{uuid}/content"
            return self._node("PUT", place, what, params=parameters, headers=headers, content=stream)

    def newest_version(self, uuid: str) -> tuple[str, int | None] | None:
        """Label and size of a document's newest version, which Alfresco lists first; None: it has none."""
        found: list[tuple[str, int | None]] = self._ask(
            "GET", f"/nodes/{uuid}/versions", f"list the versions of node {uuid}", _versions
        )
        return found[0] if found else None

    def update(
        self,
        uuid: str,
        properties: Mapping[str, object] | None = None,
        aspects: Sequence[str] | None = None,
    ) -> LiveNode:
        """Set properties. `aspects` must be all that the node is to have: Alfresco removes the others."""
        body: Json = {"properties": dict(properties)} if properties else {}
        body |= {"aspectNames": list(aspects)} if aspects is not None else {}
        what = f"set {', '.join(properties or ()) or 'the aspects'} of node {uuid}"
        return self._node("PUT", f"/nodes/{uuid}", what, params=_SHOWN, json=body)

    def set_permissions(self, uuid: str, own: Sequence[Permission], *, inherits: bool) -> None:
        """Give a node these permissions of its own, in place of those it has; inherited ones are not sent."""
        local = [
            {
                "authorityId": item.authority,
                "name": item.role,
                "accessStatus": "ALLOWED" if item.allowed else "DENIED",
            }
            for item in own
            if not item.inherited
        ]
        body = {"permissions": {"isInheritanceEnabled": inherits, "locallySet": local}}
        self._ask("PUT", f"/nodes/{uuid}", f"set the permissions of node {uuid}", json=body)

    def has_content(self, uuid: str, content: Path) -> bool:
        """Whether a document's content is that of the file, compared byte for byte."""
        with reading(content) as stream, self._content(f"/nodes/{uuid}", f"node {uuid}") as blocks:
            return all(stream.read(len(block)) == block for block in blocks) and not stream.read(1)

    def is_in_version(self, uuid: str, version: str) -> bool:
        """Whether a document's content is that of one of its versions; both are read.

        Two that Alfresco has no file for are taken for one, which the version keeps; their sizes are for the
        caller to compare.
        """
        return self._digest(f"/nodes/{uuid}", uuid) == self._digest(f"/nodes/{uuid}/versions/{version}", uuid)

    def _digest(self, place: str, uuid: str) -> bytes | None:
        """The SHA-256 of a content; None where Alfresco has no file for it."""
        state = hashlib.sha256()
        try:
            with self._content(place, f"node {uuid}") as blocks:
                for block in blocks:
                    state.update(block)
        except ApiRefused as refused:
            if refused.status != httpx.codes.NOT_FOUND:
                raise
            return None
        return state.digest()

    @contextmanager
    def _content(self, place: str, of: str) -> Iterator[Iterator[bytes]]:
        what = f"read the content of {of}"
        try:
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
            with self._client.stream("GET", f"{place}/content", headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer, what)
                yield answer.iter_bytes(BLOCK)
        except httpx.RequestError as error:
            raise self._lost(error, what) from error

    def _node(self, method: str, place: str, what: str, **given: Any) -> LiveNode:
        """One call that answers with a node."""
        found: LiveNode = self._ask(method, place, what, _node, **given)
        return found

    def _ask(
        self, method: str, place: str, what: str, read: Callable[[Json], Any] | None = None, **given: Any
    ) -> Any:
        """One call; what `read` makes of the JSON of its answer, which is an entry or a list."""
        try:
            answer = self._client.request(method, place, **given)
        except httpx.RequestError as error:
            raise self._lost(error, what) from error
        if answer.is_success:
            with suppress(ValueError, LookupError, TypeError, AttributeError):
                found = answer.json()
                if {"entry", "list"} & found.keys():
                    return read(found) if read else found
        elif answer.status_code not in GIVEN_UP:
            raise self._refused(answer, what)
        refused = self._refused(answer, what)
        if method == "GET":
            raise refused
        message = f"it is not known whether Alfresco did {what}: {refused.message.partition(': ')[2]}"
        raise ApiLost(message, refused.hint)

    def _lost(self, error: httpx.RequestError, what: str) -> ApiLost:
        seconds = (
            f" within {self._client.timeout.read:g} s" if isinstance(error, httpx.TimeoutException) else ""
        )
        said = f": {error}" if str(error) else ""
        fact = "did not answer" if seconds else "ended the connection"
        if isinstance(error, httpx.ConnectError):
            fact = "cannot be reached"
        message = f"Alfresco at {self.address} {fact}{seconds or said}; it was to {what}"
        return ApiLost(message, api_command(self.address, self.user))

    def _refused(self, answer: httpx.Response, what: str) -> ApiRefused:
        """An answer with an error, or one that is not the API's, as a sentence with its fix."""
        said = _words_of(answer)
        fact, hint = REASONS.get(answer.status_code, _other_reason)(self, answer.status_code)
        message = f"Alfresco did not {what}: {fact}" + (f'; it said: "{said}"' if said else "")
        return ApiRefused(answer.status_code, message, hint)


Reason = Callable[[AlfrescoApi, int], tuple[str, str]]
REASONS: Mapping[int, Reason] = {
    401: lambda api, _: (
        f"it does not accept ALF_API_USER={api.user} with the password of ALF_API_PASSWORD",
        f"{edit_setting('ALF_API_PASSWORD')}\n{api_command(api.address, api.user)}",
    ),
    403: lambda api, _: (f"{api.user} has no right to", edit_setting("ALF_API_USER")),
    404: lambda api, _: (
        "the node, its folder or the API itself is not there",
        api_command(api.address, api.user),
    ),
    409: lambda api, _: (
        "the name is taken there, or the node is locked",
        "rename or unlock it in Alfresco, then plan again",
    ),
    413: lambda api, _: (
        "the content is larger than Alfresco allows",
        edit_alfresco("system.content.maximumFileSizeLimit"),
    ),
    507: lambda api, _: (
        f"the storage quota of {api.user} or of all is used up",
        "raise the quota in Share: Admin Tools, Users; then plan again",
    ),
}
"""What an answer means, and what fixes it. Source: the responses in Alfresco's API definition."""


def _other_reason(api: AlfrescoApi, status: int) -> tuple[str, str]:
    if status in (400, 422):
        return "it contradicts Alfresco's content model", "look for the words below in alfresco.log"
    if status < 400:
        return (
            f"answer {status} is not that of its REST API: ALF_API_URL is another program's, or leads on",
            f"{edit_setting('ALF_API_URL')}\n{api_command(api.address, api.user)}",
        )
    return f"it failed with status {status}", "look for the cause in alfresco.log"


def api_of(settings: Settings, idle_seconds: float = IDLE_SECONDS) -> AlfrescoApi:
    """The API of the settings. Raises Refused where none is set up."""
    if not settings.alf_api_url:
        names = ("ALF_API_URL", "ALF_API_USER", "ALF_API_PASSWORD")
        raise Refused(
            "documents cannot be uploaded: ALF_API_URL is empty",
            "\n".join(edit_setting(name) for name in names),
        )
    user, password = settings.alf_api_user, settings.alf_api_password
    return AlfrescoApi(settings.alf_api_url, user, password, idle_seconds)


def _words_of(answer: httpx.Response) -> str:
    """What Alfresco says of an error, in one line and without the number it begins with."""
    try:
        said = answer.json()["error"]["briefSummary"]
    except (ValueError, LookupError, TypeError):
        return ""
    return re.sub(r"^\d{8,} ", "", " ".join(str(said).split()))[:MOST_WORDS]


def _versions(answer: Json) -> list[tuple[str, int | None]]:
    entries = [one["entry"] for one in answer["list"]["entries"]]
    return [(str(entry["id"]), (entry.get("content") or {}).get("sizeInBytes")) for entry in entries]


def _node(answer: Json) -> LiveNode:
    entry = answer["entry"]
    content = entry.get("content") or {}
    permissions = entry.get("permissions") or {}
    local = permissions.get("locallySet") or ()
    return LiveNode(
        uuid=entry["id"],
        name=entry["name"],
        type=entry["nodeType"],
        is_folder=entry["isFolder"],
        folder=(entry.get("path") or {}).get("name", ""),
        size=content.get("sizeInBytes"),
        creator=(entry.get("createdByUser") or {}).get("id", ""),
        aspects=frozenset(entry.get("aspectNames") or ()),
        properties=entry.get("properties") or {},
        deleted_by_itself="archivedAt" in entry,
        inherits=permissions.get("isInheritanceEnabled"),
        local=frozenset(
            (one["authorityId"], one["name"], one.get("accessStatus", "ALLOWED") == "ALLOWED")
            for one in local
        ),
    )
