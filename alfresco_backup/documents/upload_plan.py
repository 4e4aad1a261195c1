"""Decides how each document is brought back into the live repository, and what of it is not. Pure.

Nothing that is there is overwritten: a document that lives gets a new version, one that is gone a name that
is free. A restore from the trashcan is preferred: it keeps node id, versions, permissions and associations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath

from alfresco_backup.documents.nodes import LiveNode, NodeDetails, Permission, Property
from alfresco_backup.documents.qnames import PREFIXES
from alfresco_backup.pages import markdown_table, page

NEVER_SENT = frozenset(
    {
        "cm:name",
        "cm:content",
        "cm:creator",
        "cm:created",
        "cm:modifier",
        "cm:modified",
        "cm:accessed",
        "cm:versionLabel",
        "cm:versionType",
        "cm:initialVersion",
        "cm:autoVersion",
        "cm:autoVersionOnUpdateProps",
        "cm:lockType",
        "cm:lockOwner",
        "cm:expiryDate",
        "cm:lockLifetime",
        "cm:lockAdditionalInfo",
        "cm:lockDepth",
        "cm:workingCopyMode",
        "cm:workingCopyOwner",
        "cm:workingCopyLabel",
        "cm:lastThumbnailModification",
    }
)
"""Properties that Alfresco sets itself, or that are sent in another way."""
KEPT_ASPECTS = frozenset(
    {
        "cm:auditable",
        "cm:lockable",
        "cm:workingcopy",
        "cm:checkedOut",
        "cm:copiedfrom",
        "cm:thumbnailModification",
        "cm:taggable",
        "cm:tagscope",
        "cm:generalclassifiable",
        "cm:replaceable",
        "fm:discussable",
        "fm:commentsRollup",
        "qshare:shared",
    }
)
"""Aspects that are states of Alfresco, or stand for what does not come back."""
KEPT_PREFIXES = ("sys:", "rn:", "ver:", "ver2:", "rule:", "qshare:", "trx:")
UNSENDABLE_TYPES = frozenset(
    {
        "any",
        "content",
        "category",
        "noderef",
        "childassocref",
        "assocref",
        "path",
        "qname",
        "version",
        "encrypted",
        "period",
        "locale",
    }
)
"""Types of values that the API does not set, or whose nodes have other ids now."""
OWN_PREFIXES = frozenset(PREFIXES.values())
SITES = "Sites"
PERMISSIONS = "permissions"


class Action(StrEnum):
    """What is done for one document."""

    NOTHING = "nothing"
    TRASHCAN = "restore from the trashcan"
    WITH_FOLDER = "comes from the trashcan with its folder"
    VERSION = "new version"
    NEW = "new node"
    COMPLETE = "complete what an earlier upload made"
    NOT_POSSIBLE = "not possible"


@dataclass(frozen=True)
class Wanted:
    """A document or folder as of the target time. `content`: a file with its content, None for a folder.

    `lost`: why there is no content although it had some; `unread`: it may be where it cannot be read.
    """

    details: NodeDetails
    content: Path | None = None
    lost: str = ""
    unread: bool = False


@dataclass(frozen=True)
class Live:
    """What the live repository has of a wanted document.

    `same`: whether the content of `node` is that of the target time. `copy`: a node in the old folder with
    the same content under its name or one that Alfresco makes of it. `missing`: its folders that are not
    there, from the top, as paths below Company Home. `refused`: why it could not be looked at.
    """

    node: LiveNode | None = None
    same: bool = False
    deleted: LiveNode | None = None
    copy: LiveNode | None = None
    name_taken: bool = False
    missing: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class UploadStep:
    """What is done for a document. `node`: the id of the node it is done to; empty where there is none.

    `folders`: folders to be made first, from the top. `told`: what does not come back, one sentence each.
    `lacks`: what a node that is left as it is has not.
    """

    wanted: Wanted
    action: Action
    why: str
    node: str = ""
    folders: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.wanted.details.node.path


@dataclass(frozen=True)
class UploadPlan:
    """A step for each document, in the order in which they are done: folders first. `as_of`: in words."""

    steps: tuple[UploadStep, ...]
    as_of: str = ""

    @property
    def changes(self) -> tuple[UploadStep, ...]:
        idle = (Action.NOTHING, Action.NOT_POSSIBLE)
        return tuple(step for step in self.steps if step.action not in idle)

    def summary(self) -> str:
        """One sentence for reports."""
        counts = {action: sum(step.action is action for step in self.steps) for action in Action}
        parts = ", ".join(f"{count} {action}" for action, count in counts.items() if count)
        return f"Upload of {len(self.steps)} documents and folders{self._when()}: {parts or 'nothing'}."

    def _when(self) -> str:
        return f" as of {self.as_of}" if self.as_of else ""

    def rows(self) -> list[dict[str, str]]:
        """The plan as a table."""
        return [
            {
                "path": step.path,
                "node id": step.wanted.details.node.uuid,
                "what is done": step.action.value,
                "why": step.why,
                "does not come back": "; ".join(step.told),
            }
            for step in self.steps
        ]

    def text(self) -> str:
        """The plan for a terminal and an artifact."""
        return page("Upload plan", self.summary(), markdown_table(self.rows()))


def plan_upload(
    wanted: Sequence[Wanted], live: Mapping[str, Live], *, user: str, root: str, as_of: str = ""
) -> UploadPlan:
    """Decide about each document. `live` by node id; `root`: Company Home's name; `user`: who uploads."""
    ordered = sorted(wanted, key=_order)
    planner = _Planner(live, user, root)
    return UploadPlan(tuple(planner.decide(item) for item in ordered), as_of)


def _order(item: Wanted) -> tuple[bool, int, str]:
    node = item.details.node
    return not node.is_folder, len(PurePosixPath(node.path).parts), node.path


@dataclass
class _Planner:
    """Decides step by step: what the steps before will have brought back or made is there for the next."""

    live: Mapping[str, Live]
    user: str
    root: str
    restored: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def decide(self, item: Wanted) -> UploadStep:
        node, found = item.details.node, self.live[item.details.node.uuid]
        why = self._obstacle(item, found)
        if why:
            return UploadStep(item, Action.NOT_POSSIBLE, why)
        if found.node:
            return _living(item, found.node, same=found.same)
        missing = tuple(path for path in found.missing if not self._will_be(path))
        if found.deleted:
            step = self._from_trashcan(item, found, found.deleted, missing)
            if step:
                return step
        if found.copy:
            return self._copy(item, found.copy)
        if why := _no_place(item, found, missing):
            return UploadStep(item, Action.NOT_POSSIBLE, why)
        self.made.update(missing)
        if node.is_folder:
            self.made.add(below_root(node.path))
        return UploadStep(
            item, Action.NEW, _why_new(found, missing), "", missing, _lost_with_the_node(item, found, missing)
        )

    def _obstacle(self, item: Wanted, found: Live) -> str:
        node = item.details.node
        if found.refused:
            return found.refused
        if item.lost:
            return f"its content is {'where it cannot be read, or ' * item.unread}lost: {item.lost}"
        folder = any(each and each.is_folder for each in (found.node, found.deleted))
        there = "; the node lives" if found.node else ""
        if found.deleted and found.deleted.deleted_by_itself:
            there = "; it is in the trashcan, from where Alfresco itself can restore it"
        if not node.is_folder and item.content is None and not folder:
            return f"it has no content that could be uploaded{there}"
        if node.content and node.content.encrypted:
            return f"its content is encrypted by Alfresco{there or '; a restore of the host is needed'}"
        if PurePosixPath(node.path).parts[1:2] != (self.root,):
            return f"it is not below {self.root}, where the API looks"
        return ""

    def _will_be(self, path: str) -> bool:
        """Whether a folder will be there when this step is done."""
        return path in self.made or any(f"{path}/".startswith(f"{above}/") for above in self.restored)

    def _from_trashcan(
        self, item: Wanted, found: Live, deleted: LiveNode, missing: tuple[str, ...]
    ) -> UploadStep | None:
        """The step where the node can come out of the trashcan, None where it has to be made again."""
        path, uuid = below_root(item.details.node.path), deleted.uuid
        same = "; a new version where its content is not that of the target time"
        folder = item.details.node.is_folder or deleted.is_folder  # a model's own type of folder is one, too
        after = "" if folder else same
        what = "what is in it, properties" if folder else "properties"
        told = (f"{what}, name and folder are as they were when it was deleted",)
        if not deleted.deleted_by_itself:
            above = any(f"{path}/".startswith(f"{folder}/") for folder in self.restored)
            if above:
                return UploadStep(item, Action.WITH_FOLDER, f"its folder was deleted{after}", uuid, (), told)
            return None
        if missing or found.name_taken:
            return None
        if folder:
            self.restored.add(path)
        return UploadStep(item, Action.TRASHCAN, f"it is in the trashcan{after}", uuid, (), told)

    def _copy(self, item: Wanted, copy: LiveNode) -> UploadStep:
        """What is there under the name. What it lacks is added to a document of the upload's user alone."""
        folder = item.details.node.is_folder
        where = f"{copy.name} in its folder is the same, byte for byte (node {copy.uuid})"
        if folder:
            where = f"its folder has one of this name (node {copy.uuid})"
        lacks = lacking(item.details, copy)
        differs = tuple(name for name in _differing(item.details, copy) if name not in lacks)
        told = _lost_with_the_node(item, Live())
        if differs:
            told = (f"not as then, and left: {', '.join(differs)}", *told)
        if lacks and copy.creator == self.user and not folder:
            why = f"{where}, made by {self.user}; it lacks {', '.join(lacks)}"
            return UploadStep(item, Action.COMPLETE, why, copy.uuid, (), told)
        if lacks:
            told = (f"it lacks {', '.join(lacks)}", *told)
        return UploadStep(item, Action.NOTHING, where, copy.uuid, (), told, lacks)


def lacking(details: NodeDetails, live: LiveNode) -> tuple[str, ...]:
    """Properties, aspects and `permissions` of then for which a node has nothing: nobody's work is there."""
    properties, aspects, _ = sendable(details)
    none = [name for name in properties if _shown(live, name) in (None, "", [])]
    own = own_permissions(details) or not details.inherits_permissions
    bare = live.inherits is True and not live.local
    return (*none, *aspects_lacking(aspects, live.aspects), *([PERMISSIONS] if own and bare else ()))


def aspects_lacking(aspects: Iterable[str], there: Iterable[str]) -> list[str]:
    """Those of the aspects that are not among the ones that the API shows."""
    shown = [*there]
    return sorted({name for name in aspects if not any(_is_name(name, one) for one in shown)})


def _shown(live: LiveNode, name: str) -> object:
    """What the API shows of a property; None where it shows none of this name."""
    return next((value for shown, value in live.properties.items() if _is_name(name, shown)), None)


def _is_name(name: str, shown: str) -> bool:
    """Whether the API means a name by the one that it shows.

    Of a model that is none of Alfresco's own only its URI is known here, and the API shows its prefix. Where
    two such models have the same local name it is taken for the one wanted: nothing is overwritten for it.
    """
    if not name.startswith("{"):
        return name == shown
    prefix, _, local = shown.partition(":")
    return prefix not in OWN_PREFIXES and local == name.rpartition("}")[2]


def _differing(details: NodeDetails, live: LiveNode) -> list[str]:
    """Properties and `permissions` that a node does not have as they were then."""
    properties, _, _ = sendable(details)
    found = [name for name, value in properties.items() if not _equal(_shown(live, name), value)]
    then = frozenset((one.authority, one.role, one.allowed) for one in own_permissions(details))
    if live.inherits is not None and (live.inherits, live.local) != (details.inherits_permissions, then):
        found.append(PERMISSIONS)
    return found


def _living(item: Wanted, node: LiveNode, *, same: bool) -> UploadStep:
    """The step for a document whose node lives. Only its content is given back, as a version."""
    then = item.details.node
    told = []
    if then.path != f"{node.folder}/{node.name}":
        told.append(f"it stays {node.folder}/{node.name}")
    if differing := _differing(item.details, node):
        told.append(f"not as then, and left: {', '.join(differing)}")
    if then.is_folder or same:
        why = "the folder lives" if then.is_folder else "it lives with this content"
        return UploadStep(item, Action.NOTHING, why, node.uuid, (), tuple(told))
    if node.is_folder:
        return UploadStep(item, Action.NOT_POSSIBLE, "the node is a folder now", node.uuid)
    return UploadStep(item, Action.VERSION, "it lives with other content", node.uuid, (), tuple(told))


def _no_place(item: Wanted, found: Live, missing: tuple[str, ...]) -> str:
    """Why it cannot be made again where it was; empty where it can."""
    node = item.details.node
    site = f"{SITES}/{below_root(node.path).split('/')[1]}" if _in_site(node.path) else ""
    if site in missing or (site and below_root(node.path) == site):
        return f"the site {site.partition('/')[2]} is gone; make it again in Share, then plan again"
    if node.is_folder and found.name_taken:
        return "a document has its name now; rename that in Alfresco"
    return ""


def _why_new(found: Live, missing: tuple[str, ...]) -> str:
    parts = ["it is gone"]
    if found.deleted and not found.deleted.deleted_by_itself:
        parts = ["it is in the trashcan, inside a folder that is not asked for"]
    elif found.deleted:
        parts = ["it is in the trashcan, and cannot come back from there"]
    if found.name_taken:
        parts.append("its name is taken, so it gets another")
    if missing:
        parts.append(f"its folder is made again: {', '.join(missing)}")
    return "; ".join(parts)


def _lost_with_the_node(item: Wanted, found: Live, made: Sequence[str] = ()) -> tuple[str, ...]:
    """What a new node does not have, in the order of how often it is missed."""
    details = item.details
    told = ["the old node id", "creator and times"]
    if len(details.versions) > 1:
        told.append(f"its {len(details.versions)} versions")
    told.append("comments and associations")
    own = own_permissions(details)
    if own or not details.inherits_permissions:
        told.append(f"{len(own)} permissions of its own, unless the user of the upload may set them")
    told += sendable(details)[2]
    if made:
        told.append("properties and permissions of the folders that are made again")
    if found.deleted:
        told.append("the node in the trashcan stays there")
    return tuple(told)


def own_permissions(details: NodeDetails) -> tuple[Permission, ...]:
    """The permissions that were set on the node itself."""
    return tuple(item for item in details.permissions if not item.inherited)


def below_root(path: str) -> str:
    """A path without its first name, Company Home, and without a slash at its beginning."""
    return "/".join(PurePosixPath(path).parts[2:])


def _in_site(path: str) -> bool:
    parts = below_root(path).split("/")
    return parts[0] == SITES and len(parts) > 1


def unique_names(name: str) -> Iterator[str]:
    """The names that Alfresco tries for a new node, one after the other. Source: NodesImpl.findUniqueName."""
    yield name
    stem, dot, ending = name.rpartition(".")
    for number in range(1, 1000):
        if not dot:
            yield f"{name}-{number}"
        elif not stem:
            yield f"{number}{name}"
        else:
            yield f"{stem}-{number}.{ending}"


def sendable(details: NodeDetails) -> tuple[dict[str, str | list[str]], tuple[str, ...], tuple[str, ...]]:
    """What of a node's properties and aspects the API can set, and sentences about what it cannot."""
    properties: dict[str, str | list[str]] = {}
    told = []
    for item in details.properties:
        if item.name in NEVER_SENT or item.name.startswith(KEPT_PREFIXES):
            continue
        value = None if _unsendable(item) else _as_sent(item.value)
        if value is not None:
            properties[item.name] = value
            if isinstance(item.value, dict) and len(item.value) > 1:
                told.append(f"{item.name} in languages but one")
        elif item.value not in (None, "", []):
            told.append(item.name)
    aspects = (name for name in details.aspects if name not in KEPT_ASPECTS)
    return properties, tuple(name for name in aspects if not name.startswith(KEPT_PREFIXES)), tuple(told)


def _unsendable(item: Property) -> bool:
    return item.type in UNSENDABLE_TYPES


def _as_sent(value: object) -> str | list[str] | None:
    """A value as the API's definition has it: text, or a list of texts. None where there is none to send."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        languages = sorted(value, key=lambda name: (not name.startswith("en"), name))
        return _as_sent(value[languages[0]]) if languages else None
    if isinstance(value, list):
        return [text for item in value for text in _texts(_as_sent(item))] or None
    return str(value)


def _texts(value: str | list[str] | None) -> Iterable[str]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _equal(live: object, wanted: str | list[str]) -> bool:
    """Whether a value that the API shows is the one wanted. It shows a person as an object, times its way."""
    shown = _as_sent(live["id"] if isinstance(live, dict) and "id" in live else live)
    if isinstance(shown, str) and isinstance(wanted, str):
        with suppress(ValueError):
            return shown == wanted or datetime.fromisoformat(shown) == datetime.fromisoformat(wanted)
    return shown == wanted
